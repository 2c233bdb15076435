"""A worker: one process that runs rows, one group of positions after another.

It loads the function before its first row, writes what came of each row to an outcomes file of
its own, and knows nothing of claims or of other workers.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import struct
import sys
import time
import types
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.call import Call, call_of, enter_row, leave_rows
from slurmapply.disk import write_all
from slurmapply.outcome import KIND_FAILURE, FrameBuilder, Measures
from slurmapply.pickles import BufferReader
from slurmapply.rows import RowNumbers, RowReader, open_rows
from slurmapply.states import RowStatus
from slurmapply.worker.evaluate import evaluate, failure_of
from slurmapply.worker.gpus import visible_gpus
from slurmapply.worker.page import NO_ROW, Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply.disk import FolderDisk
    from slurmapply.seeds import Seed

#: Supervisor to worker: first and last (excluded) position, attempt.
GROUP = struct.Struct("=qqq")
#: Worker to supervisor: kind, first position, position reached, seconds of work.
REPORT = struct.Struct("=cqqd")
READY, DONE, NOT_LOADED, NOT_WRITTEN = b"R", b"D", b"L", b"W"

#: Rows that were worked on for longer than this are written; so much is lost with a process.
WRITE_AFTER = 0.01
#: Written rows are synced to the disk at most so often; so much is lost with a node.
SYNC_AFTER = 1.0
_IDLE_BEFORE_SYNC = 0.1


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


def work(assignment: Assignment, page: Page, groups: int, reports: int) -> int:
    """Run groups of rows until there are no more; gives the exit status.

    Parameters
    ----------
    assignment
        What to work for.
    page
        Shared with the supervisor.
    groups, reports
        Descriptors: where groups come from, where reports go.
    """
    try:
        take_gpu(assignment.number, assignment.session.gpus)
        make_like_session(assignment.session, assignment.disk.path)
        call, arguments = load(assignment)
    except BaseException as error:  # noqa: BLE001  # a fault of loading is the task's, not a row's
        page.text = fault_of_loading(error)
        os.write(reports, REPORT.pack(NOT_LOADED, 0, 0, 0.0))
        return 1
    loop = RowLoop(assignment, call, arguments, page, console=console_length)
    os.write(reports, REPORT.pack(READY, 0, 0, 0.0))
    try:
        _serve(loop, groups, reports)
    except OSError as error:
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
        start, stop, attempt = GROUP.unpack(message)
        begin = time.perf_counter()
        reached = loop.run(range(start, stop), attempt)
        os.write(reports, REPORT.pack(DONE, start, reached, time.perf_counter() - begin))


def take_gpu(worker: int, gpus: int | None) -> None:
    """Show this worker its own GPU only; before anything is loaded that looks for them."""
    amd = Path("/dev/kfd").exists()  # their compute driver, on any machine that has them
    os.environ.update(visible_gpus(worker, gpus, os.environ, amd=amd))


def make_like_session(session: Session, job_folder: Path) -> None:
    """Make relative paths and imports work as in the session: its working folder, its sys.path."""
    folder = Path(session.folder)
    if not folder.is_dir():
        sys.stderr.write(
            f"slurmapply: the session's folder {folder} is not on this machine; rows run in "
            f"{job_folder.parent}\n"
        )
        folder = job_folder.parent
    os.chdir(folder)
    known = set(sys.path)
    sys.path.extend(path for path in session.sys_path if path not in known and Path(path).exists())


def load(assignment: Assignment) -> tuple[Call, RowReader]:
    """Import the packages, load the function and the reader of the rows, initialize."""
    disk = assignment.disk
    for name in assignment.session.packages:
        import_module(name)
    function, data = assignment.function
    with disk.open_trusted(function) as file:
        import pickle  # noqa: PLC0415  # not before the origin of what it will read is checked

        pickled, places = pickle.load(file)
    call = call_of(BufferReader(disk.path.absolute() / data).load(pickled, places))
    if call.initializer is not None:
        call.initializer()
    return call, open_rows(disk)


def fault_of_loading(error: BaseException) -> str:
    """Print why the function could not be loaded; gives it in one line."""
    failure = failure_of(error)
    sys.stderr.write(failure.traceback)
    return f"{failure.cause}: {failure.message}"


class RowLoop:
    """Runs rows and writes their outcomes.

    Parameters
    ----------
    assignment, call, arguments, page
        What to work for, what to call, where its arguments come from, the supervisor's page.
    console
        Gives the length of what was printed so far.
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
        console: Callable[[], int],
        interruptible: bool = False,
    ) -> None:
        self._console = console
        self._interruptible = interruptible
        self._assignment = assignment
        self._call = call
        self._arguments = arguments
        self._page = page
        self._folder = str(assignment.disk.path.absolute())
        self._file = assignment.disk.create(assignment.outcomes)
        self._frame = FrameBuilder(bytes.fromhex(assignment.uuid))
        self._unwritten_since = 0.0
        self._printed = console()
        self._synced = time.monotonic()
        self._dirty = False
        self._peak = PeakMemory()

    def run(self, positions: range, attempt: int) -> int:
        """Run positions; gives the position after the last one that was run."""
        page = self._page
        page.written = positions.start
        reached = positions.start
        try:
            for position in positions:
                if not self._run_row(position, attempt):
                    break
                reached = position + 1
                if time.perf_counter() - self._unwritten_since > WRITE_AFTER or self._frame.full:
                    self._write(reached)
        finally:
            self._write(reached)
            page.enter(NO_ROW, 0, 0.0, 0)
            leave_rows()
        return reached

    def _run_row(self, position: int, attempt: int) -> bool:
        """Run one row; False when the supervisor wants the rest of the group back."""
        number = self._assignment.rows[position]
        offset = self._printed
        start = time.time()
        # First say which row, then look whether it is still wanted: see Supervisor._stop_early.
        self._page.enter(position, attempt, start, offset)
        if self._page.stop:
            return False
        enter_row(number, attempt, self._folder, self._assignment.session.seed)
        cpu, begin = time.process_time(), time.perf_counter()
        if not len(self._frame):
            self._unwritten_since = begin
        kind, value = evaluate(
            self._call, self._arguments.arguments, number, interruptible=self._interruptible
        )
        seconds = time.perf_counter() - begin
        cpu = time.process_time() - cpu
        self._printed = self._console()
        peak = self._peak.take(seconds)
        measures = Measures(start, seconds, cpu, peak, offset, self._printed - offset)
        if kind == KIND_FAILURE:
            self._frame.add_failure(number, attempt, RowStatus.ERROR, value, measures)
        else:
            self._frame.add(number, attempt, kind, value, measures)
        return True

    def _write(self, reached: int) -> None:
        if not len(self._frame):
            return
        write_all(self._file.fileno(), self._frame.take())
        self._page.written = reached
        self._dirty = True
        if time.monotonic() - self._synced > SYNC_AFTER:
            self.sync()

    def sync(self) -> None:
        """Sync what was written to the disk, if anything was."""
        if self._dirty:
            os.fsync(self._file.fileno())
            self._dirty = False
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; a full disk or quota may show itself only here (close(2), NFS)."""
        self.sync()
        self._file.close()


def console_length() -> int:
    """Give the length of this worker's console, everything that was printed included."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        return os.lseek(1, 0, os.SEEK_END)
    except Exception:  # noqa: BLE001  # the user's code may have closed or replaced any of them
        return 0


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


def become_worker(console: str, disk: FolderDisk) -> None:
    """Turn a fresh fork into a worker's process: its group, its console, its signals."""
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    with disk.create(console) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _text_stream(1)
    sys.stderr = _text_stream(2)
    # pickle looks names of __main__ up in the running program; the user's are not there.
    sys.modules["__main__"] = types.ModuleType("__main__")


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
