"""Verbs that do something: run, submit, retry, cancel, cleanup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmapply.cli.endings import end
from slurmapply.cli.helptext import amount_options, examples, trust_option, wait_options
from slurmapply.cli.jobnames import job_argument, open_job, open_to_load
from slurmapply.cli.saying import FINE, InputError, RefusedError, say
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.job import SlurmJob


@click.command(
    "run",
    short_help="Call a function once per row of a table.",
    epilog=examples(
        "slurmapply run fit.py:score params.csv --nodes 4 --cpus-per-node 2 --set mem=4G",
        "slurmapply run fit.py:score params.csv --name tuning --wait -o results.csv",
        "slurmapply run fit.py:score params.csv --arg data=train.csv --slurm qos=long",
    ),
)
@click.argument("function", metavar="FILE.py:FUNCTION", type=click.Path())
@click.argument("params", metavar="PARAMS", type=click.Path())
@click.option("--name", "job_name", help="The job's name; the function's and a random part else.")
@click.option("--nodes", type=int, help="Pieces of the job at most: array tasks.")
@click.option("--cpus-per-node", type=int, help="CPUs of each piece, and rows at a time on it.")
@click.option(
    "--arg",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument that is the same for every row. Repeatable.",
)
@amount_options
@wait_options
def run(function: str, params: str, **given: Any) -> None:
    """Call a function once per row of a table, on the nodes.

    FILE.py:FUNCTION is read as `python FILE.py` would be, with the modules beside it, but for what
    stands under if __name__ == "__main__". PARAMS is a table, .csv, .parquet or .json, with a
    column for each argument.

    Values of --set are numbers, true, false, none, or else text. packages, by_value, setup,
    sys_path and after can be given several times.
    """
    from slurmapply.api import slurm_apply
    from slurmapply.cli.keywords import read_arguments
    from slurmapply.cli.paramsfile import read_params_file
    from slurmapply.cli.userfile import load_function

    output, overwrite = given["output"], given["overwrite"]
    _check_output(output, overwrite=overwrite)
    keywords = _keywords(given, ("job_name", "nodes", "cpus_per_node"))
    arguments = read_arguments(given["arguments"])
    rows = read_params_file(Path(params).expanduser())
    called = load_function(function)
    job = slurm_apply(called, rows, more_args=arguments or None, **keywords)
    _go_on(job, given, submitted=keywords.get("submit", True) is not False)


def _check_output(output: str | None, *, overwrite: bool) -> None:
    if output:
        from slurmapply.cli.tablefile import check_target

        check_target(Path(output), overwrite=overwrite)


def _keywords(given: Mapping[str, Any], own: tuple[str, ...] = ()) -> dict[str, Any]:
    """Put together the keywords of a call."""
    from slurmapply.cli.keywords import read_settings, read_slurm_options

    keywords = read_settings(given["settings"])
    for name in own:
        if given[name] is None:
            continue
        if name in keywords:
            raise InputError(f"{name} is given twice: by its own option and by --set.")
        keywords[name] = given[name]
    if given["slurm_options"]:
        keywords["slurm_options"] = read_slurm_options(given["slurm_options"])
    if "after" in keywords:
        keywords["after"] = [open_job(name) for name in keywords["after"]]
    return keywords


def _go_on(job: SlurmJob, given: Mapping[str, Any], *, submitted: bool = True) -> None:
    """Wait and write the table where that was asked for; else say how to follow the job."""
    if not given["wait"] and not given["output"]:
        goes_on = "follow it: slurmapply watch" if submitted else "submit it: slurmapply submit"
        say(f"{goes_on} {job.name}")
        return
    if not submitted:
        raise InputError(f"{job.name} was not submitted, so there is nothing to wait for.")
    if given["output"]:
        from slurmapply.cli.take import give_table

        end(give_table(job, given["output"], overwrite=given["overwrite"]))
    from slurmapply.cli.watching import closing_words, wait_for

    code = closing_words(job, wait_for(job))
    if code == FINE:
        say(f"the table: slurmapply results {job.name} -o FILE.csv")
    end(code)


@click.command(
    "submit",
    short_help="Submit a job that was only prepared, or refused.",
    epilog=examples("slurmapply submit tuning", "slurmapply submit tuning --set account=physics"),
)
@job_argument(may_be_left_out=False)
@click.option("--force", is_flag=True, help="Even if an earlier submission may have been taken.")
@amount_options
@wait_options
def submit(name: str, *, force: bool, **given: Any) -> None:
    """Submit the job NAME, which was only prepared, or which Slurm refused."""
    _check_output(given["output"], overwrite=given["overwrite"])
    keywords = _keywords(given)
    _go_on(open_job(name).submit(force=force, **keywords), given)


@click.command(
    "retry",
    short_help="Run rows of a job again.",
    epilog=examples(
        "slurmapply retry tuning",
        "slurmapply retry tuning --rows out_of_memory --set mem=8G",
        "slurmapply retry tuning --rows 3,17-20 --function fit.py:score",
    ),
)
@job_argument(may_be_left_out=False)
@click.option(
    "--rows",
    metavar="WHICH",
    help="A status, a cause, failed, or numbers: 3,17-20. All that are not ok when left out.",
)
@click.option("--function", metavar="FILE.py:FUNCTION", help="A mended function.")
@amount_options
@wait_options
@trust_option
def retry(name: str, rows: str | None, function: str | None, *, trust: bool, **given: Any) -> None:
    """Run rows of the job NAME again, as a new run of the same job."""
    from slurmapply.cli.userfile import load_function

    _check_output(given["output"], overwrite=given["overwrite"])
    keywords = _keywords(given)
    job = open_to_load(name, trust=trust)
    called = load_function(function) if function else None
    job.retry(read_rows(rows), f=called, **keywords)
    _go_on(job, given)


def read_rows(text: str | None) -> str | list[int] | None:
    """Read ``--rows``: numbers and ranges, both ends included, or a word.

    Raises
    ------
    InputError
        A range ends before it begins.

    Examples
    --------
    >>> read_rows("3,17-20"), read_rows("out_of_memory")
    ([3, 17, 18, 19, 20], 'out_of_memory')
    """
    if text is None or not text.replace(",", "").replace("-", "").strip().isdecimal():
        return text
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"--rows {text}: {part!r} is no row number, and no range such as 3-7.")
        if dash and int(last) < int(first):
            raise InputError(f"--rows {text}: {part} ends before it begins.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@click.command(
    "cancel",
    short_help="End what is alive of a job.",
    epilog=examples("slurmapply cancel tuning"),
)
@job_argument(may_be_left_out=False)
def cancel(name: str) -> None:
    """End what is alive of the job NAME; rows that are done stay done."""
    open_job(name).cancel()


@click.command(
    "cleanup",
    short_help="Delete a job's folder.",
    epilog=examples("slurmapply cleanup tuning", "slurmapply cleanup tuning --keep results --yes"),
)
@job_argument(may_be_left_out=False)
@click.option("--keep", type=click.Choice(["results"]), help="Keep what tables are read from.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the job's end; refuse instead.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def cleanup(name: str, keep: str | None, *, no_wait: bool, yes: bool) -> None:
    """Delete the folder of the job NAME, with its results.

    Waits for the job's end first. On a terminal it asks before it deletes.
    """
    from slurmapply.announcing import with_home
    from slurmapply.cli.watching import wait_for

    job = open_job(name)
    asks = not yes and keep is None and sys.stdin.isatty() and sys.stderr.isatty()
    if asks and not _agreed(f"delete {with_home(job.folder)}, with {job!r}?"):
        raise RefusedError("nothing was deleted.")
    if not no_wait and job.glance().state != "prepared":
        wait_for(job)
    job.cleanup(wait=not no_wait, keep=keep)


def _agreed(question: str) -> bool:
    try:
        return click.confirm(harmless(question), err=True)
    except click.Abort:
        return False
