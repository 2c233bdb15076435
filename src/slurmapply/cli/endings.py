"""How the program ends: its exit codes, and what is said of what went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from slurmapply.cli.shellwords import in_shell_words
from slurmapply.errors import (
    InvalidArgumentError,
    JobNotFoundError,
    SchedulerError,
    SlurmApplyError,
    SubmissionError,
)
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator

FINE = 0
#: Some rows of the job are not ok.
ROWS_NOT_OK = 1
#: The command line, or a file that it names, cannot be used; click's own code.
WRONG_USE = 2
NO_SUCH_JOB = 3
#: Slurm refused, or did not answer.
SLURM = 4
#: The job, or a file, is in a state in which this cannot be done.
REFUSED = 5
#: As sysexits.h calls an error inside of a program.
FAULT = 70
#: As shells say it: 128 and the number of the signal.
INTERRUPTED = 128 + signal.SIGINT

_PACKAGE = str(Path(__file__).parents[1])


class SaidError(click.ClickException):
    """What went wrong, said in a sentence without the usage lines."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the sentence to standard error, in whatever letters that can show."""
        del file
        say(f"Error: {self.format_message()}")


class InputError(SaidError):
    """A file or an option that cannot be used."""

    exit_code = WRONG_USE


class RefusedError(SaidError):
    """Something stands in the way that the user may change."""

    exit_code = REFUSED


@contextlib.contextmanager
def clean_ends() -> Iterator[None]:
    """Turn what went wrong into a message and an exit code; no traceback of ours is ever shown."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _end_as_other_tools()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SlurmApplyError as error:
        say(f"Error: {in_shell_words(str(error), name_of(error))}")
        if type(error) is SubmissionError and error.job is not None:
            say(
                f"The job's folder is complete: slurmapply submit {error.job.name} goes on from it."
            )
        sys.exit(exit_code(error))
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        say(f"Error: {error.strerror or error}{place}")
        sys.exit(REFUSED)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception:  # noqa: BLE001  # whatever it is must not look like rows that are not ok
        say(f"{traceback.format_exc()}Error: this is a fault of slurmapply; please report it.")
        sys.exit(FAULT)


def say_warnings_plainly() -> None:
    """Show our own warnings as messages; those of the user's files keep their lines."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category is UserWarning and place and str(place[0]).startswith(_PACKAGE):
            say(f"Warning: {message}")
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show


def exit_code(error: SlurmApplyError) -> int:
    """Give the exit code for an error."""
    if isinstance(error, JobNotFoundError):
        return NO_SUCH_JOB
    if isinstance(error, InvalidArgumentError):
        return WRONG_USE
    return SLURM if isinstance(error, SchedulerError) else REFUSED


def name_of(error: SlurmApplyError) -> str:
    """Give the name of the job that an error is about, NAME where it does not know."""
    return str(getattr(getattr(error, "job", None), "name", "NAME"))


def tell(text: str) -> None:
    """Write to standard output; names and texts of others do not steer the terminal.

    click's own echo would write UTF-8 where ASCII is asked for.
    """
    sys.stdout.write(f"{harmless(text)}\n")


def say(text: str) -> None:
    """Write a line to standard error, where it does not mix with what a program reads."""
    sys.stdout.flush()
    sys.stderr.write(f"{harmless(text)}\n")


def end(code: int) -> NoReturn:
    """End the program with an exit code."""
    click.get_current_context().exit(code)


def _end_as_other_tools() -> NoReturn:
    """Die by SIGPIPE, as `cat` does when nobody reads on."""
    # What is still buffered must not be written at exit, or Python would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(128 + signal.SIGPIPE)
