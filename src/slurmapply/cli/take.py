"""Verbs that take what a job gave: results, errors, report, usage."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmapply.cli.endings import end
from slurmapply.cli.helptext import as_json_option, examples, overwrite_option, trust_option
from slurmapply.cli.jobnames import job_argument, open_to_load
from slurmapply.cli.saying import FINE, ROWS_NOT_OK, say, tell
from slurmapply.cli.shellwords import in_shell_words

if TYPE_CHECKING:
    from slurmapply.job import SlurmJob

#: Of longer tables a terminal shows so many lines at the beginning and at the end.
_SHOWN_ENDS = 20
#: What a table of rows that are not ok shows on a terminal, the most telling first.
_ERROR_COLUMNS = ("row_number", "row_status", "row_cause", "message")


@click.command(
    "results",
    short_help="Give the table of parameters and results.",
    epilog=examples("slurmapply results tuning -o results.csv", "slurmapply results tuning | less"),
)
@job_argument()
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Write to FILE: .csv, .parquet or .json.",
)
@overwrite_option
@click.option("--no-wait", is_flag=True, help="What is there now; rows that run are empty.")
@click.option("--details", is_flag=True, help="Add seconds, memory, host and attempt of each row.")
@as_json_option
@trust_option
def show_results(
    name: str | None,
    output: str | None,
    *,
    overwrite: bool,
    no_wait: bool,
    details: bool,
    as_json: bool,
    trust: bool,
) -> None:
    """Give the table of the job NAME: parameters and results, one line per row.

    Waits until the job is over. Without -o the table is printed: cut to a terminal's width, whole
    in a pipe. Rows that are not ok are lines with empty results and their cause, and the program
    then ends with 1.
    """
    from slurmapply.cli.tablefile import check_target

    if output:
        check_target(Path(output), overwrite=overwrite)
    job = open_to_load(name, trust=trust)
    way = {"wait": not no_wait, "details": details, "overwrite": overwrite, "as_json": as_json}
    end(give_table(job, output, **way))


def give_table(
    job: SlurmJob,
    output: str | None,
    *,
    wait: bool = True,
    details: bool = False,
    overwrite: bool = False,
    as_json: bool = False,
) -> int:
    """Write or print a job's table, say what is wrong with it, and give the exit code."""
    from slurmapply.cli.watching import wait_for
    from slurmapply.errors import RowsFailedError

    if wait:
        wait_for(job)
    code, words = FINE, ""
    try:
        table = job.table(wait=wait, details=details)
    except RowsFailedError as error:
        table = job.table(wait=wait, errors="keep", details=details)
        words = str(error).partition("; take what is there")[0]
        code = ROWS_NOT_OK
    _give(table, output, overwrite=overwrite, as_json=as_json)
    if words:
        say(in_shell_words(words, job.name))
    return code


def _give(table: Any, output: str | None, *, overwrite: bool, as_json: bool) -> None:
    from slurmapply.cli.tablefile import records, write_table

    if output:
        write_table(table, Path(output), overwrite=overwrite)
        say(f"{len(table)} rows: {output}")
    elif as_json:
        tell(json.dumps(records(table), indent=1))
    else:
        print_table(table)


def print_table(table: Any) -> None:
    """Print a frame: fit to a terminal, or whole where it goes elsewhere."""
    from slurmapply.cli.cellwords import as_text
    from slurmapply.cli.tablefile import columns_of, rows_of
    from slurmapply.cli.tables import table_lines
    from slurmapply.cli.terminal import terminal_of

    terminal = terminal_of(sys.stdout)
    rows, left_out = rows_of(table), 0
    if terminal.width is not None and len(table) > 2 * _SHOWN_ENDS:
        left_out = len(table) - 2 * _SHOWN_ENDS
        first, last = islice(rows, _SHOWN_ENDS), islice(rows, left_out, None)
        rows = iter([*first, *last])
    short = terminal.width is not None
    cells = [[as_text(cell, short=short) for cell in row] for row in rows]
    header = [as_text(name) for name in columns_of(table)]
    lines = table_lines(header, cells, terminal.width)
    if left_out:
        lines[_SHOWN_ENDS + 1 : _SHOWN_ENDS + 1] = [f"... {left_out} rows"]
    for line in lines:
        tell(line)


@click.command(
    "errors",
    short_help="Show the rows that are not ok, and why.",
    epilog=examples("slurmapply errors tuning", "slurmapply errors tuning --row 17"),
)
@job_argument()
@click.option("--row", type=int, help="All of this row: parameters, traceback, what it printed.")
@as_json_option
@trust_option
def show_errors(name: str | None, row: int | None, *, as_json: bool, trust: bool) -> None:
    """Show the rows of the job NAME that are not ok, and why; never waits.

    Ends with 1 when there are any. --json has the tracebacks of all of them.
    """
    from slurmapply.cli.tablefile import records

    job = open_to_load(name, trust=trust)
    if row is not None:
        _show_row(job, row, as_json=as_json)
    table = job.errors()
    if as_json:
        tell(json.dumps(records(table), indent=1))
    elif len(table):
        print_table(_told_first(table))
        first = next(iter(records(table)))["row_number"]
        say(f"all of one row: slurmapply errors {job.name} --row {first}")
    else:
        say(f"no row of {job.name} has failed: {job!r}")
    end(ROWS_NOT_OK if len(table) else FINE)


def _show_row(job: SlurmJob, row: int, *, as_json: bool) -> None:
    from dataclasses import asdict

    from slurmapply.cli.cellwords import as_json as plain

    report = job.row(row)
    if as_json:
        tell(json.dumps(plain(asdict(report)), indent=1))
    else:
        tell(in_shell_words(str(report), job.name))
    end(ROWS_NOT_OK if report.status in _not_ok() else FINE)


def _not_ok() -> frozenset[str]:
    from slurmapply.states import NOT_OK

    return frozenset(status.value for status in NOT_OK)


def _told_first(table: Any) -> Any:
    """Put first what tells most, and leave tracebacks out: they are long."""
    from slurmapply.cli.tablefile import columns_of, selected

    names = [name for name in columns_of(table) if name not in ("traceback", *_ERROR_COLUMNS)]
    return selected(table, [*_ERROR_COLUMNS, *names])


@click.command(
    "report",
    short_help="Write a page about a job for a browser.",
    epilog=examples("slurmapply report tuning", "slurmapply report tuning -o report.html"),
)
@job_argument()
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help="Where; NAME.html when left out."
)
@overwrite_option
@trust_option
def write_report(name: str | None, output: str | None, *, overwrite: bool, trust: bool) -> None:
    """Write a page about the job NAME that opens in a browser, without a network."""
    from slurmapply.cli.tablefile import check_target

    job = open_to_load(name, trust=trust)
    path = Path(output or f"{job.name}.html")
    check_target(path, overwrite=overwrite, endings=False)
    job.report(path, overwrite=overwrite)
    tell(str(path))


@click.command(
    "usage",
    short_help="Compare what was asked for with what was used.",
    epilog=examples("slurmapply usage tuning", "slurmapply usage --json"),
)
@job_argument()
@as_json_option
@trust_option
def show_usage(name: str | None, *, as_json: bool, trust: bool) -> None:
    """Compare what the job NAME asked for with what it used, and say what to ask next time."""
    from slurmapply.cli.tablefile import records

    job = open_to_load(name, trust=trust)
    usage = job.usage()
    if as_json:
        parts = {"tasks": records(usage.tasks), "rows": records(usage.rows)}
        tell(json.dumps({**parts, "advice": list(usage.advice)}, indent=1))
    else:
        tell(in_shell_words(str(usage), job.name))
