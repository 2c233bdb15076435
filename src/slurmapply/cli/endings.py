"""How the program ends, and what is said of what went wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from slurmapply.cli.saying import FAULT, INTERRUPTED, NO_SUCH_JOB, REFUSED, SLURM, WRONG_USE, say
from slurmapply.cli.shellwords import in_shell_words
from slurmapply.errors import (
    InvalidArgumentError,
    JobNotFoundError,
    SchedulerError,
    SlurmApplyError,
    SubmissionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = str(Path(__file__).parents[1])


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
    return "NAME" if error.job is None else str(error.job.name)


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
