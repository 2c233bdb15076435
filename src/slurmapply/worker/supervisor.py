"""A task's supervisor: forks the workers, hands them rows, keeps the task's record.

::

    claims ──▶ Pool ──▶ group (start, stop, attempt) ──pipe──▶ worker ──▶ outcomes file
                 ▲                                               │
                 └────── positions that were not run ◀──pipe── report (start, reached)
                                                          page: the row that it is on

Rows and results never pass through the pipes. The supervisor imports nothing of the user's, so
that forking is safe (no threads, no BLAS) and a fault of the user's code cannot reach it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.disk import write_all
from slurmapply.outcome import Failure, FrameBuilder, Measures
from slurmapply.states import RowStatus
from slurmapply.worker.child import Worker, death, fork_worker
from slurmapply.worker.page import NO_ROW
from slurmapply.worker.pool import Pool
from slurmapply.worker.process import (
    DONE,
    GROUP,
    NOT_LOADED,
    NOT_WRITTEN,
    READY,
    REPORT,
    Assignment,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.jobfolder import Life
    from slurmapply.records import TaskRecord
    from slurmapply.worker.claims import Claims
    from slurmapply.worker.run import Run

#: A row that runs for longer is named in the task's record, and so shown as running.
LONG_ROW = 2.0
#: A worker keeps its group to itself for so long before others that are idle get the rest.
_RECALL_AFTER = 0.2
#: How long to wait for rows that another task is finishing while it stops. It was warned at most
#: 150 s before its end (90 s, and Slurm may be up to 60 s early: sbatch(1), --signal).
_PATIENCE = 180.0
_TICK = 0.1
#: Seconds between two looks for more rows while there are none, growing.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 15.0
#: Ends of a task that its Slurm state should show as failed.
_FAULTS = ("load_failed", "write_failed")


class Supervisor:
    """Runs a task to its end.

    Parameters
    ----------
    disk, run, life
        The job folder, the run, whose task this is.
    claims, record
        Where rows come from, where events are written to.
    function
        Names of the pickled function and its data file.
    session
        What workers make like in the session.
    workers
        How many processes.
    attempts
        Earlier attempts of rows, by position.
    """

    def __init__(
        self,
        disk: FolderDisk,
        run: Run,
        life: Life,
        *,
        claims: Claims,
        record: TaskRecord,
        function: tuple[str, str],
        session: Session,
        workers: int,
        attempts: Mapping[int, int],
    ) -> None:
        self._disk = disk
        self._run = run
        self._life = life
        self._claims = claims
        self._record = record
        self._function = function
        self._session = session
        self._count = workers
        self._pool = Pool(run.plan, workers, static=run.static, attempts=attempts)
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._stop: str | None = None
        self._stopping = False
        self._signalled = ""
        self._exhausted = False
        self._patience = 0.0
        self._pause = _FIRST_PAUSE
        self._next_look = 0.0
        self._cancelled = jobfolder.cancelled(run.number)

    def run(self, stop: str = "") -> int:
        """Run rows until there are none left for this task; gives the exit status.

        Parameters
        ----------
        stop
            A signal that came while the task was being set up, or empty.
        """
        self._listen()
        self._signalled = stop
        self._record.start(self._count)
        if self._signalled:
            self._stop_early(self._signalled)
        elif self._refill() or self._claims.waiting:
            for number in range(min(self._count, max(1, len(self._run.rows)))):
                self._start_worker(number)
        while self._workers and not self._over():
            self._wait()
            self._reap()
            self._name_long_rows()
            if self._signalled and not self._stopping:
                self._stop_early(self._signalled)
            self._hand_out()
        if self._claims.waiting:
            self._stop_early("patience", "rows of another task that was stopping never came out")
        self._dismiss()
        reason = self._stop or "done"
        self._record.finish(reason, self._files())
        return 1 if reason in _FAULTS else 0

    # -- signals and processes -------------------------------------------------------------

    def _listen(self) -> None:
        wake, woken = os.pipe()
        for descriptor in (wake, woken):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._note_signal)
        self._selector.register(wake, selectors.EVENT_READ, None)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signalled = self._signalled or signal.Signals(number).name

    def _start_worker(self, number: int) -> None:
        assignment = Assignment(
            self._disk,
            self._run.uuid,
            self._run.rows,
            self._function,
            self._life.outcomes(self._run.number, str(number)),
            self._session,
            number,
        )
        worker = fork_worker(number, assignment, self._workers)
        self._workers.append(worker)
        self._selector.register(worker.reports, selectors.EVENT_READ, worker)

    # -- the loop --------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for reports, ends of workers and signals; look around every so often."""
        for key, _ in self._selector.select(timeout=_TICK):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._receive(key.data)

    def _receive(self, worker: Worker) -> None:
        message = os.read(worker.reports, REPORT.size)
        if len(message) < REPORT.size:
            self._selector.unregister(worker.reports)
            return
        kind, start, reached, seconds = REPORT.unpack(message)
        if kind == READY:
            worker.ready = True
        elif kind == DONE:
            self._take_report(worker, start, reached, seconds)
        elif kind in (NOT_LOADED, NOT_WRITTEN):
            name = "load_failed" if kind == NOT_LOADED else "write_failed"
            self._stop_early(name, worker.page.text)

    def _take_report(self, worker: Worker, start: int, reached: int, seconds: float) -> None:
        self._pool.settle(range(start, reached))
        self._pool.measured(reached - start, seconds)
        if not self._stopping:
            self._pool.give_back(range(reached, worker.group.stop))
        worker.group = range(0)
        worker.page.stop = False
        self._next_look = 0.0

    def _hand_out(self) -> None:
        for worker in self._workers:
            if not worker.idle or self._stopping:
                continue
            if not len(self._pool) and not self._look_for_more():
                break
            group = self._pool.next_group()
            if group is not None:
                worker.group, worker.attempt = group
                worker.since = time.monotonic()
                os.write(
                    worker.groups,
                    GROUP.pack(worker.group.start, worker.group.stop, worker.attempt),
                )
        if self._exhausted:
            self._recall()

    def _look_for_more(self) -> bool:
        """Claim more rows, but do not look again and again while there are none.

        A worker that has just become idle is a reason to look. Otherwise only tasks that stop can
        leave something, and hundreds of tasks that wait for their last rows share the disk.
        """
        now = time.monotonic()
        if now < self._next_look:
            return False
        found = self._refill()
        self._pause = _FIRST_PAUSE if found else min(_LONGEST_PAUSE, 2 * self._pause)
        self._next_look = 0.0 if found else now + self._pause
        return found

    def _refill(self) -> bool:
        """Claim more rows; False when there are none now."""
        claim = self._claims.take() or self._claims.take_released()
        self._exhausted = claim is None
        if claim is None:
            return False
        self._pool.add(claim)
        return True

    def _recall(self) -> None:
        """Ask workers with long groups for the rest of them while others are idle."""
        if self._run.static or not any(worker.idle for worker in self._workers):
            return
        now = time.monotonic()
        for worker in self._workers:
            if len(worker.group) > 1 and now - worker.since > _RECALL_AFTER:
                worker.page.stop = True

    def _over(self) -> bool:
        if any(worker.group or not worker.ready for worker in self._workers):
            return False
        if self._stopping:
            return True
        if len(self._pool) or not self._exhausted:
            return False
        if not self._claims.waiting:
            return True
        self._patience = self._patience or time.monotonic() + _PATIENCE
        return time.monotonic() > self._patience

    def _stop_early(self, reason: str, message: str = "") -> None:
        """Take no more rows. What is held is given up first, then the workers' rows finish."""
        if self._stopping:
            return
        self._stopping = True
        self._stop = reason
        for worker in self._workers:
            worker.page.stop = True
        # A worker enters a row before it looks at the flag, and we set the flag before we look at
        # its row: one of us sees the other. The pause lets both words leave the processors.
        time.sleep(0.002)
        self._pool.clear()
        rows = [self._run.rows[p] for worker in self._workers for p in worker.unwritten]
        # Others may look for outcomes as soon as they read the record: what stands in the files
        # by now must be there for them.
        for worker in self._workers:
            self._disk.sync_file(worker.outcomes)
        claims = self._claims
        chunks = [*self._pool.held.items(), *claims.waiting, *claims.inherited]
        self._record.stop(reason, message, chunks=chunks, rows=rows)
        self._end_workers(waiting_only=self._disk.read(self._cancelled) is None)

    def _end_workers(self, *, waiting_only: bool) -> None:
        """End workers that are still loading; all of them when nobody wants their rows any more."""
        for worker in self._workers:
            if not (waiting_only and worker.ready):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def _dismiss(self) -> None:
        """Let the workers sync and close their files, then wait for their end."""
        for worker in self._workers:
            os.close(worker.groups)
        for worker in self._workers:
            os.waitpid(worker.pid, 0)
            worker.kill_group()

    def _files(self) -> dict[str, int]:
        """Give the size of each outcomes file of this life, by which a reader knows it has all."""
        folder = jobfolder.run_folder(self._run.number)
        mine = (self._life.task, self._life.life)
        names = [
            name for name in self._disk.names(folder) if jobfolder.parse_outcomes(name) == mine
        ]
        return {name: self._length(f"{folder}/{name}") for name in names}

    # -- what befalls workers --------------------------------------------------------------

    def _reap(self) -> None:
        for worker in tuple(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, status)

    def _bury(self, worker: Worker, status: int) -> None:
        """Settle the row that a dead worker was on, put its others back, replace it."""
        self._drain(worker)
        self._workers.remove(worker)
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.reports)
        os.close(worker.groups)
        os.close(worker.reports)
        worker.kill_group()
        if not worker.ready:
            self._stop_early("load_failed", worker.page.text or death(status)[1])
            return
        if self._stopping and self._disk.read(self._cancelled) is not None:
            return  # ended by us, in the middle of a row that is cancelled like the others
        if worker.group:
            self._settle_group(worker, status)
        if not self._stopping:
            self._start_worker(worker.number)

    def _drain(self, worker: Worker) -> None:
        """Take the reports that it sent before it died."""
        os.set_blocking(worker.reports, False)
        with contextlib.suppress(BlockingIOError, KeyError):
            while worker.ready and worker.group:
                self._receive(worker)

    def _settle_group(self, worker: Worker, status: int) -> None:
        position = worker.page.row[0]
        written = max(worker.group.start, worker.page.written)
        self._pool.settle(range(worker.group.start, written))
        if position in worker.group and position >= written:
            self._write_crash(worker, status)
            self._pool.settle(range(position, position + 1))
        else:
            position = written - 1
        if not self._stopping:
            self._pool.give_back(range(position + 1, worker.group.stop))
            self._pool.give_back(range(written, position))

    def _write_crash(self, worker: Worker, status: int) -> None:
        position, attempt, start, offset = worker.page.row
        cause, message = death(status)
        console = jobfolder.console_of(worker.outcomes)
        length = self._length(console) - offset
        frame = FrameBuilder(bytes.fromhex(self._run.uuid))
        measures = Measures(start, time.time() - start, log_offset=offset, log_length=length)
        failure = Failure(cause, message)
        frame.add_failure(self._run.rows[position], attempt, RowStatus.CRASHED, failure, measures)
        # The dead worker's file ends who knows where: its last row gets a file of its own, named
        # so that its console is found under the worker's name.
        with self._disk.create(jobfolder.beside_outcomes(worker.outcomes)) as file:
            write_all(file.fileno(), frame.take())
            os.fsync(file.fileno())

    def _length(self, name: str) -> int:
        file = self._disk.open(name)
        if file is None:
            return 0
        with file:
            return file.seek(0, os.SEEK_END)

    def _name_long_rows(self) -> None:
        """Write down which rows have been running for long."""
        now = time.time()
        for worker in self._workers:
            position, attempt, start, offset = worker.page.row
            if position in (NO_ROW, worker.named) or now - start < LONG_ROW:
                continue
            worker.named = position
            self._record.append(
                "running",
                row=self._run.rows[position],
                attempt=attempt,
                start=start,
                console=jobfolder.console_of(worker.outcomes),
                log_offset=offset,
            )
