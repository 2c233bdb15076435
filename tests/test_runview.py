"""What the folder shows of a run: whether its tasks have ended, and whether they may come back."""

from __future__ import annotations

from typing import Any

import pytest

from slurmapply.jobfolder import Life
from slurmapply.records import LifeView
from slurmapply.rows import RowNumbers
from slurmapply.runview import RunView
from slurmapply.schedulers.base import Submission


def run(kind: str | None, ends: list[str | None], tasks: int = 3, **more: Any) -> RunView:
    """Make a run of which some tasks have begun; a task that has not ended has None."""
    lives = []
    for task, reason in enumerate(ends):
        life = LifeView(Life("x", task, 0))
        life.started = {"time": 1.0, "host": "n", "node": "n"}
        life.end = None if reason is None else {"reason": reason, "files": {}}
        lives.append(life)
    submission = None if kind is None else Submission(kind, "7", {})
    more = {"cancelled": False} | more
    return RunView(0, {"tasks": tasks}, submission, RowNumbers.first(9), lives=lives, **more)


@pytest.mark.parametrize(
    ("kind", "ends", "ended"),
    [
        ("slurm", ["done", "done", "done"], True),
        ("slurm", ["done", "done"], False),
        ("slurm", ["done", None, "done"], False),
        (None, ["done", "done"], False),
        ("local", ["done"], True),
        ("inline", ["done"], True),
        ("local", [None], False),
        ("local", [], False),
    ],
)
def test_a_run_has_ended_with_the_last_of_its_tasks(
    kind: str | None,
    ends: list[str | None],
    ended: bool,  # noqa: FBT001  # a parameter
) -> None:
    assert run(kind, ends).ended is ended


def test_a_run_without_tasks_never_ends() -> None:
    assert not run("slurm", [], tasks=0).ended


@pytest.mark.parametrize(
    ("kind", "reason", "cancelled", "back"),
    [
        ("slurm", "SIGTERM", False, True),
        ("slurm", "SIGUSR1", False, True),
        ("slurm", "time_limit", False, True),
        (None, "SIGTERM", False, True),
        ("slurm", "SIGTERM", True, False),
        ("slurm", "done", False, False),
        ("slurm", "load_failed", False, False),
        ("local", "SIGTERM", False, False),
    ],
)
def test_slurm_alone_starts_again_what_was_ended_from_outside(
    kind: str | None,
    reason: str,
    cancelled: bool,  # noqa: FBT001  # a parameter
    back: bool,  # noqa: FBT001
) -> None:
    assert run(kind, ["done", reason, "done"], cancelled=cancelled).may_come_back is back
