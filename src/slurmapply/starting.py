"""Starting the runs of a job, and saying so."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurmapply import listing
from slurmapply.announcing import announcement, disk_warning
from slurmapply.backends import choose_backend, scheduler_for
from slurmapply.errors import JobAliveError, SubmissionUnknownError
from slurmapply.states import JobState
from slurmapply.submitting import change_plan, plan_of, submit_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.preparing import RunPlan
    from slurmapply.schedulers.base import Submission


def start_prepared(
    disk: FolderDisk,
    job: Mapping[str, Any],
    follower: Follower,
    changed: Mapping[str, Any],
    *,
    force: bool,
) -> None:
    """Start the latest run, which was only prepared, or refused.

    Parameters
    ----------
    disk, job, follower
        The folder, its ``job.json``, what is known of it.
    changed
        Keywords that differ from what was prepared, ``backend`` among them.
    force
        Start it even if nobody knows whether an earlier attempt was taken.

    Raises
    ------
    JobAliveError
        It was submitted already.
    SubmissionUnknownError
        Nobody knows whether it was.
    """
    state = follower.look(ask=False)
    doubtful = follower.doubtful
    if doubtful:
        state = follower.look()
    run = follower.run
    plan = plan_of(run.asked, len(run.rows))
    if doubtful and run.submission and not changed:
        _say_started(disk, job, plan, run.submission)
        return
    unknown = follower.doubtful
    if unknown and not force:
        raise SubmissionUnknownError(
            f"{job['name']} was not submitted again: {follower.status(state, dict).note} Try "
            "again later, or submit it whatever became of that attempt with "
            "job.submit(force=True)."
        )
    if state is not JobState.PREPARED and not unknown:
        known_as = run.submission.job_id if run.submission else None
        raise JobAliveError(
            f"{job['name']} was submitted already, as {known_as}, and is {state}. To run rows "
            "again: job.retry()."
        )
    resources = {keyword: value for keyword, value in changed.items() if keyword != "backend"}
    plan = change_plan(plan, resources, anew=bool(run.intents))
    backend = changed.get("backend") or plan.backend
    start(disk, job, replace(plan, backend=backend), attempt=run.attempts)


def start(disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan, *, attempt: int = 0) -> None:
    """Submit a run that stands in the folder, and say where it is.

    Parameters
    ----------
    disk, job, plan
        Where, whose, what.
    attempt
        How many attempts were seen when it was decided to submit.

    Raises
    ------
    SchedulerNotFoundError, SubmissionError, SubmissionUnknownError, JobAliveError
        As `choose_backend` and `submit_run`.
    """
    plan = replace(plan, backend=choose_backend(plan.backend))
    try:
        submission = submit_run(disk, job, plan, attempt)
    except KeyboardInterrupt:
        if plan.backend != "inline":  # there it stopped the rows, and they are in the folder
            sys.stderr.write(
                f"stopped submitting {job['name']}. Whether it was submitted: "
                f'SlurmJob.open("{job["name"]}").status() looks; .submit() goes on from there\n'
            )
        raise
    _say_started(disk, job, plan, submission)


def _say_started(
    disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan, submission: Submission
) -> None:
    listing.remember(disk.path)
    described = scheduler_for(submission.kind).describe(submission)
    plan = replace(plan, backend=submission.kind)
    said = announcement(job["name"], disk.path, plan, described)
    print(said, flush=True)  # noqa: T201  # users wait for it, and progress comes below it
    warning = disk_warning(disk.path, submission.kind)
    if warning:
        print(warning)  # noqa: T201  # below the line that it is about
