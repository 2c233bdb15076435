"""What the status says of tasks that wait: when Slurm expects their start, until they begin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import JobState, JobStatus, SlurmJob, slurm_map
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import read_run
from slurmapply.schedulers.base import Phase, TaskState
from slurmapply.status import expected, sorted_queue
from tests.faults.on_slurm import Task
from tests.shims import Shims, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster import Cluster

NOON = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (25 * 60, "Slurm expects it to start about 12:25 (in 25 min)."),
        (20, "Slurm expects it to start about 12:00 (in 20 s)."),
        (26 * 3600, "Slurm expects it to start about Mon 23 Nov 14:00 (in 26.0 h)."),
        (0, ""),  # Slurm's estimate is from before
        (-600, ""),
    ],
)
def test_the_time_and_how_long_that_is(seconds: int, said: str) -> None:
    assert expected(NOON + seconds, NOON) == said


def line(**more: Any) -> str:
    state = TaskState("7", 0, Phase.WAITING, "PENDING", **more)
    status = JobStatus("fit", JobState.QUEUED, {"pending": 1}, queue=sorted_queue([state]))
    return str(status).splitlines()[1]


def test_the_status_says_it_after_the_reason() -> None:
    soon = time.time() + 3600
    said = line(reason="Priority", explanation="waits its turn.", expected_start=soon)
    assert said.startswith(
        "  7 task 0: PENDING (Priority): waits its turn. Slurm expects it to start"
    )
    assert line(expected_start=soon).startswith("  7 task 0: PENDING. Slurm expects it to start")


def test_nothing_is_said_of_what_slurm_does_not_know() -> None:
    assert line(reason="Priority", explanation="waits its turn.") == (
        "  7 task 0: PENDING (Priority): waits its turn."
    )
    assert "expects" not in line(expected_start=time.time() - 60)


def test_a_queue_without_the_entry_is_shown_too() -> None:
    entry = {
        "job_id": "7",
        "task": 0,
        "state": "PENDING",
        "reason": "",
        "explanation": "",
        "host": "",
    }
    assert "7 task 0: PENDING" in str(
        JobStatus("fit", JobState.QUEUED, {"pending": 1}, queue=[entry])
    )


def test_slurms_own_estimate(
    make_slurm_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    everything = ["--nodes=4", "--exclusive", "--mem=0", "--time=20"]
    cluster.run(["sbatch", "--output=/dev/null", *everything, "--wrap", "sleep 600"])
    wait_until(lambda: "RUNNING" in cluster.run(["squeue", "-h", "-o", "%T"]))
    job = slurm_map(abs, [-1], nodes=1, cpus_per_node=1, backend="slurm")
    estimate = ["squeue", "-h", "-t", "PENDING", "-o", "%S"]
    wait_until(lambda: cluster.run(estimate).strip() not in {"", "N/A"})
    # The first handle may have asked before there was an estimate, and asks seldom.
    status = SlurmJob.open(job.name).status()
    start = status.queue[0]["expected_start"]
    assert start is not None
    assert 15 * 60 < start - time.time() < 25 * 60
    assert "Slurm expects it to start about " in str(status)
    job.cancel()


def test_a_task_that_has_begun_is_not_said_to_wait(shims: Shims) -> None:
    shims.add("sbatch", "echo 77")
    shims.add("sacct", "true")
    shims.add("squeue", "exit 1")
    job = slurm_map(lambda _: time.sleep(60), [0, 1], cpus_per_node=1, backend="slurm")
    name = f"{job.name}_{read_run(FolderDisk(job.folder), 0)['tag']}"
    lines = (f"77|{task}|PENDING||N/A|{name}|Priority" for task in (0, 1))
    shims.add("squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}")
    wait_until(lambda: len(job.status().queue) == 2)
    task = Task(job)
    try:
        # Slurm is not asked anew for half a minute, and its answer is older than the record.
        wait_until(lambda: job.status().counts.get("running") == 1)
        assert [entry["task"] for entry in job.status().queue] == [1]
        assert shims.calls("squeue") == 1
    finally:
        task.process.terminate()
        task.end()
