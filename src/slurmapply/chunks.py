"""How a run's rows are cut into chunks: pure functions of numbers.

Everybody who takes part in a run computes the same plan from the same numbers; nothing about it
is ever sent around.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A row that costs more than this part of a worker's fair share of all is a long one. Costs have
#: no unit, so that nobody knows beforehand which rows cost less than a claim; this bounds the
#: chunks of long rows to ten for each task. Simulated, a smaller part needs more claims and evens
#: out nothing (tests/simulated_workers.py).
_LONG = 0.1


def tasks_for(rows: int, nodes: int, processes: int) -> int:
    """How many tasks are worth starting for so many rows: rslurm's rule.

    Rows are cut into `nodes` equal pieces; with fewer rows than workers, each task gets one row
    for each of its workers and there are fewer tasks.

    Parameters
    ----------
    rows, nodes, processes
        Number of rows, of tasks at most, of workers in each task.

    Examples
    --------
    >>> tasks_for(10, nodes=4, processes=2), tasks_for(3, nodes=4, processes=2)
    (4, 2)
    """
    if rows == 0:
        return 0
    return -(-rows // _static_chunk(rows, nodes, processes))


def _static_chunk(rows: int, nodes: int, processes: int) -> int:
    return processes if rows < processes * nodes else -(-rows // nodes)


class ChunkPlan:
    """Consecutive pieces of a run's rows: chunk c holds positions bounds[c] to bounds[c+1] - 1."""

    __slots__ = ("bounds",)

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self.bounds = bounds

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def positions(self, chunk: int) -> range:
        """Positions (not row numbers) of one chunk."""
        return range(self.bounds[chunk], self.bounds[chunk + 1])

    def chunk_at(self, position: int) -> int:
        """Give the chunk that holds a position."""
        return bisect_right(self.bounds, position) - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows in each chunk, in order."""
        return tuple(stop - start for start, stop in pairwise(self.bounds))


def static_plan(rows: int, tasks: int, processes: int) -> ChunkPlan:
    """One chunk for each task, equal and consecutive, decided beforehand (rslurm's rule)."""
    size = _static_chunk(rows, tasks, processes) if rows else 0
    return ChunkPlan(tuple(min(rows, size * task) for task in range(tasks + 1)))


def dynamic_plan(rows: int, tasks: int, chunksize: int | None = None) -> ChunkPlan:
    """Chunks of decreasing size, for tasks that take the next one whenever they have idle workers.

    *Factoring* (Hummel, Schonberg and Flynn, "Factoring: a method for scheduling parallel
    loops", CACM 35(8), 1992): half of what is left is dealt out in `tasks` equal chunks, again
    and again, down to chunks of one row. It needs about ``2 T log2(rows / 2T)`` claims for T
    tasks, and the last chunks are small enough for all tasks to end together.

    Parameters
    ----------
    rows, tasks
        Number of rows and of tasks.
    chunksize
        Rows in each chunk; chosen as above when None.

    Examples
    --------
    >>> dynamic_plan(20, tasks=2).sizes
    (5, 5, 3, 3, 1, 1, 1, 1)
    """
    if chunksize is not None:
        return ChunkPlan((*range(0, rows, chunksize), rows) if rows else (0,))
    sizes: list[int] = []
    left = rows
    while left:
        size = max(1, -(-left // (2 * tasks)))
        for _ in range(tasks):
            taken = min(size, left)
            if taken:
                sizes.append(taken)
            left -= taken
    return ChunkPlan(tuple(accumulate(sizes, initial=0)))


def cost_plan(costs: Sequence[tuple[float, int]], tasks: int, workers: int) -> ChunkPlan:
    """Chunks for rows of known cost, the most costly first.

    Factoring as in `dynamic_plan`, by cost: half of the *cost* that is left is dealt out in
    `tasks` equal chunks, again and again. A chunk has no more long rows than its task has workers,
    so that none of them waits while workers of other tasks are idle.

    Parameters
    ----------
    costs
        Cost of a row and how many rows have it, descending.
    tasks, workers
        Number of tasks, of workers in each.

    Examples
    --------
    >>> cost_plan([(8.0, 1), (4.0, 2), (1.0, 16)], tasks=2, workers=2).sizes
    (1, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1)
    """
    deal = _Deal(costs)
    long = _LONG * deal.cost / (tasks * workers)
    sizes: list[int] = []
    while deal.rows:
        share, most = deal.cost / (2 * tasks), -(-deal.rows // (2 * tasks))
        for _ in range(tasks):
            if deal.rows:
                at_most = min(most, workers) if deal.highest > long else most
                sizes.append(deal.take(share, at_most))
    return ChunkPlan(tuple(accumulate(sizes, initial=0)))


class _Deal:
    """Rows of known cost that are dealt out, the most costly first."""

    def __init__(self, costs: Sequence[tuple[float, int]]) -> None:
        self._costs = costs
        # Summed from the least up, as exactly as floats allow.
        sums = accumulate((cost * rows for cost, rows in reversed(costs)), initial=0.0)
        self._below = [*sums][-2::-1]
        self._next = 0
        self._left = costs[0][1] if costs else 0
        self.rows = sum(rows for _, rows in costs)

    @property
    def highest(self) -> float:
        """What the next row costs."""
        return self._costs[self._next][0]

    @property
    def cost(self) -> float:
        """What all rows that are left cost."""
        return self.highest * self._left + self._below[self._next] if self.rows else 0.0

    def take(self, share: float, most: int) -> int:
        """Take one row, and more while they cost no more than a share; gives how many."""
        taken, left = 0, share
        while self.rows and taken < most:
            cost = self.highest
            fitting = min(self._left, most - taken)
            if fitting * cost > left:
                fitting = int(left / cost) if cost else 0
            fitting = max(fitting, not taken)
            if not fitting:
                break
            taken += fitting
            left -= fitting * cost
            self._drop(fitting)
        return taken

    def _drop(self, rows: int) -> None:
        self.rows -= rows
        self._left -= rows
        if not self._left and self.rows:
            self._next += 1
            self._left = self._costs[self._next][1]
