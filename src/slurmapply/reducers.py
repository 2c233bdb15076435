"""What pickle would copy into its stream, taken apart so that its memory can stay outside.

Most objects of NumPy, pandas, SciPy and pyarrow hand their memory over as buffers by themselves.
Those here do not, or hand over too much. They are taken apart into calls of their own library,
which is all that stands in a pickle: who reads it needs nothing of ours.
"""

from __future__ import annotations

import functools
import operator
import pickle
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle

from slurmapply.pickles import LARGE, PROTOCOL, SMALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, TypeAlias

    #: As `object.__reduce_ex__` gives it; NotImplemented leaves an object to its own way.
    Reduced: TypeAlias = Any
    Reducer: TypeAlias = Callable[[Any], Reduced]

#: Memory that a view skips, or a slice leaves out, is not worth a copy of the rest below this.
_SLACK = 1.02
#: A subclass that has one of these its own way would lose something in ours.
_OWN_WAY = ("__reduce__", "__reduce_ex__", "__setstate__")
#: What Arrow's newer layout of text takes for each cell beside the text itself.
_VIEW = 16


class SharingPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Cloudpickle's pickler, which leaves the memory of more objects outside."""

    def __init__(
        self,
        stream: BinaryIO,
        stays_inside: Callable[[pickle.PickleBuffer], bool],
        first: Reducer | None = None,
    ) -> None:
        super().__init__(stream, protocol=PROTOCOL, buffer_callback=stays_inside)
        self._first = first
        self._reducers: dict[type, Reducer | None] = {}

    def reducer_override(self, thing: Any) -> Reduced:
        """Take an object apart (pickle.Pickler.reducer_override)."""
        reduced = NotImplemented if self._first is None else self._first(thing)
        if reduced is not NotImplemented:
            return reduced
        kind = type(thing)
        if kind not in self._reducers:
            self._reducers[kind] = _reducer_of(kind)
        reducer = self._reducers[kind]
        reduced = NotImplemented if reducer is None else reducer(thing)
        return super().reducer_override(thing) if reduced is NotImplemented else reduced


def _reducer_of(kind: type) -> Reducer | None:
    """Choose by type; a library that was not imported has no objects."""
    numpy, pyarrow, polars = map(sys.modules.get, ("numpy", "pyarrow", "polars"))
    if numpy and issubclass(kind, numpy.ndarray):
        if kind is getattr(sys.modules.get("numpy.ma"), "MaskedArray", None):
            return _reduce_masked
        own = (getattr(kind, name) is not getattr(numpy.ndarray, name) for name in _OWN_WAY)
        return None if any(own) else _reduce_array
    if pyarrow and issubclass(kind, pyarrow.Array):
        return _reduce_arrow
    if polars and kind is polars.DataFrame:
        return _reduce_polars
    if polars and kind is polars.Series:
        return _reduce_polars_series
    return None


# -- NumPy -----------------------------------------------------------------------------------


def _reduce_array(array: Any) -> Reduced:
    """Take apart an array that NumPy would copy: of dates, a subclass's, or with gaps.

    NumPy leaves outside what is exactly an ndarray, in one piece, and of a type that the buffer
    protocol has a word for.
    """
    import numpy as np  # noqa: PLC0415

    if array.nbytes < SMALL or array.dtype.hasobject:
        return NotImplemented
    if type(array) is np.ndarray and _in_one_piece(array) and _exports(array):
        return NotImplemented
    plain = array.view(np.ndarray)
    if _extent(plain) > _SLACK * plain.nbytes:
        writable = plain.flags.writeable
        plain = plain.copy(order="K")
        plain.flags.writeable = writable
    start, raw = _memory_of(plain)
    made = (array.shape, array.dtype, pickle.PickleBuffer(raw), start, plain.strides)
    if type(array) is np.ndarray:
        return np.ndarray, made
    return np.ndarray.__new__, (type(array), *made)


def _in_one_piece(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _exports(array: Any) -> bool:
    try:
        memoryview(array)
    except (ValueError, TypeError, BufferError):  # a type that it has no word for
        return False
    return True


def _extent(array: Any) -> int:
    """Give the bytes from an array's lowest to its highest; fewer than it has if some repeat."""
    steps = zip(array.shape, array.strides, strict=True)
    return int(array.itemsize + sum((length - 1) * abs(stride) for length, stride in steps))


def _memory_of(array: Any) -> tuple[int, Any]:
    """Give where an array's first element stands in its memory, and that memory as bytes."""
    import numpy as np  # noqa: PLC0415

    steps = list(zip(array.shape, array.strides, strict=True))
    start = -sum((length - 1) * stride for length, stride in steps if stride < 0)
    lowest = array[tuple(slice(-1, None) if stride < 0 else slice(1) for _, stride in steps)]
    lowest = lowest.reshape(1).view(np.uint8)
    return start, np.lib.stride_tricks.as_strided(
        lowest, (_extent(array),), (1,), writeable=array.flags.writeable
    )


def _reduce_masked(array: Any) -> Reduced:
    """Take apart a masked array, which copies its data and its mask."""
    import numpy as np  # noqa: PLC0415

    if array.nbytes < SMALL or array.dtype.hasobject:
        return NotImplemented
    # data, mask, dtype, copy, subok, ndmin, fill_value, keep_mask, hard_mask
    kept = array.data, array.mask, None, False, True, 0, array.fill_value, True, array.hardmask
    return np.ma.MaskedArray, kept


# -- Arrow -----------------------------------------------------------------------------------


def _reduce_arrow(array: Any) -> Reduced:
    """Cut a slice out of the memory of the whole array, which would go along otherwise."""
    import pyarrow as pa  # noqa: PLC0415

    if array.get_total_buffer_size() <= _SLACK * array.nbytes + LARGE:
        return NotImplemented
    try:
        cut = pa.concat_arrays([array])
    except pa.ArrowException:  # a type that has no such function
        return NotImplemented
    return cut.__reduce_ex__(PROTOCOL)


# -- polars ----------------------------------------------------------------------------------


def _reduce_polars(frame: Any) -> Reduced:
    """Send a frame as an Arrow table, which shares its memory; polars would write a copy."""
    import polars as pl  # noqa: PLC0415

    table = _arrow_of(frame)
    return NotImplemented if table is None else (_from_arrow(pl), (table,))


def _reduce_polars_series(series: Any) -> Reduced:
    frame = series.to_frame()
    if _arrow_of(frame) is None:
        return NotImplemented
    return operator.methodcaller("to_series"), (frame,)


def _from_arrow(pl: Any) -> Callable[[Any], Any]:
    return functools.partial(pl.from_arrow, rechunk=False)


def _arrow_of(frame: Any) -> Any:
    """Give a frame as an Arrow table, None where it is small or would not come back as it is."""
    import polars as pl  # noqa: PLC0415

    size = frame.estimated_size()
    if size < LARGE:
        return None
    try:
        table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
        views = "".join(map(str, table.schema.types)).count("_view") * frame.height * _VIEW
        if table.nbytes > _SLACK * (size + views) + LARGE:
            # Text of a slice is part of the whole's text, which newer Arrow sends along.
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        kept: list[pickle.PickleBuffer] = []
        nothing = pickle.dumps(table.slice(0, 0), PROTOCOL, buffer_callback=kept.append)
        back = _from_arrow(pl)(pickle.loads(nothing, buffers=kept))
    except Exception:  # noqa: BLE001  # whatever Arrow lacks, polars' own way does not need it
        return None
    return table if back.schema == frame.schema else None
