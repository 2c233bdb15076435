"""How cells become a column of a table: the value rules the other way round.

A column of parameters is *faithful*: what is read back from it are the very cells. A column of
results is *typed*: whole numbers stay whole beside empty cells, whole and fractional ones together
are fractional, times are times. What fits no type is a column of objects, never text.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from slurmapply.numeric import EXACT_IN_FLOAT, NumberColumn

if TYPE_CHECKING:
    import pandas as pd

_PLAIN = frozenset({bool, int, float, str})
#: NumPy has no empty cell for these.
_NULLABLE: dict[type, Any] = {bool: "boolean", int: "Int64"}


class CannotHoldError(Exception):
    """There is no type for such cells in this kind of frame."""


def faithful_series(cells: list[Any]) -> pd.Series[Any]:
    """Make a pandas Series that gives back the very cells."""
    kinds = set(map(type, cells))
    if len(kinds) == 1 and kinds <= _PLAIN:
        return _plain_series(cells, kinds.pop())
    return _object_series(cells)


def typed_series(cells: list[Any] | NumberColumn) -> pd.Series[Any]:
    """Make a pandas Series of the best type for results; None is an empty cell."""
    import pandas as pd  # noqa: PLC0415

    if isinstance(cells, NumberColumn):
        series: pd.Series[Any] = cells.to_pandas()
        return series
    kind = _common_type(cells)
    if kind is None:
        inferred = _inferred(cells)
        return _object_series(cells) if inferred is None else inferred
    if kind not in _NULLABLE or None not in cells:
        return _plain_series(cells, kind)
    try:
        nullable: pd.Series[Any] = pd.Series(pd.array(cells, dtype=_NULLABLE[kind]))
    except OverflowError:
        return _object_series(cells)
    return nullable


def polars_series(name: str, cells: list[Any] | NumberColumn) -> Any:
    """Make a polars Series of the best type for results; None is an empty cell."""
    import polars as pl  # noqa: PLC0415

    if isinstance(cells, NumberColumn):
        return cells.to_polars(name)
    refusals = (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)
    kind = _common_type(cells)
    try:
        if kind is not None:
            dtype = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}[kind]
            return pl.Series(name, cells, dtype, strict=kind is not float)
        inferred = _inferred(cells)
        if inferred is not None and inferred.dtype.kind in "mM":
            return _polars_times(name, inferred)
    except refusals:
        return pl.Series(name, cells, pl.Object)
    return _polars_nested(name, _without_arrays(cells), refusals)


def arrow_array(name: str, cells: list[Any] | NumberColumn) -> Any:
    """Make an Arrow array of the best type for results; None is an empty cell.

    Raises
    ------
    CannotHoldError
        When Arrow has no type for them: it knows no objects.
    """
    import pyarrow as pa  # noqa: PLC0415

    if isinstance(cells, NumberColumn):
        return cells.to_arrow()
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    kind = _common_type(cells)
    try:
        if kind is not None:
            return pa.array(cells, types[kind])
        inferred = _inferred(cells)
        if inferred is not None and inferred.dtype.kind in "mM":
            return pa.array(inferred)
        nested = _without_arrays(cells)
        array = pa.array(nested)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise CannotHoldError(name) from error
    if not _are_same(array.to_pylist(), nested):
        raise CannotHoldError(name)
    return array


def _common_type(cells: list[Any]) -> type | None:
    """Name the plain type that all cells have, or can take without loss; None: there is none."""
    kinds = set(map(type, cells)) - {type(None)}
    if kinds == {int, float}:
        whole = [cell for cell in cells if type(cell) is int]
        return float if max(map(abs, whole)) <= EXACT_IN_FLOAT else None
    return kinds.pop() if len(kinds) == 1 and kinds <= _PLAIN else None


def _plain_series(cells: list[Any], kind: type) -> pd.Series[Any]:
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    try:
        plain: pd.Series[Any] = pd.Series(cells if kind is str else np.array(cells, dtype=kind))
    except (OverflowError, UnicodeEncodeError):  # pandas 3 has no str with a lone surrogate
        return _object_series(cells)
    return plain


def _object_series(cells: list[Any]) -> pd.Series[Any]:
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    # One by one: NumPy would take lists of one length for a matrix.
    objects = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        objects[place] = cell
    series: pd.Series[Any] = pd.Series(objects, dtype=object)
    return series


def _inferred(cells: list[Any]) -> pd.Series[Any] | None:
    """Give the column that pandas makes of times, periods, intervals and complex numbers."""
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    known = (
        dt.datetime, dt.timedelta, np.datetime64, np.timedelta64, complex,
        pd.Period, pd.Interval,
    )  # fmt: skip
    kinds = set(map(type, cells)) - {type(None)}
    if not kinds or not all(issubclass(kind, known) for kind in kinds):
        return None
    series: pd.Series[Any] = pd.Series(cells)
    return None if series.dtype == object else series


def _without_arrays(cells: list[Any]) -> list[Any]:
    import numpy as np  # noqa: PLC0415

    return [cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in cells]


def _are_same(read: list[Any], cells: list[Any]) -> bool:
    """Compare as text: == would take 1 for 1.0, and NaN for a loss."""
    return repr(read) == repr(cells)


def _polars_times(name: str, times: Any) -> Any:
    import polars as pl  # noqa: PLC0415

    zone = getattr(times.dt, "tz", None)
    if zone is not None:
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    # polars takes no whole seconds from NumPy.
    values = times.to_numpy()
    unit = values.dtype.str.replace("[s]", "[ms]")
    series = pl.Series(name, values.astype(unit))
    if zone is None:
        return series
    return series.dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))


def _polars_nested(name: str, cells: list[Any], refusals: tuple[type[Exception], ...]) -> Any:
    """Take polars' own type where it holds the cells as they are, else a column of objects."""
    import polars as pl  # noqa: PLC0415

    try:
        series = pl.Series(name, cells)
        if _are_same(series.to_list(), cells):
            return series
    except refusals:
        pass
    return pl.Series(name, cells, pl.Object)
