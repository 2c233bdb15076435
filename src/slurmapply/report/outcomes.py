"""What became of the rows: how many, why, and a table of the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from slurmapply.errors import FormatError, SlurmApplyError
from slurmapply.outcome import KIND_PICKLE
from slurmapply.outcome_file import FrameValues
from slurmapply.palette import exact
from slurmapply.report.text import LONGEST_TEXT, cut, shown
from slurmapply.rows import ITEM
from slurmapply.states import NOT_OK, OK_CODE, RowStatus
from slurmapply.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurmapply.report.sources import Sources
    from slurmapply.status import JobStatus

_MOST_ROWS = 200
#: Of these at least so many are such as are ok, where there are any: an example says much.
_LEAST_OK = 20
_MOST_CAUSES = 8
_EXAMPLES = 5
_MOST_COLUMNS = 12
#: Values that take more bytes are not looked at for a cell of a page.
_LARGEST_VALUE = 10_000
_LARGEST_FRAME = 4_000_000
_TAIL = 2000
#: How the dump begins that a process leaves on its console when it crashes (Python's faulthandler).
_CRASH = "Fatal Python error: "
#: Stands for the value of a row that has none.
_NOTHING = object()


def outcome_bar(status: JobStatus) -> list[dict[str, Any]]:
    """Give status, number of rows and part of all rows, of each status that rows have."""
    return [
        {"status": word, "rows": count, "percent": _percent(count, status.rows)}
        for word, count in status.counts.items()
    ]


def _percent(count: int, rows: int) -> str:
    """Write a part of all; some is never none, and not all is never all."""
    percent = 100 * count / rows
    if 0 < percent < 0.1:  # noqa: PLR2004  # what one digit can say
        return "< 0.1 %"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return "> 99.9 %"
    return f"{percent:.3g} %"


def causes(sources: Sources) -> tuple[list[dict[str, Any]], int]:
    """Give for each cause how many rows, examples, a sentence on the first, its traceback.

    The second number says how many causes are not shown.
    """
    groups = sources.collector.causes(sources.state)
    shown_groups = [_cause(sources, *group) for group in groups[:_MOST_CAUSES]]
    return shown_groups, len(groups) - len(shown_groups)


def _cause(sources: Sources, status: RowStatus, cause: str, rows: Sequence[int]) -> dict[str, Any]:
    told, failure = sources.collector.told(rows[0], sources.state)
    printed = sources.consoles.of_row(rows[0])
    if failure.traceback:
        printed = printed.partition(_CRASH)[0]  # what follows is the traceback
    return {
        "status": str(status),
        "cause": cut(cause, 200),
        "rows": len(rows),
        "examples": _numbers(rows),
        "sentence": cut(told, 600),
        "first": rows[0],
        "traceback": cut(failure.traceback, LONGEST_TEXT),
        "printed": cut(printed.strip()[-_TAIL:], _TAIL),
    }


def _numbers(rows: Sequence[int]) -> str:
    more = len(rows) - _EXAMPLES
    said = ", ".join(map(str, rows[:_EXAMPLES]))
    return f"{said} and {more:,} more" if more > 0 else said


def table(sources: Sources) -> dict[str, Any]:
    """Give a table of the first rows, those that are not ok before the others.

    Parameters and values are unpickled after the same looks as for ``job.table()``; where these
    refuse, they are not shown, and `note` says why.
    """
    chosen = _chosen(sources)
    names, note = [], ""
    try:
        sources.parameters.check_trust()
        names = sources.parameters.column_names()[:_MOST_COLUMNS]
    except SlurmApplyError as error:
        note = f"Parameters and results are not shown: {error}"
    lines = [_line(sources, row, names) for row in chosen]
    values = [] if note else [_value(sources, row) for row in chosen]
    results, cells = _result_columns(values)
    return {
        "names": ["item" if name == ITEM else cut(name, 60) for name in names],
        "results": [cut(name, 60) for name in results],
        "lines": [{**line, "results": of} for line, of in zip(lines, cells, strict=True)]
        if cells
        else [{**line, "results": []} for line in lines],
        "note": cut(note, 1000),
        "left": sources.job["rows"] - len(chosen),
    }


def _result_columns(values: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Give names and cells of the results: a column for each field where all have the same."""
    there = [value for value in values if value is not _NOTHING]
    if not there:
        return [], []
    fields = [*there[0]] if isinstance(there[0], Mapping) else []
    if 0 < len(fields) <= _MOST_COLUMNS and all(
        isinstance(value, Mapping) and [*value] == fields for value in there
    ):
        return [str(name) for name in fields], [
            [""] * len(fields) if value is _NOTHING else [shown(value[name]) for name in fields]
            for value in values
        ]
    return ["result"], [["" if value is _NOTHING else shown(value)] for value in values]


def _chosen(sources: Sources) -> list[int]:
    follower, state = sources.follower, sources.state
    bad = follower.rows_that_are(NOT_OK, state)
    others = follower.rows_that_are(set(RowStatus) - NOT_OK, state)
    room = _MOST_ROWS - min(len(others), max(_LEAST_OK, _MOST_ROWS - len(bad)))
    first = bad[:room]
    return [*first, *islice(others, _MOST_ROWS - len(first))]


def _line(sources: Sources, row: int, names: Sequence[str]) -> dict[str, Any]:
    status = sources.follower.row_status(row, sources.state)
    found = sources.follower.outcomes.find(row)
    measures = found[0].measures(found[1]) if found else None
    cause, why = _why(sources, row, status)
    return {
        "row": row,
        "status": str(status),
        "cells": _cells(sources, row, names),
        "cause": cause,
        "why": why,
        "seconds": exact(measures.seconds) if measures else "",
    }


def _cells(sources: Sources, row: int, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    try:
        arguments = sources.parameters.arguments(row)
    except Exception:  # noqa: BLE001  # unpickling runs the user's code
        return ["cannot be loaded here"] * len(names)
    return [shown(arguments[name]) if name in arguments else "" for name in names]


def _why(sources: Sources, row: int, status: RowStatus) -> tuple[str, str]:
    if status not in NOT_OK:
        return "", ""
    _, failure = sources.collector.told(row, sources.state)
    return cut(failure.cause, 60), cut(first_line(failure.message), 160)


def _value(sources: Sources, row: int) -> Any:
    """Give a row's value, or what can be said instead of it."""
    found = sources.follower.outcomes.find(row)
    if found is None or found[0].columns["status"][found[1]] != OK_CODE:
        return _NOTHING
    frame, index = found
    if frame.columns["kind"][index] != KIND_PICKLE:
        return FrameValues(frame, b"").value(index)
    size = frame.columns["slot"][index]
    if size > _LARGEST_VALUE or frame.values_place[1] > _LARGEST_FRAME:
        return f"({size / 1e6:.2g} MB)"
    try:
        return sources.collector.value(row)
    except FormatError:
        return "(damaged)"
    except SlurmApplyError:
        return "(cannot be loaded here)"
