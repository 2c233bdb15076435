"""How a run's rows are cut into chunks: pure functions of numbers.

Everybody who takes part in a run computes the same plan from the same numbers; nothing about it
is ever sent around.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise


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
