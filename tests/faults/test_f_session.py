"""Faults of the user's session: section F of the catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    FormatError,
    JobAliveError,
    JobExistsError,
    JobFolderError,
    RowsFailedError,
    SlurmJob,
    UntrustedFolderError,
    WaitTimeoutError,
    set_defaults,
    slurm_apply,
    slurm_map,
    submitting,
)
from slurmapply.disk import FolderDisk
from slurmapply.settings import session
from tests.faults.provocations import ONE, again, fill, gated, small_disk, wait_until
from tests.test_task import count_calls, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slurm_cluster import Cluster

# Sessions that end


@pytest.mark.parametrize(
    ("backend", "how"),
    [
        ("local", signal.SIGKILL),
        ("local", signal.SIGHUP),
        pytest.param("slurm", signal.SIGKILL, marks=pytest.mark.slurm),
    ],
)
def test_F_01_a_session_that_dies_while_it_waits_costs_nothing(
    tmp_path: Path, own_folders: Path, backend: str, how: signal.Signals
) -> None:
    gate = str(tmp_path / "gate")
    program = f"""
import os, time
from slurmapply import slurm_map
def f(x):
    open({gate!r} + f".{{x}}", "w").close()
    while not os.path.exists({gate!r}):
        time.sleep(0.01)
    return x * x
slurm_map(f, [2, 3], job_name="alone", backend={backend!r}, nodes=1).results()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=own_folders, stdout=subprocess.PIPE,
        start_new_session=True,
    ) as dying:  # fmt: skip
        wait_until(lambda: len(list(tmp_path.glob("gate.*"))) == 2)
        os.killpg(dying.pid, how)
        dying.communicate()
    assert dying.returncode == -how
    job = SlurmJob.open("alone")
    assert not job.status().completed
    Path(gate).touch()
    assert job.results() == [4, 9]


@pytest.mark.parametrize("ask", ["results()", "cleanup()"])
def test_F_02_ctrl_c_ends_the_waiting_only(tmp_path: Path, own_folders: Path, ask: str) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [3], job_name="goes_on", backend="local", **ONE)
    program = (
        "from slurmapply import SlurmJob; job = SlurmJob.open('goes_on'); print('!', flush=True);"
        f"job.{ask}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=own_folders, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as waiting:  # fmt: skip
        assert waiting.stdout
        waiting.stdout.readline()
        time.sleep(0.3)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=20)
    assert "the job itself goes on (job.cancel() ends it)" in said
    assert not again(job).status().completed
    (tmp_path / "gate").touch()
    assert job.results() == [9]


