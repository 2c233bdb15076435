"""The value rules: what the cells of a column are when they reach the user's function.

::

    column                                    a cell reaches f as
    bool, int, float, str, bytes, complex     exactly that Python type; NumPy's scalars too
    missing, where the column has a word      None (pandas' nullable, Arrow, str, categorical and
      for it                                    interval columns, polars, pyarrow)
    NaN, NaT                                  as they are, where they are the column's own word
    date and time                             the frame's own scalars; pandas' Timestamp and
                                                Timedelta where nanoseconds would be lost
    categorical                               its values
    nested (list, struct)                     lists and dicts
    anything else                             the very object

A missing cell of pandas 3's ``str`` column is None too, though pandas shows it as NaN: a function
that takes strings expects None, and pandas 2 and polars give it None for the same table.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Plain cells of one column.
    Cells = list[Any] | array[Any]

#: From so many cells on, numbers stay an array.
MANY = 4096
_WIDTH = 8


def narwhal(native: Any) -> Any:
    """Give the DataFrame, LazyFrame or Series that narwhals knows this as, or None."""
    import narwhals as nw  # noqa: PLC0415

    known = nw.from_native(native, pass_through=True, allow_series=True)
    return known if isinstance(known, (nw.DataFrame, nw.LazyFrame, nw.Series)) else None


def is_frame(candidate: Any) -> bool:
    """Tell whether this is a frame of any library, lazy ones too."""
    import narwhals as nw  # noqa: PLC0415
    from narwhals.exceptions import DuplicateError  # noqa: PLC0415

    try:
        return isinstance(narwhal(candidate), (nw.DataFrame, nw.LazyFrame))
    except DuplicateError:  # a frame, though not one that can be worked with
        return True


def cells_of(column: Iterable[Any]) -> list[Any]:
    """Give the cells of anything that can stand for a column."""
    if isinstance(column, (list, tuple, range)):
        return exact(list(column))
    numpy, pandas, pyarrow = map(sys.modules.get, ("numpy", "pandas", "pyarrow"))
    if numpy and isinstance(column, numpy.ndarray):
        return _numpy_cells(column)
    if pandas and isinstance(column, (pandas.Index, pandas.api.extensions.ExtensionArray)):
        return _pandas_cells(pandas.Series(column))
    if pyarrow and isinstance(column, (pyarrow.Array, pyarrow.ChunkedArray)):
        return _arrow_cells(column)
    known = narwhal(column)
    if known is not None:
        return series_cells(known)
    # Other libraries' arrays, whose elements would be arrays again.
    as_numbers = hasattr(column, "__array__") and getattr(column, "ndim", None) == 1
    return exact(column.tolist() if as_numbers and hasattr(column, "tolist") else list(column))


def frame_cells(frame: Any) -> dict[str, Cells]:
    """Give the cells of a narwhals DataFrame, column by column, as `many_cells`."""
    if not (frame.implementation.is_polars() or frame.implementation.is_pyarrow()):
        native = frame.to_pandas()
        return {str(name): many_cells(native[name]) for name in native.columns}
    return {str(name): many_cells(frame[name].to_native()) for name in frame.columns}


def series_cells(series: Any) -> list[Any]:
    """Give the cells of a narwhals Series."""
    if series.implementation.is_polars():
        return _polars_cells(series.to_native())
    if series.implementation.is_pyarrow():
        return _arrow_cells(series.to_native())
    return _pandas_cells(series.to_pandas())


def many_cells(column: Iterable[Any]) -> Cells:
    """Give the cells of a column; many numbers as an array, whose cells are Python's own too.

    A list of a million ints takes 40 MB, and the time to make each of them.
    """
    numbers = _as_numpy(column)
    if numbers is not None and numbers.ndim == 1 and len(numbers) >= MANY:
        kind, size = numbers.dtype.kind, numbers.dtype.itemsize
        if kind == "i" or (kind == "u" and size < _WIDTH):
            return array("q", numbers.astype("int64").tobytes())
        if kind == "f" and size <= _WIDTH:
            return array("d", numbers.astype("float64").tobytes())
    return cells_of(column)


def _as_numpy(column: Any) -> Any:
    """Give NumPy's view of a column without missing cells, None where there is none."""
    numpy, pandas, polars, pyarrow = map(sys.modules.get, ("numpy", "pandas", "polars", "pyarrow"))
    if numpy and isinstance(column, numpy.ndarray):
        return column
    if pandas and isinstance(column, (pandas.Series, pandas.Index)):
        return column.to_numpy() if numpy and isinstance(column.dtype, numpy.dtype) else None
    if polars and isinstance(column, polars.Series):
        whole = column.dtype.is_numeric() and not column.null_count()
        return column.to_numpy() if whole else None
    if pyarrow and isinstance(column, pyarrow.ChunkedArray):
        known = pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)
        return column.to_numpy() if known and not column.null_count else None
    return None


