"""All jobs of a folder, or of this user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply import listing
from slurmapply.announcing import with_home
from slurmapply.errors import SlurmApplyError
from slurmapply.job import SlurmJob

if TYPE_CHECKING:
    import os


def list_jobs(folder: str | os.PathLike[str] | None = None) -> JobList:
    """Give the jobs of a folder, or all of one's own that still exist.

    Parameters
    ----------
    folder
        Where to look; None: the working folder and all folders that jobs were made in.

    Returns
    -------
    list of SlurmJob
        Shown with a line for each. Folders that cannot be read are left out.
    """
    if folder is not None:
        folders = listing.jobs_in(Path(folder).expanduser())
    else:
        folders = [path.absolute() for path in listing.jobs_in(Path())]
        folders = list(dict.fromkeys([*listing.remembered(), *folders]))
    return JobList(job for job in map(_opened, folders) if job is not None)


class JobList(list[SlurmJob]):
    """A list of jobs that shows a line for each."""

    def __repr__(self) -> str:
        return "\n".join(f"{job.name}: {job!r}  ({with_home(job.folder)})" for job in self)


def _opened(folder: Path) -> SlurmJob | None:
    try:
        return SlurmJob(folder)
    except SlurmApplyError:
        return None
