"""A run in the session's own process: the same rows, call and outcome files, without workers."""

from __future__ import annotations

import contextlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import FolderDisk, write_all
from slurmapply.jobfolder import Life
from slurmapply.order import order_rows
from slurmapply.records import TaskRecord
from slurmapply.seeds import kept_random_state, seed_of
from slurmapply.survey import Survey
from slurmapply.worker.brake import Brake
from slurmapply.worker.console import ROW_LIMIT, cut_notice
from slurmapply.worker.history import NEW, Past
from slurmapply.worker.loop import RowLoop
from slurmapply.worker.page import Page
from slurmapply.worker.pool import Group
from slurmapply.worker.process import Assignment, Session, fault_of_loading, load
from slurmapply.worker.run import Run, adopt, fix_rows, history_before, plan_run

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path


def run_inline(path: Path, number: int, job_id: str) -> None:
    """Run all rows of a run here and now; a KeyboardInterrupt ends it and leaves what is done."""
    disk = FolderDisk(path)
    job, asked = jobfolder.read_job(disk), jobfolder.read_run(disk, number)
    adopt(disk, number, {"kind": "inline", "job_id": job_id})
    rows = fix_rows(disk, job["uuid"], job["rows"], number, asked["rule"])
    run = plan_run(number, job["uuid"], order_rows(disk, job, asked, rows), asked)
    life = Life(job_id, 0, 0)
    assignment = Assignment(
        disk,
        run.uuid,
        run.rows,
        jobfolder.function_files(asked),
        life.outcomes(number, "0"),
        Session("", tuple(asked["sys_path"]), tuple(asked["packages"]), seed_of(job)),
    )
    survey = Survey(disk, run.uuid, job["rows"])
    record = TaskRecord(disk, number, life)
    record.start(workers=1)
    reason = "stopped"
    try:
        with kept_random_state(assignment.session.seed):
            reason = _run_rows(assignment, run, record, history_before(disk, run, survey))
    finally:
        record.finish(reason)


def _run_rows(
    assignment: Assignment, run: Run, record: TaskRecord, history: dict[int, Past]
) -> str:
    """Run all positions; gives the reason of the end."""
    page, brake = Page(), Brake(run.max_failures, 1)
    with _paths(assignment.session.sys_path), _console(assignment) as console:
        try:
            call, arguments = load(assignment)
        except Exception as error:  # noqa: BLE001  # as on a node: no row's fault, and recorded
            record.stop("load_failed", fault_of_loading(error), chunks=(), rows=())
            return "load_failed"
        loop = RowLoop(
            assignment, call, arguments, page, console=console, clear=_nothing, interruptible=True
        )
        try:
            for group in _groups(len(run.rows), history):
                left = group.positions
                while left:
                    page.probation = brake.watches([page])
                    tries = max(0, run.retries - group.past.failures)
                    reached = loop.run(left, group.past.attempts + 1, tries)
                    left = range(reached, left.stop)
                    if reason := brake.reason([page]):
                        record.stop("max_failures", reason, chunks=(), rows=())
                        return "max_failures"
        finally:
            loop.close()
    return "done"


def _groups(rows: int, history: dict[int, Past]) -> Iterator[Group]:
    """Cut all positions into groups with the same history."""
    start = 0
    for past, same in itertools.groupby(range(rows), lambda p: history.get(p, NEW)):
        stop = start + sum(1 for _ in same)
        yield Group(range(start, stop), past)
        start = stop


def _nothing(_row: int) -> str:
    """Leave the session as the function left it: it is the user's own."""
    return ""


@contextlib.contextmanager
def _paths(entries: tuple[str, ...]) -> Iterator[None]:
    """Append to sys.path for the time of the run."""
    before = list(sys.path)
    sys.path.extend(entry for entry in entries if entry not in before)
    try:
        yield
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _console(assignment: Assignment) -> Iterator[_InlineConsole]:
    """Write what rows print to their console file too, while it is shown as ever."""
    with assignment.disk.create(jobfolder.console_of(assignment.outcomes)) as file:
        console = _InlineConsole(file)
        out, err = _Tee(sys.stdout, console), _Tee(sys.stderr, console)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield console


class _InlineConsole:
    """The console file of rows that run in the session."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._room = ROW_LIMIT

    def length(self) -> int:
        """Give how much was printed so far."""
        return self._file.tell()

    def begin(self, _offset: int) -> None:
        """Note that rows begin."""
        self._room = ROW_LIMIT

    def end(self, row: int, _offset: int) -> int:
        """Give where the row's part ends; says so when it printed too much."""
        if self._room < 0:
            self._file.write(cut_notice(row, ROW_LIMIT))
        self._room = ROW_LIMIT
        return self._file.tell()

    def mend(self) -> None:
        """Leave the session's streams as the function left them."""

    def take(self, text: str) -> None:
        """Write what the row may still print."""
        data = text.encode("utf-8", "backslashreplace")
        if self._room > 0:
            write_all(self._file.fileno(), data[: self._room])
        self._room -= len(data)


class _Tee:
    """A text stream that writes to a console file besides; all else is the stream's own."""

    def __init__(self, stream: Any, console: _InlineConsole) -> None:
        self._stream = stream
        self._console = console

    def write(self, text: str) -> int:
        """Write to both."""
        self._console.take(text)
        self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write to both."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