def exact(cells: list[Any]) -> list[Any]:
    """Turn NumPy's scalars into Python's; all other cells stay the very objects."""
    convert = {kind: into for kind in set(map(type, cells)) if (into := _python_type(kind))}
    if not convert:
        return cells
    return [convert.get(type(cell), _itself)(cell) for cell in cells]


def _itself(cell: Any) -> Any:
    return cell


def _python_type(kind: type) -> Callable[[Any], Any] | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or kind.__module__ != "numpy" or not issubclass(kind, numpy.generic):
        return None
    # Python has nothing as wide; and a timedelta64 is an integer only to NumPy.
    if kind in {numpy.longdouble, numpy.clongdouble, numpy.timedelta64}:
        return None
    families: dict[type, Callable[[Any], Any]] = {
        numpy.bool_: bool,
        numpy.integer: int,
        numpy.floating: float,
        numpy.complexfloating: complex,
        numpy.str_: str,
        numpy.bytes_: bytes,
    }
    return next((into for family, into in families.items() if issubclass(kind, family)), None)


def _numpy_cells(array: Any) -> list[Any]:
    plain = array.ndim == 1 and array.dtype.kind in "biufcSU"
    return exact(array.tolist() if plain else list(array))


def _pandas_cells(series: Any) -> list[Any]:
    import pandas as pd  # noqa: PLC0415

    if isinstance(series.dtype, pd.SparseDtype):
        return _pandas_cells(series.sparse.to_dense())
    cells = exact(series.tolist())
    missing = series.isna()
    if not isinstance(series.dtype, pd.api.extensions.ExtensionDtype) or not missing.any():
        return cells
    return [
        None if gone and (cell is pd.NA or type(cell) is float) else cell
        for cell, gone in zip(cells, missing.tolist(), strict=True)
    ]


def _arrow_cells(column: Any) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415

    if column.type == pa.time64("ns"):
        _refuse_fine_times(column.cast("int64").to_pylist())
    return exact(column.to_pylist())


def _polars_cells(series: Any) -> list[Any]:
    import polars as pl  # noqa: PLC0415

    dtype = series.dtype
    if not _may_hold_nanoseconds(dtype):
        return exact(series.to_list())
    if isinstance(dtype, pl.Struct):
        fields = [_polars_cells(series.struct.field(field.name)) for field in dtype.fields]
        names = [field.name for field in dtype.fields]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
        return [None if gone else row for row, gone in zip(rows, series.is_null(), strict=True)]
    if dtype.is_nested():
        return [None if part is None else _polars_cells(part) for part in series]
    return _polars_times(series)


def _may_hold_nanoseconds(dtype: Any) -> bool:
    import polars as pl  # noqa: PLC0415

    if isinstance(dtype, pl.Struct):
        return any(_may_hold_nanoseconds(field.dtype) for field in dtype.fields)
    if isinstance(dtype, (pl.List, pl.Array)):
        return _may_hold_nanoseconds(dtype.inner)
    return dtype == pl.Time or getattr(dtype, "time_unit", None) == "ns"


def _polars_times(series: Any) -> list[Any]:
    """Polars itself cuts nanoseconds off without a word on the way to Python."""
    import pandas as pd  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    counts = series.to_physical().to_list()
    if not any(count % 1000 for count in counts if count is not None):
        return list(series.to_list())
    if series.dtype == pl.Time:
        _refuse_fine_times(counts)
    if series.dtype == pl.Duration:
        return [None if count is None else pd.Timedelta(count, unit="ns") for count in counts]
    zone = series.dtype.time_zone
    return [None if count is None else pd.Timestamp(count, unit="ns", tz=zone) for count in counts]


def _refuse_fine_times(counts: list[int | None]) -> None:
    if any(count % 1000 for count in counts if count is not None):
        raise InvalidArgumentError(
            "A column of params holds times of day with nanoseconds, and nothing in Python can "
            "hold one: round the column to microseconds, or make it a column of durations.",
            argument="params",
        )
