"""Verbs that look: ls, status, watch, logs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from slurmapply.cli.endings import end
from slurmapply.cli.helptext import as_json_option, examples
from slurmapply.cli.jobnames import job_argument, open_job
from slurmapply.cli.saying import FINE, ROWS_NOT_OK, SLURM, say, tell
from slurmapply.cli.shellwords import in_shell_words
from slurmapply.cli.tables import table_lines
from slurmapply.cli.terminal import ConsoleText, terminal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurmapply.job import SlurmJob
    from slurmapply.status import JobStatus

_LISTED = ("name", "state", "failed", "ok/rows", "left", "folder")


@click.command(
    "ls",
    short_help="List your jobs.",
    epilog=examples("slurmapply ls", "slurmapply ls ~/project --json"),
)
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@as_json_option
def list_jobs_here(folder: str | None, *, as_json: bool) -> None:
    """List your jobs: those of the working FOLDER and of all others they were made in.

    Only the job folders are looked at, and Slurm is not asked: a job that waits in the queue and
    one that died there look alike. `status` tells them apart.
    """
    from slurmapply.joblist import list_jobs

    jobs = [(job, job.glance()) for job in list_jobs(folder)]
    if as_json:
        tell(json.dumps([described(*each) for each in jobs], indent=1))
        return
    if not jobs:
        say("no jobs" + (f" in {folder}" if folder else ""))
        return
    rows = [_listed(*each) for each in jobs]
    for line in table_lines(_LISTED, rows, terminal_of(sys.stdout).width):
        tell(line)


def _listed(job: SlurmJob, status: JobStatus) -> list[str]:
    from slurmapply.announcing import with_home
    from slurmapply.wording import duration

    left = duration(status.seconds_left) if status.seconds_left else ""
    counted = f"{status.counts.get('ok', 0)}/{status.rows}"
    cells = [job.name, str(status.state), str(status.failed), counted, left, with_home(job.folder)]
    return [" ".join(cell.split()) for cell in cells]


@click.command(
    "status",
    short_help="Say how the rows of a job are doing.",
    epilog=examples("slurmapply status tuning", "slurmapply status --json"),
)
@job_argument()
@as_json_option
def show_status(name: str | None, *, as_json: bool) -> None:
    """Say how the rows of the job NAME are doing, once.

    Ends with 1 when rows are not ok, with 4 when Slurm does not answer.
    """
    job = open_job(name)
    status = job.status()
    if as_json:
        tell(json.dumps(described(job, status), indent=1))
    else:
        tell(in_shell_words(str(status), job.name))
    end(code_of(status))


def described(job: SlurmJob, status: JobStatus) -> dict[str, Any]:
    """Give what is known of a job as JSON can say it."""
    return {
        "name": status.name,
        "folder": str(job.folder),
        "job_ids": job.job_ids,
        "state": str(status.state),
        "completed": status.completed,
        "ok": status.ok,
        "rows": status.rows,
        "counts": status.counts,
        "failed": status.failed,
        "not_ok": status.not_ok,
        "causes": status.causes,
        "queue": status.queue,
        "age": round(status.age, 1),
        "seconds_left": status.seconds_left,
        "note": status.note,
    }


def code_of(status: JobStatus) -> int:
    """Give the exit code for a look at a job."""
    if status.not_ok:
        return ROWS_NOT_OK
    return SLURM if status.state == "unknown" else FINE


@click.command(
    "watch",
    short_help="Show how they are doing until the job is over.",
    epilog=examples("slurmapply watch tuning"),
)
@job_argument()
def watch_job(name: str | None) -> None:
    """Show how the rows of the job NAME are doing until it is over.

    On a terminal it is drawn in place; in a file there is a line at each change. Ctrl-C ends the
    watching only: the job goes on. Ends with 1 when rows are not ok.
    """
    from slurmapply.cli.watching import closing_words, watch

    job = open_job(name)
    end(closing_words(job, watch(job, sys.stdout)))


@click.command(
    "logs",
    short_help="Print what a job, a task or a row printed.",
    epilog=examples("slurmapply logs tuning --row 17", "slurmapply logs tuning --task 0 --follow"),
)
@job_argument()
@click.option("--row", type=int, help="Exactly what this row printed.")
@click.option("--task", type=int, help="All that this task printed.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the row, task or job has ended.")
def show_logs(name: str | None, row: int | None, task: int | None, *, follow: bool) -> None:
    """Print what the job NAME printed: all of it, or one row's or task's.

    In a pipe or a file it is exactly that. On a terminal, what could move the cursor or speak to
    the terminal is left out; line feeds, tabs and colours stay.
    """
    job = open_job(name)
    texts = job.follow_logs(row, task) if follow else iter(_texts(job, row, task))
    try:
        _print(texts)
    except KeyboardInterrupt:
        say(f"stopped following {job.name}; the job itself goes on")
        raise


def _texts(job: SlurmJob, row: int | None, task: int | None) -> Iterator[str]:
    found = job.logs(row, task)
    if isinstance(found, str):
        yield found
        return
    for number, text in found.items():
        yield from (f"==> task {number} <==\n", text)
        if text and not text.endswith("\n"):
            yield "\n"


def _print(texts: Iterator[str]) -> None:
    terminal = terminal_of(sys.stdout)
    if terminal.width is None:
        for text in texts:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stdout.buffer.flush()
        return
    fit = ConsoleText(colour=terminal.colour)
    for text in texts:
        sys.stdout.write(fit.feed(text))
        sys.stdout.flush()
    sys.stdout.write(fit.feed("", last=True))
