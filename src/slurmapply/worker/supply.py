"""Where a task's next rows come from: when to ask the clerk for them, and what it said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from slurmapply.worker.claims import Claim
from slurmapply.worker.history import Past

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.worker.pool import Pool

#: How long to wait for rows that another task is finishing while it stops. It was warned at most
#: 150 s before its end (90 s, and Slurm may be up to 60 s early: sbatch(1), --signal).
_PATIENCE = 180.0
#: Seconds between two looks for more rows while there are none, growing.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 15.0
#: The same while rows of another task are waited for, which others wait for too.
_LONGEST_WAIT = 1.0
#: Rows are asked for so long before they are needed: twice what the last claim took, at most.
_MOST_LEAD = 0.1
_FIRST_LEAD = 0.005


class Supply:
    """What is known of further rows.

    Attributes
    ----------
    asking
        The clerk was asked and has not answered.
    exhausted
        It had none when it was last asked.
    waiting
        Chunk and generation of claims with rows that are still in another task's workers.
    """

    def __init__(self) -> None:
        self.asking = False
        self.exhausted = False
        self.waiting: list[tuple[int, int]] = []
        self._pause = _FIRST_PAUSE
        self._next_look = 0.0
        self._looked_at = 0.0
        self._patience = 0.0
        self._asked_at = 0.0
        self._lead = _FIRST_LEAD

    def asked(self, now: float) -> None:
        """Note that the clerk is asked."""
        self.asking, self._asked_at = True, now

    def is_due(self, pool: Pool) -> bool:
        """Whether to ask while all workers still have rows, so that none of them has to wait.

        No sooner: rows that wait here could run elsewhere. Nor when the last ones are in work: any
        of them may be a long one, which those that are claimed now would wait for.
        """
        return len(pool) > 0 and pool.lasts < self._lead

    def may_ask(self, now: float) -> bool:
        """Whether to look for more rows now.

        Not again and again while there are none: only tasks that stop can leave something, and
        hundreds of tasks that wait for their last rows share the disk.
        """
        return not self.asking and now >= self._next_look

    def pause(self, now: float) -> float:
        """Say in how many seconds it is time to look for more rows."""
        return math.inf if self.asking else max(0.0, self._next_look - now)

    def look_soon(self, *, last: bool) -> None:
        """Note a reason to look: a worker has just become idle, and maybe it was the last one.

        All tasks look at the end of a run, each for each of its workers; the last look counts.
        """
        soonest = 0.0 if last else self._looked_at + _FIRST_PAUSE
        self._next_look = min(self._next_look, soonest)

    def take(self, reply: Mapping[str, Any], now: float) -> Claim | None:
        """Take the clerk's answer; gives what it claimed."""
        self.asking = False
        self._lead = min(_MOST_LEAD, 2 * (now - self._asked_at))
        self.waiting = [(chunk, generation) for chunk, generation in reply["waiting"]]
        found = reply["claim"]
        self.exhausted = found is None
        if found is None:
            longest = _LONGEST_WAIT if self.waiting else _LONGEST_PAUSE
            self._pause = min(longest, 2 * self._pause)
            self._next_look, self._looked_at = now + self._pause, now
            return None
        self._pause, self._next_look, self._looked_at = _FIRST_PAUSE, 0.0, 0.0
        positions = tuple(range(start, stop) for start, stop in found["positions"])
        past = {position: Past(*fields) for position, *fields in found["past"]}
        return Claim(found["chunk"], found["generation"], positions, past)

    def is_given_up(self, now: float) -> bool:
        """Whether rows of another task were waited for long enough; asked when all else is done."""
        self._patience = self._patience or now + _PATIENCE
        return now > self._patience
