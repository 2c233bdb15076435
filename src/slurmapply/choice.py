"""Which outcome of a row counts, when there are several."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from slurmapply.rows import RowNumbers
from slurmapply.states import OK_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurmapply.outcome_file import Frame

#: Runs of rows that are not ok, in one byte for each row.
_NOT_OK = re.compile(b"[^%c]+" % OK_CODE)


class Outcomes:
    """What is known of all rows of a job: for each row, the outcome that counts.

    The choice among several outcomes of a row: ok before not ok; among ok the highest run, within
    a run the lowest (life, attempt, file, offset), so that a second copy of a task changes
    nothing; among failed ones the latest.

    Parameters
    ----------
    rows
        Number of rows of the job.

    Attributes
    ----------
    frames
        All frames that were taken into account.
    codes
        The code of each row's settled status, or 0.
    duplicates
        Outcomes of rows that the same run had settled before.
    """

    def __init__(self, rows: int) -> None:
        self._forget(rows)

    def _forget(self, rows: int) -> None:
        self.frames: list[Frame] = []
        self.duplicates = 0
        self.codes = bytearray(rows)
        # frame << 32 | index, or -1: eight bytes a row instead of an object
        self._chosen = array("q", [-1]) * rows
        self._last_run = array("h", [-1]) * rows
        #: How many rows of each frame have the outcome that counts there.
        self._counting: list[int] = []
        self._tallies: dict[int, Counter[tuple[int, str]]] = {}
        self._settled: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, frame: Frame) -> None:
        """Take a frame into account."""
        number, run = len(self.frames), frame.origin.run
        self.frames.append(frame)
        self._counting.append(0)
        rows = frame.columns["row"]
        if self._are_new(rows):
            self._settle(number, frame, rows)
            return
        for index, row in enumerate(rows):
            if 0 <= row < len(self):
                self._choose(row, number << 32 | index, run)

    def _are_new(self, rows: Sequence[int]) -> bool:
        """Whether these are different rows of the job, none of which has an outcome."""
        if not rows:
            return False
        first, last = (rows[0], rows[-1]) if isinstance(rows, range) else (min(rows), max(rows))
        if first < 0 or last >= len(self):
            return False
        if isinstance(rows, range):
            return self.codes.count(0, first, last + 1) == len(rows)
        return len(set(rows)) == len(rows) and not any(itemgetter(*rows)(self.codes))

    def _settle(self, number: int, frame: Frame, rows: Sequence[int]) -> None:
        """Take the outcomes of new rows, all at once: nothing is to be chosen."""
        count, run = len(rows), frame.origin.run
        references = range(number << 32, (number << 32) + count)
        codes = bytes(frame.columns["status"])
        if isinstance(rows, range):
            place = slice(rows.start, rows.stop)
            self._chosen[place] = array("q", references)
            self._last_run[place] = array("h", [run]) * count
            self.codes[place] = codes
        else:
            for row, reference, code in zip(rows, references, codes, strict=True):
                self._chosen[row] = reference
                self._last_run[row] = run
                self.codes[row] = code
        self._counting[number] = count
        self._settled[run] += count
        self._tally(run).update(frame.tally())

    def _choose(self, row: int, reference: int, run: int) -> None:
        before, last_run = self._chosen[row], self._last_run[row]
        key_before = self.key(row) if before >= 0 else None
        self.duplicates += last_run == run
        key = self._key(reference)
        if key_before is None or self._wins(reference, key, before, key_before):
            self._chosen[row], self.codes[row] = reference, key[0]
            self._counting[reference >> 32] += 1
            if before >= 0:
                self._counting[before >> 32] -= 1
        else:
            key = key_before
        if key_before is not None:
            self._tally(last_run)[key_before] -= 1
        self._tally(max(run, last_run))[key] += 1
        if last_run < run:
            self._last_run[row] = run
            self._settled[run] += 1

    def _wins(
        self, reference: int, key: tuple[int, str], before: int, key_before: tuple[int, str]
    ) -> bool:
        ok, ok_before = key[0] == OK_CODE, key_before[0] == OK_CODE
        return ok if ok != ok_before else self._rank(reference) > self._rank(before)

    def _key(self, reference: int) -> tuple[int, str]:
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        return frame.columns["status"][index], frame.cause(index)

    def _rank(self, reference: int) -> tuple[Any, ...]:
        """Rank an outcome among those that are ok, or among those that are not."""
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        run, _, life, file = frame.origin
        attempt = frame.columns["attempt"][index]
        if frame.columns["status"][index] == OK_CODE:
            return (run, -life, -attempt, [-ord(letter) for letter in file], -frame.offset)
        return (run, life, attempt, file, frame.offset)

    def discard(self, frame: Frame) -> None:
        """Forget a frame whose values turned out to be damaged; other outcomes take its place."""
        frames = [other for other in self.frames if other is not frame]
        self._forget(len(self))
        for other in frames:
            self.add(other)

    def _tally(self, run: int) -> Counter[tuple[int, str]]:
        return self._tallies.setdefault(run, Counter())

    @property
    def tally(self) -> Counter[tuple[int, str]]:
        """Rows by (status code, cause) of the outcome that counts."""
        return sum(self._tallies.values(), Counter())

    def tally_before(self, run: int) -> Counter[tuple[int, str]]:
        """Count, as `tally` does, the rows that neither this run nor a later one has settled."""
        return sum((tally for each, tally in self._tallies.items() if each < run), Counter())

    def settled_in(self, run: int) -> int:
        """Count the rows that a run has settled."""
        return self._settled[run]

    def last_run(self, row: int) -> int:
        """Give the latest run that settled a row, or -1."""
        return self._last_run[row]

    def last_runs(self, start: int, stop: int) -> array[int]:
        """Give the latest run that settled each of these consecutive rows, or -1."""
        return self._last_run[start:stop]

    def find(self, row: int) -> tuple[Frame, int] | None:
        """Give the frame and the index in it of the outcome that counts."""
        reference = self._chosen[row]
        if reference < 0:
            return None
        return self.frames[reference >> 32], reference & 0xFFFFFFFF

    def counting(self) -> Iterator[tuple[Frame, Sequence[bool] | None]]:
        """Give the frames with outcomes that count, and which do; None: all of them."""
        for number, (frame, count) in enumerate(zip(self.frames, self._counting, strict=True)):
            if count == len(frame):
                yield frame, None
            elif count:
                yield frame, self._which_count(number, frame.columns["row"])

    def _which_count(self, number: int, rows: Sequence[int]) -> list[bool]:
        references = enumerate(rows, number << 32)
        return [
            0 <= row < len(self) and self._chosen[row] == reference for reference, row in references
        ]

    def not_ok(self) -> list[int]:
        """Give the rows whose outcome is not ok or missing, in order."""
        others = bytes(code != OK_CODE for code in range(256))
        return list(compress(range(len(self)), self.codes.translate(others)))

    def left(self) -> RowNumbers:
        """Give the same rows as a set."""
        return RowNumbers(found.span() for found in _NOT_OK.finditer(self.codes))

    def key(self, row: int) -> tuple[int, str]:
        """Give status code and cause of the outcome that counts, of a row that has one."""
        return self._key(self._chosen[row])

    def status_code(self, row: int) -> int:
        """Give the code of a row's settled status, or 0."""
        return self.codes[row]