class Interrupter:
    """Presses Ctrl-C before or after the n-th call of the functions that it watches."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.calls, self._at, self._after = 0, at, after
        watched = {
            os: ("rename", "fsync", "write", "link", "unlink"),
            FolderDisk: ("write", "sync", "publish", "make_folder", "replace"),
            submitting: ("scheduler_for",),
        }
        for owner, names in watched.items():
            for name in names:
                patch.setattr(owner, name, self._watch(getattr(owner, name)))

    def _watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            now = self.calls == self._at
            if now and not self._after:
                raise KeyboardInterrupt
            result = call(*args, **keywords)
            if now:
                raise KeyboardInterrupt
            return result

        return watched


@pytest.mark.parametrize("after", [False, True])
def test_F_03_ctrl_c_at_any_step_of_a_submission_leaves_no_half_job(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    at, submitted = 0, False
    while not submitted:
        at += 1
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            Interrupter(patch, at, after=after)
            slurm_map(abs, [-1, -2], job_name="pressed", backend="local", **ONE)
            submitted = True
        if not list(own_folders.iterdir()):
            continue
        job = SlurmJob.open("pressed")
        if job.status().state == "prepared":
            with contextlib.suppress(JobAliveError):
                job.submit(backend="local")
        assert job.wait(timeout=30).results() == [1, 2], at
        job.cleanup()
        assert list(own_folders.iterdir()) == [], at
    assert at > 15


def test_F_03_ctrl_c_right_after_the_first_step_leaves_no_hidden_folder(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def make_and_press(*args: Any, **keywords: Any) -> None:
        mkdir(*args, **keywords)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "mkdir", make_and_press)
        slurm_map(abs, [1], job_name="pressed", backend="inline")
    assert not list(own_folders.iterdir())


# An inline run that is interrupted leaves its outcomes file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_F_03_ctrl_c_at_any_step_of_a_retry_leaves_no_half_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, done = 0, False
    while not done:
        at += 1
        job = slurm_map(lambda x: 1 / x, [0], job_name=f"pressed{at}", backend="inline")
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            Interrupter(patch, at, after=bool(at % 2))
            job.retry(f=lambda x: x)
            done = True
        job = again(job)
        hidden = [path.name for path in job.folder.iterdir() if path.name.startswith(".")]
        assert not hidden, at
        if job.status().state == "prepared":
            job.submit()
        elif not job.wait(timeout=10).status().ok:
            job.retry(f=lambda x: x)
        assert again(job).wait(timeout=10).results() == [0], at
    assert at > 10


publish = FolderDisk.publish


def die_before_the_note(disk: FolderDisk, name: str, content: bytes) -> bool:
    """End the session when Slurm has the job and nothing of it is written down."""
    if name.endswith("/submission"):
        raise KeyboardInterrupt
    return publish(disk, name, content)


def test_F_04_a_submission_whose_id_was_never_noted_runs_each_row_once(
    slurm_cluster: Cluster, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"x": list(range(6))}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FolderDisk, "publish", die_before_the_note)
        slurm_apply(noted, params, job_name="orphan", slurm_options={"hold": True}, **ONE)
    queue = slurm_cluster.run(["squeue", "-h", "-o", "%F %j"]).splitlines()
    (orphan,) = [line.split()[0] for line in queue if " orphan_" in line]
    job = SlurmJob.open("orphan")
    assert (job.status().state, job.job_id) == ("queued", orphan)
    with pytest.raises(JobAliveError, match="submitted already"):
        job.submit(slurm_options={"hold": None})
    slurm_cluster.run(["scontrol", "release", orphan])
    assert job.results() == [x * x for x in range(6)]
    squeue = ["squeue", "-h", "-t", "PD,R,CG", "-j", orphan]
    wait_until(lambda: not slurm_cluster.run(squeue).strip())
    assert count_calls(own_folders) == dict.fromkeys(range(6), 1)


def test_F_04_a_job_that_runs_without_a_note_is_found_by_its_tasks(
    slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FolderDisk, "publish", die_before_the_note)
        slurm_map(abs, [-1, -2], job_name="stray", **ONE)
    wait_until(lambda: SlurmJob.open("stray").job_id is not None)
    job = SlurmJob.open("stray")
    with pytest.raises(JobAliveError, match="submitted already"):
        job.submit()
    assert job.results() == [1, 2]


# Other sessions


def test_F_05_a_session_on_another_machine_needs_the_folder_only(
    tmp_path: Path, own_folders: Path
) -> None:
    job = slurm_apply(lambda x: {"y": -x}, {"x": [1, 2]}, job_name="far", backend="local").wait()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = (
        "import os, socket, sys; socket.gethostname = lambda: 'other'\n"
        "from slurmapply import SlurmJob\n"
        "job = SlurmJob.open(sys.argv[1])\n"
        "print(job.status().state, job.table()['y'].tolist(), job.run_row(1))"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", program, str(job.folder)], cwd=elsewhere, text=True,
        env={**os.environ, "HOME": str(elsewhere), "XDG_STATE_HOME": str(elsewhere)},
    )  # fmt: skip
    assert said == "finished [-1, -2] {'y': -2}\n"


def test_F_05_what_runs_on_another_machine_is_not_taken_for_over(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1], job_name="far", backend="local", **ONE)
    path = job.folder / "run_0/submission"
    wait_until(path.exists)
    before = path.read_text()
    path.write_text(before.replace(f'"host": "{platform.node()}"', '"host": "login2"'))
    try:
        status = again(job).status()
        assert not status.completed
        assert "it was started on login2" in str(status)
        with pytest.raises(JobAliveError):
            again(job).cleanup(wait=False)
    finally:
        path.write_text(before)
        (tmp_path / "gate").touch()
    assert job.results() == [1]


def test_F_06_a_newer_folder_is_refused_with_the_version_that_reads_it() -> None:
    job = slurm_map(abs, [1], job_name="newer", backend="inline")
    path = job.folder / "job.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 2, "versions": {"slurmapply": "7.1"}}))
    with pytest.raises(FormatError, match=r"slurmapply 7\.1 .*Update slurmapply here"):
        SlurmJob.open("newer")


def test_F_06_another_python_is_told_before_anything_is_unpickled() -> None:
    job = slurm_map(lambda x: [x], [1], job_name="python", backend="inline")
    path = job.folder / "job.json"
    path.write_text(path.read_text().replace(platform.python_version(), "3.9.2"))
    assert again(job).status().counts == {"ok": 1}
    with pytest.raises(UntrustedFolderError, match=r"made with Python 3\.9 .*trust=True"):
        again(job).results()
    assert SlurmJob(job.folder, trust=True).results() == [[1]]


@pytest.mark.slurm
def test_F_07_results_are_read_where_there_is_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slurm_apply(lambda x: {"y": -x}, {"x": [1, 2]}, job_name="made_there", **ONE).wait()
    alive = slurm_map(gated(tmp_path / "gate"), [1], job_name="alive", **ONE)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert again(job).table()["y"].tolist() == [-1, -2]
    status = again(alive).status()
    assert not status.completed
    assert "no squeue on this machine" in str(status)
    with pytest.raises(WaitTimeoutError):
        again(alive).wait(timeout=0.2)
    monkeypatch.undo()
    (tmp_path / "gate").touch()
    assert alive.results() == [1]


# Results


def test_F_08_a_snapshot_has_every_row_in_its_place(tmp_path: Path) -> None:
    gate = gated(tmp_path / "gate")

    def f(x: int) -> int:
        if x == 1:
            raise ValueError(x)
        return x if x < 2 else gate(x)

    job = slurm_map(f, range(4), job_name="half", backend="local", **ONE)
    wait_until((tmp_path / "gate.2").exists)
    wait_until(lambda: job.status().counts.get("error"))
    with pytest.raises(RowsFailedError, match="1 of 4 rows"):
        job.results(wait=False)
    seen = job.results(wait=False, errors="keep")
    assert [seen[0], *seen[2:]] == [0, None, None]
    assert job.table(wait=False, errors="keep")["row_number"].tolist() == [0, 1, 2, 3]
    with pytest.raises(WaitTimeoutError, match=r"0\.1|half"):
        job.wait(timeout=0.1)
    (tmp_path / "gate").touch()
    assert job.results(errors="keep")[2:] == [4, 9]


def test_F_09_rows_are_read_one_by_one_when_all_do_not_fit_into_memory() -> None:
    def large(x: int) -> bytes:
        time.sleep(0.011)  # so that each row has a frame of its own
        return bytes([x]) * 8_000_000

    slurm_map(large, range(16), job_name="large", backend="inline")
    program = """
