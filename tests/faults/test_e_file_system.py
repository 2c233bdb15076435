"""Faults of the file system: section E of the catalogue."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    FormatError,
    InvalidArgumentError,
    JobAliveError,
    JobFolderError,
    SlurmApplyError,
    SlurmJob,
    SubmissionError,
    following,
    slurm_apply,
    slurm_map,
)
from slurmapply.disk import FolderDisk
from tests.faults.provocations import (
    ONE,
    again,
    fill,
    gated,
    outcomes_of,
    remounted,
    small_disk,
    use_up_files,
    wait_until,
)
from tests.simulated_disk import Fate, Fault, Scenario, simulate
from tests.test_sharing_properties import TURNS, check_end, check_no_row_ran_twice_in_vain

# `start` is a fixture of that module.
from tests.test_task import Task, prepare, start  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slurm_cluster import Cluster


def a_value(x: int) -> Any:
    """Give a value of each kind that is stored differently, and a failure."""
    time.sleep(0.011)  # so that each row has a frame of its own
    if x == 3:
        raise ValueError(f"not {x}")
    return (7, 0.5, f"text {x}", None, [x, "in a list"])[x]


VALUES = [7, 0.5, "text 2", None, [4, "in a list"]]


def first_frames(job: SlurmJob) -> list[int]:
    """Give where each frame of the job's outcomes file ends."""
    job.status()
    return [frame.offset + frame.size for frame in job._follower.outcomes.frames]


@pytest.fixture
def tampered() -> tuple[SlurmJob, Path, bytes]:
    """Give a job of five rows in five frames, its outcomes file and that file's content."""
    job = slurm_map(a_value, range(5), job_name="tampered", backend="inline")
    path = outcomes_of(job)
    return job, path, path.read_bytes()


def check_snapshot(job: SlurmJob, good: set[int]) -> None:
    """Hold what a session sees against the rows that must be right; no other may be wrong."""
    seen = job.results(wait=False, errors="keep")
    for row, value in enumerate(seen):
        if row in good and row != 3:
            assert (value, type(value)) == (VALUES[row], type(VALUES[row])), row
        elif not isinstance(value, SlurmApplyError):
            assert value is None or value == VALUES[row], row
    settled = job.status().counts
    assert settled.get("ok", 0) >= len(good - {3})
    assert settled.get("ok", 0) + settled.get("error", 0) <= 5


# What is seen late


def test_E_01_a_file_that_is_seen_late_is_not_taken_for_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(following, "_PROCESS_GRACE", 1.0)
    done = slurm_map(abs, [-1, -2], job_name="late", backend="local", **ONE).wait()
    done.end_tasks()
    path = outcomes_of(done)
    shutil.move(path, tmp_path / "hidden")
    job = again(done)
    status = job.status()
    assert (status.state, status.completed) == ("stopping", False)
    assert job.results(wait=False) == [None, None]
    shutil.move(tmp_path / "hidden", path)
    assert job.wait(timeout=20).results() == [1, 2]


def test_E_01_a_verdict_is_taken_back_when_the_file_comes_after_all(tmp_path: Path) -> None:
    done = slurm_map(abs, [-1, -2], job_name="late", backend="local", **ONE).wait()
    path = outcomes_of(done)
    shutil.move(path, tmp_path / "hidden")
    job = again(done).wait(timeout=20)
    assert job.status().counts == {"unfinished": 2}
    shutil.move(tmp_path / "hidden", path)
    assert job.results() == [1, 2]


def test_E_02_a_file_is_read_on_as_it_grows(tampered: tuple[SlurmJob, Path, bytes]) -> None:
    job, path, whole = tampered
    ends = first_frames(job)
    path.write_bytes(b"")
    watching, before = again(job), 0
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        good = {row for row, end in enumerate(ends) if end <= size}
        check_snapshot(watching, good)
        settled = sum(watching.status().counts.get(word, 0) for word in ("ok", "error"))
        assert settled >= before
        before = settled
    path.write_bytes(whole)
    check_snapshot(watching, set(range(5)))


