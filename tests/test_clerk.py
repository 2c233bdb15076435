"""The clerk's end of the pipes: what it does on the disk for its supervisor."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from slurmapply import jobfolder, slurm_map
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.records import TaskRecord, read_lives
from slurmapply.rows import RowNumbers
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claims
from slurmapply.worker.clerk import Clerk, Desk
from slurmapply.worker.memory import TaskMemory
from slurmapply.worker.run import plan_run

if TYPE_CHECKING:
    import pytest

LIFE = Life("77", 0, 0)


def desks(number: int) -> tuple[FolderDisk, list[Desk]]:
    """Give clerks of one life of a task, one after the other."""
    job = slurm_map(abs, range(6), job_name="desks", chunksize=3, submit=False)
    disk = FolderDisk(job.folder)
    uuid = jobfolder.read_job(disk)["uuid"]
    run = plan_run(0, uuid, RowNumbers.first(6), jobfolder.read_run(disk, 0))
    record = TaskRecord(disk, 0, LIFE)
    claims = [Claims(disk, run, LIFE, Survey(disk, uuid, 6)) for _ in range(number)]
    return disk, [Desk(disk, run, each, record) for each in claims]


def given_up(disk: FolderDisk) -> list[tuple[int, int]]:
    (view,) = read_lives(disk, 0)
    return view.held


def test_a_second_clerk_gives_up_what_the_first_claimed_and_could_not_tell() -> None:
    disk, (first, second) = desks(2)
    assert first.do_take()["claim"]["chunk"] == 0
    second.do_stop("clerk_died", "", chunks=[], rows=[], outcomes=[], replaced=True)
    assert given_up(disk) == [(0, 0)]


def test_a_clerk_that_was_never_replaced_believes_its_supervisor() -> None:
    disk, (only,) = desks(1)
    only.do_take()
    only.do_stop("SIGUSR1", "", chunks=[[0, 0]], rows=[[1, 1]], outcomes=[], replaced=False)
    assert given_up(disk) == [(0, 0)]
    (view,) = read_lives(disk, 0)
    assert list(view.in_workers) == [1]
    assert view.attempts == {1: 1}


def test_what_was_asked_and_not_answered_is_not_asked_once_more() -> None:
    (takes, asks), (replies, answers) = os.pipe(), os.pipe()
    clerk = Clerk(0, asks, replies)
    for row in (1, 2, 1, 2):
        clerk.ask_once("trim", row=row)
    assert [json.loads(line)["row"] for line in os.read(takes, 4096).splitlines()] == [1, 2]
    os.write(answers, b'{"reply": "done"}\n')
    assert clerk.receive() == [{"reply": "done"}]
    for row in (1, 2):
        clerk.ask_once("trim", row=row)
    assert [json.loads(line)["row"] for line in os.read(takes, 4096).splitlines()] == [1]
    clerk.close()
    for end in (takes, answers):
        os.close(end)


def test_the_end_says_what_the_task_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskMemory, "peak", lambda _: 100 << 20)
    monkeypatch.setattr(TaskMemory, "limit", lambda _: (1 << 30) + (1 << 19))
    disk, (only,) = desks(1)
    only.do_finish("done", cpu=1.25)
    (view,) = read_lives(disk, 0)
    assert view.end is not None
    used = {name: view.end[name] for name in ("cpu_seconds", "peak_mb", "memory_mb")}
    assert used == {"cpu_seconds": 1.25, "peak_mb": 100.0, "memory_mb": 1024.5}


def test_the_end_says_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskMemory, "peak", lambda _: None)
    monkeypatch.setattr(TaskMemory, "limit", lambda _: None)
    disk, (only,) = desks(1)
    only.do_finish("done")
    (view,) = read_lives(disk, 0)
    assert view.end is not None
    assert {view.end[name] for name in ("cpu_seconds", "peak_mb", "memory_mb")} == {None}
