"""What the program says, where it says it, and with which exit code."""

from __future__ import annotations

import signal
import sys
from typing import IO, Any

import click

from slurmapply.wording import harmless

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


def tell(text: str) -> None:
    """Write to standard output; names and texts of others do not steer the terminal.

    click's own echo would write UTF-8 where ASCII is asked for.
    """
    sys.stdout.write(f"{harmless(text)}\n")


def say(text: str) -> None:
    """Write a line to standard error, where it does not mix with what a program reads."""
    sys.stdout.flush()
    sys.stderr.write(f"{harmless(text)}\n")
