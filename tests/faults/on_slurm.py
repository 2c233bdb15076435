"""Rows that leave traces, and what can be done to their tasks: by Slurm, or without one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import SlurmJob, current_row, slurm_apply
from slurmapply.disk import FolderDisk
from slurmapply.records import parse_records, read_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slurmapply.records import LifeView


def noting() -> Callable[..., int]:
    """Make a function that leaves a file for each call, sleeps at the first attempt and squares.

    Made here, it goes to the nodes by value: they need not import the tests.
    """
    place = str(Path.cwd())

    def noted(x: int, seconds: float = 0.0) -> int:
        Path(f"{place}/call_{x}_{os.getpid()}_{time.monotonic_ns()}").touch()
        if current_row().attempt == 1:
            time.sleep(seconds)
        return x * x

    return noted


def calls() -> dict[int, int]:
    """Count the calls that left a file, by row."""
    return dict(Counter(int(path.name.split("_")[1]) for path in Path().glob("call_*")))


def begun(row: int) -> bool:
    """Whether a row was called."""
    return any(Path().glob(f"call_{row}_*"))


def apply(seconds: Sequence[float], **how: Any) -> SlurmJob:
    """Submit rows that sleep, one worker a task unless it is said otherwise."""
    plain: dict[str, Any] = {"nodes": 2, "cpus_per_node": 1, "job_name": "c", "backend": "slurm"}
    table = {"x": list(range(len(seconds))), "seconds": list(seconds)}
    return slurm_apply(noting(), table, **(plain | how))


def squares(count: int) -> list[int]:
    """Give the values that so many rows must have."""
    return [x * x for x in range(count)]


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not true within {seconds:.0f} s"
        time.sleep(0.02)


def slurm(*command: str) -> str:
    """Run one of Slurm's commands."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


def state(job_id: str | None, task: int = 0) -> str:
    """Say what Slurm calls a task's state."""
    command = ("squeue", "-h", "--array", "--states=all", f"--jobs={job_id}_{task}")
    return slurm(*command, "--format=%T").strip()


def start_now(job_id: str | None, task: int = 0, seconds: float = 20.0) -> None:
    """Wait until a task was requeued, and end the two minutes that it would wait."""
    wait_until(lambda: state(job_id, task) == "PENDING", seconds)
    time.sleep(1.1)  # a life that starts within the second of the last one's end is refused
    command = ["scontrol", "update", f"JobId={job_id}_{task}", "StartTime=now"]

    def pending() -> bool:
        subprocess.run(command, check=False, capture_output=True, timeout=30)
        return state(job_id, task) == "PENDING"

    wait_until(lambda: not pending())


def lives(job: SlurmJob, run: int = 0) -> list[LifeView]:
    """Give what the records of a run say, in the order of task and life."""
    views = read_lives(FolderDisk(job.folder), run)
    return sorted(views, key=lambda view: (view.life.task, view.life.life))


def life(job: SlurmJob, task: int = 0, number: int = 0) -> LifeView:
    """Give what the record of one life says."""
    found = [view for view in lives(job) if view.life[1:] == (task, number)]
    assert found, f"task {task} has no life {number} in {lives(job)}"
    return found[0]


def has_ended(job: SlurmJob, task: int = 0, number: int = 0) -> bool:
    """Whether a life wrote its last record."""
    return any(view.life[1:] == (task, number) and view.end for view in lives(job))


def interrupted(job: SlurmJob) -> dict[int, dict[str, Any]]:
    """Give the last interruption of each row of the first run."""
    return {record["row"]: record for view in lives(job) for record in view.interrupted}


class Task:
    """A task of a submission that no Slurm knows of: the node's program, started here."""

    def __init__(self, job: SlurmJob, task: int = 0, *, life: int = 0, **variables: str) -> None:
        script = (job.folder / "submit.sh").read_text()
        command = next(line for line in script.splitlines() if line.startswith("exec "))
        self.record = job.folder / "run_0" / f"task_77_{task}_{life}.jsonl"
        identity = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task)}
        if life:
            identity["SLURM_RESTART_COUNT"] = str(life)
        self.process = subprocess.Popen(
            [sys.executable, *command.split()[2:]],
            cwd=job.folder,
            env=os.environ | identity | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Give its records of a kind."""
        data = self.record.read_bytes() if self.record.exists() else b""
        return [record for record in parse_records(data) if record["record"] == kind]

    def end(self, seconds: float = 30.0) -> str:
        """Wait for its end; gives what it said."""
        return str(self.process.communicate(timeout=seconds)[1])


def prepare(seconds: Sequence[float], **how: Any) -> SlurmJob:
    """Make a job whose tasks are started by hand."""
    return apply(seconds, **({"submit": False} | how))


def values(job: SlurmJob) -> list[Any]:
    """Give what the folder shows of each row; its tasks belong to no Slurm that could be asked."""
    return list(SlurmJob(job.folder).results(wait=False, errors="keep"))
