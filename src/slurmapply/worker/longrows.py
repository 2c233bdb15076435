"""Rows that have been running for long: named in the task's record, their output kept in bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from slurmapply.worker.page import NO_ROW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurmapply.rows import RowNumbers
    from slurmapply.worker.child import Worker
    from slurmapply.worker.clerk import Clerk

#: A row that runs for longer is named in the task's record, and so shown as running.
LONG_ROW = 2.0
_TRIM_EVERY = 1.0


class LongRows:
    """Looks after rows that have been running for long.

    Parameters
    ----------
    rows
        The run's rows, by position.
    """

    def __init__(self, rows: RowNumbers) -> None:
        self._rows = rows
        self._next_trim = 0.0

    def watch(self, workers: Iterable[Worker], clerk: Clerk, now: float) -> None:
        """Have it written which rows run for long, and what they print without end cut."""
        may_trim = now > self._next_trim
        if may_trim:
            self._next_trim = now + _TRIM_EVERY
        for worker in workers:
            row = worker.page.row
            if row.position == NO_ROW or now - row.began < LONG_ROW:
                continue
            which: dict[str, Any] = {
                "outcomes": worker.outcomes,
                "row": self._rows[row.position],
                "offset": row.log_offset,
            }
            if worker.named != row.began:
                worker.named = row.began
                clerk.ask("running", attempt=row.attempt, start=row.start, **which)
            elif may_trim:
                clerk.ask_once("trim", **which)

    def pause(self, workers: Iterable[Worker], now: float) -> float:
        """Say for how many seconds nothing can be missed.

        A row that begins later becomes long later, so that the rows of this moment tell.
        """
        return min((_until_worth_a_look(worker, now) for worker in workers), default=math.inf)


def _until_worth_a_look(worker: Worker, now: float) -> float:
    if not worker.busy:
        return math.inf
    row = worker.page.row
    if row.position == NO_ROW:
        return LONG_ROW
    return _TRIM_EVERY if worker.named == row.began else row.began + LONG_ROW - now
