"""A run in the session's own process: the same rows, call and outcome files, without workers."""

from __future__ import annotations

import contextlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import FolderDisk, write_all
from slurmapply.jobfolder import Life
from slurmapply.records import TaskRecord
from slurmapply.seeds import kept_random_state, seed_of
from slurmapply.survey import Survey
from slurmapply.worker.page import Page
from slurmapply.worker.process import Assignment, RowLoop, Session, fault_of_loading, load
from slurmapply.worker.run import Run, adopt, attempts_before, fix_rows, plan_run

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
    run = plan_run(number, job["uuid"], rows, asked)
    life = Life(job_id, 0, 0)
    assignment = Assignment(
        disk,
        run.uuid,
        rows,
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
            reason = _run_rows(assignment, run, record, attempts_before(disk, run, survey))
    finally:
        record.finish(reason)


def _run_rows(
    assignment: Assignment, run: Run, record: TaskRecord, attempts: dict[int, int]
) -> str:
    """Run all positions; gives the reason of the end."""
    with _paths(assignment.session.sys_path), _console(assignment) as console:
        try:
            call, arguments = load(assignment)
        except Exception as error:  # noqa: BLE001  # as on a node: no row's fault, and recorded
            record.stop("load_failed", fault_of_loading(error), chunks=(), rows=())
            return "load_failed"
        loop = RowLoop(
            assignment, call, arguments, Page(), console=console.tell, interruptible=True
        )
        try:
            positions = range(len(run.rows))
            for attempt, group in itertools.groupby(positions, lambda p: attempts.get(p, 0) + 1):
                same = list(group)
                loop.run(range(same[0], same[-1] + 1), attempt)
        finally:
            loop.close()
    return "done"


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
def _console(assignment: Assignment) -> Iterator[io.FileIO]:
    """Write what rows print to their console file too, while it is shown as ever."""
    with assignment.disk.create(jobfolder.console_of(assignment.outcomes)) as file:
        out, err = _Tee(sys.stdout, file), _Tee(sys.stderr, file)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield file


class _Tee:
    """A text stream that writes to a file besides; all else is the stream's own."""

    def __init__(self, stream: Any, file: io.FileIO) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> int:
        """Write to both."""
        write_all(self._file.fileno(), text.encode("utf-8", "backslashreplace"))
        self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write to both."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
