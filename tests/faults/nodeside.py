"""What the tests of rows and processes share: jobs to their end, what the node wrote, processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import SlurmJob, slurm_apply
from slurmapply.records import parse_records

if TYPE_CHECKING:
    from collections.abc import Callable


def run(f: Callable[..., Any], rows: int, **how: Any) -> SlurmJob:
    """Run a function over the numbers of its rows on this machine, to the end."""
    plain: dict[str, Any] = {"backend": "local", "nodes": 1, "cpus_per_node": 1}
    return slurm_apply(f, {"x": list(range(rows))}, **(plain | how)).wait(60)


def statuses(job: SlurmJob) -> list[str]:
    """Give each row's status, as the folder tells it; of a task that no Slurm knows, too."""
    return list(kept(job)["row_status"])


def causes(job: SlurmJob) -> list[str]:
    """Give each row's cause."""
    return list(kept(job)["row_cause"])


def kept(job: SlurmJob) -> Any:
    """Give the table of all rows as the folder shows it now."""
    return SlurmJob(job.folder).table(wait=False, errors="keep", details=True)


def records(job: SlurmJob, kind: str) -> list[dict[str, Any]]:
    """Give all records of a kind that the tasks of a job's first run wrote."""
    found = []
    for path in sorted((job.folder / "run_0").glob("task_*.jsonl")):
        found += [each for each in parse_records(path.read_bytes()) if each["record"] == kind]
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something; gives what the condition gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def is_there(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def written(name: str) -> int:
    """Wait for a file that holds a process's number, and give it."""
    return int(wait_until(lambda: Path(name).exists() and Path(name).read_text()))


def children(pid: int) -> list[int]:
    """Give a process's children."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def clerk_of(supervisor: int) -> int:
    """Find the supervisor's clerk: its child that has no process group of its own."""
    found = [child for child in children(supervisor) if os.getpgid(child) != child]
    assert len(found) == 1
    return found[0]
