"""Jobs that were there before: one of the same name, and those that a new one waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from slurmapply import listing
from slurmapply.errors import InvalidArgumentError, JobExistsError
from slurmapply.job import SlurmJob
from slurmapply.states import OVER, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def existing_job(folder: Path) -> SlurmJob | None:
    """Give the job of the same name, None when there is none."""
    if not folder.exists():
        return None
    if not listing.is_job(folder):
        raise JobExistsError(
            f"{folder} exists and is no job folder of slurmapply; it was not touched. Choose "
            "another job_name.",
            path=folder,
        )
    return SlurmJob(folder)


def refuse_to_replace(job: SlurmJob, if_exists: str) -> None:
    """Refuse unless the user said "replace" and nothing is alive; a mere preparation may go."""
    status = job.status()
    if status.state is JobState.PREPARED:
        return
    if if_exists == "fail":
        raise JobExistsError(
            f"there is a job named {job.name!r} in {job.folder} ({status.state}; "
            f"{status.summary()}). Open it with SlurmJob.open, choose another job_name, or say "
            'if_exists="open" or if_exists="replace".',
            path=job.folder,
        )
    if status.state not in OVER:
        raise JobExistsError(
            f"the job {job.name!r} cannot be replaced: it is {status.state}, and tasks of it may "
            "still run. End it with job.cancel() first.",
            path=job.folder,
        )
    job.end_tasks()


def same_job(job: SlurmJob, fingerprints: Mapping[str, str]) -> SlurmJob:
    """Give the job back if it is what is asked for now, else say what differs."""
    before = job.fingerprints
    differs = [what for what, digest in fingerprints.items() if before.get(what) != digest]
    if differs:
        raise JobExistsError(
            f"there is a job named {job.name!r} in {job.folder}, but its {' and '.join(differs)} "
            'differ from what was given now. Choose another job_name, or say if_exists="replace".',
            path=job.folder,
        )
    return job


def ids_to_wait_for(after: Any, backend: str) -> tuple[str, ...]:
    """Give the ids that a job must wait for: of those jobs that have not ended."""
    if after is None:
        return ()
    several = isinstance(after, Iterable) and not isinstance(after, str)
    jobs = list(after) if several else [after]
    ids: list[str] = []
    for job in jobs:
        if not isinstance(job, SlurmJob):
            raise InvalidArgumentError(
                f"after: jobs are needed, not {job!r}; SlurmJob.open finds one by its name.",
                argument="after",
            )
        ids += _ids_of(job, backend)
    return tuple(ids)


def _ids_of(job: SlurmJob, backend: str) -> list[str]:
    state = job.status().state
    if state in OVER and state is not JobState.PREPARED:
        return []
    if state is JobState.PREPARED:
        raise InvalidArgumentError(
            f"after: {job.name} was never submitted, so it would be waited for without end.",
            argument="after",
        )
    if not job.job_ids:
        raise InvalidArgumentError(
            f"after: whether {job.name} was submitted is not known yet. Call job.status() on it "
            "until it is.",
            argument="after",
        )
    if backend != "slurm" or not all(job_id.isdigit() for job_id in job.job_ids):
        raise InvalidArgumentError(
            f"after: {job.name} is {state}, and only Slurm can make one job wait for another. "
            "Call job.wait() on it first.",
            argument="after",
        )
    return job.job_ids
