"""A worker whose outcomes cannot be written, also after minutes."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder, slurm_map
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.rows import RowNumbers
from slurmapply.seeds import seed_of
from slurmapply.worker.messages import GROUP, NOT_WRITTEN, READY, REPORT
from slurmapply.worker.page import NO_ROW, Page
from slurmapply.worker.process import Assignment, Session, work
from slurmapply.worker.writing import OutcomesWriter

if TYPE_CHECKING:
    import pytest


def test_a_worker_that_cannot_write_blames_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OutcomesWriter, _frame: bytes) -> None:
        self._abandon()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OutcomesWriter, "write", refuse)
    job = slurm_map(abs, [-1, -2], job_name="full", submit=False)
    disk = FolderDisk(job.folder)
    content, page = jobfolder.read_job(disk), Page()
    assignment = Assignment(
        disk,
        content["uuid"],
        RowNumbers.first(2),
        jobfolder.function_files(jobfolder.read_run(disk, 0)),
        Life("77", 0, 0).outcomes(0, "0"),
        Session(content["session"]["folder"], (), (), seed_of(content)),
    )
    console = SimpleNamespace(
        length=lambda: 0, begin=lambda _: None, end=lambda *_: 0, mend=lambda: None
    )
    takes, groups = os.pipe()
    reports, gives = os.pipe()
    os.write(groups, GROUP.pack(0, 2, 1, 0))
    own: Any = console, SimpleNamespace(moved=False, started=False)  # stand-ins
    assert work(assignment, page, own, takes, gives) == 1
    kinds = [REPORT.unpack(os.read(reports, REPORT.size))[0] for _ in range(2)]
    assert kinds == [READY, NOT_WRITTEN]
    assert "No space left on device" in page.text
    assert page.row.position == NO_ROW
    for end in (takes, groups, reports, gives):
        os.close(end)
