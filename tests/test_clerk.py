"""The clerk's end of the pipes: what it does on the disk for its supervisor."""

from __future__ import annotations

import json
import os

from slurmapply import jobfolder, slurm_map
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.records import TaskRecord, read_lives
from slurmapply.rows import RowNumbers
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claims
from slurmapply.worker.clerk import Clerk, Desk
from slurmapply.worker.run import plan_run

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
