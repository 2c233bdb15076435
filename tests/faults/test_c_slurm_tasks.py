"""Part C of the faults: tasks that wait, are held, or start on nodes where nothing works."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, slurm_map
from tests.shims import gated, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.slurm_cluster import Cluster

    MakeCluster = Callable[..., Cluster]

pytestmark = pytest.mark.slurm
ONE: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1}
LATER = {"begin": "now+1hour"}


def node_of(x: int) -> str:
    time.sleep(0.05)
    return os.environ["SLURMD_NODENAME"]


def test_C_11_a_job_that_is_cancelled_while_it_waits_never_runs(slurm_cluster: Cluster) -> None:
    by_us = slurm_map(abs, [-1, -2], nodes=2, cpus_per_node=1, slurm_options=LATER)
    by_hand = slurm_map(abs, [-1, -2], nodes=2, cpus_per_node=1, slurm_options=LATER)
    by_us.cancel()
    slurm_cluster.run(["scancel", str(by_hand.job_id)])
    for job, word in ((by_us, "cancelled"), (by_hand, "unfinished")):
        status = job.wait(20).status()
        assert (status.completed, status.counts, status.log) == (True, {word: 2}, {})
        assert job.retry(slurm_options={"begin": None}).results() == [1, 2]


def test_C_14_a_task_that_slurm_holds_says_so_and_how_to_release_it(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [3], **ONE)
    wait_until((tmp_path / "gate.3").exists)
    slurm_cluster.run(["scontrol", "requeuehold", f"{job.job_id}_0"])

    def held() -> bool:
        queue = SlurmJob(job.folder).status().queue
        # Until its former life has ended it is completing.
        return [(e["state"], e["reason"]) for e in queue] == [
            ("PENDING", "job requeued in held state")
        ]

    wait_until(held)
    status = SlurmJob(job.folder).status()
    assert not status.completed
    assert status.queue[0]["explanation"] == (
        f"was requeued and is held: `scontrol release {job.job_id}` lets it start."
    )
    (tmp_path / "gate").touch()
    slurm_cluster.run(["scontrol", "release", f"{job.job_id}_0"])
    slurm_cluster.run(["scontrol", "update", f"jobid={job.job_id}_0", "starttime=now"])
    assert job.results() == [9]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hide a folder from a node")
def test_C_19_a_node_that_does_not_see_the_folder_leaves_the_rows_to_others(
    make_slurm_cluster: MakeCluster, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_slurm_cluster(accounting=False, hidden={"node02": str(own_folders)})
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    job = slurm_map(node_of, list(range(40)), nodes=4, cpus_per_node=8)
    assert set(job.results()) <= {"node01", "node03", "node04"}
    assert job.status().counts == {"ok": 40}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hide a folder from a node")
def test_C_19_a_folder_that_no_node_sees_is_said_to_be_unshared(
    make_slurm_cluster: MakeCluster, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [f"node0{number}" for number in range(1, 5)]
    cluster = make_slurm_cluster(accounting=False, hidden=dict.fromkeys(nodes, str(own_folders)))
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    job = slurm_map(abs, [-1, -2], **ONE)
    assert job.wait(30).status().counts == {"unfinished": 2}
    assert job.row(0).cause == "never_started"
    assert "a disk that every node sees" in str(job.row(0).message)
    print(job.status(), job.row(0).message)


def test_C_20_a_node_where_nothing_works_does_not_eat_the_rows(slurm_cluster: Cluster) -> None:
    broken = 'if [ "$SLURMD_NODENAME" = node02 ]; then echo no python here >&2; false; fi'
    job = slurm_map(node_of, list(range(60)), nodes=4, cpus_per_node=8, setup=broken)
    nodes = job.results()
    assert "node02" not in nodes
    assert job.status().counts == {"ok": 60}
    consoles = "".join(path.read_text() for path in job.folder.glob("run_0/slurm_*.out"))
    assert "no python here" in consoles


def test_C_20_where_no_node_works_the_consoles_say_why() -> None:
    job = slurm_map(abs, [-1, -2], setup="echo no such module >&2; false", nodes=2, cpus_per_node=1)
    assert job.wait(30).status().counts == {"unfinished": 2}
    report = job.row(0)
    assert report.cause == "never_started"
    assert "its task ended before Python could start it" in str(report.message)


def test_C_21_the_first_task_does_all_rows_while_the_others_wait(slurm_cluster: Cluster) -> None:
    job = slurm_map(node_of, list(range(30)), nodes=3, cpus_per_node=1, task_limit=1)
    started = time.monotonic()
    assert len(set(job.results())) == 1
    assert job.status().state == "finished"
    # The late ones find nothing to do, and end at once.
    queue = ["squeue", "-h", "-j", str(job.job_id), "-t", "PENDING,RUNNING,COMPLETING", "-o", "%T"]
    wait_until(lambda: not slurm_cluster.run(queue).strip(), 20)
    assert time.monotonic() - started < 30
    assert job.status().counts == {"ok": 30}


def test_C_21_tasks_that_can_never_start_keep_no_rows(
    make_slurm_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A cluster of its own: nobody else's tests wait for the nodes that are full here.
    cluster = make_slurm_cluster(accounting=False)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    filler = cluster.run(
        [
            "sbatch",
            "--parsable",
            "--exclusive",
            "--array=0-2",
            "--wrap=sleep 600",
            "-o",
            "/dev/null",
        ]
    ).strip()
    running = ["squeue", "-h", "-j", filler, "-t", "RUNNING", "-o", "%N"]
    wait_until(lambda: len(cluster.run(running).split()) == 3)
    job = slurm_map(node_of, list(range(20)), nodes=4, cpus_per_node=8)
    assert len(set(job.results())) == 1
    job_id = job.job_id
    job.cleanup()
    # A process that has ended is shown as running for a moment.
    asked = ["squeue", "-h", "-o", "%F", "-t", "PENDING,RUNNING"]
    wait_until(lambda: job_id not in cluster.run(asked).split(), 10)


def test_C_22_never_more_tasks_than_rows(slurm_cluster: Cluster) -> None:
    job = slurm_map(abs, [-1, -2, -3], nodes=50, cpus_per_node=1)
    assert job.nodes == 3
    assert job.results() == [1, 2, 3]
    asked = subprocess.run(
        ["squeue", "-h", "--array", "--states=all", "-j", str(job.job_id), "-o", "%K"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert sorted(asked.stdout.split()) == ["0", "1", "2"]
    both = slurm_map(abs, [-1, -2, -3], nodes=50, cpus_per_node=2)
    assert both.nodes == 2
    assert both.results() == [1, 2, 3]
