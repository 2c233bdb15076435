"""A worker that died with rows in its hands: which of them are settled, and how."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmapply.worker.brake import Tally, fault_number
from slurmapply.worker.history import Death, Past, judge
from slurmapply.worker.memory import in_words

if TYPE_CHECKING:
    from slurmapply.worker.brake import Brake
    from slurmapply.worker.child import Worker
    from slurmapply.worker.clerk import Clerk
    from slurmapply.worker.memory import TaskMemory
    from slurmapply.worker.page import RowInWork
    from slurmapply.worker.pool import Pool
    from slurmapply.worker.run import Run


@dataclass(frozen=True, slots=True)
class Casualty:
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


def settle(
    casualty: Casualty,
    run: Run,
    pool: Pool,
    brake: Brake,
    memory: TaskMemory,
    clerk: Clerk,
    *,
    limit: float | None,
) -> None:
    """Settle the row that a worker died on, or have it tried again; put its other rows back.

    Parameters
    ----------
    casualty, run
        Who died; the run.
    pool, brake, memory, clerk
        Of the task's supervisor.
    limit
        The task's time limit in seconds, or None.
    """
    positions, written, row = casualty.worker.group.positions, casualty.written, casualty.row
    pool.settle(range(positions.start, written))
    if row is None:
        pool.give_back(range(written, positions.stop))
        return
    pool.give_back(range(row.position + 1, positions.stop))
    pool.give_back(range(written, row.position))
    ours = memory.take_kill() if casualty.was_killed else False
    if casualty.interrupted_by and casualty.was_killed and not ours:
        _interrupted(casualty, run, clerk, casualty.interrupted_by, limit=limit)
    elif casualty.death.timeout and not casualty.worker.page.calling:
        pool.again(row.position, casualty.past)  # it had come to its end in time
    else:
        _settle_row(casualty, run, pool, brake, _words(memory) if ours else None, clerk)


def _settle_row(
    casualty: Casualty, run: Run, pool: Pool, brake: Brake, memory: str | None, clerk: Clerk
) -> None:
    row = casualty.worker.page.row
    death = casualty.death._replace(memory=memory is not None)
    verdict = judge(death, casualty.past, run.retries, memory or "", run.row_timeout)
    if verdict.status is None:
        _interrupted(
            casualty, run, clerk, verdict.cause, message=verdict.message, failure=verdict.failure
        )
        pool.again(row.position, verdict.past)
        return
    clerk.ask(
        "died",
        outcomes=casualty.worker.outcomes,
        row=run.rows[row.position],
        attempt=row.attempt,
        status=verdict.status.value,
        cause=verdict.cause,
        message=verdict.message,
        start=row.start,
        seconds=time.monotonic() - row.began,
        offset=row.log_offset,
    )
    brake.note(Tally(1, fault_number(verdict.cause), verdict.cause))
    pool.settle(range(row.position, row.position + 1))


def _interrupted(
    casualty: Casualty, run: Run, clerk: Clerk, cause: str, **fields: object
) -> None:
    row = casualty.worker.page.row
    record = {
        "row": run.rows[row.position],
        "attempt": row.attempt,
        "start": row.start,
        "seconds": time.monotonic() - row.began,
        "cause": cause,
        **fields,
    }
    clerk.ask("append", record="interrupted", fields=record)


def _words(memory: TaskMemory) -> str:
    """Write limit and peak for people."""
    sizes = (("limit", memory.limit()), ("peak", memory.peak()))
    return ", ".join(f"{word} {in_words(size)}" for word, size in sizes if size is not None)
