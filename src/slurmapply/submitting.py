"""Handing runs over: the first, by hand prepared ones, and retries."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.backends import scheduler_for
from slurmapply.disk import FolderDisk
from slurmapply.errors import JobAliveError, SubmissionError
from slurmapply.preparing import RunPlan, write_function, write_run
from slurmapply.resources import check_resources, resources_of
from slurmapply.runview import read_submission, submission_content
from slurmapply.schedulers.base import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.schedulers.base import Submission


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


def submit_run(disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan) -> Submission:
    """Submit a run that stands in the folder, and write down what it became.

    Raises
    ------
    SubmissionError
        It was refused.
    JobAliveError
        Another session submitted the same run a moment before; ours was withdrawn.
    """
    scheduler = scheduler_for(plan.backend)
    request = Request(
        folder=disk.path.absolute(),
        script=jobfolder.run_script(plan.number),
        slurm_name=plan.slurm_name(job["name"]),
        options=plan.options(job["name"]),
        tasks=plan.tasks,
        console=jobfolder.task_console(plan.number, 0),
        uuid=job["uuid"],
        run=plan.number,
        tag=plan.tag,
    )
    submission = scheduler.submit(request)
    content = jobfolder.encode_json(submission_content(submission))
    if not disk.publish(jobfolder.submission(plan.number), content):
        owner = read_submission(disk, plan.number)
        if owner is not None and owner.job_id != submission.job_id:
            scheduler.cancel(submission)
            raise JobAliveError(
                f"run {plan.number} of {job['name']} was submitted by another session a moment "
                f"before, as {owner.kind} job {owner.job_id}. This submission was withdrawn."
            )
    return submission


def change_plan(
    disk: FolderDisk, job: Mapping[str, Any], plan: RunPlan, changed: Mapping[str, Any]
) -> RunPlan:
    """Write a prepared run anew with other resources; its tag changes with it.

    A script that was started by hand with the former tag ends by itself.
    """
    if not changed:
        return plan
    resources = check_resources(changed, plan.resources)
    plan = replace(plan, resources=resources, tag=secrets.token_hex(3))
    write_run(FolderDisk(disk.path / jobfolder.run_folder(plan.number)), plan)
    script = plan.script(job["name"], job["uuid"]).encode()
    disk.replace(jobfolder.run_script(plan.number), script)
    return plan


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
            write_function(run_folder, *function)
        run_folder.sync()
        os.rename(beside, final)  # noqa: PTH104  # refuses to replace a folder that is not empty
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise JobAliveError(
            f"another session is retrying {job['name']} already (run {plan.number}). Look at "
            "it with job.status(), and wait for its end before you retry again."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return plan


def with_job(error: SubmissionError, job: Any) -> SubmissionError:
    """Give a refusal the job that it was about."""
    error.job = job
    return error
