"""The page of memory that a worker shares with its supervisor.

The worker notes there which row it is on and how its rows fare; no system call is made for a row.
Each field is written by one side only (but `written` is set anew where a group is handed out, to a
worker that waits for it), and is an aligned machine word or follows one that says
that it is there.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import NamedTuple

_SIZE = 4096
# Words of eight bytes. The worker's, written for each row or more seldom:
_POSITION, _BEGAN, _ATTEMPT, _LOG_OFFSET, _WRITTEN, _FAILED, _FAULT = range(7)
_LATE = 8  # the supervisor's
# Bytes, behind the words.
_CALLING, _ANY_OK, _OWN_HAND = range(80, 83)
_STOP, _PROBATION = range(88, 90)  # the supervisor's
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

    __slots__ = ("_bytes", "_times", "_words")

    def __init__(self) -> None:
        self._bytes = memoryview(mmap.mmap(-1, _SIZE))
        self._words = self._bytes.cast("q")
        self._times = self._bytes.cast("d")
        self.rest()

    # -- written by the worker -------------------------------------------------------------

    def enter(self, position: int, began: float, *, begun: bool = False) -> bool:
        """Note the row that begins; says whether it is still wanted, as one that was begun is.

        First which row, then whether it is wanted: see Supervisor._stop_early.
        """
        self._words[_POSITION] = position
        self._times[_BEGAN] = began
        if self._bytes[_STOP] and not begun:
            return False
        self._bytes[_CALLING] = True
        return True

    def leave(self, began: float) -> bool:
        """Note that the function came to its end; says whether it did in time.

        One that was found to take too long does not count as ended.
        """
        if self._times[_LATE] == began:
            return False
        self._bytes[_CALLING] = False
        return True

    def rest(self) -> None:
        """Note that the worker is on no row."""
        self._bytes[_CALLING] = False
        self._words[_POSITION] = NO_ROW

    @property
    def row(self) -> RowInWork:
        """The row that the worker is on."""
        began = self._times[_BEGAN]
        position, attempt, log_offset = (
            self._words[place] for place in (_POSITION, _ATTEMPT, _LOG_OFFSET)
        )
        start = time.time() - time.monotonic() + began
        return RowInWork(position, attempt, start, log_offset, began)

    @property
    def attempt(self) -> int:
        """Which attempt the rows that begin are."""
        return self._words[_ATTEMPT]

    @attempt.setter
    def attempt(self, attempt: int) -> None:
        self._words[_ATTEMPT] = attempt

    @property
    def log_offset(self) -> int:
        """Where the next row's part of the console begins."""
        return self._words[_LOG_OFFSET]

    @log_offset.setter
    def log_offset(self, offset: int) -> None:
        self._words[_LOG_OFFSET] = offset

    @property
    def written(self) -> int:
        """Positions of the worker's group below this one are in its outcomes file."""
        return self._words[_WRITTEN]

    @written.setter
    def written(self, position: int) -> None:
        self._words[_WRITTEN] = position

    @property
    def calling(self) -> bool:
        """Whether the user's function is being called: only then does a row's time count."""
        return self._bytes[_CALLING] != 0

    @calling.setter
    def calling(self, value: bool) -> None:
        self._bytes[_CALLING] = value

    @property
    def own_hand(self) -> bool:
        """Whether the user's code is about to signal its own process."""
        return self._bytes[_OWN_HAND] != 0

    @own_hand.setter
    def own_hand(self, value: bool) -> None:
        self._bytes[_OWN_HAND] = value

    @property
    def any_ok(self) -> bool:
        """Whether any row was ok."""
        return self._bytes[_ANY_OK] != 0

    @any_ok.setter
    def any_ok(self, value: bool) -> None:
        self._bytes[_ANY_OK] = value

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return self._words[_FAILED]

    @property
    def fault(self) -> int:
        """A number for the first failure's exception and line, MIXED once another differed."""
        return self._words[_FAULT]

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
            self._words[_FAULT] = fault
        elif self.fault != fault:
            self._words[_FAULT] = MIXED
        self._words[_FAILED] += 1

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
        return self._bytes[_STOP] != 0

    @stop.setter
    def stop(self, value: bool) -> None:
        self._bytes[_STOP] = value

    @property
    def probation(self) -> bool:
        """Whether the worker should give back the rest of its group after a failed row."""
        return self._bytes[_PROBATION] != 0

    @probation.setter
    def probation(self, value: bool) -> None:
        self._bytes[_PROBATION] = value

    @property
    def late(self) -> float:
        """When the row began that takes too long, on the monotonic clock; 0.0 for none."""
        return self._times[_LATE]

    @late.setter
    def late(self, began: float) -> None:
        self._times[_LATE] = began

    # --------------------------------------------------------------------------------------

    def _write_text(self, which: int, value: str) -> None:
        begin = _TEXTS_AT[which]
        room = (*_TEXTS_AT, _SIZE)[which + 1] - begin - _LENGTH.size
        data = value.encode("utf-8", "replace")[:room]
        self._bytes[begin + _LENGTH.size : begin + _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._bytes, begin, len(data))

    def _read_text(self, which: int) -> str:
        begin = _TEXTS_AT[which]
        (length,) = _LENGTH.unpack_from(self._bytes, begin)
        begin += _LENGTH.size
        return bytes(self._bytes[begin : begin + length]).decode("utf-8", "replace")


#: Stands for failures that are not all alike.
MIXED = -1
