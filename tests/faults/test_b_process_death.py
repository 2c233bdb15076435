"""The catalogue's section B: processes that die, stop, or cannot be started."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, current_row, slurm_apply, slurm_map
from slurmapply.schedulers.base import Phase, Submission
from slurmapply.schedulers.command import boot_id, process_start_time
from slurmapply.schedulers.local import LocalScheduler
from tests.faults.nodeside import (
    children,
    clerk_of,
    is_there,
    kept,
    records,
    run,
    statuses,
    wait_until,
    written,
)
from tests.test_task import count_calls, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slurm_cluster import Cluster
    from tests.test_task import Task

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def noting(seconds: float = 0.0) -> Callable[[int], int]:
    """Give a function that writes down who called it, and when."""

    def noted(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        Path(f"pid_{x}").write_text(str(os.getpid()))
        time.sleep(seconds)
        return x * x

    return noted


# -- B-1 -----------------------------------------------------------------------------------


def test_B_01_a_row_whose_worker_was_killed_from_outside_is_tried_once_more() -> None:
    def waits_at_first(x: int) -> int:
        if x == 1 and current_row().attempt == 1:
            Path("pid").write_text(str(os.getpid()))
            time.sleep(1000)
        return current_row().attempt

    job = slurm_apply(waits_at_first, {"x": [0, 1, 2]}, backend="local", nodes=1, cpus_per_node=1)
    os.kill(written("pid"), signal.SIGKILL)
    assert job.wait(30).results() == [1, 2, 1]
    (interrupted,) = records(job, "interrupted")
    assert (interrupted["row"], interrupted["attempt"]) == (1, 1)
    assert interrupted["cause"] == "SIGKILL"
    assert list(kept(job)["row_attempt"]) == [1, 2, 1]


def test_B_01_a_row_that_is_killed_from_outside_twice_has_crashed() -> None:
    def dies(x: int) -> int:
        if x == 1:
            # By C's kill, which nobody sees coming: as from outside.
            ctypes.CDLL(None).kill(os.getpid(), signal.SIGKILL)
        return x

    job = run(dies, 3)
    assert statuses(job) == ["ok", "crashed", "ok"]
    row = job.row(1)
    assert (row.cause, row.attempt) == ("SIGKILL", 2)
    assert "was killed from outside, as when it was tried before" in row.message


def test_B_01_a_row_that_kills_itself_is_called_once() -> None:
    def kills_itself(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}").touch()
        if x == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    job = run(kills_itself, 10, cpus_per_node=2)
    assert statuses(job) == ["ok"] * 3 + ["crashed"] + ["ok"] * 6
    assert job.row(3).cause == "SIGKILL"
    assert count_calls(Path()) == dict.fromkeys(range(10), 1)


def test_B_01_retries_are_for_crashes_too() -> None:
    def crashes_at_first(x: int) -> list[int]:
        Path(f"call_{x}_{current_row().attempt}").touch()
        if x == 1 and current_row().attempt <= 2:
            ctypes.string_at(0)
        if x == 2:
            os._exit(5)
        return [current_row().attempt, os.getpid()]

    job = run(crashes_at_first, 4, retries=2)
    assert statuses(job) == ["ok", "ok", "crashed", "ok"]
    assert list(kept(job)["row_attempt"]) == [1, 3, 3, 1]
    assert count_calls(Path()) == {0: 1, 1: 3, 2: 3, 3: 1}
    found = [(each["row"], each["attempt"], each["cause"]) for each in records(job, "interrupted")]
    assert sorted(found) == [
        (1, 1, "SIGSEGV"), (1, 2, "SIGSEGV"), (2, 1, "exit_5"), (2, 2, "exit_5"),
    ]  # fmt: skip
    assert job.row(2).message.startswith("row 2 crashed: exit_5")


def test_B_01_exceptions_and_crashes_share_the_retries() -> None:
    def fails_in_turn(x: int) -> int:
        attempt = current_row().attempt
        if attempt in (1, 3):
            raise ValueError(attempt)
        os._exit(1)

    job = run(fails_in_turn, 1, retries=2)
    assert (statuses(job), kept(job)["row_attempt"].tolist()) == (["error"], [3])


def test_B_01_many_kills_at_random_moments_lose_nothing() -> None:
    job = slurm_apply(
        noting(0.03), {"x": list(range(40))}, backend="local", nodes=1,
        cpus_per_node=2,
    )  # fmt: skip
    killed = 0
    seen: set[int] = set()
    while not job.status().completed:
        for path in Path().glob("pid_*"):
            pid = int(path.read_text() or 0)
            if pid and pid not in seen and killed < 12:
                seen.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
        time.sleep(0.01)
    assert killed >= 5
    done = kept(job)
    # A row that was hit twice has crashed; all others are there, each in its place.
    for row, status in enumerate(done["row_status"]):
        assert status == "ok" or done["row_attempt"][row] == 2
        assert status != "ok" or done["result"][row] == row * row
    assert list(done["row_status"]).count("ok") >= 34


# -- B-2 -----------------------------------------------------------------------------------


def test_B_02_a_worker_killed_at_any_byte_of_its_write_loses_its_row_for_a_moment_only() -> None:
    def torn(x: int) -> str:
        """Die, as if killed from outside, when so many bytes of this row's frame are written."""
        real, after = os.write, 12 * x

        def write(descriptor: int, data: Any) -> int:
            if bytes(data[:8]) != b"slurmrec":
                return real(descriptor, data)
            if after:
                real(descriptor, data[:after])
            ctypes.CDLL(None).kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        if current_row().attempt == 1:
            os.write = write
        time.sleep(0.011)  # a frame of its own
        return f"value {x}"

    job = run(torn, 25, cpus_per_node=2)
    assert job.results() == [f"value {x}" for x in range(25)]
    attempts = kept(job)["row_attempt"].tolist()
    assert attempts[:10] == [2] * 10
    assert attempts[-1] == 1, "its frame was whole, and the supervisor could not know"
    assert [each["cause"] for each in records(job, "interrupted")] == ["SIGKILL"] * 25


