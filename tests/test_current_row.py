"""What a function can ask about its row, and a long row that goes on from its own checkpoint."""

from __future__ import annotations

import importlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, current_row, slurm_apply, slurm_map
from tests.requeueing import requeue

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[1] / "examples"
STEPS = 150


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.syspath_prepend(EXAMPLES)
    function: Callable[..., Any] = importlib.import_module("checkpoint").walk
    return function


def uninterrupted(walk: Callable[..., Any], seed: int) -> list[float]:
    params = {"steps": [STEPS] * 2, "pause": [0.0] * 2}
    job = slurm_apply(walk, params, seed=seed, backend="inline", job_name="whole")
    return [result["position"] for result in job.results()]


@pytest.mark.slurm
def test_a_requeued_row_goes_on_from_its_checkpoint(walk: Callable[..., Any]) -> None:
    # Longer than the five seconds that the test cluster gives a task to end.
    job = slurm_apply(walk, {"steps": [STEPS], "pause": [0.08]}, seed=3, nodes=1, job_name="long")
    saved = job.folder / "rows_" / "0" / "state.json"
    requeue(job, when=lambda: saved.exists() and json.loads(saved.read_text())["step"] >= 10)
    stopped_at = json.loads(saved.read_text())["step"]
    assert 10 <= stopped_at < STEPS

    result = job.result()
    assert result["attempt"] == 2
    assert stopped_at <= result["began_at"] <= stopped_at + 1
    assert result["position"] == uninterrupted(walk, 3)[0]
    assert job.logs(row=0) == f"attempt 2 begins at step {result['began_at']}\n"


def test_a_retried_row_goes_on_from_its_checkpoint(walk: Callable[..., Any]) -> None:
    def fails_at_first(steps: int, pause: float) -> Any:
        if current_row().attempt == 1:
            walk(steps // 2, pause)
            raise OSError("as if the node failed")
        return walk(steps, pause)

    params = {"steps": [STEPS] * 2, "pause": [0.0] * 2}
    job = slurm_apply(fails_at_first, params, seed=3, backend="local").wait()
    assert job.status().counts == {"error": 2}
    results = job.retry().results()
    assert [result["began_at"] for result in results] == [STEPS // 2] * 2
    assert [result["position"] for result in results] == uninterrupted(walk, 3)


def test_the_example_runs() -> None:
    command = [sys.executable, str(EXAMPLES / "checkpoint.py"), "--steps=3", "--pause=0"]
    sources = os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src")}
    done = subprocess.run(command, env=sources, capture_output=True, text=True, check=True)
    header, *lines = done.stdout.splitlines()[-3:]
    assert header.split() == ["steps", "pause", "position", "attempt", "began_at"]
    assert [line.split()[-2:] for line in lines] == [["1", "0"], ["1", "0"]]
    assert not list(Path().iterdir())


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_a_row_knows_its_number_attempt_and_folder(backend: str) -> None:
    def look(item: str) -> tuple[Any, ...]:
        row = current_row()
        if item != "no folder":
            with (row.folder / "notes").open("a") as file:
                print(row.attempt, file=file)
        return row.number, row.attempt, row.folder if item != "no folder" else None

    items = ["a", "b", "no folder"]
    job = slurm_map(look, items, backend=backend)
    rows = job.folder / "rows_"
    assert job.results() == [(0, 1, rows / "0"), (1, 1, rows / "1"), (2, 1, None)]
    assert job.retry([1]).results()[1] == (1, 2, rows / "1")
    assert (rows / "1" / "notes").read_text() == "1\n2\n"
    assert sorted(path.name for path in rows.iterdir()) == ["0", "1"]
    assert stat.S_IMODE((rows / "1").stat().st_mode) == 0o700
    assert SlurmJob(job.folder).run_row(0) == (0, 1, rows / "0")


def test_outside_a_job_it_is_harmless() -> None:
    slurm_map(abs, [1], backend="inline")
    row = current_row()
    assert (row.number, row.attempt, row.folder) == (None, 1, Path.cwd())
    assert not list(Path.cwd().glob("rows_"))
