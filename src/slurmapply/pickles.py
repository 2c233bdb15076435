"""How objects are stored: pickles of protocol 5, their large buffers apart in one data file.

A buffer of 64 KiB and more (a NumPy array, a column of a frame) is written once to ``data.bin``,
page aligned, and mapped by the workers: one copy in the page cache serves all workers of a node,
and each may write to its own view where the original was writable. What is stored in pickles are
plain containers around the user's objects, never classes of ours.
"""

from __future__ import annotations

import io
import mmap
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

PROTOCOL = 5
LARGE = 64 * 1024  # below it, a page of its own costs more than the copy that it saves
PAGE = 4096

#: Where a buffer stands in the data file: offset, length, whether it was writable.
BufferPlace = tuple[int, int, bool]


class Stored(NamedTuple):
    """A pickle and the places of its large buffers."""

    data: bytes
    buffers: tuple[BufferPlace, ...] = ()

    def plain(self) -> tuple[bytes, tuple[BufferPlace, ...]]:
        """Give the plain containers that stand for it in a file."""
        return (self.data, self.buffers)


class Sink(Protocol):
    """Where buffers are written to; may take less than it was given."""

    def write(self, data: memoryview, /) -> int | None:
        """Take a part of the data; gives its length."""


class BufferWriter:
    """Writes large buffers to a data file, equal ones once.

    Parameters
    ----------
    file
        The data file.
    """

    def __init__(self, file: Sink) -> None:
        self.file = file
        self.size = 0
        self.places: dict[tuple[bytes, bool], BufferPlace] = {}

    def add(self, raw: memoryview) -> BufferPlace:
        """Write a buffer unless its bytes are there already; gives its place."""
        import hashlib  # noqa: PLC0415  # only who writes needs it, and it loads OpenSSL

        key = (hashlib.blake2b(raw, digest_size=16).digest(), not raw.readonly)
        place = self.places.get(key)
        if place is None:
            padding = -self.size % PAGE
            self._write(memoryview(bytes(padding)))
            self._write(raw)
            place = (self.size + padding, raw.nbytes, not raw.readonly)
            self.size += padding + raw.nbytes
            self.places[key] = place
        return place

    def _write(self, data: memoryview) -> None:
        while data:  # write(2) takes 2 GiB at most
            data = data[self.file.write(data) or 0 :]


class ObjectWriter:
    """Pickles objects one after another with cloudpickle, each independent of the others."""

    def __init__(self, buffers: BufferWriter) -> None:
        import cloudpickle  # noqa: PLC0415  # only who writes functions needs it, and it takes 30 ms

        self._buffers = buffers
        self._places: list[BufferPlace] = []
        self._stream = io.BytesIO()
        self._pickler = cloudpickle.Pickler(
            self._stream, protocol=PROTOCOL, buffer_callback=self._keep_inside
        )

    def _keep_inside(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle copies it into the stream itself
            return True
        if raw.nbytes < LARGE:
            return True
        self._places.append(self._buffers.add(raw))
        return False

    def dump(self, value: Any) -> Stored:
        """Pickle one object."""
        self._stream.seek(0)
        self._stream.truncate()
        self._places.clear()
        # The memo would otherwise refer to objects of an earlier pickle.
        self._pickler.clear_memo()
        self._pickler.dump(value)
        return Stored(self._stream.getvalue(), tuple(self._places))


class BufferReader:
    """Maps a data file and gives views of its buffers; nothing is copied."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def view(self, place: BufferPlace) -> memoryview:
        """Give a private (copy-on-write) view of one buffer."""
        if self._map is None:
            with open(self._path, "rb") as file:  # noqa: PTH123  # pathlib costs 5 ms
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        offset, length, writable = place
        if offset + length > len(self._map):
            raise EOFError(
                f"{self._path} is too short: {len(self._map)} bytes, but a buffer of {length} "
                f"bytes stands at {offset}. Was the copy of the job folder complete?"
            )
        view = memoryview(self._map)[offset : offset + length]
        return view if writable else view.toreadonly()

    def load(self, data: bytes, places: Sequence[BufferPlace] = ()) -> Any:
        """Unpickle an object. Its origin must have been checked: a pickle is code."""
        return pickle.loads(data, buffers=[self.view(place) for place in places])
