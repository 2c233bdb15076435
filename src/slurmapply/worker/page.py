"""The page of memory that a worker shares with its supervisor.

The worker notes there which row it is on and how its rows fare; no system call is made for a row.
Each field is written by one side only, and is an aligned machine word or follows one that says
that it is there.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

_SIZE = 4096
# The worker's: position, attempt, wall-clock start, offset of its console, monotonic start.
_ROW = struct.Struct("=qqdqd")
_WORD = struct.Struct("=q")
_TIME = struct.Struct("=d")
_WRITTEN_AT = _ROW.size
_FAILED_AT = _WRITTEN_AT + 8
_FAULT_AT = _FAILED_AT + 8
_CALLING_AT = _FAULT_AT + 8
_ANY_OK_AT = _CALLING_AT + 1
_OWN_HAND_AT = _CALLING_AT + 2
_STOP_AT = _CALLING_AT + 8  # the supervisor's
_PROBATION_AT = _STOP_AT + 1
_LATE_AT = _STOP_AT + 8
_TEXTS_AT = (256, 2048)
_LENGTH = struct.Struct("=I")

NO_ROW = -1


class RowInWork(NamedTuple):
    """The row that a worker is on.

    Attributes
    ----------
    position, attempt
        Which, or NO_ROW; from 1.
    start, log_offset
        Seconds since the epoch; where its part of the console begins.
    began
        The start on the monotonic clock, which all processes of a machine share.
    """

    position: int
    attempt: int
    start: float
    log_offset: int
    began: float


class Page:
    """One worker's page."""

    __slots__ = ("_memory",)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE)
        self.enter(NO_ROW, 0, 0.0, 0, 0.0)
        self.calling = False

    # -- written by the worker -------------------------------------------------------------

    def enter(
        self, position: int, attempt: int, start: float, log_offset: int, began: float
    ) -> None:
        """Note the row that begins, or NO_ROW."""
        _ROW.pack_into(self._memory, 0, position, attempt, start, log_offset, began)

    @property
    def row(self) -> RowInWork:
        """The row that the worker is on."""
        return RowInWork(*_ROW.unpack_from(self._memory, 0))

    @property
    def written(self) -> int:
        """Positions of the worker's group below this one are in its outcomes file."""
        return self._word(_WRITTEN_AT)

    @written.setter
    def written(self, position: int) -> None:
        _WORD.pack_into(self._memory, _WRITTEN_AT, position)

    @property
    def calling(self) -> bool:
        """Whether the user's function is being called: only then does a row's time count."""
        return self._memory[_CALLING_AT] != 0

    @calling.setter
    def calling(self, value: bool) -> None:
        self._memory[_CALLING_AT] = value

    @property
    def own_hand(self) -> bool:
        """Whether the user's code is about to signal its own process."""
        return self._memory[_OWN_HAND_AT] != 0

    @own_hand.setter
    def own_hand(self, value: bool) -> None:
        self._memory[_OWN_HAND_AT] = value

    @property
    def any_ok(self) -> bool:
        """Whether any row was ok."""
        return self._memory[_ANY_OK_AT] != 0

    @any_ok.setter
    def any_ok(self, value: bool) -> None:
        self._memory[_ANY_OK_AT] = value

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return self._word(_FAILED_AT)

    @property
    def fault(self) -> int:
        """A number for the first failure's exception and line, MIXED once another differed."""
        return self._word(_FAULT_AT)

    def note_failure(self, fault: int, text: str) -> None:
        """Count a failed row.

        Parameters
        ----------
        fault
            A number above 0 for its exception and line.
        text
            The same for people.
        """
        if not self.failed:
            self._write_text(1, text)
            _WORD.pack_into(self._memory, _FAULT_AT, fault)
        elif self.fault != fault:
            _WORD.pack_into(self._memory, _FAULT_AT, MIXED)
        _WORD.pack_into(self._memory, _FAILED_AT, self.failed + 1)

    @property
    def fault_text(self) -> str:
        """What the first failure was, for people."""
        return self._read_text(1)

    @property
    def text(self) -> str:
        """What the worker has to say about its end."""
        return self._read_text(0)

    @text.setter
    def text(self, value: str) -> None:
        self._write_text(0, value)

    # -- written by the supervisor ---------------------------------------------------------

    @property
    def stop(self) -> bool:
        """Whether the worker should give back the rest of its group after this row."""
        return self._memory[_STOP_AT] != 0

    @stop.setter
    def stop(self, value: bool) -> None:
        self._memory[_STOP_AT] = value

    @property
    def probation(self) -> bool:
        """Whether the worker should give back the rest of its group after a failed row."""
        return self._memory[_PROBATION_AT] != 0

    @probation.setter
    def probation(self, value: bool) -> None:
        self._memory[_PROBATION_AT] = value

    @property
    def late(self) -> float:
        """When the row began that takes too long, on the monotonic clock; 0.0 for none."""
        (began,) = _TIME.unpack_from(self._memory, _LATE_AT)
        return float(began)

    @late.setter
    def late(self, began: float) -> None:
        _TIME.pack_into(self._memory, _LATE_AT, began)

    # --------------------------------------------------------------------------------------

    def _word(self, place: int) -> int:
        (word,) = _WORD.unpack_from(self._memory, place)
        return int(word)

    def _write_text(self, which: int, value: str) -> None:
        begin = _TEXTS_AT[which]
        room = (*_TEXTS_AT, _SIZE)[which + 1] - begin - _LENGTH.size
        data = value.encode("utf-8", "replace")[:room]
        self._memory[begin + _LENGTH.size : begin + _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._memory, begin, len(data))

    def _read_text(self, which: int) -> str:
        begin = _TEXTS_AT[which]
        (length,) = _LENGTH.unpack_from(self._memory, begin)
        begin += _LENGTH.size
        return self._memory[begin : begin + length].decode("utf-8", "replace")


#: Stands for failures that are not all alike.
MIXED = -1
