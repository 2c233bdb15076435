"""Which outcome of a row counts, when there are several."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

from slurmapply.states import OK_CODE

if TYPE_CHECKING:
    from slurmapply.outcome_file import Frame


class Outcomes:
    """What is known of all rows of a job: for each row, the outcome that counts.

    The choice among several outcomes of a row: ok before not ok; among ok the highest run, within
    a run the lowest (life, attempt, file, offset), so that a second copy of a task changes
    nothing; among failed ones the latest.

    Parameters
    ----------
    rows
        Number of rows of the job.
    """

    def __init__(self, rows: int) -> None:
        self.frames: list[Frame] = []
        self.duplicates = 0
        # frame << 32 | index, or -1: eight bytes a row instead of an object
        self._chosen = array("q", [-1]) * rows
        self._last_run = array("h", [-1]) * rows
        self._settled: dict[int, int] = {}
        #: Rows by (status code, cause) of the outcome that counts.
        self.tally: Counter[tuple[int, str]] = Counter()

    def __len__(self) -> int:
        return len(self._chosen)

    def add(self, frame: Frame) -> None:
        """Take a frame into account."""
        base = len(self.frames) << 32
        self.frames.append(frame)
        rows, run = frame.columns["row"], frame.origin.run
        first, count = rows[0], len(rows)
        place = slice(first, first + count)
        consecutive = first >= 0 and rows == array("q", range(first, first + count))
        if consecutive and self._chosen[place].count(-1) == count:
            self._chosen[place] = array("q", range(base, base + count))
            self._last_run[place] = array("h", [run]) * count
            self._settled[run] = self._settled.get(run, 0) + count
            self.tally.update(frame.tally())
            return
        for index, row in enumerate(rows):
            if 0 <= row < len(self._chosen):
                self._choose(row, base | index, run)

    def _choose(self, row: int, reference: int, run: int) -> None:
        before = self._chosen[row]
        self.duplicates += self._last_run[row] == run
        if before < 0 or self._rank(reference) > self._rank(before):
            self._chosen[row] = reference
            self.tally[self._key(reference)] += 1
            if before >= 0:
                self.tally[self._key(before)] -= 1
        if self._last_run[row] < run:
            self._last_run[row] = run
            self._settled[run] = self._settled.get(run, 0) + 1

    def _key(self, reference: int) -> tuple[int, str]:
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        return frame.columns["status"][index], frame.cause(index)

    def _rank(self, reference: int) -> tuple[Any, ...]:
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        run, _, life, file = frame.origin
        attempt = frame.columns["attempt"][index]
        if frame.columns["status"][index] == OK_CODE:
            return (1, run, -life, -attempt, [-ord(letter) for letter in file], -frame.offset)
        return (0, run, life, attempt, file, frame.offset)

    def discard(self, frame: Frame) -> None:
        """Forget a frame whose values turned out to be damaged; other outcomes take its place."""
        frames = [other for other in self.frames if other is not frame]
        rows = len(self._chosen)
        self._chosen = array("q", [-1]) * rows
        self._last_run = array("h", [-1]) * rows
        self.frames, self._settled, self.duplicates = [], {}, 0
        self.tally = Counter()
        for other in frames:
            self.add(other)

    def settled_in(self, run: int) -> int:
        """Count the rows that a run has settled."""
        return self._settled.get(run, 0)

    def last_run(self, row: int) -> int:
        """Give the latest run that settled a row, or -1."""
        return self._last_run[row]

    def find(self, row: int) -> tuple[Frame, int] | None:
        """Give the frame and the index in it of the outcome that counts."""
        reference = self._chosen[row]
        if reference < 0:
            return None
        return self.frames[reference >> 32], reference & 0xFFFFFFFF

    def not_ok(self) -> list[int]:
        """Give the rows whose outcome is not ok or missing, in order."""
        rows = [row for row, reference in enumerate(self._chosen) if reference < 0]
        for number, frame in enumerate(self.frames):
            codes, base = frame.columns["status"], number << 32
            if codes.count(OK_CODE) < len(codes):
                pairs = enumerate(zip(frame.columns["row"], codes, strict=True))
                rows += [
                    row
                    for index, (row, code) in pairs
                    if code != OK_CODE
                    and 0 <= row < len(self)
                    and self._chosen[row] == base | index
                ]
        return sorted(rows)

    def reference(self, row: int) -> int:
        """Give a number by which rows sort in the order of their frames."""
        return self._chosen[row]

    def status_code(self, row: int) -> int:
        """Give the code of a row's settled status, or 0."""
        found = self.find(row)
        return found[0].columns["status"][found[1]] if found else 0
