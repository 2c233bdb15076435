"""What the keywords of a run become in the job folder, and at sbatch."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, set_defaults, settings, slurm_apply, slurm_call, slurm_map

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_defaults() -> Iterator[None]:
    settings.session.cache_clear()
    yield
    settings.session.cache_clear()


def run_json(job: SlurmJob, run: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job.folder / f"run_{run}" / "run.json").read_text())
    return content


def prepared(**keywords: Any) -> dict[str, Any]:
    return run_json(slurm_map(abs, [1, 2, 3], submit=False, **keywords))


def test_what_stands_when_nothing_is_asked_for() -> None:
    content = prepared()
    assert (content["row_timeout"], content["max_failures"], content["retries"]) == (
        None,
        "auto",
        0,
    )
    assert (content["gpus_per_node"], content["time_seconds"]) == (None, None)


@pytest.mark.parametrize(
    ("row_timeout", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("10m", 600.0),
        ("1:30:00", 5400.0),
        (timedelta(minutes=2), 120.0),
        (None, None),
    ],
)
def test_a_row_timeout_is_stored_in_seconds(row_timeout: Any, seconds: float | None) -> None:
    stored = prepared(row_timeout=row_timeout)["row_timeout"]
    assert stored == seconds
    assert isinstance(stored, (float, type(None)))


@pytest.mark.parametrize("max_failures", ["auto", 3, None])
def test_max_failures_is_stored_as_given(max_failures: Any) -> None:
    assert prepared(max_failures=max_failures)["max_failures"] == max_failures


@pytest.mark.parametrize(
    ("keywords", "seconds"),
    [
        ({"time": "2h"}, 7200),
        ({"slurm_options": {"time": 90}}, 5400),
        ({"slurm_options": {"time": "1-12"}}, 129600),
        ({"time": "2h", "slurm_options": {"time_min": "1:00:00"}}, 3600),
        ({"time": "unlimited"}, None),
        ({"slurm_options": {"time": 0}}, None),
    ],
)
def test_the_time_limit_is_stored_in_seconds(keywords: Any, seconds: int | None) -> None:
    assert prepared(**keywords)["time_seconds"] == seconds


@pytest.mark.parametrize(("asked", "number"), [(2, 2), ("a100:2", 2), ("gtx_1080-ti:12", 12)])
def test_gpus_are_counted_for_the_node_and_asked_of_sbatch(asked: Any, number: int) -> None:
    job = slurm_map(abs, [1], gpus_per_node=asked, submit=False)
    assert run_json(job)["gpus_per_node"] == number
    script = (job.folder / "submit.sh").read_text()
    assert f"#SBATCH --gpus-per-node={asked}\n" in script


def test_a_retry_and_a_submission_change_them() -> None:
    job = slurm_map(abs, [1, 2], backend="inline", submit=False, row_timeout=5, retries=1)
    job.submit(row_timeout=None, max_failures=7)
    assert run_json(job)["row_timeout"] is None
    assert run_json(job)["max_failures"] == 7
    job.retry([0], row_timeout="2m", retries=3, gpus_per_node=1)
    content = run_json(job, 1)
    assert (content["row_timeout"], content["retries"], content["gpus_per_node"]) == (120.0, 3, 1)
    assert content["max_failures"] == 7


def test_a_site_may_set_them_and_a_call_wins() -> None:
    set_defaults(row_timeout="1h", max_failures=5, retries=2, gpus_per_node=1)
    content = prepared(retries=0, gpus_per_node=None)
    assert (content["row_timeout"], content["max_failures"]) == (3600.0, 5)
    assert (content["retries"], content["gpus_per_node"]) == (0, None)
    job = slurm_call(dict, {"a": 1}, submit=False)
    assert run_json(job)["row_timeout"] == 3600.0


def test_this_process_does_not_enforce_a_row_timeout_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slurm_map(abs, [1], backend="inline", row_timeout=5)
    assert "in this process; row_timeout not enforced\n" in capsys.readouterr().out
    slurm_map(abs, [1], backend="inline")
    slurm_map(abs, [1], backend="local", row_timeout=5).wait()
    assert "row_timeout" not in capsys.readouterr().out


def test_a_frame_takes_them_too() -> None:
    job = slurm_apply(
        pow, {"base": [2], "exp": [3]}, row_timeout=5, retries=1, max_failures=None, submit=False
    )
    assert run_json(job)["retries"] == 1
