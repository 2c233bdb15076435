"""Handing runs over: the first, by hand prepared ones, and retries."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.backends import scheduler_for
from slurmapply.byvalue import sent_by_value
from slurmapply.disk import FolderDisk
from slurmapply.errors import JobAliveError, JobFolderError, SchedulerError
from slurmapply.intents import declared, who_submits
from slurmapply.preparing import RunPlan, write_function, write_run
from slurmapply.resources import check_resources, resources_of
from slurmapply.runview import read_submission, submission_content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.intents import Intent
    from slurmapply.runview import RunView
    from slurmapply.schedulers.base import Scheduler, Submission


def plan_of(asked: Mapping[str, Any], rows: int) -> RunPlan:
    """Read a run's plan back from its ``run.json``."""
    return RunPlan(
        number=asked["run"],
        rule=asked["rule"],
        rows=rows,
        resources=resources_of(asked["resources"]),
        backend=asked["backend"],
        after=tuple(asked["after"]),
        function_of_run=asked["function_of_run"],
        tag=asked["tag"],
    )


def submit_run(disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan, attempt: int) -> Submission:
    """Submit a run that stands in the folder, and write down what it became.

    Parameters
    ----------
    disk, job, plan
        Where, whose, what; the run is written anew where its tag is another.
    attempt
        How many attempts were seen when it was decided to submit.

    Raises
    ------
    SubmissionError
        It was refused.
    SubmissionUnknownError
        Nobody knows whether it was taken.
    JobAliveError
        Another session submitted the same run a moment before; ours was withdrawn.
    """
    with declared(disk, plan, job["name"], attempt):
        if jobfolder.read_run(disk, plan.number)["tag"] != plan.tag:
            _write_anew(disk, job, plan)
        scheduler = scheduler_for(plan.backend)
        request = plan.request(disk.path.absolute(), job["name"], job["uuid"])
        submission = scheduler.submit(request)
        owner = _write_down(disk, plan.number, submission)
    if owner.job_id != submission.job_id:
        scheduler.cancel(submission)
        raise JobAliveError(
            f"run {plan.number} of {job['name']} was submitted by another session a moment "
            f"before, as {owner.kind} job {owner.job_id}. This submission was withdrawn."
        )
    return submission


def _write_anew(disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan) -> None:
    """Write a prepared run with other resources, or only another tag.

    A script that was started with the former tag ends by itself.
    """
    write_run(FolderDisk(disk.path / jobfolder.run_folder(plan.number)), plan)
    script = plan.script(job["name"], job["uuid"]).encode()
    disk.replace(jobfolder.run_script(plan.number), script)


def _write_down(disk: FolderDisk, run: int, submission: Submission) -> Submission:
    """Write down a run's submission; gives the one that stands there then."""
    content = jobfolder.encode_json(submission_content(submission))
    if disk.publish(jobfolder.submission(run), content):
        return submission
    return read_submission(disk, run) or submission


def look_for_submission(
    disk: FolderDisk, job: Mapping[str, Any], run: RunView, scheduler: Callable[[str], Scheduler]
) -> str:
    """Find out what became of a run that some session was about to submit, and write it down.

    Returns
    -------
    str
        Why that cannot be found out, empty when it is settled: it has its submission now, or
        there is none.
    """
    busy = who_submits(run.intents[-1])
    if busy:
        return f"it is being submitted: {busy}."
    plan = plan_of(run.asked, len(run.rows))
    # An attempt of another tag was stopped before sbatch, or its tasks end by themselves.
    for intent in (intent for intent in run.intents if intent.tag == plan.tag):
        try:
            found = _recovered(disk, job, plan, intent, scheduler)
        except SchedulerError as error:
            return (
                "whether it was submitted is not known, for a session was cut short while it"
                f" submitted {plan.slurm_name(job['name'])}, and now: {error}"
            )
        if found is not None:
            _write_down(disk, run.number, found)
    return ""


def _recovered(
    disk: FolderDisk,
    job: Mapping[str, Any],
    plan: RunPlan,
    intent: Intent,
    scheduler: Callable[[str], Scheduler],
) -> Submission | None:
    kind, host = intent.content["kind"], intent.content["host"]
    if kind == "local" and host != socket.gethostname():
        raise SchedulerError(f"it was to be started on {host}; look at it from there.")
    return scheduler(kind).recover(plan.request(disk.path.absolute(), job["name"], job["uuid"]))


def change_plan(plan: RunPlan, changed: Mapping[str, Any], *, anew: bool) -> RunPlan:
    """Change a prepared run.

    Parameters
    ----------
    plan
        The run as it stands in its folder.
    changed
        Keywords that differ.
    anew
        It was tried before: the tag changes in any case, so that what that attempt may still
        bring about is not this submission.
    """
    if not changed and not anew:
        return plan
    resources = check_resources(changed, plan.resources)
    return replace(plan, resources=resources, tag=secrets.token_hex(3))


def add_run(
    disk: FolderDisk,
    job: Mapping[str, Any],
    plan: RunPlan,
    function: tuple[Callable[..., Any], Mapping[str, Any]] | None,
) -> RunPlan:
    """Write the folder of a further run; of two sessions that try at once, one is told.

    Parameters
    ----------
    disk, job, plan
        Where, whose, what.
    function
        The run's own function and what goes along with it, or None.

    Raises
    ------
    JobAliveError
        Another session made this run first.
    """
    if function is not None:
        plan = replace(plan, function_of_run=plan.number)
    final = disk.path / jobfolder.run_folder(plan.number)
    beside = final.with_name(f".{final.name}.{secrets.token_hex(4)}.new")
    try:
        beside.mkdir(mode=0o700)
        run_folder = FolderDisk(beside)
        write_run(run_folder, plan)
        run_folder.write(jobfolder.SCRIPT, plan.script(job["name"], job["uuid"]).encode())
        if function is not None:
            with sent_by_value(plan.resources.by_value):
                write_function(run_folder, *function)
        run_folder.sync()
        os.rename(beside, final)  # noqa: PTH104  # refuses to replace a folder that is not empty
    except OSError as error:
        if _is_run(disk, plan):
            return plan  # the reply was lost on its way (rename(2), "BUGS")
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise JobFolderError(
                f"run {plan.number} of {job['name']} could not be written to {disk.path}: {error}. "
                "Nothing was submitted. Is there room, and may you write there?",
                path=disk.path,
            ) from error
        raise JobAliveError(
            f"another session is retrying {job['name']} already (run {plan.number}). Look at "
            "it with job.status(), and wait for its end before you retry again."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return plan


def _is_run(disk: FolderDisk, plan: RunPlan) -> bool:
    with contextlib.suppress(JobFolderError):
        return bool(jobfolder.read_run(disk, plan.number)["tag"] == plan.tag)
    return False
