"""The workers of a task: started, listened to, stopped, buried."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.worker.child import Worker, fork_worker
from slurmapply.worker.messages import REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from slurmapply.worker.process import Assignment

#: Seconds until another try where the system lets us start no more processes.
_FORK_AGAIN = 1.0
#: How long a task without a single worker goes on trying.
_FORK_PATIENCE = 30.0


class Report(NamedTuple):
    """What a worker has to say: see REPORT."""

    worker: Worker
    kind: bytes
    start: int
    reached: int
    seconds: float


class Crew:
    """The workers of a task.

    Parameters
    ----------
    assignment
        Makes what a worker of a number works for.
    size
        How many there should be.
    selector
        Waits for their reports.
    """

    def __init__(
        self,
        assignment: Callable[[int], Assignment],
        size: int,
        selector: selectors.BaseSelector,
    ) -> None:
        self._assignment = assignment
        self._selector = selector
        self._next_fork = 0.0
        self._refused_since = 0.0
        self.size = size
        self.workers: list[Worker] = []

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self.workers))

    @property
    def at_work(self) -> bool:
        """Whether any has rows, or loads the function."""
        return any(worker.busy or not worker.ready for worker in self.workers)

    @property
    def any_idle(self) -> bool:
        """Whether any waits for rows."""
        return any(worker.idle for worker in self.workers)

    @property
    def all_idle(self) -> bool:
        """Whether there are workers, and all wait for rows."""
        return bool(self.workers) and all(worker.idle for worker in self.workers)

    def fill_up(self, now: float, foreign: Iterable[int]) -> str | None:
        """Start the workers that are missing; gives the system's refusal the first time.

        Parameters
        ----------
        now
            The time, in seconds of a clock that only goes on.
        foreign
            Ends of pipes, besides the workers' own, that a fork must not keep open.

        Raises
        ------
        OSError
            Not one could be started for a while.
        """
        if len(self.workers) >= self.size or now < self._next_fork:
            return None
        taken = {worker.number for worker in self.workers}
        for number in range(self.size):
            if number in taken:
                continue
            try:
                self._start(number, foreign)
            except OSError as error:
                return self._refused(error, now)
        self._refused_since = 0.0
        return None

    def _start(self, number: int, foreign: Iterable[int]) -> None:
        others = [end for worker in self.workers for end in worker.ends]
        worker = fork_worker(number, self._assignment(number), [*foreign, *others])
        self.workers.append(worker)
        self._selector.register(worker.reports, selectors.EVENT_READ, worker)

    def _refused(self, error: OSError, now: float) -> str | None:
        self._next_fork = now + _FORK_AGAIN
        if self._refused_since:
            if not self.workers and now - self._refused_since > _FORK_PATIENCE:
                raise error
            return None
        self._refused_since = now
        return f"only {len(self.workers)} of {self.size} workers could be started: {error}"

    def read(self, worker: Worker) -> Report | None:
        """Take a worker's next report, None when it is gone."""
        message = os.read(worker.reports, REPORT.size)
        if len(message) == REPORT.size:
            return Report(worker, *REPORT.unpack(message))
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.reports)
        return None

    def last_reports(self, worker: Worker) -> Iterator[Report]:
        """Take the reports that a worker sent before it died."""
        os.set_blocking(worker.reports, False)
        with contextlib.suppress(BlockingIOError):
            while report := self.read(worker):
                yield report

    def dead(self) -> Iterator[tuple[Worker, int]]:
        """Give the workers that have died, and how (waitpid(2))."""
        for worker in self:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                yield worker, status

    def remove(self, worker: Worker) -> None:
        """Forget a worker that has died, and end what it left running."""
        self.workers.remove(worker)
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.reports)
        worker.close()
        worker.end_group()

    def stop(self) -> None:
        """Ask all for the rest of their groups; those that still load have nothing to finish."""
        for worker in self.workers:
            worker.page.stop = True
            if not worker.ready:
                worker.signal(signal.SIGKILL)

    def kill(self) -> None:
        """End those that have rows."""
        for worker in self.workers:
            if worker.busy:
                worker.signal(signal.SIGKILL)

    def dismiss(self) -> None:
        """Let all sync and close their files, and end."""
        for worker in self.workers:
            worker.dismiss()