def test_B_02_a_file_size_limit_tears_a_file_and_loses_no_row() -> None:
    def limits(x: int) -> str:
        if x == 2:
            (mine,) = Path(str(current_row().job_folder)).glob("run_0/outcomes_*.rec")
            size = mine.stat().st_size + 1000
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        time.sleep(1.1 if x == 1 else 0.011)  # the first rows are synced, and need not move
        return str(x) * (600 if x else 8000)

    job = run(limits, 10)
    assert job.results() == [str(x) * (600 if x else 8000) for x in range(10)]
    assert len(list((job.folder / "run_0").glob("outcomes_*.rec"))) > 1
    assert "outcomes could not be written" in "".join(job.logs().values())


# -- B-3 -----------------------------------------------------------------------------------


def test_B_03_a_stopped_worker_is_not_a_dead_one() -> None:
    job = slurm_apply(noting(0.5), {"x": [0, 1]}, backend="local", nodes=1, cpus_per_node=1)
    worker = written("pid_0")
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1.5)
    assert not job.status().completed
    os.kill(worker, signal.SIGCONT)
    assert job.wait(30).results() == [0, 1]
    assert count_calls(Path()) == {0: 1, 1: 1}
    assert records(job, "interrupted") == []


def test_B_03_the_time_in_which_a_task_was_suspended_does_not_count_against_a_row(
    start: Callable[..., Task],
) -> None:
    def busy(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        Path("pid").write_text(str(os.getpid()))
        time.sleep(1.0)
        return x

    job = prepare(busy, 1, nodes=1, row_timeout=3)
    task = start(job, 0)
    worker, supervisor = written("pid"), task.process.pid
    for pid in (worker, clerk_of(supervisor), supervisor):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in (supervisor, clerk_of(supervisor)):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.8)  # the supervisor looks around while the row is still there
    os.kill(worker, signal.SIGCONT)
    assert task.end() == ""
    assert statuses(job) == ["ok"]
    assert count_calls(Path()) == {0: 1}


def test_B_03_a_row_that_hangs_after_a_suspension_is_still_stopped(
    start: Callable[..., Task],
) -> None:
    def hangs(x: int) -> int:
        Path("pid").write_text(str(os.getpid()))
        time.sleep(1000)
        return x

    job = prepare(hangs, 1, nodes=1, row_timeout=1)
    task = start(job, 0)
    worker, supervisor = written("pid"), task.process.pid
    for pid in (worker, supervisor):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    for pid in (supervisor, worker):
        os.kill(pid, signal.SIGCONT)
    assert task.end() == ""
    assert statuses(job) == ["row_timeout"]


# -- B-4 -----------------------------------------------------------------------------------


def test_B_04_all_processes_end_with_a_killed_supervisor_and_finished_rows_stay(
    start: Callable[..., Task],
) -> None:
    job = prepare(noting(0.2), 6, nodes=1, processes_per_node=2)
    task = start(job, 0)
    wait_until(lambda: len(list(Path().glob("call_*"))) >= 5)
    family = children(task.process.pid)
    assert len(family) == 3, "two workers and the clerk"
    task.process.kill()
    task.end()
    wait_until(lambda: not any(map(is_there, family)), 5)
    done = [row for row, status in enumerate(statuses(job)) if status == "ok"]
    assert len(done) >= 2
    start(job, 0, life=1).end()
    assert statuses(job) == ["ok"] * 6
    calls = count_calls(Path())
    assert all(calls[row] == 1 for row in done), "what was finished is not run again"


