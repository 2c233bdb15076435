"""The statuses of all rows at a look: by the outcomes that count, and by what still runs."""

from __future__ import annotations

import operator
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING

from slurmapply.rows import RowNumbers
from slurmapply.states import (
    OK_CODE,
    OVER,
    SETTLED,
    STATUS_CODES,
    STATUS_OF_CODE,
    JobState,
    RowStatus,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator

    from slurmapply.choice import Outcomes
    from slurmapply.runview import RunView

#: Statuses of rows that have no outcome, which are never on disk; they only need to differ.
_UNSETTLED = {
    RowStatus.PENDING: 101,
    RowStatus.RUNNING: 102,
    RowStatus.UNFINISHED: 103,
    RowStatus.CANCELLED: 104,
}
_CODES = {**STATUS_CODES, **_UNSETTLED}
#: The status for each code that `Statuses.codes` gives.
WORDS = {code: status for status, code in _CODES.items()}


class Statuses:
    """Knows the status of rows, of one as of all.

    A million rows are looked at as the bytes of their codes, never one by one.

    Parameters
    ----------
    outcomes
        Those that count.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._left = bytes([_CODES[RowStatus.UNFINISHED]]) * len(outcomes)
        self._elsewhere_of: tuple[int, int, RowNumbers] = (0, 0, RowNumbers(()))
        self._elsewhere: tuple[Counter[tuple[int, str]], Counter[int]] = Counter(), Counter()

    def note_earlier(self, runs: Iterable[RunView]) -> None:
        """Note how all runs before the latest one, in order, left rows without an outcome.

        A later run says nothing about the rows that it leaves alone.
        """
        left = bytearray(self._left)
        for run in runs:
            code = _CODES[RowStatus.CANCELLED if run.cancelled else RowStatus.UNFINISHED]
            for start, stop in run.rows.ranges:
                left[start:stop] = bytes([code]) * (stop - start)
        self._left = bytes(left)

    def of_row(self, row: int, run: RunView, state: JobState) -> RowStatus:
        """Say what is the case with one row.

        Parameters
        ----------
        row
            Its number.
        run, state
            The job's latest run, and its state.
        """
        code = self._outcomes.status_code(row)
        if row not in run.rows:
            return WORDS[code or self._left[row]]
        if state not in OVER and self._outcomes.last_run(row) < run.number:
            return RowStatus.RUNNING if row in self.running(run) else RowStatus.PENDING
        return STATUS_OF_CODE[code] if code else _missing_word(run, state)

    def codes(self, run: RunView, state: JobState) -> bytes:
        """Give a code for each row's status; `WORDS` says which."""
        codes = bytearray(self._outcomes.codes)
        if state not in OVER and run.number:
            self._clear_due(codes, run)
        for start, stop in _gaps(run.rows, len(codes)):
            if codes.count(0, start, stop):
                cells = zip(codes[start:stop], self._left[start:stop], strict=True)
                codes[start:stop] = bytes(code or left for code, left in cells)
        codes = codes.replace(b"\0", bytes([_CODES[_missing_word(run, state)]]))
        for row in self.running(run) if state not in OVER else ():
            if codes[row] == _CODES[RowStatus.PENDING]:
                codes[row] = _CODES[RowStatus.RUNNING]
        return bytes(codes)

    def _clear_due(self, codes: bytearray, run: RunView) -> None:
        for start, stop in run.rows.ranges:
            runs = self._outcomes.last_runs(start, stop)
            if max(runs, default=run.number) < run.number:
                codes[start:stop] = bytes(stop - start)
                continue
            for row, last_run in enumerate(runs, start):
                if last_run < run.number:
                    codes[row] = 0

    def rows(self, wanted: Collection[RowStatus], run: RunView, state: JobState) -> list[int]:
        """Give the rows that have one of these statuses, in order."""
        codes = {_CODES[status] for status in wanted}
        chosen = self.codes(run, state).translate(_table(codes))
        return list(compress(range(len(self._outcomes)), chosen))

    def running(self, run: RunView) -> set[int]:
        """Rows that a live task has named as running, and that have no outcome yet."""
        return {
            row
            for view in run.latest
            if view.end is None
            for row in view.running
            if row < len(self._outcomes) and self._outcomes.last_run(row) < run.number
        }

    def count(self, run: RunView, state: JobState) -> tuple[Counter[str], Counter[str]]:
        """Count rows by status, and failed rows by cause."""
        over = state in OVER
        tally = self._outcomes.tally
        if not over and run.number:
            tally.subtract(self._due_again(run))
        counts: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        for (code, cause), number in tally.items():
            counts[STATUS_OF_CODE[code].value] += number
            if cause:
                causes[cause] += number
        left = self._not_in(run)[1] if run.number else Counter[int]()
        for code, number in left.items():
            counts[WORDS[code].value] += number
        missing = len(self._outcomes) - counts.total()
        running = 0 if over else min(len(self.running(run)), missing)
        counts[RowStatus.RUNNING.value] += running
        counts[_missing_word(run, state).value] += missing - running
        return +counts, +causes

    def _due_again(self, run: RunView) -> Counter[tuple[int, str]]:
        """Count the rows of a later run that are to run again, by what befell them before."""
        due = self._outcomes.tally_before(run.number)
        due.subtract(self._not_in(run)[0])
        return +due

    def _not_in(self, run: RunView) -> tuple[Counter[tuple[int, str]], Counter[int]]:
        """Count the rows that a run leaves alone: by what befell them, and those left before.

        These change only as earlier runs' files do.
        """
        frames = sum(frame.origin.run < run.number for frame in self._outcomes.frames)
        key = (run.number, frames, run.rows)
        if key != self._elsewhere_of:
            self._elsewhere_of, self._elsewhere = key, self._counted_outside(run.rows)
        return self._elsewhere

    def _counted_outside(self, rows: RowNumbers) -> tuple[Counter[tuple[int, str]], Counter[int]]:
        codes = self._outcomes.codes
        settled: Counter[tuple[int, str]] = Counter()
        left: Counter[int] = Counter()
        missing, failed = _table({0}), _table({*STATUS_OF_CODE} - {OK_CODE})
        for start, stop in _gaps(rows, len(codes)):
            here = codes[start:stop]
            settled[OK_CODE, ""] += here.count(OK_CODE)
            found = compress(range(start, stop), here.translate(failed))
            settled.update(map(self._outcomes.key, found))
            left.update(compress(self._left[start:stop], here.translate(missing)))
        return settled, left


class EndedRows:
    """Tells which rows have ended since the last look, each of them once.

    Parameters
    ----------
    rows
        Number of rows of the job.
    """

    def __init__(self, rows: int) -> None:
        self._told = bytearray(rows)
        self._seen = b""

    def new(self, codes: bytes, state: JobState) -> Iterator[int]:
        """Give the rows that were not given yet, in order.

        Parameters
        ----------
        codes, state
            A code for each row's status, the job's state; when it is over, all rows have ended.
        """
        if codes == self._seen and state not in OVER:
            return
        self._seen = codes
        known = range(256) if state in OVER else {_CODES[status] for status in SETTLED}
        ended = codes.translate(_table(known))
        for row in compress(range(len(codes)), map(operator.gt, ended, bytes(self._told))):
            self._told[row] = 1
            yield row

    def not_yet(self, row: int) -> None:
        """Tell a row again when it ends: what looked like its end was damaged."""
        self._told[row] = 0


def _table(codes: Container[int]) -> bytes:
    """Give what `bytes.translate` needs to make 1 of these codes, 0 of others."""
    return bytes(code in codes for code in range(256))


def _gaps(rows: RowNumbers, count: int) -> Iterator[tuple[int, int]]:
    """Give the ranges of the numbers below `count` that are not among these."""
    starts = [0, *(stop for _, stop in rows.ranges)]
    stops = [*(start for start, _ in rows.ranges), count]
    return ((start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop)


def _missing_word(run: RunView, state: JobState) -> RowStatus:
    """Name the status of a run's rows without an outcome that do not run."""
    if state not in OVER or state is JobState.PREPARED:
        return RowStatus.PENDING
    return RowStatus.CANCELLED if run.cancelled else RowStatus.UNFINISHED
