"""A run as the folder shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import FormatError
from slurmapply.intents import read_intents
from slurmapply.records import LifeView, latest_lives, view_life
from slurmapply.rows import RowNumbers
from slurmapply.schedulers.base import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.intents import Intent
    from slurmapply.jobfolder import Life


#: Ends of tasks that were not their own doing.
_FROM_OUTSIDE = {"SIGTERM", "SIGUSR1", "time_limit"}


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as the folder shows it.

    Attributes
    ----------
    number, asked
        Of the run; its ``run.json``.
    submission
        What it was submitted as, or None.
    rows
        Its rows: the fixed list, or what the rule gives now.
    cancelled
        The mark is there.
    lives
        What its tasks recorded.
    intents
        Attempts to submit it, as long as it has no submission.
    """

    number: int
    asked: Mapping[str, Any]
    submission: Submission | None
    rows: RowNumbers
    cancelled: bool
    lives: list[LifeView] = field(default_factory=list)
    intents: tuple[Intent, ...] = ()

    @property
    def attempts(self) -> int:
        """The number of the next attempt to submit it."""
        return self.intents[-1].attempt + 1 if self.intents else 0

    @property
    def latest(self) -> list[LifeView]:
        """The latest life of each task of the submission."""
        return latest_lives(self.lives)

    @property
    def started(self) -> bool:
        """Whether a task has begun and not ended."""
        return any(view.started and not view.end for view in self.latest)

    @property
    def ended(self) -> bool:
        """Whether all tasks have ended; without a Slurm there is one task only."""
        tasks = 1 if self.submission and self.submission.kind != "slurm" else self.asked["tasks"]
        return bool(tasks) and sum(view.end is not None for view in self.latest) >= tasks

    @property
    def may_come_back(self) -> bool:
        """Whether Slurm may start a task again that has ended: a requeue ends it with SIGTERM."""
        on_slurm = self.submission is None or self.submission.kind == "slurm"
        ends = {view.end["reason"] for view in self.latest if view.end}
        return on_slurm and not self.cancelled and bool(ends & _FROM_OUTSIDE)


def ended_files(run: int, view: LifeView) -> dict[str, int]:
    """Give the outcomes files that a task named at its end, with their sizes; none before that."""
    named = view.end["files"] if view.end is not None else {}
    return {f"{jobfolder.run_folder(run)}/{name}": size for name, size in named.items()}


class RunReader:
    """Reads what the folder shows of runs; what did not change is not taken apart again.

    Parameters
    ----------
    disk, rows
        The folder; number of rows of the job.
    """

    def __init__(self, disk: FolderDisk, rows: int) -> None:
        self._disk = disk
        self._rows = rows
        self._fixed: tuple[bytes, RowNumbers] = (b"", RowNumbers(()))
        self._asked: tuple[int, bytes, dict[str, Any]] = (-1, b"", {})
        self._lives: dict[str, tuple[int, LifeView]] = {}

    def view(self, number: int, left: Callable[[], RowNumbers]) -> RunView:
        """Give a run as the folder shows it now.

        Parameters
        ----------
        number
            Of the run.
        left
            Gives the rows that are not ok.
        """
        asked = self._read_asked(number)
        submission = read_submission(self._disk, number)
        return RunView(
            number,
            asked,
            submission,
            self._rows_of(number, asked["rule"], left),
            self._disk.read(jobfolder.cancelled(number)) is not None,
            self.lives(number),
            () if submission else read_intents(self._disk, number),
        )

    def _read_asked(self, number: int) -> dict[str, Any]:
        # A rule may name ten thousand ranges of rows.
        data = self._disk.read(jobfolder.run_json(number)) or b""
        if self._asked[:2] != (number, data):
            self._asked = number, data, jobfolder.read_run(self._disk, number)
        return self._asked[2]

    def _rows_of(self, number: int, rule: Any, left: Callable[[], RowNumbers]) -> RowNumbers:
        fixed = self._disk.read(jobfolder.run_rows(number))
        if fixed is not None:
            if self._fixed[0] != fixed:
                ranges = jobfolder.decode_json(fixed, self._disk.path)["ranges"]
                self._fixed = fixed, RowNumbers(ranges)
            return self._fixed[1]
        if rule == "all":
            return RowNumbers.first(self._rows)
        return left() if rule == "left" else RowNumbers(rule)

    def lives(self, number: int) -> list[LifeView]:
        """Read the records of all lives of a run; those that did not grow are known."""
        folder = jobfolder.run_folder(number)
        views = []
        for name in sorted(self._disk.names(folder)):
            life = jobfolder.parse_record(name)
            if life is not None:
                views.append(self._life(life, f"{folder}/{name}"))
        return views

    def _life(self, life: Life, path: str) -> LifeView:
        file = self._disk.open(path)
        if file is None:
            return LifeView(life)
        with file:
            size = file.seek(0, os.SEEK_END)
            known = self._lives.get(path)
            if known is not None and known[0] == size:
                return known[1]
            file.seek(0)
            data = file.read()
        view = view_life(life, data)
        # NFS may show a file's new length before its bytes: then it is read again.
        if data.endswith(b"\n") and b"\0" not in data:
            self._lives[path] = len(data), view
        return view


def read_submission(disk: FolderDisk, run: int) -> Submission | None:
    """Read which submission a run belongs to."""
    data = disk.read(jobfolder.submission(run))
    if data is None:
        return None
    content = jobfolder.decode_json(data, Path(jobfolder.submission(run)))
    if not all(isinstance(content.get(name), str) for name in ("kind", "job_id")):
        path = disk.path / jobfolder.submission(run)
        raise FormatError(f"{path} cannot be used: it names no kind and job_id.", path=path)
    details = {key: value for key, value in content.items() if key not in ("kind", "job_id")}
    if content["kind"] == "slurm" and "tasks" not in details:
        details |= _unknown_to_tasks(disk, run)
    return Submission(content["kind"], str(content["job_id"]), details)


def _unknown_to_tasks(disk: FolderDisk, run: int) -> dict[str, Any]:
    """Say what a session knows of its submission and a task, which wrote it down, does not."""
    asked = jobfolder.read_run(disk, run)
    given = {name: value for name, value in asked["resources"].items() if value is not None}
    return {"tasks": asked["tasks"], "options": given, "by_task": True}


def submission_content(submission: Submission) -> dict[str, Any]:
    """Give what is written of a submission."""
    return {"kind": submission.kind, "job_id": submission.job_id, **submission.details}