def test_E_03_what_counts_as_done_is_on_the_disk() -> None:
    # Others see only what was synced, and a node that dies loses the rest.
    scenario = Scenario(rows=8, tasks=2, workers=2, order=TURNS, cached=True, batch=2)
    for at in range(1, 60, 3):
        simulation = simulate(
            Scenario(**{**vars(scenario), "faults": {(0, 0): Fault(at, Fate.KILLED_AFTER)}})
        )
        check_end(simulation)
        check_no_row_ran_twice_in_vain(simulation)
        assert simulation.survey().outcomes.settled_in(0) == 8


# A disk that takes no more


def test_E_04_a_full_disk_is_named_when_a_retry_is_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=2m") as place:
        job = slurm_map(lambda x: 1 / x, [1, 0], jobs_folder=place, backend="inline")
        fill(place)
        before = sorted(path.name for path in job.folder.iterdir())
        with pytest.raises(JobFolderError, match="No space left on device"):
            job.retry()
        assert sorted(path.name for path in job.folder.iterdir()) == before
        (place / "filler").unlink()
        job.retry(f=lambda x: x)
        assert job.results() == [1.0, 0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_E_05_an_error_that_shows_at_fsync_is_an_error(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path, code: int
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(JobFolderError, match=os.strerror(code)):
            slurm_map(abs, [1], job_name="unsynced", backend="inline")
    assert not list(own_folders.iterdir())


def test_E_05_every_file_of_a_new_job_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, set()

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    job = slurm_map(abs, [1], job_name="synced", submit=False)
    files = [path for path in job.folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.stat().st_ino not in synced] == []


def test_E_06_a_write_that_stops_short_is_an_error_and_leaves_nothing(own_folders: Path) -> None:
    program = """
import resource, sys
from slurmapply import JobFolderError, slurm_map
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    slurm_map(abs, [1], backend="inline", more_args=None)
except JobFolderError as error:
    print(error)
"""
    said = subprocess.check_output([sys.executable, "-c", program], cwd=own_folders, text=True)
    assert "File too large" in said
    assert not list(own_folders.iterdir())


def test_E_06_short_writes_are_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: max(1, len(data) // 2)]))
    job = slurm_map(lambda x: "x" * x, [10_000, 3], job_name="short", backend="inline")
    assert [len(value) for value in job.results()] == [10_000, 3]


def test_E_07_a_disk_that_takes_no_more_files_is_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "nr_inodes=8") as place:
        with pytest.raises(JobFolderError, match="No space left on device"):
            slurm_map(abs, [1], jobs_folder=place, backend="inline")
        assert not list(place.iterdir())


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_E_07_files_grow_with_workers_and_not_with_rows(schedule: str) -> None:
    def files(rows: int) -> tuple[int, int]:
        job = slurm_map(abs, range(rows), backend="local", schedule=schedule, **ONE).wait()
        job.end_tasks()
        found = [path.parent.name for path in job.folder.rglob("*") if path.is_file()]
        return found.count("claims"), len(found) - found.count("claims")

    (few_claims, few), (many_claims, many) = files(10), files(10_000)
    assert many == few
    # Pieces get smaller by halves, and a busy machine cuts some of them once more.
    assert many_claims - few_claims <= 2 * math.log2(10_000)


@pytest.fixture
def read_only_job(tmp_path: Path) -> Iterator[SlurmJob]:
    """Give a job with a failed row on a disk that was remounted read-only."""
    with small_disk(tmp_path / "disk", "size=4m") as place:
        job = slurm_map(lambda x: 1 / x, [1, 0], jobs_folder=place, backend="inline")
        remounted(place, "ro")
        yield again(job)


def test_E_08_a_disk_that_became_read_only_can_still_be_read(read_only_job: SlurmJob) -> None:
    status = read_only_job.status()
    assert (status.state, status.counts) == ("finished", {"ok": 1, "error": 1})
    assert read_only_job.results(errors="keep")[0] == 1.0
    assert read_only_job.errors()["row_cause"].tolist() == ["ZeroDivisionError"]
    assert read_only_job.run_row(0) == 1.0


def test_E_08_what_needs_to_write_there_is_refused_in_words(read_only_job: SlurmJob) -> None:
    with pytest.raises(JobFolderError, match="Read-only file system"):
        read_only_job.cleanup()
    assert read_only_job.status().counts == {"ok": 1, "error": 1}


def test_E_08_a_retry_there_is_refused_in_words(read_only_job: SlurmJob) -> None:
    with pytest.raises(JobFolderError, match="Read-only file system"):
        read_only_job.retry()


def test_E_08_a_job_on_a_disk_that_takes_no_more_files_can_be_cancelled(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "nr_inodes=80") as place:
        job = slurm_map(gated(tmp_path / "gate"), [1], jobs_folder=place, backend="local", **ONE)
        wait_until(lambda: list(tmp_path.glob("gate.*")))
        # A disk with files open for writing cannot be remounted; this one refuses just as well.
        use_up_files(place)
        job.status()
        pid = int(job._follower.run.submission.details["pid"])  # type: ignore[union-attr]
        try:
            job.cancel()
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10)
        finally:
            (tmp_path / "gate").touch()


# Replies that get lost, names that change


def lost_reply(call: Callable[..., Any], code: int) -> Callable[..., Any]:
    """Give a system call that does what it should and says that it failed, once."""
    left = [True]

    def do_it_and_fail(*args: Any, **keywords: Any) -> Any:
        result = call(*args, **keywords)
        if left and left.pop():
            raise OSError(code, os.strerror(code))
        return result

    return do_it_and_fail


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT])
def test_E_09_a_lost_reply_to_the_rename_of_a_new_job_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "rename", lost_reply(os.rename, code))
    job = slurm_map(abs, [-1], job_name="renamed", backend="inline")
    assert job.results() == [1]


