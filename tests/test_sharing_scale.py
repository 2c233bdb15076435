"""What many tasks ask of the shared disk while they share out rows: counted, not timed."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import pytest

from benchmarks.scale import CountingDisk, claims_expected, simulate
from slurmapply import jobfolder, slurm_map
from slurmapply.jobfolder import Life
from slurmapply.records import TaskRecord
from slurmapply.rows import RowNumbers
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claims
from slurmapply.worker.run import Run, plan_run
from tests.shims import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class SilentDisk(CountingDisk):
    """Does what it is asked, and says of some of it that it could not."""

    silent: tuple[str, ...] = ()

    def _say_nothing(self, step: str) -> None:
        if step in self.silent:
            self.silent = ()
            raise OSError(errno.EIO, "no answer")

    def link(self, source: str, name: str) -> bool:
        won = super().link(source, name)
        self._say_nothing("link")
        return won

    def forget(self, source: str, name: str) -> None:
        super().forget(source, name)
        self._say_nothing("forget")


UUID = "00" * 16
ASKED = {
    "tasks": 20, "processes_per_node": 2, "cpus_per_node": 2, "schedule": "dynamic",
    "chunksize": None, "retries": 0, "row_timeout": None, "max_failures": None,
}  # fmt: skip


@pytest.mark.parametrize(("rows", "tasks"), [(1000, 4), (20_000, 40), (100_000, 100)])
def test_claims_follow_the_formula_and_few_are_lost(rows: int, tasks: int, tmp_path: Path) -> None:
    asked = simulate(rows, tasks, 4, tmp_path)
    assert asked["rows"] == rows
    assert asked["claims"] <= 1.2 * claims_expected(rows, tasks) + tasks
    assert asked["lost"] <= asked["claims"] / 10
    assert asked["link"] == asked["claims"] + asked["lost"]
    assert asked["list"] <= asked["claims"] + 2 * tasks


def test_files_of_a_job_are_those_of_the_page(tmp_path: Path) -> None:
    job = slurm_map(abs, range(500), backend="local", jobs_folder=tmp_path).wait()

    def as_on_the_page() -> bool:
        files = [path for path in job.folder.rglob("*") if path.is_file()]
        claims = [path for path in files if path.parent.name == "claims"]
        workers = [path for path in files if path.suffix == ".rec"]
        return bool(workers) and len(files) == 12 + 2 + len(workers) + len(claims)

    wait_until(as_on_the_page)  # the task takes its last leave after the last row


@pytest.fixture
def run() -> Run:
    return plan_run(0, UUID, RowNumbers.first(40), ASKED)


@pytest.fixture
def disk(tmp_path: Path) -> SilentDisk:
    """Make the folder of a run of which many tasks have begun."""
    disk = SilentDisk(tmp_path)
    for name in ("run_0", "run_0/claims"):
        disk.make_folder(name)
    for task in range(20):
        TaskRecord(disk, 0, Life("1", task, 0)).start(2)
    return disk


def take_all(disk: CountingDisk, run: Run, life: Life) -> Claims:
    claims = Claims(disk, run, life, Survey(disk, UUID, 40))
    while claims.take() is not None:
        pass
    return claims


def test_who_finds_nothing_left_reads_no_record_of_others(disk: CountingDisk, run: Run) -> None:
    claims = take_all(disk, run, Life("1", 0, 0))
    disk.asked.clear()
    assert claims.take() is None
    assert disk.asked["read"] <= 2
    assert disk.asked["names"] == 0


def test_of_tasks_that_stop_early_the_records_are_read(disk: CountingDisk, run: Run) -> None:
    claims = take_all(disk, run, Life("1", 0, 0))
    stopping = Life("1", 3, 0)
    assert disk.link(stopping.record(0), jobfolder.claim(0, 5, 1))
    disk.remove(jobfolder.claim(0, 5, 0))
    TaskRecord(disk, 0, stopping).stop("SIGUSR1", "", chunks=[(5, 1)], rows=[])
    disk.asked.clear()
    claim = claims.take()
    assert claim is not None
    assert (claim.chunk, claim.generation) == (5, 2)
    assert disk.asked["read"] <= 8


@pytest.mark.parametrize("step", ["link", "forget"])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_claim_without_an_answer_is_found_to_be_ones_own(
    step: str, before: int, disk: SilentDisk, run: Run
) -> None:
    claims = Claims(disk, run, Life("1", 0, 0), Survey(disk, UUID, 40))
    taken = [claims.take() for _ in range(before)]
    disk.silent = (step,)
    with contextlib.suppress(OSError):  # each life forgets one token only
        taken.append(claims.take())
    while found := claims.take():
        taken.append(found)
    assert [claim and claim.chunk for claim in taken] == list(range(len(run.plan)))


def test_a_chunk_that_was_taken_again_without_an_answer_is_ones_own(
    disk: SilentDisk, run: Run
) -> None:
    claims = take_all(disk, run, Life("1", 0, 0))
    stopping = Life("1", 3, 0)
    assert disk.link(stopping.record(0), jobfolder.claim(0, 5, 1))
    TaskRecord(disk, 0, stopping).stop("SIGUSR1", "", chunks=[(5, 1)], rows=[])
    disk.silent = ("link",)
    with pytest.raises(OSError, match="no answer"):
        claims.take()
    claim = claims.take()
    assert claim is not None
    assert (claim.chunk, claim.generation) == (5, 2)


def test_a_task_goes_round_from_its_own_chunk_in_each_round(disk: SilentDisk, run: Run) -> None:
    claims = Claims(disk, run, Life("1", 17, 0), Survey(disk, UUID, 40))
    taken = []
    while claim := claims.take():
        taken.append(claim.chunk)
    assert len(run.plan) == 40
    for first in (0, 20):
        assert taken[first : first + 20] == [
            *range(first + 17, first + 20),
            *range(first, first + 17),
        ]
