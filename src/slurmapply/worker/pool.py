"""The positions that a task holds and has not handed to a worker yet: pure bookkeeping."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.worker.history import NEW, Past

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.chunks import ChunkPlan
    from slurmapply.worker.claims import Claim

#: A group should keep a worker busy for so long: far above what handing it out costs (0.1 ms),
#: far below what anybody would notice.
GROUP_SECONDS = 0.05
#: To cut what is left finer than this costs more than it evens out; but of the last few rows for
#: each worker, any may be a long one, and those before it in its group would not be seen.
_LEAST_SECONDS = 0.002
_FEW = 16
#: How much of what was measured before still counts at the next measurement.
_MEMORY = 0.5


class Group(NamedTuple):
    """Positions for one worker, all with the same history."""

    positions: range
    past: Past


class Pool:
    """What is left to hand out of the claimed chunks, in order.

    Parameters
    ----------
    plan
        Says which chunk a position belongs to.
    workers
        Number of workers of the task.
    static
        Hand each worker its equal share of a chunk at once.
    history
        Earlier attempts, by position.
    """

    def __init__(
        self, plan: ChunkPlan, workers: int, *, static: bool, history: Mapping[int, Past]
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._static = static
        self._history = dict(history)
        self._left: deque[range] = deque()
        self._alone: deque[int] = deque()
        self._size = 0
        self._share = 0
        self._measured = 0.0, 0.0
        self.held: dict[int, int] = {}
        self._open: dict[int, int] = {}

    def __len__(self) -> int:
        return self._size

    @property
    def row_seconds(self) -> float | None:
        """How long rows take, None when no row has ended yet."""
        rows, seconds = self._measured
        return seconds / rows if rows else None

    @property
    def lasts(self) -> float:
        """In how many seconds a worker will find nothing here, as far as that can be known."""
        row_seconds = self.row_seconds
        if row_seconds is None:
            return math.inf
        return (self._size + 1) * row_seconds / self._workers

    @property
    def has_lonely(self) -> bool:
        """Whether rows wait to be run alone."""
        return bool(self._alone)

    def add(self, claim: Claim) -> None:
        """Take over the positions of a claim."""
        self._left.extend(claim.positions)
        self._history.update(claim.past)
        self.held[claim.chunk] = claim.generation
        size = sum(map(len, claim.positions))
        self._size += size
        self._open[claim.chunk] = self._open.get(claim.chunk, 0) + size
        self._share = -(-size // self._workers)

    def give_back(self, positions: range) -> None:
        """Put positions that were handed out and not run in front again."""
        if positions:
            self._left.appendleft(positions)
            self._size += len(positions)

    def again(self, position: int, past: Past) -> None:
        """Put a position behind all others to be tried once more, alone after a kill for memory."""
        self._history[position] = past
        if past.memory:
            self._alone.append(position)
        else:
            self._left.append(range(position, position + 1))
            self._size += 1

    def settle(self, positions: range) -> None:
        """Note that positions are settled; a chunk without others is held no longer."""
        while positions:
            chunk = self._plan.chunk_at(positions.start)
            here = range(positions.start, min(positions.stop, self._plan.bounds[chunk + 1]))
            self._open[chunk] -= len(here)
            if not self._open[chunk]:
                del self._open[chunk], self.held[chunk]
            positions = range(here.stop, positions.stop)

    def measured(self, rows: int, seconds: float) -> None:
        """Learn from a group how long rows take; the latest groups count most."""
        if rows:
            before = self._measured
            self._measured = _MEMORY * before[0] + rows, _MEMORY * before[1] + seconds

    def next_group(self) -> Group | None:
        """Cut the next group off, None when nothing is left that may run beside others."""
        while self._left:
            first = self._left.popleft()
            self._size -= len(first)
            past = self._history.get(first.start, NEW)
            size = self._group_size(len(first))
            if self._history:
                same = (n for n, p in enumerate(first[:size]) if self._history.get(p, NEW) != past)
                size = min(size, next(same, size))
            self.give_back(first[size:])
            if not past.memory:
                return Group(first[:size], past)
            self._alone.extend(first[:size])
        return None

    def next_lonely(self) -> Group:
        """Give a row that is to run while no other does."""
        position = self._alone.popleft()
        return Group(range(position, position + 1), self._history[position])

    def _group_size(self, available: int) -> int:
        if self._static:
            return min(available, self._share)
        row_seconds = self.row_seconds
        if row_seconds is None:
            return 1
        most, least = (int(t / max(row_seconds, 1e-9)) for t in (GROUP_SECONDS, _LEAST_SECONDS))
        share = (self._size + available) // self._workers
        fair = share // 2 if share <= _FEW else max(share // 2, min(least, share))
        return max(1, min(available, most, fair))

    def clear(self) -> None:
        """Give up all that was not handed out."""
        self._left.clear()
        self._size = 0
        self._alone.clear()
