"""What the verbs' help has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def examples(*lines: str) -> str:
    r"""Lay out examples below a verb's help, one on each line, which click's mark \b keeps."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n".join([title, *(f"  {line}" for line in lines)])


def as_json_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``."""
    text = "Print JSON, for programs."
    return click.option("--json", "as_json", is_flag=True, help=text)(verb)


def overwrite_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")(verb)


def trust_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--trust``."""
    text = "Load objects of the job though others, or another Python, could have written them."
    return click.option("--trust", is_flag=True, help=text)(verb)


def wait_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--wait`` and ``-o``."""
    for option in (
        overwrite_option,
        click.option(
            "-o",
            "--output",
            metavar="FILE",
            type=click.Path(),
            help="Wait, and write the table to FILE: .csv, .parquet or .json.",
        ),
        click.option("--wait", is_flag=True, help="Wait until the job is over."),
    ):
        verb = option(verb)
    return verb


def amount_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--set`` and ``--slurm``."""
    for option in (
        click.option(
            "--slurm",
            "slurm_options",
            multiple=True,
            metavar="OPTION=VALUE",
            help="Any other option of sbatch: --slurm qos=long, or --slurm exclusive. Repeatable.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEYWORD=VALUE",
            help="Any keyword of slurm_apply: --set mem=4G --set row_timeout=10m. Repeatable.",
        ),
    ):
        verb = option(verb)
    return verb
