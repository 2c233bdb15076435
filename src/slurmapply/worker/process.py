"""A worker: one process that runs rows, one group of positions after another.

It loads the function before its first row, writes what came of each row to an outcomes file of
its own, and knows nothing of claims or of other workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.call import Call, call_of, enter_row, leave_rows
from slurmapply.outcome import KIND_FAILURE, FrameBuilder, Measures
from slurmapply.pickles import BufferReader
from slurmapply.rows import RowNumbers, RowReader, open_rows
from slurmapply.states import RowStatus
from slurmapply.worker.brake import fault_number
from slurmapply.worker.evaluate import evaluate, failure_of
from slurmapply.worker.gpus import visible_gpus
from slurmapply.worker.memory import TaskMemory, in_words
from slurmapply.worker.page import NO_ROW, Page
from slurmapply.worker.traces import Traces
from slurmapply.worker.writing import OutcomesWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply.disk import FolderDisk
    from slurmapply.outcome import Failure
    from slurmapply.seeds import Seed
    from slurmapply.worker.birth import Watch
    from slurmapply.worker.console import Console, WorkerConsole

#: Supervisor to worker: first and last (excluded) position, attempt, further tries of each row.
GROUP = struct.Struct("=qqqq")
#: Worker to supervisor: kind, first position, position reached, seconds of work.
REPORT = struct.Struct("=cqqd")
READY, DONE, NOT_LOADED, NOT_WRITTEN = b"R", b"D", b"L", b"W"

#: Rows that were worked on for longer than this are written; so much is lost with a process.
WRITE_AFTER = 0.01
_IDLE_BEFORE_SYNC = 0.1
_UNTIL_KILLED = 10.0
#: A pickled function below this has room everywhere.
_WORTH_A_CHECK = 16 * 1024 * 1024
#: After shorter rows nobody looks whether descriptor 2 is in its place: that costs a microsecond.
_WORTH_MENDING = 0.001


class Session(NamedTuple):
    """What a worker needs to know of the session that submitted the job."""

    folder: str
    sys_path: tuple[str, ...]
    packages: tuple[str, ...]
    seed: Seed
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker works for.

    Attributes
    ----------
    disk
        The job folder.
    uuid
        The job's.
    rows
        The run's rows, by position.
    function
        Names of the pickled function and its data file.
    outcomes
        Name of the outcomes file to write.
    session
        What is made like in the session.
    number
        The worker's.
    """

    disk: FolderDisk
    uuid: str
    rows: RowNumbers
    function: tuple[str, str]
    outcomes: str
    session: Session
    number: int = 0


def work(
    assignment: Assignment, page: Page, own: tuple[WorkerConsole, Watch], groups: int, reports: int
) -> int:
    """Run groups of rows until there are no more; gives the exit status.

    Parameters
    ----------
    assignment
        What to work for.
    page, own
        Shared with the supervisor; this process's console, and what watches its rows.
    groups, reports
        Descriptors: where groups come from, where reports go.
    """
    console, watch = own
    try:
        take_gpu(assignment.number, assignment.session.gpus)
        make_like_session(assignment.session, assignment.disk.path)
        call, arguments = load(assignment)
    except BaseException as error:  # noqa: BLE001  # a fault of loading is the task's, not a row's
        page.text = fault_of_loading(error)
        os.write(reports, REPORT.pack(NOT_LOADED, 0, 0, 0.0))
        return 1
    try:
        traces = Traces(watch)
        loop = RowLoop(assignment, call, arguments, page, console=console, clear=traces.clear)
        os.write(reports, REPORT.pack(READY, 0, 0, 0.0))
        _serve(loop, groups, reports)
    except OSError as error:
        page.enter(NO_ROW, 0, 0.0, 0, 0.0)  # the disk is to blame, and no row
        page.text = f"outcomes could not be written to {assignment.outcomes}: {error}"
        os.write(reports, REPORT.pack(NOT_WRITTEN, 0, 0, 0.0))
        return 1
    return 0


def _serve(loop: RowLoop, groups: int, reports: int) -> None:
    while True:
        if not select.select([groups], [], [], _IDLE_BEFORE_SYNC)[0]:
            loop.sync()
        message = os.read(groups, GROUP.size)
        if not message:
            loop.close()
            return
        start, stop, attempt, tries = GROUP.unpack(message)
        begin = time.perf_counter()
        reached = loop.run(range(start, stop), attempt, tries)
        os.write(reports, REPORT.pack(DONE, start, reached, time.perf_counter() - begin))


def take_gpu(worker: int, gpus: int | None) -> None:
    """Show this worker its own GPU only; before anything is loaded that looks for them."""
    amd = Path("/dev/kfd").exists()  # their compute driver, on any machine that has them
    os.environ.update(visible_gpus(worker, gpus, os.environ, amd=amd))


def make_like_session(session: Session, job_folder: Path) -> None:
    """Make relative paths and imports work as in the session: its working folder, its sys.path."""
    folder = Path(_as_here(session.folder))
    if not folder.is_dir():
        sys.stderr.write(
            f"slurmapply: the session's folder {folder} is not on this machine; rows run in "
            f"{job_folder.parent}\n"
        )
        folder = job_folder.parent
    os.chdir(folder)
    known = set(sys.path)
    entries = map(_as_here, session.sys_path)
    sys.path.extend(path for path in entries if path not in known and Path(path).exists())