# -- B-5, B-6, B-8: what the system does not give --------------------------------------------


def is_empty(file: Path) -> bool:
    return not file.read_text()


@pytest.fixture
def few_processes() -> Iterator[Callable[[int], str]]:
    """Give a shell line that puts its process into a group of a few processes at most."""
    groups: list[Path] = []

    def make(most: int) -> str:
        group = Path(f"/sys/fs/cgroup/pids/slurmapply_test_{os.getpid()}")
        try:
            group.mkdir()
            (group / "pids.max").write_text(str(most))
        except OSError as error:
            pytest.skip(f"no control group for processes (version 1) can be made: {error}")
        groups.append(group)
        return f"echo $$ > {group}/cgroup.procs"

    yield make
    for group in groups:
        wait_until(functools.partial(is_empty, group / "cgroup.procs"), 10)
        group.rmdir()


def script_in(job: SlurmJob, before: str, *, wrapper: tuple[str, ...] = ()) -> str:
    """Run a job's script as a task of a Slurm would, after some shell; gives what it printed."""
    environment = os.environ | {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "0"}
    done = subprocess.run(
        [*wrapper, "bash", "-c", f"{before}\nexec bash submit.sh"],
        cwd=job.folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@ROOT_ONLY
def test_B_05_a_task_that_may_fork_little_goes_on_with_fewer_workers(
    few_processes: Callable[[int], str],
) -> None:
    job = prepare(noting(0.05), 20, nodes=1, processes_per_node=8)
    said = script_in(job, few_processes(5))
    assert "only 3 of 8 workers could be started: [Errno 11]" in said
    assert said.count("could be started") == 1
    assert statuses(job) == ["ok"] * 20
    assert len({path.name.split("_")[2] for path in Path().glob("call_*")}) == 3


@ROOT_ONLY
def test_B_06_nothing_needs_shared_memory_of_the_system() -> None:
    job = prepare(noting(), 4, nodes=1, processes_per_node=2)
    mount = "mount -t tmpfs -o ro,size=4k none /dev/shm && ! touch /dev/shm/x 2>/dev/null"
    trial = subprocess.run(
        ["unshare", "--mount", "bash", "-c", mount], check=False, capture_output=True
    )
    if trial.returncode:
        pytest.skip(f"no mount namespace can be made: {trial.stderr.decode()}")
    assert script_in(job, f"{mount} || exit 9", wrapper=("unshare", "--mount")) == ""
    assert statuses(job) == ["ok"] * 4


def test_B_07_the_process_that_forks_has_no_threads_and_nothing_of_the_users() -> None:
    def multiplies(x: int) -> list[Any]:
        import numpy as np

        product = float((np.ones((300, 300)) @ np.ones((300, 300)))[0, 0])
        parent = Path(f"/proc/{os.getppid()}")
        maps = (parent / "maps").read_text()
        return [product, len(os.listdir(parent / "task")), "numpy" in maps]  # noqa: PTH208

    job = slurm_map(multiplies, [1, 2, 3, 4], backend="local", cpus_per_node=2)
    assert job.wait(60).results() == [[300.0, 1, False]] * 4


def test_B_08_too_many_open_files_leave_fewer_workers_and_a_message() -> None:
    job = prepare(noting(0.02), 60, nodes=1, processes_per_node=40)
    said = script_in(job, "ulimit -n 64")
    assert "of 40 workers could be started: [Errno 24] Too many open files" in said
    assert statuses(job) == ["ok"] * 60
    assert 10 < len({path.name.split("_")[2] for path in Path().glob("call_*")}) < 40


def test_B_09_a_process_of_the_same_number_is_not_the_job() -> None:
    mine = {
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "start_time": process_start_time(os.getpid()),
    }

    def answer(**other: Any) -> list[Phase]:
        found = LocalScheduler().states([Submission("local", "local-1", mine | other)])
        return [task.phase for task in found.tasks]

    assert answer() == [Phase.RUNNING]
    assert answer(start_time=1) == []
    assert answer(boot_id="another") == []
    elsewhere = Submission("local", "local-1", mine | {"host": "another"})
    assert not LocalScheduler().states([elsewhere]).known


def test_B_10_a_task_without_a_python_says_what_was_tried() -> None:
    job = slurm_map(
        abs, [-1, 2], backend="local", python="/nowhere/bin/python",
        setup="export PATH=/usr/nowhere SLURMAPPLY_PYTHON=",
    ).wait(30)  # fmt: skip
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    table = job.table(errors="keep")
    assert table["row_status"].tolist() == ["unfinished"] * 2
    assert table["row_cause"].tolist() == ["never_started"] * 2
    said = job.errors()["message"][0]
    assert f"no Python {version} on {os.uname().nodename}" in said
    assert "/nowhere/bin/python" in said


# -- the clerk -------------------------------------------------------------------------------


def test_B_04_a_task_whose_clerk_is_killed_stops_and_loses_nothing(
    start: Callable[..., Task],
) -> None:
    job = prepare(noting(0.1), 20, nodes=1)
    task = start(job, 0)
    wait_until(lambda: len(list(Path().glob("call_*"))) >= 3)
    os.kill(clerk_of(task.process.pid), signal.SIGKILL)
    task.end()
    assert task.process.returncode == 1
    assert task.wait_for("stopping")["reason"] == "clerk_died"
    assert task.wait_for("end")["reason"] == "clerk_died"
    done = statuses(job).count("ok")
    assert 3 <= done < 20
    assert count_calls(Path()) == dict.fromkeys(range(done), 1), "the row in work was finished"
    assert start(job, 0, life=1).end() == ""
    assert statuses(job) == ["ok"] * 20
    assert count_calls(Path()) == dict.fromkeys(range(20), 1)


def test_B_04_what_a_killed_clerk_had_not_done_yet_is_done_by_another(
    start: Callable[..., Task],
) -> None:
    def crashes(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        if x == 1:
            Path("pid").write_text(str(os.getpid()))
            while not Path("go").exists():
                time.sleep(0.01)
            os._exit(3)
        return x

    job = prepare(crashes, 4, nodes=1)
    task = start(job, 0)
    worker, clerk = written("pid"), clerk_of(task.process.pid)
    os.kill(clerk, signal.SIGSTOP)
    Path("go").touch()
    wait_until(lambda: not is_there(worker))
    time.sleep(0.5)  # the clerk has been asked to write down what became of the row
    os.kill(clerk, signal.SIGKILL)
    task.end()
    assert task.wait_for("end")["reason"] == "clerk_died"
    assert statuses(job)[:2] == ["ok", "crashed"]
    assert count_calls(Path())[1] == 1


def test_B_04_a_killed_clerk_leaves_its_rows_to_another_task(start: Callable[..., Task]) -> None:
    job = prepare(noting(0.1), 16, chunksize=8)
    first = start(job, 0)
    wait_until(lambda: len(list(Path().glob("call_*"))) >= 2)
    os.kill(clerk_of(first.process.pid), signal.SIGKILL)
    first.end()
    assert start(job, 1).end() == ""
    assert statuses(job) == ["ok"] * 16
    assert count_calls(Path()) == dict.fromkeys(range(16), 1)


def test_B_04_a_task_whose_clerks_are_all_killed_still_ends(start: Callable[..., Task]) -> None:
    job = prepare(noting(0.5), 5, nodes=1)
    task = start(job, 0)
    written("pid_0")
    first = clerk_of(task.process.pid)
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: {*children(task.process.pid)} - {first, written("pid_0")}).pop()
    os.kill(second, signal.SIGKILL)
    task.end()
    assert task.process.returncode == 1
    assert count_calls(Path()) == {0: 1}
    assert start(job, 0, life=1).end() == ""
    assert statuses(job) == ["ok"] * 5


# -- a disk that hangs -----------------------------------------------------------------------


class Freezable:
    """A file system that can be made to hang; always thawed at the end."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "disk"
        self._image = place / "image"

    def mount(self) -> None:
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(32 << 20)
        _command("mkfs.ext4", "-q", "-F", str(self._image))
        _command("mount", "-o", "loop", str(self._image), str(self.folder))

    def freeze(self) -> None:
        _command("fsfreeze", "-f", str(self.folder))

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "-u", self.folder], check=False, capture_output=True)

    def unmount(self) -> None:
        self.thaw()
        subprocess.run(["umount", "-l", self.folder], check=False, capture_output=True)


def _command(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Freezable]:
    made = Freezable(tmp_path)
    try:
        made.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        made.unmount()
        pytest.skip(f"no file system can be mounted here: {error}")
    yield made
    made.unmount()


@ROOT_ONLY
def test_C_16_a_hanging_disk_keeps_no_row_from_being_stopped_and_loses_none(
    start: Callable[..., Task],
    disk: Freezable,
) -> None:
    def works(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        Path(f"pid_{x}").write_text(str(os.getpid()))
        time.sleep(1000 if x == 1 else 0.05)
        return x

    job = prepare(
        works, 30, nodes=1, processes_per_node=2, row_timeout=2, jobs_folder=str(disk.folder)
    )
    task = start(job, 0)
    try:
        hanging = written("pid_1")
        disk.freeze()
        begin = time.monotonic()
        wait_until(lambda: not is_there(hanging), 10)
        assert time.monotonic() - begin < 4
    finally:
        time.sleep(1)
        disk.thaw()
    assert task.end() == ""
    assert statuses(job) == ["ok", "row_timeout"] + ["ok"] * 28
    assert count_calls(Path()) == dict.fromkeys(range(30), 1)


@ROOT_ONLY
def test_C_16_a_signal_is_noticed_while_the_disk_hangs(
    start: Callable[..., Task], disk: Freezable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm_conf = tmp_path / "slurm.conf"
    slurm_conf.write_text("KillWait=8\n")
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    job = prepare(noting(0.4), 10, nodes=1, chunksize=10, jobs_folder=str(disk.folder))
    task = start(job, 0)
    try:
        written("pid_1")
        disk.freeze()
        task.process.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert len(list(Path().glob("call_*"))) <= 3, "no row was begun after the signal"
    finally:
        disk.thaw()
    task.end()
    assert task.wait_for("end")["reason"] == "SIGTERM"
    done = statuses(job).count("ok")
    assert done == len(count_calls(Path()))
    assert start(job, 0, life=1).end() == ""
    assert statuses(job) == ["ok"] * 10
    assert count_calls(Path()) == dict.fromkeys(range(10), 1)


# -- on a real Slurm ---------------------------------------------------------------------------


def test_B_01_the_record_of_ten_rows_of_which_one_kills_itself(slurm_cluster: Cluster) -> None:
    def kills_itself(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}").touch()
        if x == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x * x

    begin = time.monotonic()
    job = slurm_apply(
        kills_itself, {"x": list(range(10))}, backend="slurm", nodes=2, cpus_per_node=2, mem="200M"
    )
    job.wait(60)
    took = time.monotonic() - begin
    table = job.table(errors="keep")
    assert took < 10
    assert table["result"].dropna().tolist() == [x * x for x in range(10) if x != 3]
    assert table["row_status"].tolist() == ["ok"] * 3 + ["crashed"] + ["ok"] * 6
    assert table["row_cause"][3] == "SIGKILL"
    assert count_calls(Path()) == dict.fromkeys(range(10), 1)
    print(json.dumps({"seconds": round(took, 2)}))


def test_B_01_a_worker_on_slurm_that_is_killed_from_outside_costs_no_row(
    slurm_cluster: Cluster,
) -> None:
    def waits_at_first(x: int) -> int:
        if x == 2 and current_row().attempt == 1:
            Path("pid").write_text(str(os.getpid()))
            time.sleep(1000)
        return current_row().attempt

    job = slurm_apply(
        waits_at_first, {"x": list(range(5))}, backend="slurm", nodes=1, cpus_per_node=2,
        mem="200M",
    )  # fmt: skip
    os.kill(written("pid"), signal.SIGKILL)
    assert job.wait(60).results() == [1, 1, 2, 1, 1]


def test_A_12_a_row_that_needs_too_much_memory_is_named_and_its_neighbours_are_ok(
    slurm_cluster: Cluster,
) -> None:
    if not slurm_cluster.memory_limits:
        pytest.skip("no cgroups (version 1) that this account may write")

    def grows(x: int) -> int:
        Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        size = 400 << 20 if x == 1 else 20 << 20
        data = bytearray(size)
        for place in range(0, size, 4096):
            data[place] = 1
        time.sleep(0.5)
        return x

    job = slurm_apply(
        grows, {"x": list(range(6))}, backend="slurm", nodes=1, cpus_per_node=3, mem="150M"
    )
    job.wait(90)
    assert statuses(job) == ["ok", "out_of_memory"] + ["ok"] * 4
    row = job.row(1)
    assert (row.cause, row.attempt) == ("out_of_memory", 2)
    assert row.message.startswith("row 1 ran out of memory (limit 150 MB, peak 1")
    assert row.message.endswith(
        'also when it was tried alone: job.retry(rows="out_of_memory", mem="300M")'
    )
    calls = count_calls(Path())
    assert calls[1] == 2
    assert sum(calls.values()) <= 6 + 1 + 2, "at most its two neighbours were tried again"
