"""The shape of the results: which columns they make, decided once over all of them.

::

    all mappings, dataclasses, namedtuples, Series   one column for each field of any of them
    all sequences or 1-D arrays of one length        result_0, result_1, ...
    all scalars                                      result
    all frames                                       their columns, one below the other
    anything else                                    result, a column of objects, and a warning

None fits any. A result that is missing (`EMPTY`) makes an empty cell.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import numbers
import operator
import sys
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

from slurmapply.cells import cells_of, exact, is_frame, narwhal

#: Longer sequences are values of their own, such as a curve, not columns.
LONGEST_SPREAD = 50


class Empty(enum.Enum):
    """The value of a row that has none."""

    EMPTY = "empty"


EMPTY: Final = Empty.EMPTY


class Shape(enum.Enum):
    """What one value can become in a table."""

    FIELDS = enum.auto()
    SEQUENCE = enum.auto()
    SCALAR = enum.auto()
    FRAME = enum.auto()
    OBJECT = enum.auto()


_SCALARS = (
    numbers.Number, str, bytes, dt.date, dt.time, dt.timedelta,
    enum.Enum, uuid.UUID, PurePath,
)  # fmt: skip


class CannotSpreadError(Exception):
    """The values are of one shape, but making columns of them would lose something."""


def shape_of_all(values: Sequence[Any]) -> Shape:
    """Decide what all results together can become in a table."""
    by_type = dict(zip(map(type, values), values, strict=True))
    for kind in (Empty, type(None)):
        by_type.pop(kind, None)
    shapes = set(map(_shape_of, by_type.values()))
    # One value tells for its type, but arrays of one type differ in dimensions.
    arrays = {kind for kind, value in by_type.items() if _is_array(value)}
    if arrays:
        shapes.update(_shape_of(value) for value in values if type(value) in arrays)
    if not shapes:
        return Shape.SCALAR
    return shapes.pop() if len(shapes) == 1 else Shape.OBJECT


def spread(values: Sequence[Any], shape: Shape) -> dict[str, list[Any]]:
    """Give the columns that results of this shape make, one cell for each; empty ones are None."""
    try:
        if shape is Shape.FIELDS:
            return _spread_fields(values)
        if shape is Shape.SEQUENCE:
            return _spread_sequences(values)
        if shape is Shape.SCALAR:
            return {"result": exact(_without_arrays(without_empty(values)))}
    except CannotSpreadError:
        pass
    return _objects(without_empty(values))


def is_nothing(value: Any) -> bool:
    """Whether the row has no value, or None."""
    return value is None or value is EMPTY


def _spread_fields(values: Sequence[Any]) -> dict[str, list[Any]]:
    rows = _as_fields(values)
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    if not names:
        raise CannotSpreadError
    return {name: exact(_cells_of_field(name, rows)) for name in names}


def _as_fields(values: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """Give each value as a mapping of names; a million dicts that are one stay as they are."""
    if {*map(type, values)} == {dict}:
        names = {*itertools.chain.from_iterable(values)}
        if {*map(type, names)} <= {str}:
            return values
    return [{} if is_nothing(value) else _fields(value) for value in values]


def _cells_of_field(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    try:
        return list(map(operator.itemgetter(name), rows))
    except KeyError:
        return [row.get(name) for row in rows]


def _spread_sequences(values: Sequence[Any]) -> dict[str, list[Any]]:
    lengths = {len(value) for value in values if not is_nothing(value)}
    if len(lengths) > 1 or not 1 <= min(lengths) <= LONGEST_SPREAD:
        raise CannotSpreadError
    nothing = [None] * lengths.pop()
    rows = [nothing if is_nothing(value) else cells_of(value) for value in values]
    columns = zip(*rows, strict=True)
    return {f"result_{place}": exact(list(column)) for place, column in enumerate(columns)}


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif dataclasses.is_dataclass(value):
        pairs = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        pairs = list(zip(_labels(value), cells_of(value), strict=True))
    fields = {str(name): cell for name, cell in pairs}
    if len(fields) < len(pairs):  # such as 1 and "1", or a Series with an index label twice
        raise CannotSpreadError
    return fields


def _labels(value: Any) -> Any:
    return value.index if _is_pandas(value, "Series") else value._fields


def _without_arrays(cells: list[Any]) -> list[Any]:
    """Take the scalars out of arrays without dimensions."""
    by_type = dict(zip(map(type, cells), cells, strict=True))
    arrays = {kind for kind, cell in by_type.items() if _is_array(cell)}
    return [cell[()] if type(cell) in arrays else cell for cell in cells] if arrays else cells


def without_empty(values: Sequence[Any]) -> list[Any]:
    """Put None where there is no value."""
    return [None if value is EMPTY else value for value in values]


def _objects(cells: list[Any]) -> dict[str, list[Any]]:
    counts = Counter(type(cell).__name__ for cell in cells if cell is not None)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    warnings.warn(
        f"result column holds objects: {listed}. Results make columns of their own when all are "
        "mappings, sequences of one length (1 to 50), scalars or frames.",
        stacklevel=2,
    )
    return {"result": cells}


def _shape_of(value: Any) -> Shape:
    if isinstance(value, Mapping) or _is_pandas(value, "Series"):
        return Shape.FIELDS
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Shape.FIELDS
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Shape.FIELDS
    if _is_scalar(value):
        return Shape.SCALAR
    if _is_array(value):
        return {0: Shape.SCALAR, 1: Shape.SEQUENCE}.get(value.ndim, Shape.OBJECT)
    if isinstance(value, Sequence) and not isinstance(value, (bytearray, memoryview)):
        return Shape.SEQUENCE
    if is_frame(value):
        return Shape.FRAME
    return Shape.OBJECT if narwhal(value) is None else Shape.SEQUENCE


def _is_scalar(value: Any) -> bool:
    if isinstance(value, _SCALARS) or _is_pandas(value, "Period", "Interval"):
        return True
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    return isinstance(value, numpy.generic if numpy else ()) or (
        pandas is not None and value is pandas.NA
    )


def _is_array(value: Any) -> bool:
    """Whether it is an array, of NumPy or of a library that behaves alike."""
    return (
        hasattr(value, "__array__")
        and isinstance(getattr(value, "ndim", None), int)
        and not _is_scalar(value)
        and not _is_pandas(value, "Series", "DataFrame")
    )


def _is_pandas(value: Any, *names: str) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, tuple(getattr(pandas, name) for name in names))
