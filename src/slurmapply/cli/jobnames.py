"""Which job is meant: by name, by folder, or the only one that is here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from slurmapply.cli.saying import NO_SUCH_JOB, InputError, SaidError

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from slurmapply.job import SlurmJob


class NoJobError(SaidError):
    """No name was given, and there is no job here."""

    exit_code = NO_SUCH_JOB


class JobName(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones of click
    """A job's name or folder; completes to the names of the jobs that are known."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give the names that begin so."""
        from click.shell_completion import CompletionItem

        del ctx, param
        return [CompletionItem(name) for name in _known_names() if name.startswith(incomplete)]


def _known_names() -> list[str]:
    from pathlib import Path

    from slurmapply import jobfolder, listing

    folders = [*listing.jobs_in(Path()), *listing.remembered()]
    return sorted({folder.name.removeprefix(jobfolder.PREFIX) for folder in folders})


def job_argument(*, may_be_left_out: bool = True) -> Callable[[Any], Any]:
    """Add the argument NAME to a verb.

    Parameters
    ----------
    may_be_left_out
        Whether the only job in the working folder is meant when there is none. Not for verbs that
        change something: what they are about must be said.
    """
    return click.argument("name", type=JobName(), required=not may_be_left_out)


def open_job(name: str | None, *, trust: bool = False) -> SlurmJob:
    """Open the job that is meant, to look at it.

    Raises
    ------
    JobNotFoundError
        There is none of this name; the nearest is offered.
    NoJobError, InputError
        No name was given, and there is no job here, or several.
    """
    from slurmapply.job import SlurmJob

    return SlurmJob.open(_only_name() if name is None else name, trust=trust)


def open_to_load(name: str | None, *, trust: bool) -> SlurmJob:
    """Open the job that is meant, to load objects of it.

    Modules that lay beside the notebook or script that made the job are found here as they are on
    the nodes: its `sys.path` is appended to ours, once the folder is known to be the user's own.

    Raises
    ------
    JobNotFoundError, NoJobError, InputError
        As in `open_job`.
    UntrustedFolderError
        Others could have written the folder.
    """
    from slurmapply import jobfolder
    from slurmapply.disk import FolderDisk

    job = open_job(name, trust=trust)
    disk = FolderDisk(job.folder, trust=trust)
    disk.open_trusted(jobfolder.JOB).close()
    theirs = jobfolder.read_job(disk)["session"]["sys_path"]
    sys.path += [entry for entry in theirs if entry not in sys.path]
    return job


def _only_name() -> str:
    from pathlib import Path

    from slurmapply import jobfolder, listing

    found = listing.jobs_in(Path())
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise NoJobError("there is no job in this folder: say a NAME; slurmapply ls shows all.")
    names = [folder.name.removeprefix(jobfolder.PREFIX) for folder in found]
    raise InputError(f"there are {len(names)} jobs here; say which: {', '.join(names)}.")
