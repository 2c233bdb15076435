"""How evenly rows are shared out, over many simulated jobs, and how little a task does for it."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import slurm_map
from slurmapply.chunks import dynamic_plan
from slurmapply.records import parse_records
from slurmapply.worker.claims import Claim
from slurmapply.worker.pool import GROUP_SECONDS, Pool
from slurmapply.worker.supply import Supply
from tests.simulated_workers import (
    Cluster,
    Job,
    by_cost,
    dynamic,
    ideal,
    lengths,
    one_queue,
    static,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNEVEN = [lengths(seed) for seed in range(25)]
CLUSTER = Cluster()


def ratios(share_out: Callable[[Sequence[float], Cluster], Job]) -> list[float]:
    return [share_out(seconds, CLUSTER).run() / ideal(seconds, CLUSTER) for seconds in UNEVEN]


# -- many jobs of uneven rows --------------------------------------------------------------


def test_rows_of_unknown_length_are_shared_out_as_evenly_as_by_one_queue() -> None:
    queue = [one_queue(seconds, CLUSTER) / ideal(seconds, CLUSTER) for seconds in UNEVEN]
    shared = ratios(dynamic)
    assert statistics.mean(shared) <= 1.02 * statistics.mean(queue)
    assert max(shared) <= 1.05 * max(queue)
    assert statistics.mean(shared) <= 0.8 * statistics.mean(ratios(static))


def test_rows_of_known_cost_end_together() -> None:
    shared = ratios(by_cost)
    assert statistics.mean(shared) <= 1.01
    assert max(shared) <= 1.05


def test_a_rough_guess_of_the_cost_is_nearly_as_good() -> None:
    def powers_of_four(seconds: float) -> float:
        return 4.0 ** round(math.log(seconds, 4))

    guessed = ratios(lambda seconds, cluster: by_cost(seconds, cluster, powers_of_four))
    assert statistics.mean(guessed) <= 1.05


@pytest.mark.parametrize("claim_seconds", [0.002, 0.02])
def test_quick_rows_do_not_wait_for_claims(claim_seconds: float) -> None:
    cluster = Cluster(4, 2, claim_seconds)
    seconds = [2e-5] * 100_000
    job = dynamic(seconds, cluster)
    took = job.run()
    claims_of_a_task = job.claims / cluster.tasks
    # Not half of them would fit in, one after the other.
    assert took - ideal(seconds, cluster) <= 0.5 * claims_of_a_task * claim_seconds + 0.03
    assert sum(task.groups for task in job.tasks) <= 8 * job.claims


@pytest.mark.parametrize(("rows", "tasks"), [(8, 4), (200, 4), (10_000, 4), (10_000, 40)])
def test_a_job_needs_few_claims(rows: int, tasks: int) -> None:
    job = dynamic([0.01] * rows, Cluster(tasks, 2))
    job.run()
    assert job.claims == len(dynamic_plan(rows, tasks))
    assert job.claims <= 2 * tasks * math.log2(max(2.0, rows / (2 * tasks)))


# -- groups --------------------------------------------------------------------------------


def filled(rows: int, workers: int) -> Pool:
    pool = Pool(dynamic_plan(rows, 1, rows), workers, static=False, history={})
    pool.add(Claim(0, 0, (range(rows),)))
    return pool


def hand_out(pool: Pool, row_seconds: float) -> int:
    group = pool.next_group()
    assert group is not None
    pool.measured(len(group.positions), len(group.positions) * row_seconds)
    pool.settle(group.positions)
    return len(group.positions)


def test_groups_grow_from_one_row_to_what_keeps_a_worker_busy_for_a_while() -> None:
    pool = filled(1_000_000, 4)
    sizes = [hand_out(pool, 5e-6) for _ in range(3)]
    assert sizes == [1, 10_000, 10_000]
    assert sizes[-1] == round(GROUP_SECONDS / 5e-6)


def test_a_slow_first_row_is_soon_outweighed() -> None:
    pool = filled(1_000_000, 4)
    assert hand_out(pool, 0.01) == 1
    sizes = [hand_out(pool, 5e-6) for _ in range(6)]
    assert sizes[-1] > 5_000
    assert sorted(sizes) == sizes


def test_one_long_row_among_quick_ones_makes_groups_smaller_for_a_while() -> None:
    pool = filled(1_000_000, 4)
    sizes = [hand_out(pool, 5e-6) for _ in range(4)]
    pool.measured(1, 1.0)
    assert hand_out(pool, 5e-6) < sizes[-1] / 10
    assert [hand_out(pool, 5e-6) for _ in range(12)][-1] > 5_000


def test_slow_rows_are_handed_out_one_by_one() -> None:
    pool = filled(100, 4)
    assert {hand_out(pool, 0.1) for _ in range(20)} == {1}


def test_the_rest_of_a_chunk_of_quick_rows_is_not_cut_to_pieces() -> None:
    pool = filled(10_000, 2)
    pool.measured(1000, 0.005)
    groups = 0
    while len(pool):
        hand_out(pool, 5e-6)
        groups += 1
    assert groups <= 24


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_last_rows_are_handed_out_singly_however_quick_those_before_were(workers: int) -> None:
    pool = filled(2 * workers, workers)
    pool.measured(1000, 0.005)
    assert {hand_out(pool, 5e-6) for _ in range(2 * workers)} == {1}


# -- when to ask for more ------------------------------------------------------------------

NOTHING: dict[str, Any] = {"waiting": [], "claim": None}
SOMETHING: dict[str, Any] = {
    "waiting": [],
    "claim": {"chunk": 0, "generation": 0, "positions": [[0, 9]], "past": []},
}


def test_rows_are_asked_for_as_long_before_as_a_claim_takes() -> None:
    supply, pool = Supply(), filled(1000, 2)
    assert not supply.is_due(pool), "nothing is known of the rows"
    supply.asked(10.0)
    supply.take(SOMETHING, 10.02)
    pool.measured(10, 0.01)
    while len(pool) > 80:
        assert not supply.is_due(pool)
        hand_out(pool, 0.001)
    assert supply.is_due(pool) == ((len(pool) + 1) * 0.001 / 2 < 0.04)
    while len(pool) > 10:
        hand_out(pool, 0.001)
    assert supply.is_due(pool)
    while len(pool):
        hand_out(pool, 0.001)
    assert not supply.is_due(pool), "the last may be a long one, which a claim would wait for"


def test_slow_rows_are_asked_for_when_a_worker_is_idle_and_no_sooner() -> None:
    supply, pool = Supply(), filled(1, 8)
    supply.asked(10.0)
    supply.take(SOMETHING, 15.0)  # a disk that hung
    pool.measured(1, 1.0)
    pool.next_group()
    assert not len(pool)
    assert not supply.is_due(pool)


def test_after_a_claim_that_hung_rows_are_asked_for_hardly_sooner() -> None:
    supply, pool = Supply(), filled(1000, 2)
    supply.asked(10.0)
    supply.take(SOMETHING, 15.0)
    pool.measured(10, 0.01)
    assert pool.lasts < 1.0
    assert not supply.is_due(pool)


def test_a_task_without_rows_looks_again_ever_more_seldom_but_once_more_at_its_end() -> None:
    supply, now, looks = Supply(), 100.0, []
    while now < 160.0:
        if supply.may_ask(now):
            supply.asked(now)
            assert not supply.may_ask(now)
            assert supply.pause(now) == math.inf
            supply.take(NOTHING, now)
            looks.append(now)
        now += 0.05
    assert len(looks) < 12
    assert supply.exhausted
    supply.take(NOTHING, now)
    supply.look_soon(last=False)
    assert not supply.may_ask(now)
    assert supply.may_ask(now + 0.11)
    supply.look_soon(last=True)
    assert supply.may_ask(now)


# -- a task that has nothing to do ---------------------------------------------------------


def waits(pid: int) -> int:
    """Count how often a process has gone to sleep (proc(5), voluntary_ctxt_switches)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary")))


