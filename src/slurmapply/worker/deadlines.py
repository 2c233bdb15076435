"""Rows that take too long: found, asked where they are, ended."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from slurmapply.worker.birth import DUMP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurmapply.worker.child import Worker

#: How long a late row may write down where it is before it is killed.
_DUMP_SECONDS = 0.2
#: A pause between two looks that only a stopped process makes (scontrol suspend, SIGSTOP).
_SUSPENDED = 2.0


class Deadlines:
    """Ends rows that run for longer than `row_timeout`.

    Only the time in the user's function counts, not that in which a disk makes its outcome wait,
    nor that in which all of the task was suspended.

    Parameters
    ----------
    row_timeout
        Seconds that a row may take, or None.
    """

    def __init__(self, row_timeout: float | None) -> None:
        self._row_timeout = row_timeout
        self._looked = time.monotonic()

    def enforce(self, workers: Iterable[Worker], now: float) -> None:
        """End the rows that are late.

        Parameters
        ----------
        workers
            All of the task.
        now
            The time of `time.monotonic`, the workers' clock too (clock_gettime(2)).
        """
        pause, self._looked = now - self._looked, now
        if self._row_timeout is None:
            return
        for worker in workers:
            if worker.busy and worker.page.calling:
                if pause > _SUSPENDED:
                    _forgive(worker, pause)
                self._end_if_late(worker, now, self._row_timeout)

    def _end_if_late(self, worker: Worker, now: float, row_timeout: float) -> None:
        began = worker.page.row.began
        pardoned = worker.pardon[1] if worker.pardon[0] == began else 0.0
        late = now - began - pardoned - row_timeout
        if late > 0 and worker.late != began:
            worker.late = worker.page.late = began
            worker.signal(DUMP)
        elif late > _DUMP_SECONDS:
            worker.signal(signal.SIGKILL)


def _forgive(worker: Worker, pause: float) -> None:
    began = worker.page.row.began
    before = worker.pardon[1] if worker.pardon[0] == began else 0.0
    worker.pardon = began, before + pause
