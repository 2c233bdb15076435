"""A worker: one process that runs rows, one group of positions after another.

It loads the function before its first row, writes what came of each row to an outcomes file of
its own, and knows nothing of claims or of other workers.
"""

from __future__ import annotations

import os
import select
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.call import Call, call_of
from slurmapply.pickles import BufferReader
from slurmapply.rows import RowNumbers, RowReader, open_rows
from slurmapply.worker.evaluate import failure_of
from slurmapply.worker.gpus import visible_gpus
from slurmapply.worker.loop import RowLoop
from slurmapply.worker.memory import TaskMemory, in_words
from slurmapply.worker.messages import DONE, GROUP, NOT_LOADED, NOT_WRITTEN, READY, REPORT
from slurmapply.worker.traces import Traces

if TYPE_CHECKING:
    from slurmapply.disk import FolderDisk
    from slurmapply.seeds import Seed
    from slurmapply.worker.birth import Watch
    from slurmapply.worker.console import WorkerConsole
    from slurmapply.worker.page import Page

_IDLE_BEFORE_SYNC = 0.1
#: A pickled function below this has room everywhere.
_WORTH_A_CHECK = 16 * 1024 * 1024


class Session(NamedTuple):
    """What a worker needs to know of the session that submitted the job."""

    folder: str
    sys_path: tuple[str, ...]
    packages: tuple[str, ...]
    seed: Seed
    gpus: int | None = None


class Assignment(NamedTuple):
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
        make_like_session(assignment.session, assignment.disk.place())
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
        page.rest()  # the disk is to blame, and no row
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
    amd = os.path.exists("/dev/kfd")  # their compute driver, on any machine that has them
    os.environ.update(visible_gpus(worker, gpus, os.environ, amd=amd))


def make_like_session(session: Session, job_folder: str) -> None:
    """Make relative paths and imports work as in the session: its working folder, its sys.path."""
    folder = _as_here(session.folder)
    if not os.path.isdir(folder):
        instead = os.path.dirname(job_folder)
        sys.stderr.write(
            f"slurmapply: the session's folder {folder} is not on this machine; rows run in "
            f"{instead}\n"
        )
        folder = instead
    os.chdir(folder)
    known = set(sys.path)
    entries = map(_as_here, session.sys_path)
    sys.path.extend(path for path in entries if path not in known and os.path.exists(path))


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
    return call_of(BufferReader(disk.place(data)).load(pickled, places))


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
