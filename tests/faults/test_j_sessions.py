"""Sessions that work on one job at the same time: section J of the catalogue."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    JobAliveError,
    JobFolderError,
    SlurmApplyError,
    SlurmJob,
    slurm_apply,
    slurm_map,
)
from tests.faults.provocations import ONE, again, at_once, gated, outcomes_of, wait_until
from tests.test_task import Task, prepare, start  # noqa: F401  # `start` is a fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.slurm_cluster import Cluster

CREATE = """
from slurmapply import JobExistsError, slurm_map
who = int(sys.argv[4])
meet()
try:
    job = slurm_map(lambda x: (x, who), [1, 2], job_name="same", backend="inline")
    print("won", job.results())
except JobExistsError as error:
    print("lost", error)
"""
RETRY = """
from slurmapply import JobAliveError, SlurmJob
job = SlurmJob.open("same")
who = int(sys.argv[4])
meet()
try:
    job.retry(f=lambda x: who)
    print("won", job.results())
except JobAliveError as error:
    print("lost", error)
"""


@pytest.mark.parametrize("times", range(2))
def test_J_01_of_sessions_that_create_one_name_at_once_one_wins(
    own_folders: Path, times: int
) -> None:
    said = at_once(CREATE, [["0"], ["1"], ["2"]], own_folders)
    won = [text for text in said if "won" in text]
    assert len(won) == 1, said
    winner = said.index(won[0])
    assert all("_slurmapply_same exists" in t or "there is a job" in t for t in said if t != won[0])
    assert SlurmJob.open("same").results() == [(1, winner), (2, winner)]
    assert [p.name for p in own_folders.iterdir() if "slurmapply" in p.name] == ["_slurmapply_same"]


@pytest.mark.parametrize("times", range(2))
def test_J_02_of_sessions_that_retry_at_once_one_does(own_folders: Path, times: int) -> None:
    slurm_map(lambda x: 1 / x, [0, 0], job_name="same", backend="local", **ONE).wait()
    said = at_once(RETRY, [["0"], ["1"], ["2"]], own_folders)
    won = [text for text in said if "won" in text]
    assert len(won) == 1, said
    winner = said.index(won[0])
    for text in said:
        assert "won" in text or "already" in text or "it is" in text, text
    job = SlurmJob.open("same")
    assert job.wait().results() == [winner, winner]
    assert len(job.job_ids) == 2
    assert not [path for path in job.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("rows", [None, [0], "ok"])
def test_J_03_a_job_that_runs_is_not_retried(tmp_path: Path, rows: Any) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1], job_name="runs", backend="local", **ONE)
    for handle in (job, again(job)):
        with pytest.raises(JobAliveError, match=r"cannot retry runs now.*job\.wait\(\)"):
            handle.retry(rows)
    (tmp_path / "gate").touch()
    assert job.results() == [1]
    assert len(job.job_ids) == 1


def test_J_04_what_is_read_while_workers_append_is_never_wrong() -> None:
    def slowly(x: int) -> tuple[int, str]:
        time.sleep(0.004)
        return x, "x" * (x % 300)

    job = slurm_map(slowly, range(400), job_name="reads", backend="local")
    before, looks = 0, 0
    readers = [again(job), again(job)]
    while True:
        over = job.status().completed
        seen = readers[looks % 2].results(wait=False)
        assert all(v is None or v == (x, "x" * (x % 300)) for x, v in enumerate(seen))
        done = sum(value is not None for value in seen)
        assert done >= before
        before, looks = done, looks + 1
        if over:
            break
    assert looks > 5
    assert job.results() == [(x, "x" * (x % 300)) for x in range(400)]


def test_J_05_a_job_that_runs_is_deleted_only_after_its_end(
    tmp_path: Path, own_folders: Path
) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1, 2], job_name="runs", backend="local", **ONE)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    with pytest.raises(JobAliveError, match="cannot clean up"):
        again(job).cleanup(wait=False)
    assert again(job).status().state == "running"
    job.cancel()
    job.wait(timeout=20)
    job.cleanup()
    assert not list(own_folders.iterdir())


def test_J_06_tasks_that_start_after_the_cancellation_run_nothing(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    # The queue is asked to start them at the very moment at which the job is cancelled.
    job = slurm_map(
        gated(tmp_path / "gate"), range(8), job_name="cancelled", nodes=4, cpus_per_node=2,
        slurm_options={"hold": True},
    )  # fmt: skip
    release = threading.Thread(
        target=slurm_cluster.run, args=(["scontrol", "release", str(job.job_id)],)
    )
    release.start()
    job.cancel()
    release.join()
    assert (job.folder / "run_0/cancelled").exists()
    assert job.wait(timeout=30).status().state == "cancelled"
    assert set(job.status().counts) == {"cancelled"}
    (tmp_path / "gate").touch()


def test_J_06_the_mark_alone_keeps_a_late_task_from_rows(
    start: Callable[..., Task],  # noqa: F811
    tmp_path: Path,
) -> None:
    job = prepare(gated(tmp_path / "gate"), 4)
    (tmp_path / "gate").touch()
    (job.folder / "run_0/cancelled").touch()
    task = start(job, 0)
    assert "was cancelled before this task started" in task.end()
    assert task.process.returncode == 0
    assert not list(tmp_path.glob("gate.*"))


def test_J_07_who_reads_a_job_that_another_session_deleted_is_told(own_folders: Path) -> None:
    job = slurm_apply(lambda x: [x], {"x": [1, 2]}, job_name="deleted", backend="inline")
    reader, late = again(job), again(job)
    assert reader.results() == [[1], [2]]
    job.cleanup()
    for ask in (reader.results, late.results, late.status, late.table, late.retry, late.errors):
        with pytest.raises(JobFolderError, match=r"_slurmapply_deleted.*(deleted|gone)"):
            ask()
    assert "deleted" in repr(late)
    with pytest.raises(JobFolderError, match="no job 'deleted'"):
        SlurmJob.open("deleted")
    assert not list(own_folders.iterdir())


def test_J_07_results_are_read_whole_or_not_at_all_while_the_folder_goes() -> None:
    for _ in range(8):
        job = slurm_map(lambda x: [x], range(300), job_name="going", backend="inline")
        readers = [again(job) for _ in range(20)]
        cleaning = threading.Thread(target=job.cleanup)
        cleaning.start()
        for reader in readers:
            seen: list[Any] = []
            with contextlib.suppress(SlurmApplyError):
                seen = reader.results(wait=False, errors="keep")
            assert all(
                value in ([row], None) or isinstance(value, SlurmApplyError)
                for row, value in enumerate(seen)
            )
        cleaning.join()
        assert not job.folder.exists()


def test_J_08_a_second_submission_of_the_same_folder_runs_nothing(
    start: Callable[..., Task],  # noqa: F811
    tmp_path: Path,
) -> None:
    job = prepare(gated(tmp_path / "gate"), 4, nodes=1)
    here = start(job, 0)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    # The other cluster's tasks know nothing of the first one's, and have the same numbers.
    there = start(job, 0, submission="88")
    assert "belongs to slurm job 77; this is 88, which ends here" in there.end()
    (tmp_path / "gate").touch()
    here.end()
    assert again(job).results(wait=False) == [0, 1, 4, 9]
    assert all(len(path.read_text()) == 1 for path in tmp_path.glob("gate.*"))


def test_J_09_another_users_job_is_followed_and_its_values_are_not_loaded() -> None:
    job = slurm_apply(lambda x: [x], {"x": [1]}, job_name="shared", backend="inline")
    job.folder.chmod(0o2770)  # as for a group that works on it together
    reader = again(job)
    assert reader.status().counts == {"ok": 1}
    with pytest.raises(JobFolderError, match="trust=True"):
        reader.results()
    assert SlurmJob(job.folder, trust=True).results() == [[1]]


def test_J_10_an_old_view_of_the_folder_is_behind_and_never_wrong(tmp_path: Path) -> None:
    job = slurm_map(lambda x: 1 / x, [1, 0], job_name="stale", backend="inline")
    stale = tmp_path / "stale"
    shutil.copytree(job.folder, stale)
    outcomes = outcomes_of(SlurmJob(stale))
    hidden = tmp_path / "hidden"
    outcomes.rename(hidden)
    job.retry(f=lambda x: x)
    old = SlurmJob(stale)
    assert old.results(wait=False, errors="keep") == [None, None]
    hidden.rename(outcomes)
    assert old.status().counts == {"ok": 1, "error": 1}
    # Its files come later, the newest first.
    for name in ("run_1",):
        shutil.copytree(job.folder / name, stale / name)
    assert old.results() == [1.0, 0]
    assert old.status().counts == {"ok": 2}
