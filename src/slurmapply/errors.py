"""Everything that slurmapply raises, one tree.

::

    SlurmApplyError
    ├── InvalidArgumentError      an argument cannot be used (.argument); a ValueError, TypeError
    │   └── NotPicklableError     an object cannot be sent to the nodes (.variable)
    ├── JobFolderError            a job folder cannot be made, read or trusted (.path)
    │   ├── JobExistsError        the name is taken (.path)
    │   ├── JobNotFoundError      no such job (.path)
    │   ├── FormatError           written by a newer slurmapply, or damaged (.path)
    │   └── UntrustedFolderError  others could have written what would be executed (.path)
    ├── SchedulerError            a batch system's command failed (.command, .exit_code, .output)
    │   ├── SchedulerNotFoundError  its command is not on this machine
    │   └── SubmissionError       it refused a submission (.job)
    │       └── SubmissionUnknownError  it may have taken a submission, and does not say (.job)
    ├── JobAliveError             refused while something of the job can still run (.job)
    ├── WaitTimeoutError          the job did not end in time (.job); also a TimeoutError
    ├── RowsFailedError           rows of a job are not ok (.job, .table, .lines)
    └── RowError                  what became of one row that is not ok (.row, .status, .cause, ...)

Every message answers: what was being done, what came back, what to do next. The fields are plain
attributes, and every error survives pickling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path


class SlurmApplyError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    message
        What was being done, what came back, what to do next.
    job
        The job that it is about, where there is one already.
    """

    def __init__(self, message: str = "", *, job: Any = None) -> None:
        super().__init__(message)
        self.job = job


class InvalidArgumentError(SlurmApplyError, ValueError, TypeError):
    """An argument cannot be used. Nothing was written or submitted.

    It is a ValueError and a TypeError at once: which of the two a wrong argument is depends on
    taste, and a caller should not have to know ours.
    """

    def __init__(self, message: str = "", *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class NotPicklableError(InvalidArgumentError):
    """Something that the function needs cannot be sent to another process."""

    def __init__(
        self, message: str = "", *, argument: str | None = None, variable: str | None = None
    ) -> None:
        super().__init__(message, argument=argument)
        self.variable = variable


class JobFolderError(SlurmApplyError):
    """A job folder cannot be made, read or trusted."""

    def __init__(self, message: str = "", *, path: str | os.PathLike[str] | None = None) -> None:
        from pathlib import Path  # noqa: PLC0415  # it would cost each task's start 5 ms

        super().__init__(message)
        self.path: Path | None = None if path is None else Path(path)


class JobExistsError(JobFolderError):
    """There is a job of this name already, and nothing of it was touched."""


class JobNotFoundError(JobFolderError):
    """There is no job of this name, or no job folder at this path."""


class FormatError(JobFolderError):
    """A file of a job folder was written by a newer slurmapply, or is not one of ours."""


class UntrustedFolderError(JobFolderError):
    """Others than you could have written what would be executed by reading it."""


class SchedulerError(SlurmApplyError):
    """A command of the batch system failed."""

    def __init__(
        self,
        message: str = "",
        *,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        output: str = "",
    ) -> None:
        super().__init__(message)
        self.command = tuple(command)
        self.exit_code = exit_code
        self.output = output


class SchedulerNotFoundError(SchedulerError):
    """The batch system's command is not on this machine."""


class SubmissionError(SchedulerError):
    """The batch system refused a submission.

    The job's folder is complete: ``err.job.submit(account="...")`` goes on from here.
    """


class SubmissionUnknownError(SubmissionError):
    """A submission was sent, and nobody can say whether it was taken.

    Another try may run everything twice, so it needs to be asked for.
    """

    unknown = True


class JobAliveError(SlurmApplyError):
    """Refused, because something of the job can still run."""


class WaitTimeoutError(SlurmApplyError, TimeoutError):
    """The job did not end within the time that was allowed for waiting. It goes on."""


class RowsFailedError(SlurmApplyError):
    """Rows of a job are not ok; the others are, and are in ``.table``.

    Attributes
    ----------
    job : SlurmJob
        Whose rows.
    table : frame
        What ``job.table(errors="keep")`` gives.
    lines : sequence of str
        The message in lines, one for each cause.
    """

    def __init__(
        self,
        message: str = "",
        *,
        job: Any = None,
        table: Any = None,
        lines: Sequence[str] = (),
    ) -> None:
        super().__init__(message, job=job)
        self.table = table
        self.lines = tuple(lines)

    def _render_traceback_(self) -> list[str]:
        return _shown_by_ipython(self, self.lines or [str(self)])


class RowError(SlurmApplyError):
    """What became of one row that is not ok.

    Attributes
    ----------
    row : int
        Number of the row, from 0.
    status : str
        ``"error"``, ``"crashed"``, ``"unfinished"``, ...
    cause : str
        The exception's type, or the reason in one word.
    exception : BaseException or None
        The exception itself, where it could be pickled.
    traceback : str
        Its full text, as the node saw it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        row: int = -1,
        status: str = "",
        cause: str = "",
        exception: BaseException | None = None,
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.row = row
        self.status = status
        self.cause = cause
        self.exception = exception
        self.traceback = traceback

    def _render_traceback_(self) -> list[str]:
        return _shown_by_ipython(self, [str(self), *self.traceback.splitlines()])


def _shown_by_ipython(error: BaseException, said: Sequence[str]) -> list[str]:
    """Show an error in a notebook, which takes these lines for its own many.

    IPython prints every frame with the lines around it. A row failed somewhere else: the frames
    of this package, between the user's line and the message, tell nobody anything.
    """
    import traceback  # noqa: PLC0415  # notebooks alone need it

    package = f"{__file__.rpartition('/')[0]}/"
    others = (package, "/IPython/", "/ipykernel/")
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if not any(part in frame.filename for part in others):
            cell = "/ipykernel_" in frame.filename or frame.filename.startswith("<")
            place = "" if cell else f"{frame.filename}, "
            lines.append(f"{place}line {frame.lineno}: {frame.line}")
    return [*lines, "", f"{type(error).__name__}: {said[0]}", *said[1:]]
