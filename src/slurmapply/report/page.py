"""Putting a report together and writing it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError, SlurmApplyError
from slurmapply.report.asked import asked_for, facts, runs, source_of
from slurmapply.report.outcomes import causes, outcome_bar, table
from slurmapply.report.svg import durations_picture, timeline_picture
from slurmapply.report.text import at, cut, sentence
from slurmapply.report.used import used
from slurmapply.states import OVER
from slurmapply.version import VERSION

if TYPE_CHECKING:
    from slurmapply.report.sources import Sources
    from slurmapply.status import JobStatus


def write_report(sources: Sources, path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Write a report; gives its path, absolute.

    Parameters
    ----------
    sources
        What it is made from.
    path, overwrite
        Where to, and whether a file that is there may be replaced.
    """
    target = _target(path, overwrite=overwrite)
    page = render(sources).encode("utf-8", "replace")
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    try:
        beside.write_bytes(page)
        if overwrite:
            beside.replace(target)
        else:
            _publish(beside, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise SlurmApplyError(
            f"the report could not be written to {target}: {error.strerror}. Is the folder there, "
            "and may you write to it? Name another place: job.report(path)."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    return target


def _target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    try:
        target = Path(path).expanduser().absolute()
    except (TypeError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"path: a path is needed, as in job.report('report.html'), not {path!r} ({error}).",
            argument="path",
        ) from error
    if target.is_dir():
        raise InvalidArgumentError(
            f"path: {target} is a folder; name a file in it, as '{target / 'report.html'}'.",
            argument="path",
        )
    if target.exists() and not overwrite:
        raise _exists(target)
    return target


def _exists(target: Path) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"path: {target} exists. Name another file, or replace it with "
        f"job.report({target.name!r}, overwrite=True).",
        argument="path",
    )


def _publish(beside: Path, target: Path) -> None:
    """Give a file its name if nobody else has it; rename(2) would replace that one's."""
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        with target.open("xb") as file:
            file.write(beside.read_bytes())


def render(sources: Sources) -> str:
    """Give a report as text."""
    # Only who makes a report or shows a card needs it.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("slurmapply", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(_content(sources))


def _content(sources: Sources) -> dict[str, Any]:
    # First: whoever reads values may find that some are damaged, so that their rows are not ok.
    first_rows = table(sources)
    status = sources.status()
    found, more_causes = causes(sources)
    picture = timeline_picture(sources.timeline)
    return {
        "name": cut(sources.job["name"], 200),
        "state": str(sources.state),
        "over": sources.state in OVER,
        "summary": status.summary(),
        "note": cut(status.note, 2000),
        "queue": [cut(each, 500) for each in _queue(status)],
        "bar": outcome_bar(status),
        "rows": status.rows,
        "asked": asked_for(sources),
        "source": source_of(sources),
        "causes": found,
        "more_causes": more_causes,
        "table": first_rows,
        "timeline": picture | {"notes": [sentence(note) for note in picture["notes"]]},
        "durations": durations_picture(sources.collector.durations()),
        "used": used(sources.usage),
        "runs": runs(sources),
        "facts": facts(sources),
        "version": VERSION,
        "made_at": at(time.time()),
    }


def _queue(status: JobStatus) -> list[str]:
    """Say why tasks wait, each reason once."""
    reasons = [entry.get("explanation") or entry.get("reason") for entry in status.queue]
    return [*dict.fromkeys(str(reason) for reason in reasons if reason)]
