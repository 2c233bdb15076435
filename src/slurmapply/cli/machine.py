"""Verbs about this machine and site: doctor, config."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from slurmapply.cli.cellwords import as_json as plain
from slurmapply.cli.cellwords import as_text
from slurmapply.cli.endings import end
from slurmapply.cli.helptext import as_json_option, examples
from slurmapply.cli.saying import FINE, ROWS_NOT_OK, tell
from slurmapply.cli.shellwords import in_shell_words
from slurmapply.cli.tables import table_lines
from slurmapply.cli.terminal import terminal_of


@click.command(
    "doctor",
    short_help="Look whether jobs can work here.",
    epilog=examples("slurmapply doctor", "slurmapply doctor --partition gpu --package torch"),
)
@click.option("--partition", help="Where the test job runs; your default else.")
@click.option("--account", help="What it is charged to; your default else.")
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="MODULE",
    help="A module that your function imports: whether a node has it. Repeatable.",
)
@click.option("--no-test-job", is_flag=True, help="Submit nothing.")
@as_json_option
def examine(*, no_test_job: bool, as_json: bool, **given: Any) -> None:
    """Look whether jobs can work here and on a node, and say what to do where they cannot.

    One line for each thing that was looked at. A test job of one task runs for less than a
    minute. Ends with 1 when something failed.
    """
    from slurmapply.checkup.doctor import doctor

    asked = {name: value for name, value in given.items() if value}
    diagnosis = doctor(test_job=not no_test_job, **asked)
    if as_json:
        checks = [
            {"name": each.name, "verdict": str(each.verdict), "message": each.message}
            for each in diagnosis.checks
        ]
        tell(json.dumps({"ok": diagnosis.ok, "checks": checks}, indent=1))
    else:
        tell(in_shell_words(str(diagnosis), "NAME"))
    end(FINE if diagnosis.ok else ROWS_NOT_OK)


@click.command(
    "config",
    short_help="Show each default, and where it comes from.",
    epilog=examples("slurmapply config", "slurmapply config --json"),
)
@as_json_option
def show_config(*, as_json: bool) -> None:
    """Show each default that holds in this folder, and where it comes from."""
    from slurmapply.defaults import get_defaults

    defaults = list(get_defaults())
    if as_json:
        found = {
            each.name: {"value": plain(each.value), "source": each.source} for each in defaults
        }
        tell(json.dumps(found, indent=1))
        return
    rows = [[each.name, as_text(each.value), as_text(each.source)] for each in defaults]
    for line in table_lines(("keyword", "value", "from"), rows, terminal_of(sys.stdout).width):
        tell(line)