import resource, sys
from slurmapply import SlurmJob
job = SlurmJob.open("large")
job.result(0)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 64_000_000, used + 64_000_000))
print(job.result(15)[0], sum(value[0] for _, value in job.as_completed()), job.status().ok)
try:
    job.results()
except MemoryError:
    print("too much")
"""
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said == "15 120 True\ntoo much\n"


@pytest.mark.parametrize("size", ["8k", "64k", "256k"])
def test_F_10_a_disk_that_fills_while_a_job_is_saved_leaves_nothing(
    tmp_path: Path, size: str
) -> None:
    with small_disk(tmp_path / "disk", f"size={size}") as place:
        for name in ("one", "two"):
            with pytest.raises(JobFolderError, match=r"No space left on device.*jobs_folder="):
                slurm_map(
                    lambda x: x, [b"x" * 500_000], job_name=name, jobs_folder=place,
                    backend="inline",
                )  # fmt: skip
            assert not list(place.iterdir())


def test_F_10_the_job_that_was_to_be_replaced_is_still_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=2m") as place:
        how: dict[str, Any] = {"job_name": "same", "jobs_folder": place, "backend": "inline"}
        slurm_map(abs, [-1], **how)
        fill(place)
        with pytest.raises((JobFolderError, JobExistsError)):
            slurm_map(abs, [-2], if_exists="replace", **how)
        assert [path.name for path in place.iterdir() if path.is_dir()] == ["_slurmapply_same"]
        assert SlurmJob(place / "_slurmapply_same").results() == [1]


@pytest.fixture
def fresh_defaults() -> Iterator[None]:
    session.cache_clear()
    yield
    session.cache_clear()


@pytest.mark.usefixtures("fresh_defaults")
def test_F_10_defaults_that_cannot_be_saved_leave_the_former_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as place:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place))
        saved = set_defaults(save=True, account="physics")
        assert saved is not None
        before = saved.read_text()
        fill(place)
        with pytest.raises((JobFolderError, OSError), match="No space left on device"):
            set_defaults(save=True, setup=["module load python"] * 300)
        assert saved.read_text() == before
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]


# Notebooks, threads


def test_F_11_a_session_with_an_event_loop_and_threads_is_left_as_it_was() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    threads = threading.active_count()
    forks: list[int] = []
    os.register_at_fork(after_in_parent=lambda: forks.append(1))

    async def in_a_cell() -> list[int]:
        tick = asyncio.create_task(asyncio.sleep(0))
        job = slurm_map(abs, [-1, -2], job_name="cell", backend="local", **ONE)
        await tick
        return list(job.results())

    assert asyncio.run(in_a_cell()) == [1, 2]
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert threading.active_count() == threads
    assert not forks


def test_F_11_a_job_is_made_and_read_in_any_thread() -> None:
    results: list[Any] = [None] * 4

    def work(number: int) -> None:
        job = slurm_map(abs, [-number], job_name=f"thread{number}", backend="local", **ONE)
        results[number] = job.results()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[number] for number in range(4)]