def test_E_09_a_lost_reply_to_the_rename_of_a_retry_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = slurm_map(lambda x: 1 / x, [0], job_name="renamed", backend="inline")
    monkeypatch.setattr(os, "rename", lost_reply(os.rename, errno.EIO))
    assert job.retry(f=lambda x: x).results() == [0]


def test_E_10_a_lost_reply_to_a_link_does_not_lose_the_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = FolderDisk(Path())
    for code in (errno.EIO, errno.EEXIST, errno.ETIMEDOUT):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", lost_reply(os.link, code))
            assert disk.publish(f"claim{code}", b"mine")
        assert not disk.publish(f"claim{code}", b"theirs")
        assert disk.read(f"claim{code}") == b"mine"


def test_E_10_no_row_is_lost_or_doubled_whichever_link_loses_its_reply() -> None:
    for at in range(1, 40):
        faults = {(0, 0): Fault(at, Fate.REPLY_LOST), (1, 0): Fault(at + 3, Fate.REPLY_LOST)}
        simulation = simulate(Scenario(rows=6, tasks=2, order=TURNS, faults=faults))
        check_end(simulation)
        check_no_row_ran_twice_in_vain(simulation)


def test_E_11_an_exclusive_create_that_is_sent_twice_is_won_by_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "symlink", no_links)
    disk = FolderDisk(Path())
    Path("token").write_bytes(b"mine")
    Path("claim").write_bytes(b"mine")  # the first copy of the request made it
    assert disk.link("token", "claim")
    Path("other").write_bytes(b"theirs")
    assert not disk.link("other", "claim")


