"""From frames of outcomes to columns over all rows: slices of arrays where the values allow it."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any

from slurmapply.errors import FormatError
from slurmapply.numeric import EXACT_IN_FLOAT, NumberColumn
from slurmapply.outcome import KIND_BOOL, KIND_FAILURE, KIND_FLOAT, KIND_INT, KIND_NONE
from slurmapply.outcome_file import Same
from slurmapply.states import OK_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurmapply.choice import Outcomes
    from slurmapply.outcome_file import Frame, FrameValues

#: NumPy's type for what stands in the slots of a kind of values.
_TYPES = {KIND_BOOL: "bool", KIND_INT: "int64", KIND_FLOAT: "float64"}


def gathered_numbers(outcomes: Outcomes) -> NumberColumn | None:
    """Give the values of all rows, None where not all of them are numbers of one type.

    Whole numbers beside fractions count as fractions where nothing is lost, as in
    `slurmapply.columns`. A row without a value, or with None, has an empty cell.
    """
    import numpy as np  # noqa: PLC0415

    kinds = set[int]().union(*(_kinds(frame, which) for frame, which in outcomes.counting()))
    kinds -= {KIND_NONE, KIND_FAILURE}
    if not kinds or not (kinds <= {KIND_INT, KIND_FLOAT} or kinds == {KIND_BOOL}):
        return None
    dtype = np.dtype(_TYPES[max(kinds)])
    column = _empty_column(len(outcomes), dtype)
    for frame, which in outcomes.counting():
        slots = _column(frame, "slot", "int64")
        of_frame = _column(frame, "kind", "uint8")
        for kind in kinds & frame.kinds:
            cells = slots.view(dtype) if kind == KIND_FLOAT else slots.astype(dtype)
            if dtype.kind == "f" and kind == KIND_INT and _loses(slots[of_frame == kind]):
                return None
            _put(column, frame, which, cells, None if frame.kinds == {kind} else of_frame == kind)
    return None if column.empty.all() else column


def _kinds(frame: Frame, which: Sequence[bool] | None) -> set[int]:
    """Give the kinds of the values that count."""
    return frame.kinds if which is None else {*compress(frame.columns["kind"], which)}


def _loses(whole: Any) -> bool:
    """Whether floats cannot hold all these whole numbers."""
    return bool(((whole > EXACT_IN_FLOAT) | (whole < -EXACT_IN_FLOAT)).any())


def gathered_measures(outcomes: Outcomes, name: str) -> NumberColumn | list[None]:
    """Give one of the columns that say how each row ran, empty where it has not."""
    import numpy as np  # noqa: PLC0415

    column = _empty_column(len(outcomes), np.dtype("int64" if name == "attempt" else "float64"))
    for frame, which in outcomes.counting():
        cells = _column(frame, name, column.cells.dtype)
        _put(column, frame, which, cells, cells >= 0 if name == "peak_mb" else None)
    return [None] * len(outcomes) if column.empty.all() else column


def gathered_values(
    outcomes: Outcomes,
    nothing: Any,
    read: Callable[[Frame], tuple[list[Any], dict[int, BaseException]]],
) -> tuple[list[Any], dict[int, BaseException]]:
    """Give the value of every row that is ok, and by row why some cannot be loaded.

    Parameters
    ----------
    outcomes
        Those that count.
    nothing
        Stands for rows without a value, or with one that cannot be loaded.
    read
        Gives the values of a frame, and by index why some cannot be loaded.
    """
    values = [nothing] * len(outcomes)
    unread: dict[int, BaseException] = {}
    for frame, which in [*outcomes.counting()]:
        if not _has_ok(frame):
            continue
        cells, broken = read(frame)
        rows = frame.columns["row"]
        for index, error in broken.items():
            if which is None or which[index]:
                unread[rows[index]] = error
        left_out = {*_bad_indices(frame), *broken}
        if which is None and isinstance(rows, range):
            values[rows.start : rows.stop] = cells
            for index in left_out:
                values[rows[index]] = nothing
            continue
        for index, (row, cell) in enumerate(zip(rows, cells, strict=True)):
            if index not in left_out and (which is None or which[index]):
                values[row] = cell
    return values, unread


def gathered_hosts(outcomes: Outcomes, host_of: Callable[[Frame], str | None]) -> list[str | None]:
    """Give where each row ran, None where it has not."""
    hosts: list[str | None] = [None] * len(outcomes)
    for frame, which in outcomes.counting():
        host, rows = host_of(frame), frame.columns["row"]
        if which is None and isinstance(rows, range):
            hosts[rows.start : rows.stop] = [host] * len(rows)
            continue
        for row, counts in zip(rows, which or [True] * len(rows), strict=True):
            if counts:
                hosts[row] = host
    return hosts


def row_numbers(rows: int) -> NumberColumn | list[int]:
    """Give the numbers of all rows."""
    import numpy as np  # noqa: PLC0415

    return NumberColumn(np.arange(rows), np.zeros(rows, bool)) if rows else []


def failed_rows(
    outcomes: Outcomes, read: Callable[[Frame], FrameValues]
) -> Iterator[tuple[int, str]]:
    """Give the rows whose outcome is not ok, with its cause; "damaged" where it cannot be read."""
    for frame, which in [*outcomes.counting()]:
        bad = [index for index in _bad_indices(frame) if which is None or which[index]]
        if not bad:
            continue
        rows = frame.columns["row"]
        try:
            read(frame)
        except FormatError:
            yield from ((rows[index], "damaged") for index in bad)
            continue
        yield from ((rows[index], frame.cause(index)) for index in bad)


def _has_ok(frame: Frame) -> bool:
    return OK_CODE in frame.columns["status"]


def _bad_indices(frame: Frame) -> Iterator[int]:
    codes = frame.columns["status"]
    if isinstance(codes, Same) and codes.cell == OK_CODE:
        return iter(())
    failed = bytes(code != OK_CODE for code in range(256))
    return compress(range(len(frame)), bytes(codes).translate(failed))


def _empty_column(length: int, dtype: Any) -> NumberColumn:
    import numpy as np  # noqa: PLC0415

    return NumberColumn(np.zeros(length, dtype), np.ones(length, bool))


def _column(frame: Frame, name: str, dtype: Any) -> Any:
    """Give a column of a frame as NumPy's array."""
    import numpy as np  # noqa: PLC0415

    cells = frame.columns[name]
    if isinstance(cells, Same):
        return np.full(len(cells), cells.cell, dtype)
    if isinstance(cells, range):
        return np.arange(cells.start, cells.stop, dtype=dtype)
    return np.array(cells, dtype)


def _put(
    column: NumberColumn, frame: Frame, which: Sequence[bool] | None, cells: Any, only: Any
) -> None:
    """Put cells of a frame to their rows: those that count, and of these only some."""
    import numpy as np  # noqa: PLC0415

    rows = frame.columns["row"]
    if which is None and only is None and isinstance(rows, range):
        place: Any = slice(rows.start, rows.stop)
    else:
        keep = np.ones(len(rows), bool) if which is None else np.array(which)
        keep = keep if only is None else keep & only
        place, cells = _column(frame, "row", "int64")[keep], cells[keep]
    column.cells[place] = cells
    column.empty[place] = False
