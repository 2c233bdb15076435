"""The page of memory that a worker shares with its supervisor.

The worker notes there which row it is on; no system call is made for a row. Fields are aligned
machine words, each written by one side only.
"""

from __future__ import annotations

import mmap
import struct

_SIZE = 4096
# The worker's: position, attempt, wall-clock start, offset of its console.
_ROW = struct.Struct("=qqdq")
_WRITTEN = struct.Struct("=q")
_WRITTEN_AT = _ROW.size
_STOP_AT = _WRITTEN_AT + _WRITTEN.size  # the supervisor's
_TEXT_AT = _STOP_AT + 8
_LENGTH = struct.Struct("=I")

NO_ROW = -1


class Page:
    """One worker's page."""

    __slots__ = ("_memory",)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self.clear()

    def clear(self) -> None:
        """Begin anew, for a new worker."""
        self._memory[:] = bytes(_SIZE)
        self.enter(NO_ROW, 0, 0.0, 0)

    def enter(self, position: int, attempt: int, start: float, log_offset: int) -> None:
        """Note the row that begins, or NO_ROW."""
        _ROW.pack_into(self._memory, 0, position, attempt, start, log_offset)

    @property
    def row(self) -> tuple[int, int, float, int]:
        """Position, attempt, start and console offset of the row that runs."""
        position, attempt, start, offset = _ROW.unpack_from(self._memory, 0)
        return position, attempt, start, offset

    @property
    def written(self) -> int:
        """Positions of the worker's group below this one are in its outcomes file."""
        (written,) = _WRITTEN.unpack_from(self._memory, _WRITTEN_AT)
        return int(written)

    @written.setter
    def written(self, position: int) -> None:
        _WRITTEN.pack_into(self._memory, _WRITTEN_AT, position)

    @property
    def stop(self) -> bool:
        """Whether the worker should give back the rest of its group after this row."""
        return self._memory[_STOP_AT] != 0

    @stop.setter
    def stop(self, value: bool) -> None:
        self._memory[_STOP_AT] = int(value)

    @property
    def text(self) -> str:
        """What the worker has to say about its end."""
        (length,) = _LENGTH.unpack_from(self._memory, _TEXT_AT)
        begin = _TEXT_AT + _LENGTH.size
        return self._memory[begin : begin + length].decode("utf-8", "replace")

    @text.setter
    def text(self, value: str) -> None:
        begin = _TEXT_AT + _LENGTH.size
        data = value.encode("utf-8", "replace")[: _SIZE - begin]
        _LENGTH.pack_into(self._memory, _TEXT_AT, len(data))
        self._memory[begin : begin + len(data)] = data