@pytest.mark.parametrize("times", [1, 2])
def test_E_12_a_stale_file_handle_is_opened_anew(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    job = slurm_map(abs, [-1, -2], job_name="stale", backend="inline")
    handle, opened, stale = again(job), os.open, [0]

    def stale_at_first(name: Any, *args: Any, **keywords: Any) -> int:
        if str(name).endswith((".rec", "run.json", ".jsonl")) and stale[0] < times:
            stale[0] += 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return opened(name, *args, **keywords)

    monkeypatch.setattr(os, "open", stale_at_first)
    assert handle.status().counts == {"ok": 2}
    assert handle.results() == [1, 2]
    assert stale[0] == times


def test_E_13_no_name_is_replaced_or_removed_while_a_job_runs(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), range(6), backend="local", job_name="names")

    def names() -> dict[str, int]:
        found = {}
        for path in job.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                found[str(path)] = path.stat().st_ino
        return {name: inode for name, inode in found.items() if not name.endswith(".new")}

    wait_until(lambda: list(tmp_path.glob("gate.*")))
    before = names()
    assert any("claims/" in name for name in before)
    (tmp_path / "gate").touch()
    assert job.results() == [x * x for x in range(6)]
    job.end_tasks()
    after = names()
    gone = {name for name in before if name not in after}
    # Of a worker that printed nothing; its task removes it when nobody has it open any more.
    assert all("/console_" in name for name in gone)
    assert {name: after[name] for name in before.keys() - gone} == {
        name: inode for name, inode in before.items() if name not in gone
    }


