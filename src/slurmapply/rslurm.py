"""rslurm's own functions, thin over the methods of `SlurmJob`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import FolderDisk
from slurmapply.errors import InvalidArgumentError
from slurmapply.job import SlurmJob
from slurmapply.runview import submission_content
from slurmapply.schedulers.base import Submission

if TYPE_CHECKING:
    import os

    from slurmapply.status import JobStatus


def get_job_status(job: SlurmJob) -> JobStatus:
    """Look at a job: ``.completed``, ``.queue``, ``.log`` and more; printed, it is a summary.

    Examples
    --------
    >>> from slurmapply import get_job_status, slurm_map
    >>> job = slurm_map(abs, [-1], job_name="seen", backend="inline")  # doctest: +ELLIPSIS
    seen: 1 row...
    >>> get_job_status(job).completed
    True
    """
    return _job(job).status()


def print_job_status(job: SlurmJob) -> None:
    """Print a job's status. Deprecated, as in rslurm: ``print(get_job_status(job))``."""
    warnings.warn(
        "print_job_status is deprecated; use print(get_job_status(job))",
        DeprecationWarning,
        stacklevel=2,
    )
    print(get_job_status(job))  # noqa: T201  # what it is for


def get_slurm_out(
    job: SlurmJob,
    outtype: str = "raw",
    wait: bool = True,  # noqa: FBT001, FBT002  # rslurm's signature
    ncores: int | None = None,  # noqa: ARG001
) -> Any:
    """Give what a job's rows returned.

    Parameters
    ----------
    job
        The job.
    outtype
        "raw": the results in row order, for `slurm_call` the bare value. "table": one table of
        the results, without the parameters (``job.table()`` has both).
    wait
        Wait for the job's end; False: a snapshot.
    ncores
        Taken for rslurm's sake; reading is fast without.

    Raises
    ------
    InvalidArgumentError
        Another `outtype`, or a table of a single call.
    """
    if outtype not in ("raw", "table"):
        raise InvalidArgumentError(
            f'outtype: "raw" or "table", not {outtype!r}.', argument="outtype"
        )
    single = _job(job).kind == "call"
    if outtype == "table":
        if single:
            raise InvalidArgumentError(
                'outtype: a slurm_call has one result, which makes no table; use "raw", or '
                "job.table() for parameters and result in one line.",
                argument="outtype",
            )
        return job.results_table(wait=wait)
    results = job.results(wait=wait)
    return results[0] if single else results


def cancel_slurm(job: SlurmJob) -> None:
    """End what is alive of a job, by its id; rslurm's goes by name and hits namesakes."""
    _job(job).cancel()


def cleanup_files(job: SlurmJob, wait: bool = True) -> None:  # noqa: FBT001, FBT002  # rslurm's signature
    """Wait for a job's end, then delete its folder."""
    _job(job).cleanup(wait=wait)


def slurm_job(
    name: str | os.PathLike[str], jobid: str | int | None = None, nodes: int | None = None
) -> SlurmJob:
    """Open a job of an earlier session; the name or folder is enough.

    Parameters
    ----------
    name
        Name or folder.
    jobid
        The Slurm job of a run that was submitted by hand, written down if nothing is known yet.
    nodes
        Taken for rslurm's sake; the folder knows it.

    Raises
    ------
    InvalidArgumentError
        The job is known under another id.
    """
    del nodes
    job = SlurmJob.open(name)
    if jobid is not None:
        _note_id(job, str(jobid))
    return job


def _note_id(job: SlurmJob, job_id: str) -> None:
    if job.job_id is None:
        disk = FolderDisk(job.folder)
        content = submission_content(Submission("slurm", job_id))
        disk.publish(jobfolder.submission(0), jobfolder.encode_json(content))
    elif job_id not in job.job_ids:
        raise InvalidArgumentError(
            f"jobid: {job.name} was submitted as {', '.join(job.job_ids)}, not as {job_id}.",
            argument="jobid",
        )


def local_slurm_array(job: SlurmJob, python: str | None = None) -> SlurmJob:
    """Run a job that was made with ``submit=False`` on this machine, and wait for it.

    Parameters
    ----------
    job
        The job.
    python
        Another interpreter of the same minor version.

    Returns
    -------
    SlurmJob
        The same job, finished.
    """
    changed: dict[str, Any] = {} if python is None else {"python": str(Path(python))}
    return _job(job).submit(backend="local", **changed).wait()


def _job(job: Any) -> SlurmJob:
    if not isinstance(job, SlurmJob):
        raise InvalidArgumentError(
            f"job: a SlurmJob is needed, not {type(job).__name__}; slurm_job(name) opens one.",
            argument="job",
        )
    return job