def test_a_supervisor_sleeps_while_its_rows_run() -> None:
    def slow(_: int) -> None:
        time.sleep(6)

    job = slurm_map(slow, range(2), backend="local", nodes=1, cpus_per_node=2, job_name="slow")
    pid = None
    while pid is None:
        for path in (job.folder / "run_0").glob("task_*.jsonl"):
            records = list(parse_records(path.read_bytes()))
            if any(record["record"] == "running" for record in records):
                pid = records[0]["pid"]
        time.sleep(0.05)
    seconds = []
    for _ in range(3):
        before = waits(pid)
        time.sleep(1)
        seconds.append(waits(pid) - before)
    # In one of them other files were still being written, say.
    assert min(seconds) <= 2, "looks at long rows each second, no more"
    job.cancel()


def test_a_console_without_a_word_is_gone_at_the_end() -> None:
    def speak(x: int) -> None:
        if x:
            print("a word")

    for silent in (True, False):
        job = slurm_map(
            speak, [0, 0 if silent else 1], backend="local", nodes=1, cpus_per_node=1,
            job_name=f"silent_{silent}",
        ).wait()  # fmt: skip
        while not any(b'"end"' in path.read_bytes() for path in job.folder.glob("run_0/*.jsonl")):
            time.sleep(0.02)
        consoles = list(job.folder.glob("run_0/console_*"))
        assert len(consoles) == (not silent)
        assert job.logs(1) == ("" if silent else "a word\n")
        assert not list(job.folder.glob("run_0/claims/token_*"))


def test_many_rows_leave_few_files() -> None:
    nodes, workers = 1, 2
    job = slurm_map(
        abs, range(10_000), backend="local", nodes=nodes, cpus_per_node=workers, job_name="many"
    ).wait()
    job.results()
    while not any(b'"end"' in path.read_bytes() for path in job.folder.glob("run_0/*.jsonl")):
        time.sleep(0.02)
    files = [path for path in job.folder.rglob("*") if path.is_file()]
    claims = [path for path in files if path.parent.name == "claims"]
    assert len(claims) == len(dynamic_plan(10_000, nodes))
    assert len(files) - len(claims) <= 14 + nodes * workers
