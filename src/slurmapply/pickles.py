"""How objects are stored: pickles of protocol 5, their large buffers apart in one data file.

A buffer of 64 KiB and more (a NumPy array, a column of a frame) is written once to ``data.bin``
and mapped by the workers: one copy in the page cache serves all workers of a node, and each may
write to its own view where the original was writable. So are smaller ones where there are many in
one object. What is stored in pickles are plain containers around the user's objects, never
classes of ours.
"""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL = 5
#: Below it, a mapping costs more than the copy that it saves.
LARGE = 64 * 1024
#: Below it, an array's own header is as large as what could be shared.
SMALL = 1024

#: Each mapping holds a descriptor, of which a process has 1024.
_MOST_MAPPINGS = 256

#: Where a buffer stands in the data file: offset, length, whether it was writable.
BufferPlace = tuple[int, int, bool]


class Stored(NamedTuple):
    """A pickle and the places of its large buffers."""

    data: bytes
    buffers: tuple[BufferPlace, ...] = ()

    def plain(self) -> tuple[bytes, tuple[BufferPlace, ...]]:
        """Give the plain containers that stand for it in a file."""
        return (self.data, self.buffers)


class BufferReader:
    """Maps parts of a data file and gives views of its buffers.

    Nothing is copied before it is written to. Each load has mappings of its own, so that what is
    written to one object is seen in no other, though equal buffers stand in the file once.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def load(self, data: bytes, places: Sequence[BufferPlace] = ()) -> Any:
        """Unpickle an object. Its origin must have been checked: a pickle is code."""
        return pickle.loads(data, buffers=self._views(places) if places else None)

    def _views(self, places: Sequence[BufferPlace]) -> list[memoryview]:
        first = min(offset for offset, _, _ in places)
        first -= first % mmap.ALLOCATIONGRANULARITY
        end = max(offset + length for offset, length, _ in places)
        with open(self._path, "rb") as file:  # noqa: PTH123  # pathlib costs 5 ms
            self._check_length(os.fstat(file.fileno()).st_size, end)
            # Of the part that is needed only: a private mapping larger than the machine's memory
            # is refused (proc(5), overcommit_memory).
            whole = self._map(file.fileno(), first, end)
            given: set[int] = set()
            views = []
            for offset, length, writable in places:
                start, region = first, whole
                if offset in given:  # equal arrays, but two: what is written to one is its own
                    start = offset - offset % mmap.ALLOCATIONGRANULARITY
                    region = self._map(file.fileno(), start, offset + length)
                given.add(offset)
                view = region[offset - start : offset - start + length]
                views.append(view if writable else view.toreadonly())
        return views

    def _map(self, file: int, start: int, end: int) -> memoryview:
        """Map a part of the file, private to this call (copy-on-write)."""
        if len(self._mappings) >= _MOST_MAPPINGS:
            return _copied(file, start, end)
        mapped = mmap.mmap(file, end - start, access=mmap.ACCESS_COPY, offset=start)
        self._mappings.add(mapped)
        return memoryview(mapped)

    def _check_length(self, size: int, end: int) -> None:
        if size < end:
            raise EOFError(
                f"{self._path} is too short: {size} bytes, but a buffer ends at {end}. Was the "
                "copy of the job folder complete?"
            )


def _copied(file: int, start: int, end: int) -> memoryview:
    copy = memoryview(bytearray(end - start))
    filled = 0
    while filled < len(copy):  # read(2) gives 2 GiB at most
        filled += os.preadv(file, [copy[filled:]], start + filled)
    return copy
