"""The command ``slurmapply``: its verbs, and how it begins and ends."""

from __future__ import annotations

from typing import Any

import click

from slurmapply.cli import act, look, machine, take
from slurmapply.cli.endings import clean_ends, say_warnings_plainly
from slurmapply.cli.terminal import prepare_streams
from slurmapply.version import VERSION

_VERBS = (
    act.run,
    look.list_jobs_here,
    look.show_status,
    look.watch_job,
    take.show_results,
    take.show_errors,
    look.show_logs,
    act.retry,
    act.cancel,
    act.cleanup,
    act.submit,
    take.show_usage,
    take.write_report,
    machine.examine,
    machine.show_config,
)

_HELP = """Call a Python function for every row of a table on a Slurm cluster.

NAME is a job's name or folder. Verbs that only look may do without it where there is one job in
the working folder.
"""

_EPILOG = """\b
Example:
  slurmapply run fit.py:score params.csv --name tuning
  slurmapply watch tuning
  slurmapply results tuning -o results.csv

\b
Exit codes: 0 fine, 1 rows are not ok, 2 wrong use, 3 no such job,
4 Slurm refused or did not answer, 5 refused, 70 a fault of slurmapply,
130 Ctrl-C.
"""


class Program(click.Group):
    """The verbs, in the order in which they are needed, and clean ends for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs in their own order."""
        del ctx
        return list(self.commands)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the command line; the help goes out here."""
        with clean_ends():
            return super().make_context(*args, **more)
        raise SystemExit  # clean_ends has ended the program

    def invoke(self, ctx: click.Context) -> Any:
        """Do what was asked for."""
        with clean_ends():
            return super().invoke(ctx)


program = Program(
    "slurmapply",
    commands=list(_VERBS),
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
program = click.version_option(VERSION, prog_name="slurmapply")(program)


def main() -> None:
    """Run the program: ``slurmapply``, or ``python -m slurmapply``."""
    prepare_streams()
    say_warnings_plainly()
    program(prog_name="slurmapply")
