"""A run as the folder shows it, and why rows of it are left when nothing runs any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.records import LifeView, latest_lives
from slurmapply.schedulers.base import Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.disk import FolderDisk
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
    """

    number: int
    asked: Mapping[str, Any]
    submission: Submission | None
    rows: RowNumbers
    cancelled: bool
    lives: list[LifeView] = field(default_factory=list)

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


def why_unfinished(disk: FolderDisk, run: RunView, row: int) -> tuple[str, str]:
    """Say why a row is left though nothing can run it any more: cause and sentence."""
    ran = any(row in view.running for view in run.lives)
    if run.cancelled:
        return "cancelled", f"the job was cancelled {'while' if ran else 'before'} this row ran"
    given_up = {view.stopping["reason"]: view.stopping for view in run.lives if view.stopping}
    if "load_failed" in given_up:
        message = given_up["load_failed"]["message"]
        return "load_failed", f"the function could not be loaded on the node: {message}"
    if "write_failed" in given_up:
        return "write_failed", given_up["write_failed"]["message"]
    if not any(view.started for view in run.lives):
        return "never_started", _why_never_started(disk, run)
    if given_up:
        return "stopped_early", f"its task was stopped by {', '.join(given_up)}"
    return "killed", "its task ended without a word: it was killed, or its node died"


def _why_never_started(disk: FolderDisk, run: RunView) -> str:
    """Quote the last line of a task's console: the shell's or Slurm's reason."""
    for task in range(run.asked["tasks"]):
        text = disk.read(jobfolder.task_console(run.number, task)) or b""
        lines = text.decode("utf-8", "replace").strip().splitlines()
        if lines:
            return f"its task ended before Python could start it: {lines[-1]}"
    return (
        "no task wrote a sign of life: Slurm never started one, or the nodes do not see "
        f"{disk.path} (job.status() says what Slurm knows)"
    )


def read_submission(disk: FolderDisk, run: int) -> Submission | None:
    """Read which submission a run belongs to."""
    data = disk.read(jobfolder.submission(run))
    if data is None:
        return None
    content = jobfolder.decode_json(data, Path(jobfolder.submission(run)))
    details = {key: value for key, value in content.items() if key not in ("kind", "job_id")}
    return Submission(content["kind"], str(content["job_id"]), details)


def submission_content(submission: Submission) -> dict[str, Any]:
    """Give what is written of a submission."""
    return {"kind": submission.kind, "job_id": submission.job_id, **submission.details}
