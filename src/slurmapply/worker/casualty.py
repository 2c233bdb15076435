"""A worker that died with rows in its hands: which of them are settled, and how."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply import jobfolder
from slurmapply.worker.brake import Tally, fault_number
from slurmapply.worker.history import Death, Past, judge
from slurmapply.worker.memory import TaskMemory, in_words

if TYPE_CHECKING:
    from slurmapply.worker.brake import Brake
    from slurmapply.worker.child import Worker
    from slurmapply.worker.clerk import Clerk
    from slurmapply.worker.page import RowInWork
    from slurmapply.worker.pool import Pool
    from slurmapply.worker.run import Run


class Casualty(NamedTuple):
    """A worker that died.

    Attributes
    ----------
    worker, status
        Which, and how (waitpid(2)).
    interrupted_by
        What the task is ended by when the row was ended with it: "time_limit", "stopped", or "".
    """

    worker: Worker
    status: int
    interrupted_by: str = ""

    @property
    def death(self) -> Death:
        """How it died, as far as the process itself tells."""
        page = self.worker.page
        late = self.worker.late == page.row.began and self.worker.late > 0
        return Death(self.status, own_hand=page.own_hand, timeout=late)

    @property
    def was_killed(self) -> bool:
        """Whether it was SIGKILL."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def row(self) -> RowInWork | None:
        """The row that it was on, None when it was between two."""
        row = self.worker.page.row
        begun = row.position in self.worker.group.positions and row.position >= self.written
        return row if begun else None

    @property
    def written(self) -> int:
        """Positions of its group below this one are in its outcomes file."""
        return max(self.worker.group.positions.start, self.worker.page.written)

    @property
    def past(self) -> Past:
        """The history of its row; tries that the worker made itself are counted."""
        before, attempt = self.worker.group.past, self.worker.page.row.attempt
        own_tries = attempt - before.attempts - 1
        return before._replace(attempts=attempt, failures=before.failures + own_tries)


class Losses:
    """Settles what dead workers leave.

    Parameters
    ----------
    run, pool, brake
        Of the task's supervisor.
    limit
        The task's time limit in seconds, or None.
    """

    def __init__(self, run: Run, pool: Pool, brake: Brake, limit: float | None) -> None:
        self._run = run
        self._pool = pool
        self._brake = brake
        self._limit = limit
        self._memory = TaskMemory()

    def settle(self, casualty: Casualty, clerk: Clerk) -> None:
        """Settle the row that a worker died on, or have it tried again; put its others back.

        Parameters
        ----------
        casualty
            Who died.
        clerk
            Writes down what follows.
        """
        pool, positions = self._pool, casualty.worker.group.positions
        written, row = casualty.written, casualty.row
        pool.settle(range(positions.start, written))
        if row is None:
            pool.give_back(range(written, positions.stop))
            return
        pool.give_back(range(row.position + 1, positions.stop))
        pool.give_back(range(written, row.position))
        for_memory = self.was_for_memory(casualty)
        if casualty.interrupted_by and casualty.was_killed and not for_memory:
            cause = casualty.interrupted_by
            self._interrupted(casualty, clerk, cause=cause, limit=self._limit)
        elif casualty.death.timeout and not casualty.worker.page.calling:
            pool.again(row.position, casualty.past)  # it had come to its end in time
        else:
            self._judge(casualty, clerk, for_memory=for_memory)

    def was_for_memory(self, casualty: Casualty) -> bool:
        """Whether the kernel killed a worker for memory; asked once of each."""
        return casualty.was_killed and self._memory.take_kill()

    def lack_of_memory(self, workers: int) -> str:
        """Say how much memory there was for a function that each worker loads."""
        loads = "its worker loads it" if workers == 1 else f"each of its {workers} workers loads it"
        return f"{loads} ({self._sizes()})"

    def _judge(self, casualty: Casualty, clerk: Clerk, *, for_memory: bool) -> None:
        run, row = self._run, casualty.worker.page.row
        death = casualty.death._replace(memory=for_memory)
        verdict = judge(death, casualty.past, run.retries, self._sizes(), run.row_timeout)
        cause, message = verdict.cause, verdict.message
        if verdict.status is None:
            failure = verdict.failure
            self._interrupted(casualty, clerk, cause=cause, message=message, failure=failure)
            self._pool.again(row.position, verdict.past)
            return
        clerk.ask(
            "died",
            outcomes=casualty.worker.outcomes,
            status=verdict.status.value,
            cause=cause,
            message=message,
            **self._of_row(row),
            offset=row.log_offset,
            trace=casualty.worker.whereabouts if death.timeout else "",
        )
        self._brake.note(Tally(1, fault_number(cause), cause))
        self._pool.settle(range(row.position, row.position + 1))

    def _interrupted(self, casualty: Casualty, clerk: Clerk, **why: object) -> None:
        row = casualty.worker.page.row
        console = jobfolder.console_of(casualty.worker.outcomes)
        fields = self._of_row(row) | {"console": console, "log_offset": row.log_offset} | why
        clerk.ask("append", record="interrupted", fields=fields)

    def _of_row(self, row: RowInWork) -> dict[str, Any]:
        return {
            "row": self._run.rows[row.position],
            "attempt": row.attempt,
            "start": row.start,
            "seconds": time.monotonic() - row.began,
        }

    def _sizes(self) -> str:
        """Write the task's limit and peak of memory for people."""
        sizes = (("limit", self._memory.limit()), ("peak", self._memory.peak()))
        return ", ".join(f"{word} {in_words(size)}" for word, size in sizes if size is not None)
