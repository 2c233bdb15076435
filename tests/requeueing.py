"""Having Slurm start a job's task again, as after a preemption or the loss of a node."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply import SlurmJob


def requeue(job: SlurmJob, when: Callable[[], bool]) -> None:
    """Requeue a job of one task once something is true, and have Slurm start it again at once."""
    _wait(when, "what should come before the requeue")
    _scontrol("requeue", f"{job.job_id}_0")
    # A requeued job waits for two minutes (Slurm 22.05, job_mgr.c).
    _wait(lambda: "JobState=PENDING" in _show(job), "the end of the first life")
    _scontrol("update", f"JobId={job.job_id}_0", "StartTime=now")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def _show(job: SlurmJob) -> str:
    return _scontrol("--oneliner", "show", "job", f"{job.job_id}_0")


def _scontrol(*arguments: str) -> str:
    done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=True)
    return done.stdout
