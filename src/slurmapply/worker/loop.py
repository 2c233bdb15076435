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
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.call import entrance, leave_rows
from slurmapply.outcome import KIND_FAILURE, KIND_PICKLE, UNKNOWN_PEAK, FrameBuilder
from slurmapply.states import OK_CODE, STATUS_CODES, RowStatus
from slurmapply.worker.brake import fault_number
from slurmapply.worker.evaluate import evaluate
from slurmapply.worker.kernel import read_text
from slurmapply.worker.writing import OutcomesWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply.call import Call
    from slurmapply.outcome import Failure
    from slurmapply.rows import RowReader
    from slurmapply.worker.console import Console
    from slurmapply.worker.page import Page
    from slurmapply.worker.process import Assignment

#: Rows that were worked on for longer than this are written; so much is lost with a process.
WRITE_AFTER = 0.01
#: The clocks are looked at so often at most: that of CPU seconds takes a system call. After shorter
#: rows nobody looks whether descriptors 1 and 2 are in their places either.
_LOOK_AFTER = 0.001
_UNTIL_KILLED = 10.0
_ERROR_CODE = STATUS_CODES[RowStatus.ERROR]


class _Failed(NamedTuple):
    """A row that failed: which, why, when it began, how long it took."""

    position: int
    number: int
    failure: Failure
    began: float
    seconds: float


