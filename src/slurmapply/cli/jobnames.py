"""Which job is meant: by name, by folder, or the only one that is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurmapply.cli.endings import NO_SUCH_JOB, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from slurmapply.job import SlurmJob


class NoJobError(click.ClickException):
    """No name was given, and there is no job here."""

    exit_code = NO_SUCH_JOB


class JobName(click.ParamType):
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
    """Open the job that is meant.

    Raises
    ------
    JobNotFoundError
        There is none of this name; the nearest is offered.
    NoJobError, InputError
        No name was given, and there is no job here, or several.
    """
    from slurmapply.job import SlurmJob

    return SlurmJob.open(_only_name() if name is None else name, trust=trust)


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