def test_E_14_each_outcomes_file_has_one_writer(
    start: Callable[..., Task],  # noqa: F811
) -> None:
    def who(x: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    job = prepare(who, 40, cpus_per_node=2)
    tasks = [start(job, 0), start(job, 1), start(job, 1, life=1)]
    for task in tasks:
        task.end()
    job = again(job)
    pids = job.results(wait=False)
    outcomes = job._follower.outcomes
    writers: dict[str, set[int]] = {}
    for row in range(40):
        found = outcomes.find(row)
        assert found is not None
        writers.setdefault(found[0].origin.file, set()).add(pids[row])
    assert all(len(found) == 1 for found in writers.values())
    assert len(writers) >= 3


def test_E_15_a_disk_without_locks_is_good_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def refuse(*_):\n"
        "    raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "fcntl.flock = fcntl.lockf = refuse\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")

    def without_locks(x: int) -> str:
        import fcntl

        try:
            fcntl.flock(0, fcntl.LOCK_EX)
        except OSError as error:
            return f"{x} {error.strerror}"
        return "locked"

    job = slurm_map(without_locks, [1, 2], backend="local", job_name="lockless")
    assert job.results() == ["1 Function not implemented", "2 Function not implemented"]


# Times, inodes, processes: nothing is decided by them


def make_times_nonsense(folder: Path) -> None:
    """Give each file a time of its own, in 1970 or in 2070."""
    chance = random.Random(70)
    for path in [folder, *folder.rglob("*")]:
        when = chance.choice([0, 3_155_760_000]) + chance.randrange(10_000)
        os.utime(path, (when, when))


def test_E_16_file_times_of_1970_and_2070_change_nothing(
    tmp_path: Path,
    start: Callable[..., Task],  # noqa: F811
) -> None:
    job = prepare(gated(tmp_path / "gate"), 6, chunksize=1)
    first = start(job, 0)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    make_times_nonsense(job.folder)
    second = start(job, 1)
    wait_until(lambda: len(list(tmp_path.glob("gate.*"))) == 2)
    make_times_nonsense(job.folder)
    (tmp_path / "gate").touch()
    first.end()
    second.end()
    make_times_nonsense(job.folder)
    assert again(job).results(wait=False) == [x * x for x in range(6)]
    assert all(len(path.read_text()) == 1 for path in tmp_path.glob("gate.*"))
    assert again(job).status().counts == {"ok": 6}


def test_E_17_files_with_new_inodes_are_the_same_files(tmp_path: Path) -> None:
    job = slurm_map(lambda x: 1 / x, [1, 2, 0], backend="inline", job_name="migrated")
    watching = again(job)
    assert watching.status().counts == {"ok": 2, "error": 1}
    for path in [path for path in job.folder.rglob("*") if path.is_file()]:
        copy = path.with_name(f"{path.name}.copy")
        shutil.copy2(path, copy)
        copy.replace(path)
    assert watching.results(errors="keep")[:2] == [1.0, 0.5]
    assert watching.retry(f=lambda x: x).results() == [1.0, 0.5, 0]


def test_C_18_clocks_that_differ_by_an_hour_decide_nothing(
    start: Callable[..., Task],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "real, ahead = time.time, 3600 * (1 - 2 * int(os.environ['SLURM_ARRAY_TASK_ID']))\n"
        "time.time = lambda: real() + ahead\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def when(x: int) -> float:
        time.sleep(0.03)
        return time.time()

    job = prepare(when, 20)
    tasks = [start(job, 0), start(job, 1)]
    for task in tasks:
        assert task.end() == ""
    job = again(job)
    hours = [round((value - time.time()) / 3600) for value in job.results(wait=False)]
    assert set(hours) == {-1, 1}
    assert job.status().counts == {"ok": 20}
    assert job.table(wait=False, details=True)["row_attempt"].tolist() == [1] * 20


def test_B_09_a_process_with_the_same_number_is_not_taken_for_the_job(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1], backend="local", job_name="pids", **ONE)
    path = job.folder / "run_0/submission"
    (tmp_path / "gate").touch()
    job.wait()
    outcomes_of(job).unlink()
    for record in job.folder.glob("run_0/task_*.jsonl"):
        record.write_text(record.read_text().splitlines(keepends=True)[0])
    pid = int(job._follower.run.submission.details["pid"])  # type: ignore[union-attr]
    path.write_text(path.read_text().replace(f'"pid": {pid}', f'"pid": {os.getpid()}'))
    status = again(job).wait(timeout=10).status()
    assert (status.state, status.counts) == ("finished", {"unfinished": 1})


# Two lives at once


def test_E_18_two_lives_of_a_task_at_once_give_one_result_for_each_row(
    tmp_path: Path,
    start: Callable[..., Task],  # noqa: F811
) -> None:
    job = prepare(gated(tmp_path / "gate"), 1, nodes=1)
    old = start(job, 0)
    wait_until((tmp_path / "gate.0").exists)
    new = start(job, 0, life=1)  # Slurm took the old one for dead, and it is not
    wait_until(lambda: (tmp_path / "gate.0").stat().st_size == 2)
    (tmp_path / "gate").touch()
    old.end()
    new.end()
    looks = [again(job) for _ in range(2)]
    assert [look.results(wait=False) for look in looks] == [[0]] * 2
    assert looks[0].status().counts == {"ok": 1}
    assert len(looks[0]._follower.outcomes.frames) == 2
    chosen = [look._follower.outcomes.find(0) for look in looks]
    assert chosen[0] is not None
    assert chosen[1] is not None
    assert chosen[0][0].origin == chosen[1][0].origin
    assert chosen[0][0].origin.life == 0  # the earlier life's, whichever was written first


# Deleting, purging, damage


def test_E_19_what_cannot_be_deleted_is_named_and_the_name_is_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = slurm_map(abs, [-1], job_name="busy", backend="inline")
    (job.folder / "run_0/.nfs0001").touch()
    unlink = os.unlink

    def busy(path: Any, *args: Any, **keywords: Any) -> None:
        if str(path).endswith(".nfs0001"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        unlink(path, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", busy)
        job.cleanup()
    assert "still in use" in capsys.readouterr().out
    assert not job.folder.exists()
    assert slurm_map(abs, [-2], job_name="busy", backend="inline").results() == [2]


def test_E_19_a_job_that_runs_is_not_deleted(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1], job_name="runs", backend="local", **ONE)
    with pytest.raises(JobAliveError, match=r"job\.cancel\(\)"):
        job.cleanup(wait=False)
    (tmp_path / "gate").touch()
    assert job.results() == [1]


@pytest.mark.parametrize(
    "purged", ["function.pkl", "data.bin", "rows.bin", "rows.json", "worker.pyz", "submit.sh"]
)
def test_E_20_results_outlive_a_purge_of_the_inputs(purged: str) -> None:
    job = slurm_apply(lambda x: [x], {"x": [1, 2]}, job_name="purged", backend="inline")
    (job.folder / purged).unlink()
    assert again(job).status().counts == {"ok": 2}
    assert again(job).results() == [[1], [2]]


@pytest.mark.parametrize(
    ("purged", "ask"),
    [
        ("function.pkl", lambda job: job.run_row(0)),
        ("rows.bin", lambda job: job.row(0)),
        ("rows.json", lambda job: job.table()),
        ("rows.frame", lambda job: job.table()),
        ("run_0/run.json", lambda job: job.status()),
        ("run_0", lambda job: job.status()),
    ],
)
def test_E_20_what_was_purged_is_named(purged: str, ask: Callable[[SlurmJob], Any]) -> None:
    job = slurm_apply(lambda x: [x], {"x": [1, 2]}, job_name="purged", backend="inline")
    target = job.folder / purged
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(JobFolderError, match=rf"{purged}.* missing.*(purged|copied in part)"):
        ask(again(job))


def test_E_21_a_file_that_ends_at_any_byte_gives_the_rows_before(
    tampered: tuple[SlurmJob, Path, bytes],
) -> None:
    job, path, whole = tampered
    ends = first_frames(job)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        good = {row for row, end in enumerate(ends) if end <= size}
        seen = again(job)
        counts = seen.status().counts
        assert counts.get("ok", 0) + counts.get("error", 0) == len(good), size
        check_snapshot(seen, good)


def test_E_21_a_bit_that_flipped_anywhere_never_gives_a_wrong_value(
    tampered: tuple[SlurmJob, Path, bytes],
) -> None:
    job, path, whole = tampered
    ends = first_frames(job)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        check_snapshot(again(job), {row for row, end in enumerate(ends) if end <= place})


def test_E_21_a_damaged_frame_costs_its_own_rows_only(
    tampered: tuple[SlurmJob, Path, bytes],
) -> None:
    job, path, whole = tampered
    ends = first_frames(job)
    damaged = bytearray(whole)
    damaged[ends[1] - 40] ^= 1  # in the second frame's table
    path.write_bytes(damaged)
    check_snapshot(again(job), {0, 2, 3, 4})
    assert "1 damaged frames" in str(again(job).status())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("how", ["torn", "flipped"])
def test_E_21_a_retry_brings_back_what_was_damaged(
    tampered: tuple[SlurmJob, Path, bytes], how: str, share: float
) -> None:
    job, path, whole = tampered
    place = int(len(whole) * share)
    content = bytearray(whole)
    content[place] ^= 0x10
    path.write_bytes(content if how == "flipped" else whole[:place])
    job = again(job)
    job.retry()
    job.retry(f=lambda _: None)  # row 3 fails by design
    assert again(job).results() == VALUES


def test_E_21_damaged_parameters_are_refused_and_not_used() -> None:
    job = slurm_apply(lambda x: x, {"x": [1, 2]}, job_name="rot", submit=False)
    rows = job.folder / "rows.bin"
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 4
    rows.write_bytes(content)
    with pytest.raises(FormatError, match=r"rows\.bin are damaged"):
        again(job).run_row(0)
    job = again(job).submit(backend="local").wait()
    with pytest.raises(FormatError, match=r"rows\.bin are damaged"):
        job.results()
    assert job.status().causes == {"FormatError": 2}


# Where the folder is


def test_E_22_a_copy_is_read_elsewhere_and_waits_for_the_original(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [2, 3], job_name="original", backend="local")
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    subprocess.run(["cp", "-a", str(job.folder), str(tmp_path / "copy")], check=True)
    copy = SlurmJob(tmp_path / "copy")
    assert copy.status().state == "running"
    with pytest.raises(JobAliveError):
        copy.retry()
    (tmp_path / "gate").touch()
    assert job.results() == [4, 9]
    subprocess.run(["cp", "-a", str(job.folder), str(tmp_path / "later")], check=True)
    job.cleanup()
    later = SlurmJob(tmp_path / "later")
    assert later.results() == [4, 9]
    assert later.table()["result"].tolist() == [4, 9]


def test_E_23_a_folder_that_the_node_does_not_see_is_said_to_be_one(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    job = slurm_map(abs, [-1], job_name="unseen", slurm_options={"hold": True}, **ONE)
    shutil.move(job.folder, tmp_path / "away")
    slurm_cluster.run(["scontrol", "release", str(job.job_id)])
    squeue = ["squeue", "-h", "-t", "PD,R,CG", "-o", "%i", "-j", str(job.job_id)]
    wait_until(lambda: not slurm_cluster.run(squeue).strip())
    shutil.move(tmp_path / "away", job.folder)
    job = again(job).wait(timeout=30)
    (message,) = job.errors()["message"]
    assert job.errors()["row_cause"].tolist() == ["never_started"]
    assert "a disk that every node sees" in message


LONG = "n" * 255
STRANGE = ["two words", "it's", 'say "x"', "100% %j %x", "$(touch pwned)", "Ünïcödé ☃", LONG, "-x",
           "a\\b", "semi;colon&", "#hash", "{{setup}}"]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE, ids=lambda name: name[:12])
def test_E_24_a_folder_of_any_name_works(own_folders: Path, name: str) -> None:
    place = own_folders / name
    place.mkdir()
    job = slurm_map(lambda x: (print(x), -x)[1], [1], job_name="in", jobs_folder=place,
                    backend="local", **ONE)  # fmt: skip
    assert job.results() == [-1]
    assert job.logs(row=0) == "1\n"
    assert {path.name for path in own_folders.iterdir()} == {name}


@pytest.mark.slurm
def test_E_24_a_backslash_is_refused_where_slurm_would_drop_it(own_folders: Path) -> None:
    place = own_folders / "a\\b"
    place.mkdir()
    with pytest.raises(SubmissionError, match="backslash"):
        slurm_map(abs, [1], job_name="in", jobs_folder=place, **ONE)


@pytest.mark.slurm
@pytest.mark.parametrize(
    "name",
    ['say "x"', "it's $(touch pwned)", "100% %j %x", "Ünïcödé ☃", LONG],
    ids=lambda name: name[:12],
)
def test_E_24_slurm_works_in_a_folder_of_any_name(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = own_folders / name
    place.mkdir()
    monkeypatch.chdir(place)
    setup = "echo begun"
    job = slurm_map(lambda _: os.getcwd(), [1], job_name="in", setup=setup, **ONE)  # noqa: PTH109
    assert job.results() == [str(place)]
    assert job.logs()[0].startswith("begun\n")
    assert {path.name for path in own_folders.iterdir()} == {name}


@pytest.mark.parametrize("name", ["two\nlines", "re\rturn", "nul\0"], ids=["newline", "cr", "nul"])
@pytest.mark.parametrize("backend", ["local", "inline"])
def test_E_24_a_path_with_a_control_character_is_refused(
    own_folders: Path, name: str, backend: str
) -> None:
    with contextlib.suppress(ValueError):
        (own_folders / name).mkdir()
    before = list(own_folders.rglob("*"))
    with pytest.raises((JobFolderError, InvalidArgumentError), match="jobs_folder"):
        slurm_map(abs, [1], jobs_folder=own_folders / name, backend=backend)
    assert list(own_folders.rglob("*")) == before


# How often the disk is asked


def test_E_25_a_task_starts_python_once_whatever_its_workers(tmp_path: Path) -> None:
    python, log = tmp_path / "python", tmp_path / "starts"
    python.write_text(f'#!/bin/sh\necho start >>"{log}"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def supervisor(_: int) -> int:
        time.sleep(0.2)
        return os.getppid()

    job = slurm_map(
        supervisor, range(4), job_name="starts",
        python=python, cpus_per_node=4, nodes=1, submit=False,
    )  # fmt: skip
    subprocess.run(
        ["bash", "submit.sh"], cwd=job.folder, check=True,
        env=os.environ | {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"},
    )  # fmt: skip
    assert len(set(again(job).results(wait=False))) == 1
    assert log.read_text().splitlines() == ["start"] * 2  # one to ask its version


def test_E_26_a_slow_disk_is_asked_for_chunks_and_not_for_rows() -> None:
    simulation = simulate(Scenario(rows=400, tasks=2, batch=50))
    claims = [name for name in simulation.system.files if "/claims/" in name]
    assert simulation.survey().outcomes.settled_in(0) == 400
    assert len(claims) < 40
    assert len(simulation.system.files) < 50
