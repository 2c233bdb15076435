"""The loop over rows: each is called, looked after, and its outcome written in time.

A row that does next to nothing costs two microseconds here. What is the same for many rows stands
outside of the loop, and system calls are made once a millisecond, with one exception: how much the
console holds, which tells what was printed by which row, C code and child processes included.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply.call import enter_row, leave_rows
from slurmapply.outcome import KIND_FAILURE, UNKNOWN_PEAK, FrameBuilder
from slurmapply.states import RowStatus
from slurmapply.worker.brake import fault_number
from slurmapply.worker.evaluate import evaluate
from slurmapply.worker.writing import OutcomesWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurmapply.call import Bound, Call
    from slurmapply.outcome import Failure, MeasuresLike
    from slurmapply.rows import RowReader
    from slurmapply.worker.console import Console
    from slurmapply.worker.page import Page
    from slurmapply.worker.process import Assignment

#: Rows that were worked on for longer than this are written; so much is lost with a process.
WRITE_AFTER = 0.01
#: The clock of CPU seconds is read at the end of rows, and so often at most: it takes a system call.
#: After shorter rows nobody looks whether descriptor 2 is in its place either.
_LOOK_AFTER = 0.001
_UNTIL_KILLED = 10.0


class RowLoop:
    """Runs rows and writes their outcomes.

    Parameters
    ----------
    assignment, call, arguments, page
        What to work for, what to call, where its arguments come from, the supervisor's page.
    console
        Where rows print to.
    clear
        Called after each attempt, to put right what it left behind; gives what there is to say.
    interruptible
        A KeyboardInterrupt is the person's at the keyboard, not the row's.
    """

    def __init__(
        self,
        assignment: Assignment,
        call: Call,
        arguments: RowReader,
        page: Page,
        *,
        console: Console,
        clear: Callable[[int], str],
        interruptible: bool = False,
    ) -> None:
        self._rows = assignment.rows
        self._call = call
        self._function = call.function
        self._arguments = arguments
        self._page = page
        self._console = console
        self._clear = clear
        self._interruptible = interruptible
        self._folder = str(assignment.disk.path.absolute())
        self._seed = assignment.session.seed
        self._writer = OutcomesWriter(assignment.disk, assignment.outcomes)
        self._frame = FrameBuilder(bytes.fromhex(assignment.uuid))
        self._printed = console.length()
        self._peak = PeakMemory()
        self._any_ok = False
        # The function may put others in their place.
        self._clock, self._cpu_clock, self._wall_clock = (
            time.perf_counter,
            time.process_time,
            time.time,
        )
        self._look_anew()

    def run(self, positions: range, attempt: int, tries: int) -> int:
        """Run positions; gives the position after the last one that was run.

        Parameters
        ----------
        positions, attempt
            Which, and which attempt of theirs this is.
        tries
            How often each row that raises may be tried again at once.
        """
        self._page.begin_group(positions.start, attempt, self._printed)
        self._console.begin(self._printed)
        self._look_anew()
        self._take_arguments(positions)
        reached = positions.start
        numbers = itertools.chain.from_iterable(self._rows.between(positions))
        try:
            for position, number in zip(positions, numbers, strict=True):
                ended = self._run_row(position, number, attempt, tries)
                if ended is None:
                    break
                reached = position + 1
                if not ended:
                    if self._page.probation:
                        break
                    self._take_arguments(range(reached, positions.stop))
        finally:
            self._write(reached)
            leave_rows()
        # Not where something was raised: the row that spoils its worker is settled with it, or
        # the next worker would take it up again, and so on without end.
        self._page.rest()
        return reached

    def _take_arguments(self, positions: range) -> None:
        """Begin to give arguments at a position; who raised may have ended those before."""
        self._bound: Iterator[Bound] = self._call.over(
            self._arguments, self._rows.between(positions)
        )

    def _run_row(self, position: int, number: int, attempt: int, tries: int) -> bool | None:
        """Run one row; says whether it is ok, None when the supervisor wants it back."""
        offset = self._printed
        while True:
            attempted = self._attempt(position, number, attempt)
            if attempted is None:
                return None
            kind, value, began, ended = attempted
            said = self._clear(number)
            again = kind == KIND_FAILURE and tries > 0
            if again:
                said += f"slurmapply: attempt {attempt} of row {number} failed, once more:\n"
                said += value.traceback
            if said:
                self._console.end(number, offset)  # puts right what the row did to its streams
                sys.stderr.write(said)
            if not again:
                break
            attempt, tries = attempt + 1, tries - 1
            self._page.attempt = attempt
            self._take_arguments(range(position, position + 1))
        seconds = ended - began
        peak = self._look_after_long(seconds) if seconds > _LOOK_AFTER else UNKNOWN_PEAK
        printed = self._console.end(number, offset)
        if printed != offset:
            self._printed = self._page.log_offset = printed
        measures = (self._epoch + began, seconds, 0.0, peak, offset, printed - offset)
        ok = self._note(number, attempt, kind, value, measures)
        if ended > self._due:
            self._look_at_clocks(position + 1)
        return ok

    def _attempt(
        self, position: int, number: int, attempt: int
    ) -> tuple[int, Any, float, float] | None:
        """Call the function; gives kind and value of the outcome, and when it began and ended."""
        began = self._clock()
        if not self._page.enter(position, began):
            return None
        enter_row(number, attempt, self._folder, self._seed)
        kind, value = evaluate(self._function, self._bound, interruptible=self._interruptible)
        ended = self._clock()
        if not self._page.leave(began):
            # The question where it is may have disturbed it (EINTR), so it does not count as ended
            # in time any more; the supervisor ends it within a moment.
            time.sleep(_UNTIL_KILLED)
            self._page.calling = False
        return kind, value, began, ended

    def _note(
        self, number: int, attempt: int, kind: int, value: Any, measures: MeasuresLike
    ) -> bool:
        if kind == KIND_FAILURE:
            self._note_failure(number, attempt, value, measures)
            return False
        self._frame.add(number, attempt, kind, value, measures)
        if not self._any_ok:
            self._any_ok = self._page.any_ok = True
        return True

    def _note_failure(
        self, number: int, attempt: int, failure: Failure, measures: MeasuresLike
    ) -> None:
        self._frame.add_failure(number, attempt, RowStatus.ERROR, failure, measures)
        words = _words(failure)
        self._page.note_failure(fault_number(words), words)
        if self._frame.full:
            self._due = 0.0

    def _look_after_long(self, seconds: float) -> float:
        """Do what would take too long after a short row; gives the peak of its memory."""
        self._console.mend()
        return self._peak.take(seconds)

    # -- clocks, and writing ---------------------------------------------------------------

    def _look_anew(self) -> None:
        """Begin to count the seconds that are not written, and those of CPU."""
        self._unwritten_since = self._looked = self._clock()
        self._epoch = self._wall_clock() - self._looked
        self._cpu = self._cpu_clock()
        self._due = self._looked + _LOOK_AFTER

    def _look_at_clocks(self, reached: int) -> None:
        """Write when rows have been worked on for long enough; share out the seconds of CPU."""
        if self._clock() - self._unwritten_since > WRITE_AFTER or self._frame.full:
            self._write(reached)
        else:
            self._share_cpu()

    def _share_cpu(self) -> None:
        now, cpu = self._clock(), self._cpu_clock()
        self._frame.share_cpu(cpu - self._cpu, now - self._looked)
        self._looked, self._cpu = now, cpu
        self._due = min(now + _LOOK_AFTER, self._unwritten_since + WRITE_AFTER)

    def _write(self, reached: int) -> None:
        # Not after each row: the two calls would cost a quick row as much as all the rest.
        self._console.mend()
        if len(self._frame):
            self._share_cpu()
            self._writer.write(self._frame.take())
            self._page.written = reached
            self._look_anew()

    def sync(self) -> None:
        """Sync what was written to the disk, if anything was."""
        self._writer.sync()

    def close(self) -> None:
        """Sync and close."""
        self._writer.close()


def _words(failure: Failure) -> str:
    """Write a failure's exception and line for people; by it failures are alike or not."""
    return f"{failure.cause} at {failure.place}" if failure.place else failure.cause


class PeakMemory:
    """Peak memory of rows, in MiB, from /proc (proc(5): VmHWM, clear_refs)."""

    _WORTH_A_LOOK = 0.01

    def __init__(self) -> None:
        self._reset()

    def take(self, seconds: float) -> float:
        """Give the peak since the last look for a row of this length; -1 for a short one."""
        if seconds < self._WORTH_A_LOOK:
            return -1.0
        try:
            text = Path("/proc/self/status").read_text()
            sizes = dict(line.split(":", 1) for line in text.splitlines())
            peak = int(sizes["VmHWM"].split()[0]) - int(sizes["RssFile"].split()[0])
        except (OSError, KeyError, ValueError):
            return -1.0
        self._reset()
        return peak / 1024

    def _reset(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
