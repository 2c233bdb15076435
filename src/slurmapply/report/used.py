"""What was asked for against what was used, as the report shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmapply.errors import SlurmApplyError
from slurmapply.palette import exact
from slurmapply.report.text import cut, sentence, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply.usage import Usage

_MOST_TASKS = 40
_LONGEST = 500
#: How cells are written, by how the names of their columns end; the ending is then left out.
_UNITS: dict[str, Callable[[float], str]] = {
    "_seconds": exact,
    "_share": "{:.0%}".format,
    "_mb": "{:,.0f} MB".format,
}


def used(usage: Callable[[], Usage]) -> dict[str, Any]:
    """Give what a job used, in sentences and as a table of its tasks.

    Parameters
    ----------
    usage
        ``job.usage``. Where it refuses to read the folder, its reason stands for the sentences.
    """
    nothing: dict[str, Any] = {"facts": [], "advice": [], "names": [], "lines": [], "left": 0}
    try:
        found = usage()
    except SlurmApplyError as error:
        return nothing | {"facts": [sentence(cut(f"not shown: {error}", _LONGEST))]}
    facts = [*found.facts, *(f"not known: {line}" for line in found.missing)]
    return _tasks(found.tasks) | {
        "facts": [sentence(cut(line, _LONGEST)) for line in facts],
        "advice": [sentence(cut(line, _LONGEST)) for line in found.advice],
    }


def _tasks(frame: Any) -> dict[str, Any]:
    """Give the table of tasks; columns in which nothing is known are left out."""
    import narwhals as nw  # noqa: PLC0415

    table = nw.from_native(frame, eager_only=True)
    columns = {name: table[name].head(_MOST_TASKS).to_list() for name in table.columns}
    cells = {name: [_cell(name, cell) for cell in column] for name, column in columns.items()}
    known = {name: column for name, column in cells.items() if any(column)}
    return {
        "names": [_heading(name) for name in known],
        "lines": [list(line) for line in zip(*known.values(), strict=True)],
        "left": max(0, len(table) - _MOST_TASKS),
    }


def _unit(name: str) -> str:
    return next((ending for ending in _UNITS if name.endswith(ending)), "")


def _heading(name: str) -> str:
    return cut(name.removesuffix(_unit(name)).replace("_", " "), 60)


def _cell(name: str, cell: Any) -> str:
    if cell is None or cell != cell:  # noqa: PLR0124  # NaN is what is not known, too
        return ""
    return _UNITS[_unit(name)](float(cell)) if _unit(name) else shown(cell, 60)
