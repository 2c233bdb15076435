"""Pickling objects for a job folder, the memory of their arrays apart from the pickle."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from slurmapply.pickles import LARGE, SMALL, Stored

if TYPE_CHECKING:
    import pickle
    from collections.abc import Sequence

    from slurmapply.pickles import BufferPlace
    from slurmapply.reducers import Reducer

#: Of one object's smaller buffers, so much stays inside its pickle; those that follow go out.
INSIDE = 1024 * 1024


class Buffers(Protocol):
    """Where the large buffers of pickles go."""

    def add(self, raws: Sequence[memoryview], /) -> Sequence[BufferPlace]:
        """Take the buffers of one object; gives their places."""


class ObjectWriter:
    """Pickles objects one after another with cloudpickle, each independent of the others.

    Parameters
    ----------
    buffers
        Takes what is large.
    reducer
        Asked first how an object is taken apart, as `pickle.Pickler.reducer_override` is.
    """

    def __init__(self, buffers: Buffers, reducer: Reducer | None = None) -> None:
        from slurmapply.reducers import SharingPickler  # noqa: PLC0415  # with cloudpickle, 30 ms

        self._buffers = buffers
        self._out: list[memoryview] = []
        self._inside = 0
        self._stream = io.BytesIO()
        self._pickler = SharingPickler(self._stream, self._stays_inside, reducer)

    def _stays_inside(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle copies it into the stream itself
            return True
        if raw.nbytes < LARGE:
            self._inside += raw.nbytes
            if raw.nbytes < SMALL or self._inside <= INSIDE:
                return True
        self._out.append(raw)
        return False

    def dump(self, value: Any) -> Stored:
        """Pickle one object."""
        self._stream.seek(0)
        self._stream.truncate()
        self._inside = 0
        try:
            self._pickler.dump(value)
            # All at once: whether there is room for them is known before any of them is written.
            places = tuple(self._buffers.add(self._out)) if self._out else ()
            return Stored(self._stream.getvalue(), places)
        finally:
            self._out.clear()
            # The memo would refer to objects of an earlier pickle, and keep copies alive.
            self._pickler.clear_memo()
