"""A run in the session's own process: the same rows, call and outcome files, without workers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.jobfolder import FolderDisk, Life
from slurmapply.records import TaskRecord
from slurmapply.worker.page import Page
from slurmapply.worker.process import Assignment, RowLoop, Session, load
from slurmapply.worker.run import adopt, fix_rows

if TYPE_CHECKING:
    from pathlib import Path


def run_inline(path: Path, number: int, job_id: str) -> None:
    """Run all rows of a run here and now; a KeyboardInterrupt ends it and leaves what is done."""
    disk = FolderDisk(path)
    job, asked = jobfolder.read_job(disk), jobfolder.read_run(disk, number)
    adopt(disk, number, {"kind": "inline", "job_id": job_id})
    life = Life(job_id, 0, 0)
    rows = fix_rows(disk, job["uuid"], job["rows"], number, asked["rule"])
    record = TaskRecord(disk, number, life)
    record.append("started", time=time.time(), host="", pid=0, workers=1)
    assignment = Assignment(
        disk,
        job["uuid"],
        rows,
        jobfolder.function_files(asked),
        life.outcomes(number, "0"),
        Session("", (), tuple(asked["packages"])),
    )
    call, arguments = load(assignment)
    if call.initializer is not None:
        call.initializer()
    loop = RowLoop(assignment, call, arguments, Page(), interruptible=True)
    try:
        loop.run(range(len(rows)), 1)
    finally:
        loop.close()
        record.append("end", reason="done", time=time.time())
