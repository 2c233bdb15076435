"""Rows of very uneven length: from submission to table, as a multiple of the least possible time.

200 rows sleep for lognormal times (median 0.3 s, sigma 1.2, 6 s at most), on 4 nodes with 8 workers
each; no order of the rows could take less than the longest, or than a fair share of all. Without
`cost=`, with it, and beside one queue with 32 workers that costs nothing at all: what nobody who
does not know the lengths can beat. Needs a Slurm: ``make cluster`` gives one. What the rules are
worth over many jobs, without a Slurm: ``python -m tests.simulated_workers``.

    python benchmarks/uneven.py --times 5
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import random
import statistics
import tempfile
import time
from typing import Any

from slurmapply import slurm_apply

_NODES, _WORKERS, _ROWS = 4, 8, 200


def lengths(seed: int) -> list[float]:
    """Draw how long the rows sleep; the longest is cut to 6 s."""
    draw = random.Random(seed)  # noqa: S311  # not a secret
    return [min(6.0, 0.3 * draw.lognormvariate(0.0, 1.2)) for _ in range(_ROWS)]


def least(seconds: list[float]) -> float:
    """Give the least time that so many workers can need."""
    return max(sum(seconds) / (_NODES * _WORKERS), *seconds)


def one_queue(seconds: list[float]) -> float:
    """Give the time of one queue: whoever is free takes the next row, at no cost."""
    free = [0.0] * (_NODES * _WORKERS)
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def sleep(seconds: float) -> float:
    """Be a row."""
    time.sleep(seconds)
    return seconds


def measured(seconds: list[float], **how: Any) -> float:
    """Time a job from its submission to its table."""
    time.sleep(random.random())  # noqa: S311  # a phase of Slurm's clock, not a secret
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            job = slurm_apply(
                sleep, {"seconds": seconds}, nodes=_NODES, cpus_per_node=_WORKERS,
                backend="slurm", jobs_folder=folder, job_name="uneven", **how,
            )  # fmt: skip
            job.table()
        took = time.perf_counter() - begin
        job.wait().cleanup()
    return took


def main() -> None:
    """Run all in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seconds = lengths(given.seed)
    best = least(seconds)
    print(f"{_ROWS} rows, {sum(seconds):.0f} s in all, the longest {max(seconds):.1f} s")
    print(f"at least {best:.2f} s; one queue, in their order, {one_queue(seconds) / best:.2f}")
    ways: dict[str, dict[str, Any]] = {"plain": {}, "cost=": {"cost": "seconds"}}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.times):
        for name, how in ways.items():
            found[name].append(measured(seconds, **how) / best)
    for name, ratios in found.items():
        listed = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
        print(f"{name:6} median {statistics.median(ratios):.2f}   {listed}")


if __name__ == "__main__":
    main()
