"""How long a job takes when rows are shared out by the package's own rules, without running any.

The plan, the pool and the supply are the package's; simulated are the clock, the rows' lengths
and the claims. It shows what a rule is worth over many jobs, where one run shows chance::

    python -m tests.simulated_workers                  200 rows of very uneven length
    python -m tests.simulated_workers --rows 100000 --median 0.00001 --workers 2
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import statistics
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slurmapply.chunks import ChunkPlan, cost_plan, dynamic_plan, static_plan
from slurmapply.worker.pool import Pool
from slurmapply.worker.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slurmapply.worker.claims import Claim

#: Seconds that a claim takes from question to rows, and that a group takes to be handed over.
CLAIM_SECONDS = 0.004
HAND_SECONDS = 0.0003
_RECALL_AFTER = 0.2


@dataclass(frozen=True)
class Cluster:
    """Tasks that start at the same time, each with as many workers."""

    tasks: int = 4
    workers: int = 8
    claim_seconds: float = CLAIM_SECONDS

    @property
    def size(self) -> int:
        return self.tasks * self.workers


@dataclass
class _Work:
    """A group in a worker: when it began, and when each of its rows ends."""

    group: range
    since: float
    ends: list[float]
    recalled: bool = False


@dataclass
class _Task:
    number: int
    pool: Pool
    supply: Supply = field(default_factory=Supply)
    work: dict[int, _Work] = field(default_factory=dict)
    groups: int = 0


class Job:
    """Plays one job through; the times of its rows are given in the order in which they start."""

    def __init__(
        self, plan: ChunkPlan, seconds: Sequence[float], cluster: Cluster, *, static: bool = False
    ) -> None:
        self._plan = plan
        self._seconds = [0.0, *itertools.accumulate(seconds)]
        self._cluster = cluster
        self._static = static
        self._free = set(range(len(plan)))
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = itertools.count()
        self.claims = 0
        self.end = 0.0
        self.tasks = [
            _Task(number, Pool(plan, cluster.workers, static=static, history={}))
            for number in range(cluster.tasks)
        ]

    def run(self) -> float:
        """Give the time at which the last row ends."""
        for task in self.tasks:
            self._look_after(task, 0.0)
        while self._events:
            now, _, happen, about = heapq.heappop(self._events)
            happen(now, *about)
        assert not self._free
        return self.end

    def _at(self, when: float, happen: Callable[..., None], *about: Any) -> None:
        heapq.heappush(self._events, (when, next(self._count), happen, about))

    def _look_after(self, task: _Task, now: float) -> None:
        """Do what `Supervisor._hand_out` does."""
        idle = [w for w in range(self._cluster.workers) if w not in task.work]
        for worker in idle:
            group = task.pool.next_group()
            if group is not None:
                self._hand(task, worker, group.positions, now)
        lacks = not len(task.pool) and len(task.work) < self._cluster.workers
        if (lacks or task.supply.is_due(task.pool)) and task.supply.may_ask(now):
            task.supply.asked(now)
            self._at(now + self._cluster.claim_seconds, self._reply, task)
        if task.supply.exhausted and lacks and not self._static:
            for worker, work in task.work.items():
                if len(work.group) > 1 and not work.recalled:
                    self._at(max(now, work.since + _RECALL_AFTER), self._recall, task, worker, work)

    def _hand(self, task: _Task, worker: int, group: range, now: float) -> None:
        begin = now + HAND_SECONDS
        base = self._seconds[group.start]
        ends = [begin + self._seconds[p + 1] - base for p in group]
        work = _Work(group, now, ends)
        task.work[worker] = work
        task.groups += 1
        self._at(ends[-1], self._done, task, worker, work, len(group))

    def _done(self, now: float, task: _Task, worker: int, work: _Work, rows: int) -> None:
        if task.work.get(worker) is not work:
            return
        del task.work[worker]
        self.end = max(self.end, now)
        done = work.group[:rows]
        task.pool.settle(done)
        task.pool.measured(rows, now - work.since)
        task.pool.give_back(work.group[rows:])
        task.supply.look_soon(last=not task.work)
        self._look_after(task, now)

    def _recall(self, now: float, task: _Task, worker: int, work: _Work) -> None:
        if task.work.get(worker) is not work or work.recalled:
            return
        work.recalled = True
        rows = min(len(work.group), bisect_left(work.ends, now) + 1)
        self._at(work.ends[rows - 1], self._done, task, worker, work, rows)

    def _reply(self, now: float, task: _Task) -> None:
        chunk = self._take(task.number)
        found = None
        if chunk is not None:
            part = self._plan.positions(chunk)
            found = {"chunk": chunk, "generation": 0, "positions": [[part.start, part.stop]]}
            found["past"] = []
            self.claims += 1
        claim: Claim | None = task.supply.take({"waiting": [], "claim": found}, now)
        if claim is not None:
            task.pool.add(claim)
        self._look_after(task, now)

    def _take(self, task: int) -> int | None:
        """Give the task's own chunk first, then the lowest that is free."""
        chunk = task if task in self._free else min(self._free, default=None)
        if chunk is None or (self._static and chunk != task):
            return None
        self._free.discard(chunk)
        return chunk


