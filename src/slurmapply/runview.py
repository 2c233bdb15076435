"""A run as the folder shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import FormatError
from slurmapply.records import LifeView, latest_lives
from slurmapply.schedulers.base import Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.intents import Intent
    from slurmapply.rows import RowNumbers


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
