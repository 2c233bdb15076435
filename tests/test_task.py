"""One task on its own: the node's program, started here as Slurm would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, slurm_apply
from slurmapply.records import parse_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def prepare(f: Callable[..., Any], rows: int, **how: Any) -> SlurmJob:
    plain: dict[str, Any] = {"nodes": 2, "cpus_per_node": 1, "job_name": "task", "submit": False}
    return slurm_apply(f, {"x": list(range(rows))}, **(plain | how))


class Task:
    """A task of a submission that no Slurm knows of."""

    def __init__(self, job: SlurmJob, task: int, *, life: int = 0, submission: str = "77") -> None:
        script = (job.folder / "submit.sh").read_text()
        command = next(line for line in script.splitlines() if line.startswith("exec "))
        self.name = f"task_{submission}_{task}_{life}.jsonl"
        self.run = job.folder / "run_0"
        restarts = {"SLURM_RESTART_COUNT": str(life)} if life else {}
        self.process = subprocess.Popen(
            [sys.executable, *command.split()[2:]],
            cwd=job.folder,
            env=os.environ
            | {"SLURM_ARRAY_JOB_ID": submission, "SLURM_ARRAY_TASK_ID": str(task)}
            | restarts,
            stderr=subprocess.PIPE,
            text=True,
        )

    def records(self) -> list[dict[str, Any]]:
        path = self.run / self.name
        return list(parse_records(path.read_bytes())) if path.exists() else []

    def wait_for(self, kind: str) -> dict[str, Any]:
        for _ in range(400):
            for record in self.records():
                if record["record"] == kind:
                    return record
            time.sleep(0.02)
        raise AssertionError(f"no record {kind!r} in {self.records()}")

    def end(self) -> str:
        _, errors = self.process.communicate(timeout=30)
        return str(errors)


@pytest.fixture
def start() -> Iterator[Callable[..., Task]]:
    tasks: list[Task] = []

    def started(*args: Any, **how: Any) -> Task:
        tasks.append(Task(*args, **how))
        return tasks[-1]

    yield started
    for task in tasks:
        if task.process.poll() is None:
            task.process.kill()
        task.process.communicate()


def count_calls(folder: Path) -> dict[int, int]:
    """Count the calls that `noted` wrote down, by row."""
    calls: dict[int, int] = {}
    for path in folder.glob("call_*"):
        row = int(path.name.split("_")[1])
        calls[row] = calls.get(row, 0) + 1
    return calls


def noted(x: int, seconds: float = 0.0) -> int:
    Path(f"call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
    time.sleep(seconds)
    return x * x


def values(job: SlurmJob) -> list[Any]:
    # The tasks belong to no Slurm that could be asked; the folder alone is looked at.
    job = SlurmJob(job.folder)
    return list(job.results(wait=False, errors="keep"))


def test_two_tasks_share_the_rows_and_each_row_is_run_once(start: Callable[..., Task]) -> None:
    job = prepare(noted, 40, more_args={"seconds": 0.02})
    tasks = [start(job, 0), start(job, 1)]
    for task in tasks:
        assert task.end() == ""
    assert values(job) == [x * x for x in range(40)]
    assert count_calls(Path()) == dict.fromkeys(range(40), 1)
    settled = [task.wait_for("end")["reason"] for task in tasks]
    assert settled == ["done", "done"]


def test_a_late_task_finds_nothing_and_ends_within_a_second(start: Callable[..., Task]) -> None:
    job = prepare(noted, 6)
    start(job, 0).end()
    begin = time.monotonic()
    late = start(job, 1)
    late.end()
    assert time.monotonic() - begin < 1.5
    assert not list((job.folder / "run_0").glob("outcomes_1_*"))


def test_a_task_of_another_submission_changes_nothing_and_names_the_owner(
    start: Callable[..., Task],
) -> None:
    job = prepare(noted, 6)
    start(job, 0).end()
    before = sorted(path.name for path in (job.folder / "run_0").iterdir())
    said = start(job, 1, submission="88").end()
    assert "belongs to slurm job 77" in said
    assert "retry" in said
    assert sorted(path.name for path in (job.folder / "run_0").iterdir()) == before


def test_a_warned_task_gives_its_rows_to_the_others_and_finishes_its_own(
    start: Callable[..., Task],
) -> None:
    job = prepare(noted, 12, more_args={"seconds": 0.4}, chunksize=6)
    first = start(job, 0)
    first.wait_for("started")
    while not list(Path().glob("call_*")):
        time.sleep(0.01)
    first.process.send_signal(signal.SIGUSR1)
    stopping = first.wait_for("stopping")
    assert stopping["chunks"] == [[0, 0]]
    assert stopping["rows"] == [0]
    first.end()
    assert first.wait_for("end")["reason"] == "SIGUSR1"
    assert len(count_calls(Path())) == 1
    start(job, 1).end()
    assert values(job) == [x * x for x in range(12)]
    assert count_calls(Path()) == dict.fromkeys(range(12), 1)


def test_a_warned_worker_gives_the_rest_of_its_group_back(start: Callable[..., Task]) -> None:
    # A static share is handed to its worker at once, all ten rows.
    job = prepare(noted, 10, nodes=1, more_args={"seconds": 0.4}, schedule="static")
    task = start(job, 0)
    while not list(Path().glob("call_*")):
        time.sleep(0.01)
    task.process.send_signal(signal.SIGUSR1)
    assert task.wait_for("stopping")["rows"] == [0]
    task.end()
    assert count_calls(Path()) == {0: 1}
    start(job, 0, life=1).end()
    assert count_calls(Path()) == dict.fromkeys(range(10), 1)
    assert values(job) == [x * x for x in range(10)]


def test_rows_in_a_stopping_tasks_workers_are_waited_for_not_run_twice(
    start: Callable[..., Task],
) -> None:
    job = prepare(noted, 4, more_args={"seconds": 2.0}, chunksize=2)
    first = start(job, 0)
    first.wait_for("started")
    while not list(Path().glob("call_*")):
        time.sleep(0.01)
    first.process.send_signal(signal.SIGUSR1)
    first.wait_for("stopping")
    second = start(job, 1)
    second.end()
    first.end()
    assert values(job) == [x * x for x in range(4)]
    assert count_calls(Path()) == dict.fromkeys(range(4), 1)


def test_a_requeued_task_goes_on_where_its_killed_life_was(start: Callable[..., Task]) -> None:
    job = prepare(noted, 8, nodes=1, more_args={"seconds": 0.15})
    first = start(job, 0)
    while len(list(Path().glob("call_*"))) < 4:
        time.sleep(0.01)
    first.process.kill()
    first.end()
    again = start(job, 0, life=1)
    assert again.end() == ""
    assert values(job) == [x * x for x in range(8)]
    calls = count_calls(Path())
    assert set(calls) == set(range(8))
    # Only the row that the first life was killed in runs again.
    assert sum(calls.values()) <= 9


def test_workers_die_with_a_killed_supervisor(start: Callable[..., Task]) -> None:
    def sleeper(x: int) -> int:
        Path(f"pid_{x}").write_text(str(os.getpid()))
        time.sleep(60)
        return x

    job = prepare(sleeper, 1)
    task = start(job, 0)
    while not Path("pid_0").exists() or not Path("pid_0").read_text():
        time.sleep(0.01)
    task.process.kill()
    worker = int(Path("pid_0").read_text())
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.02)
    raise AssertionError("the worker outlived its supervisor by two seconds")


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        (lambda: os._exit(0), "exit_0"),
    ],
)
def test_a_dying_worker_costs_its_row_only(
    start: Callable[..., Task], death: Callable[[], None], cause: str
) -> None:
    def fatal(x: int) -> int:
        print("about to compute", x)
        if x == 3:
            death()
        return x

    job = prepare(fatal, 10)
    start(job, 0).end()
    job = SlurmJob(job.folder)
    table = job.table(wait=False, errors="keep")
    assert table["row_status"].tolist() == ["ok"] * 3 + ["crashed"] + ["ok"] * 6
    assert table["row_cause"].tolist()[3] == cause
    assert table["result"].dropna().tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    # What a dying process has not flushed is lost with it; a newline flushes.
    assert job.logs(row=3).startswith("about to compute 3\n")


def test_a_function_that_cannot_be_loaded_burns_no_row(start: Callable[..., Task]) -> None:
    job = prepare(noted, 4, packages=["a_package_that_is_nowhere"])
    task = start(job, 0)
    task.end()
    assert task.process.returncode == 1
    end = task.wait_for("stopping")
    assert end["reason"] == "load_failed"
    assert "a_package_that_is_nowhere" in end["message"]
    assert not list((job.folder / "run_0").glob("outcomes_*.rec")) or all(
        path.stat().st_size == 0 for path in (job.folder / "run_0").glob("outcomes_*.rec")
    )


def test_a_task_that_starts_after_a_cancellation_does_nothing(start: Callable[..., Task]) -> None:
    job = prepare(noted, 4)
    (job.folder / "run_0" / "cancelled").touch()
    assert "cancelled" in start(job, 0).end()
    assert not count_calls(Path())


def test_a_script_of_a_replaced_job_ends_by_itself(start: Callable[..., Task]) -> None:
    job = prepare(noted, 4)
    stale = job.folder / "submit.sh"
    text = stale.read_text()
    prepare(noted, 5)
    stale.write_text(text)
    assert "not the one that this script was written for" in start(job, 0).end()
    assert not count_calls(Path())


def test_long_rows_are_named_while_they_run(start: Callable[..., Task]) -> None:
    job = prepare(noted, 1, more_args={"seconds": 3.5})
    task = start(job, 0)
    record = task.wait_for("running")
    assert (record["row"], record["attempt"]) == (0, 1)
    assert SlurmJob(job.folder).status().counts == {"running": 1}
    task.end()


def test_what_a_task_left_running_is_ended_with_it(start: Callable[..., Task]) -> None:
    def leaves_a_child(x: int) -> int:
        child = subprocess.Popen(["sleep", "60"])
        Path("child").write_text(str(child.pid))
        child.returncode = 0  # not waited for, on purpose
        return x

    job = prepare(leaves_a_child, 1)
    start(job, 0).end()
    child = int(Path("child").read_text())
    for _ in range(50):
        try:
            stat = Path(f"/proc/{child}/stat").read_text()
        except FileNotFoundError:
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the child outlived its task")


def test_records_of_a_torn_file_are_read_up_to_the_tear() -> None:
    whole = b'{"record": "started", "time": 1}\n{"record": "end"}\n'
    assert [r["record"] for r in parse_records(whole)] == ["started", "end"]
    assert [r["record"] for r in parse_records(whole[:-3])] == ["started"]
    assert list(parse_records(json.dumps([1]).encode() + b"\n")) == []
