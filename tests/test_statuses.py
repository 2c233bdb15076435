"""Statuses of rows that the latest run leaves alone: the run counts that had them last."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from slurmapply import JobState, slurm_apply
from slurmapply.choice import Outcomes
from slurmapply.jobfolder import Life
from slurmapply.records import LifeView
from slurmapply.rows import RowNumbers
from slurmapply.runview import RunView
from slurmapply.states import OVER
from slurmapply.statuses import WORDS, Statuses

if TYPE_CHECKING:
    from slurmapply import SlurmJob

ROWS = 6


def run(number: int, *ranges: tuple[int, int], cancelled: bool = False) -> RunView:
    return RunView(number, {"tasks": 1}, None, RowNumbers(ranges), cancelled)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FINISHED, JobState.CANCELLED])
def test_a_row_without_an_outcome_is_as_its_last_run_left_it(state: JobState) -> None:
    statuses = Statuses(Outcomes(ROWS))
    statuses.note_earlier([run(0, (0, ROWS)), run(1, (1, 3), cancelled=True), run(2, (2, 3))])
    latest = run(3, (4, 5), cancelled=state is JobState.CANCELLED)
    missing = {"running": "pending", "finished": "unfinished", "cancelled": "cancelled"}[state]
    expected = ["unfinished", "cancelled", "unfinished", "unfinished", missing, "unfinished"]
    assert [WORDS[code] for code in statuses.codes(latest, state)] == expected
    assert [statuses.of_row(row, latest, state) for row in range(ROWS)] == expected
    counts, _ = statuses.count(latest, state)
    assert counts == {word: expected.count(word) for word in expected}


def test_only_a_task_that_has_not_ended_runs_rows() -> None:
    life = LifeView(Life("x", 0, 0))
    life.running = {2: {"row": 2, "attempt": 1}}
    view = dataclasses.replace(run(0, (0, ROWS)), lives=[life])
    statuses = Statuses(Outcomes(ROWS))
    expected = Counter(pending=ROWS - 1, running=1)
    assert statuses.count(view, JobState.RUNNING)[0] == expected
    assert statuses.of_row(2, view, JobState.RUNNING) == "running"
    life.end = {"reason": "SIGTERM", "files": {}}
    assert statuses.count(view, JobState.RUNNING)[0] == Counter(pending=ROWS)
    assert statuses.of_row(2, view, JobState.RUNNING) == "pending"


def words(job: SlurmJob) -> list[str]:
    return list(job.table(wait=False, errors="keep")["row_status"])


def test_a_retry_of_some_rows_does_not_change_the_words_for_others() -> None:
    def waits(x: int) -> int:
        time.sleep(60)
        return x

    job = slurm_apply(waits, {"x": [0, 1, 2]}, backend="local", nodes=1, cpus_per_node=1)
    job.cancel()
    assert words(job.wait()) == ["cancelled"] * 3
    job.retry(rows=[1], f=lambda x: x).wait()
    assert words(job) == ["cancelled", "ok", "cancelled"]
    assert job.status().counts == {"ok": 1, "cancelled": 2}
    job.retry(rows=[0], f=waits)
    assert (words(job)[1:], job.status().state in OVER) == (["ok", "cancelled"], False)
    job.cancel()
    assert words(job.wait()) == ["cancelled", "ok", "cancelled"]