def ideal(seconds: Sequence[float], cluster: Cluster) -> float:
    """Give the least time that any order could take."""
    return max(sum(seconds) / cluster.size, max(seconds, default=0.0))


def one_queue(seconds: Sequence[float], cluster: Cluster) -> float:
    """Give the time that one pool of so many workers takes, row by row."""
    free = [0.0] * cluster.size
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def dynamic(seconds: Sequence[float], cluster: Cluster) -> Job:
    """Share rows out in their own order."""
    return Job(dynamic_plan(len(seconds), cluster.tasks), seconds, cluster)


def by_cost(
    seconds: Sequence[float], cluster: Cluster, guess: Callable[[float], float] = float
) -> Job:
    """Share rows out by what they are guessed to cost."""
    costs = sorted(((guess(each), each) for each in seconds), reverse=True)
    plan = cost_plan([(cost, 1) for cost, _ in costs], cluster.tasks, cluster.workers)
    return Job(plan, [each for _, each in costs], cluster)


def static(seconds: Sequence[float], cluster: Cluster) -> Job:
    """Deal rows out beforehand, as rslurm does."""
    plan = static_plan(len(seconds), cluster.tasks, cluster.workers)
    return Job(plan, seconds, cluster, static=True)


def lengths(
    seed: int, rows: int = 200, median: float = 0.3, sigma: float = 1.2, cap: float = 6.0
) -> list[float]:
    """Draw lengths of rows, lognormal, the longest as long as may be."""
    draw = random.Random(seed)
    return [min(cap, median * draw.lognormvariate(0.0, sigma)) for _ in range(rows)]


def main() -> None:
    """Print the mean and the worst of many jobs, as multiples of the least time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--median", type=float, default=0.3)
    parser.add_argument("--sigma", type=float, default=1.2)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--claim", type=float, default=CLAIM_SECONDS)
    given = parser.parse_args()
    cluster = Cluster(given.tasks, given.workers, given.claim)
    table: dict[str, list[float]] = {}
    claims: dict[str, list[int]] = {}
    for seed in range(given.jobs):
        seconds = lengths(seed, given.rows, given.median, given.sigma, 20 * given.median)
        least = ideal(seconds, cluster)
        guess = random.Random(seed)

        def rough(each: float, guess: random.Random = guess) -> float:
            return each * guess.lognormvariate(0.0, 0.5)

        jobs = {
            "static": static(seconds, cluster),
            "dynamic": dynamic(seconds, cluster),
            "cost": by_cost(seconds, cluster),
            "rough cost": by_cost(seconds, cluster, rough),
        }
        for name, job in jobs.items():
            table.setdefault(name, []).append(job.run() / least)
            claims.setdefault(name, []).append(job.claims)
        table.setdefault("one queue", []).append(one_queue(seconds, cluster) / least)
        longest_first = sorted(seconds, reverse=True)
        table.setdefault("one queue, longest first", []).append(
            one_queue(longest_first, cluster) / least
        )
    for name, ratios in table.items():
        mean, worst = statistics.mean(ratios), max(ratios)
        many = f"{statistics.mean(claims[name]):.0f} claims" if name in claims else ""
        print(f"{name:26} mean {mean:.3f}  worst {worst:.3f}  {many}")


if __name__ == "__main__":
    main()