def _as_here(path: str) -> str:
    """Spell a path of the session's in this process's encoding of file names."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def load(assignment: Assignment) -> tuple[Call, RowReader]:
    """Import the packages, load the function and the reader of the rows, initialize."""
    disk = assignment.disk
    for name in assignment.session.packages:
        import_module(name)
    call = _load_call(disk, *assignment.function)
    if call.initializer is not None:
        call.initializer()
    return call, open_rows(disk)


def _load_call(disk: FolderDisk, function: str, data: str) -> Call:
    with disk.open_trusted(function) as file:
        import pickle  # noqa: PLC0415  # not before the origin of what it will read is checked

        _check_memory(os.fstat(file.fileno()).st_size)
        pickled, places = pickle.load(file)
    return call_of(BufferReader(disk.path.absolute() / data).load(pickled, places))


def _check_memory(size: int) -> None:
    """Refuse what the kernel would kill this process for; what is mapped does not count."""
    limit = TaskMemory().limit() if size > _WORTH_A_CHECK else None
    if limit is not None and size > limit:
        raise MemoryError(
            f"each worker needs at least {in_words(size)} for it, and the task has a limit of "
            f"memory for all of them (limit {in_words(limit)})"
        )


def fault_of_loading(error: BaseException) -> str:
    """Print why the function could not be loaded; gives it in one line."""
    failure = failure_of(error)
    sys.stderr.write(failure.traceback)
    return f"{failure.cause}: {failure.message}"


def is_lack_of_memory(fault: str) -> bool:
    """Whether it was for want of memory, NumPy's own kind of it too (`_ArrayMemoryError`)."""
    return fault.partition(":")[0].endswith("MemoryError")


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
        self._console = console
        self._clear = clear
        self._interruptible = interruptible
        self._assignment = assignment
        self._call = call
        self._arguments = arguments
        self._page = page
        self._folder = str(assignment.disk.path.absolute())
        self._writer = OutcomesWriter(assignment.disk, assignment.outcomes)
        self._frame = FrameBuilder(bytes.fromhex(assignment.uuid))
        self._unwritten_since = 0.0
        self._printed = console.length()
        self._peak = PeakMemory()
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
        page.written = positions.start
        reached = positions.start
        try:
            for position in positions:
                ended = self._run_row(position, attempt, tries)
                if ended is None:
                    break
                reached = position + 1
                if time.perf_counter() - self._unwritten_since > WRITE_AFTER or self._frame.full:
                    self._write(reached)
                if not ended and page.probation:
                    break
        finally:
            self._write(reached)
            leave_rows()
        # Not where something was raised: the row that spoils its worker is settled with it, or
        # the next worker would take it up again, and so on without end.
        page.enter(NO_ROW, 0, 0.0, 0, 0.0)
        return reached

    def _run_row(self, position: int, attempt: int, tries: int) -> bool | None:
        """Run one row; says whether it is ok, None when the supervisor wants it back."""
        number = self._assignment.rows[position]
        offset = self._printed
        self._console.begin(offset)
        while True:
            start, begin = time.time(), time.perf_counter()
            # First say which row, then look whether it is still wanted: see Supervisor._stop_early.
            self._page.enter(position, attempt, start, offset, begin)
            if self._page.stop:
                return None
            kind, value, seconds, cpu = self._call_row(number, attempt, begin)
            said = self._clear(number)
            again = kind == KIND_FAILURE and tries > 0
            if again:
                said += f"slurmapply: attempt {attempt} of row {number} failed, once more:\n"
                said += value.traceback
                attempt, tries = attempt + 1, tries - 1
            if said:
                self._console.end(number, offset)  # puts right what the row did to its streams
                sys.stderr.write(said)
            if not again:
                break
        if not len(self._frame):
            self._unwritten_since = begin
        if seconds > _WORTH_MENDING:
            self._console.mend()
        self._printed = self._console.end(number, offset)
        peak = self._peak.take(seconds)
        measures = Measures(start, seconds, cpu, peak, offset, self._printed - offset)
        return self._note(number, attempt, kind, value, measures)

    def _call_row(self, number: int, attempt: int, began: float) -> tuple[int, Any, float, float]:
        """Call the function; gives kind and value of the outcome, seconds and CPU seconds."""
        enter_row(number, attempt, self._folder, self._assignment.session.seed)
        cpu, begin = time.process_time(), time.perf_counter()
        self._page.calling = True
        kind, value = evaluate(
            self._call, self._arguments.arguments, number, interruptible=self._interruptible
        )
        if self._page.late == began:
            # The question where it is may have disturbed it (EINTR), so it does not count as ended
            # in time any more; the supervisor ends it within a moment.
            time.sleep(_UNTIL_KILLED)
        self._page.calling = False
        return kind, value, time.perf_counter() - begin, time.process_time() - cpu

    def _note(self, number: int, attempt: int, kind: int, value: Any, measures: Measures) -> bool:
        if kind == KIND_FAILURE:
            self._frame.add_failure(number, attempt, RowStatus.ERROR, value, measures)
            words = _words(value)
            self._page.note_failure(fault_number(words), words)
            return False
        self._frame.add(number, attempt, kind, value, measures)
        if not self._any_ok:
            self._any_ok = self._page.any_ok = True
        return True

    def _write(self, reached: int) -> None:
        # Not after each row: the two calls would cost a quick row as much as all the rest.
        self._console.mend()
        if len(self._frame):
            self._writer.write(self._frame.take())
            self._page.written = reached

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