class RowLoop:
    """Runs rows and writes their outcomes.

    Rows are noted in *batches*: what the rows between two looks at the clocks have in common is
    filled in at the second. A row that fails, or takes long, is the last of its batch.

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
        self._arguments = arguments
        self._page = page
        self._console = console
        self._clear = clear
        self._interruptible = interruptible
        self._folder = assignment.disk.place()
        self._seed = assignment.session.seed
        self._writer = OutcomesWriter(assignment.disk, assignment.outcomes)
        self._frame = FrameBuilder(bytes.fromhex(assignment.uuid))
        self._peak = PeakMemory()
        # The batch: rows of one attempt, and where their part of the console begins.
        self._lines: list[tuple[int, int, int, Any, float, float, int]] = []
        self._attempt = 1
        self._printed = console.length()
        self._reached = 0
        self._any_ok = False

    def run(self, positions: range, attempt: int, tries: int) -> int:
        """Run positions; gives the position after the last one that was run.

        Parameters
        ----------
        positions, attempt
            Which, and which attempt of theirs this is.
        tries
            How often each row that raises may be tried again at once.
        """
        page = self._page
        page.written = self._reached = positions.start
        page.log_offset = self._printed
        self._console.begin(self._printed)
        self._start_clocks()
        try:
            while failed := self._run_until_failure(positions, attempt):
                self._settle()
                ended_ok = self._end_failed(failed, attempt, tries)
                if page.probation and not ended_ok:
                    break
                positions = range(self._reached, positions.stop)
        finally:
            leave_rows()
            self._settle()
            self._write()
        # Not where something was raised: the row that spoils its worker is settled with it, or
        # the next worker would take it up again, and so on without end.
        page.rest()
        return self._reached

    def _run_until_failure(
        self, positions: range, attempt: int, *, begun: bool = False
    ) -> _Failed | None:
        """Run rows until one fails, which it gives; None when there is none left to run.

        Nor are those left that are wanted back, but for one that was begun: its output and its
        tries so far are known here only.
        """
        page, console, clear, note = self._page, self._console, self._clear, self._lines.append
        function, interruptible = self._call.function, self._interruptible
        clock = time.perf_counter
        arguments = self._call.over(self._arguments, self._rows.between(positions))
        enter = entrance(attempt, self._folder, self._seed)
        page.attempt = self._attempt = attempt
        printed, due = self._printed, self._due
        numbers = itertools.chain.from_iterable(self._rows.between(positions))
        for position, number in zip(positions, numbers, strict=True):
            began = clock()
            if not page.enter(position, began, begun=begun):
                return None
            enter(number)
            kind, value = evaluate(function, arguments, interruptible=interruptible)
            ended = clock()
            if not page.leave(began):
                self._await_end()
            if kind == KIND_FAILURE:
                return _Failed(position, number, value, began, ended - began)
            if said := clear(number):
                self._say(number, said, printed)
            if ended - began > _LOOK_AFTER:
                console.mend()
            length = console.end(number, printed) - printed
            if length:
                printed += length
                page.log_offset = printed
            if kind == KIND_PICKLE:
                value = self._frame.keep(value)
            note((number, kind, 0, value, began, ended - began, length))
            if ended > due:
                due = self._settle()
        return None

    def _await_end(self) -> None:
        """Wait for the supervisor to end this process.

        The question where the row is may have disturbed it (EINTR), so it does not count as ended
        in time any more.
        """
        time.sleep(_UNTIL_KILLED)
        self._page.calling = False

    def _say(self, number: int, said: str, offset: int) -> None:
        """Say something in a row's part of the console."""
        self._console.end(number, offset)  # puts right what the row did to its streams
        sys.stderr.write(said)

    # -- rows that fail --------------------------------------------------------------------

    def _end_failed(self, failed: _Failed, attempt: int, tries: int) -> bool:
        """Try a failed row again while it may be, and note how it ended; says whether well."""
        last: _Failed | None = failed
        while last and tries:
            said = self._clear(last.number)
            said += f"slurmapply: attempt {attempt} of row {last.number} failed, once more:\n"
            self._say(last.number, said + last.failure.traceback, self._printed)
            attempt, tries = attempt + 1, tries - 1
            only = range(last.position, last.position + 1)
            last = self._run_until_failure(only, attempt, begun=True)
        if last:
            self._note_failure(last)
        else:
            self._settle()
        return last is None

    def _note_failure(self, failed: _Failed) -> None:
        number, failure = failed.number, failed.failure
        if said := self._clear(number):
            self._say(number, said, self._printed)
        if failed.seconds > _LOOK_AFTER:
            self._console.mend()
        length = self._console.end(number, self._printed) - self._printed
        cause, slot = self._frame.keep_failure(failure)
        line = (number, KIND_FAILURE, cause, slot, failed.began, failed.seconds, length)
        self._lines.append(line)
        self._settle()
        words = _words(failure)
        self._page.note_failure(fault_number(words), words)
        self._page.log_offset = self._printed

    # -- batches ---------------------------------------------------------------------------

    def _start_clocks(self) -> None:
        """Begin to count seconds: those of work that is not written, and those of CPU."""
        self._unwritten_since = self._looked = time.perf_counter()
        self._cpu = time.process_time()
        self._due = self._looked + _LOOK_AFTER

    def _settle(self) -> float:
        """Close the batch, and write when rows worth 10 ms are not; says when to settle again."""
        if self._lines:
            self._close_batch()
        if self._looked - self._unwritten_since > WRITE_AFTER or self._frame.full:
            self._write()
        self._due = min(self._looked + _LOOK_AFTER, self._unwritten_since + WRITE_AFTER)
        return self._due

    def _close_batch(self) -> None:
        rows, kinds, causes, slots, began, seconds, lengths = zip(*self._lines, strict=True)
        self._lines.clear()
        count = len(rows)
        status = _ERROR_CODE if kinds[-1] == KIND_FAILURE else OK_CODE
        if not self._any_ok and (count > 1 or status == OK_CODE):
            self._any_ok = self._page.any_ok = True
        now, cpu, epoch = time.perf_counter(), time.process_time(), time.time()
        worked = sum(seconds)
        # What passed between the rows is not theirs.
        cpu_rate = max(0.0, cpu - self._cpu - (now - self._looked - worked)) / (worked or 1.0)
        self._frame.add_columns(
            row=rows,
            status=[OK_CODE] * (count - 1) + [status],
            kind=kinds,
            cause=causes,
            attempt=[self._attempt] * count,
            start=[epoch - now + each for each in began],
            seconds=seconds,
            cpu=[each * cpu_rate for each in seconds],
            peak_mb=[UNKNOWN_PEAK] * (count - 1) + [self._peak.take(seconds[-1])],
            log_offset=[*itertools.accumulate(lengths[:-1], initial=self._printed)],
            log_length=lengths,
            slot=slots,
        )
        self._printed += sum(lengths)
        self._reached += count
        self._looked, self._cpu = now, cpu

    def _write(self) -> None:
        # Not after each row: the two calls would cost a quick row as much as all the rest.
        self._console.mend()
        if len(self._frame):
            self._writer.write(self._frame.take())
            self._page.written = self._reached
            self._start_clocks()

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
        """Give the peak since the last look for a row of this length, if it is worth one."""
        if seconds < self._WORTH_A_LOOK:
            return UNKNOWN_PEAK
        try:
            text = read_text("/proc/self/status")
            sizes = dict(line.split(":", 1) for line in text.splitlines())
            peak = int(sizes["VmHWM"].split()[0]) - int(sizes["RssFile"].split()[0])
        except (OSError, KeyError, ValueError):
            return UNKNOWN_PEAK
        self._reset()
        return peak / 1024

    def _reset(self) -> None:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")
