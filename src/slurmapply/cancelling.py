"""Ending what is alive of a job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.backends import scheduler_for
from slurmapply.errors import JobAliveError
from slurmapply.states import OVER, JobState, RowStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower

#: Seconds in which a task closes its files after its last row, and in which a cancelled one ends
#: (Slurm's KillWait is 30 by default).
_LAST_WORDS = 3.0
_LONGEST_END = 60.0


def cancel(disk: FolderDisk, job: Mapping[str, Any], follower: Follower) -> None:
    """End a job's latest run, and say so.

    Parameters
    ----------
    disk, job, follower
        The folder, its ``job.json``, what is known of it.
    """
    state, name = follower.look(), job["name"]
    run = follower.run
    if state in OVER:
        print(f"{name}: nothing to cancel, it is {state}")  # noqa: T201
        return
    # What it names is ended in the user's name: it may be a process of theirs.
    disk.open_trusted(jobfolder.JOB).close()
    unmarked = _mark_cancelled(disk, run.number)
    if run.submission:
        scheduler_for(run.submission.kind).cancel(run.submission)
    follower.expect_change()
    done = job["rows"] - follower.status(state, dict).counts.get(RowStatus.PENDING, 0)
    print(  # noqa: T201
        f"{name}: cancelled; {done} of {job['rows']} rows had begun or ended"
        + (f" (that could not be written down: {unmarked})" if unmarked else "")
    )


def _mark_cancelled(disk: FolderDisk, run: int) -> OSError | None:
    """Write the mark; gives why it could not be, for its tasks are to be ended all the same."""
    try:
        disk.publish(jobfolder.cancelled(run), b"")
    except OSError as error:
        return error
    return None


def end_tasks(name: str, follower: Follower) -> None:
    """Wait until no task is left of a job that is over, ending those that are not needed.

    Parameters
    ----------
    name, follower
        The job's name, and what is known of it.

    Raises
    ------
    JobAliveError
        Rows are still to run, or a task does not end.
    """
    refuse_alive(name, follower.look(), "end the tasks of")
    if _within(_LAST_WORDS, follower.tasks_have_ended, 0.02):
        return
    submission = follower.run.submission
    if submission is None or not follower.tasks_are_known():
        return
    scheduler_for(submission.kind).cancel(submission)
    if not _within(_LONGEST_END, lambda: not follower.tasks_are_known(), 0.5):
        raise JobAliveError(
            f"tasks of {name} ({submission.job_id}) do not end though they were cancelled. Try "
            "again in a while; squeue says what they wait for."
        )


def refuse_alive(name: str, state: JobState, what: str) -> None:
    """Refuse what must not be done to a job while something of it can still run.

    Raises
    ------
    JobAliveError
        It is not over.
    """
    if state not in OVER:
        raise JobAliveError(
            f"cannot {what} {name} now: it is {state}, and tasks of it may still run. "
            "Wait with job.wait(), or end it with job.cancel() and wait."
        )


def _within(seconds: float, condition: Callable[[], bool], pause: float) -> bool:
    """Wait for a condition; tells whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
