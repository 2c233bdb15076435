"""Values asked for one by one and all at once: loaded or not, damaged, run again."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from slurmapply import (
    InvalidArgumentError,
    RowError,
    RowsFailedError,
    SlurmJob,
    UntrustedFolderError,
    slurm_apply,
)
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import read_job
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Spoilt:
    """Can be pickled, and not be loaded."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: object) -> None:
        raise ValueError("not with me")


def spoils_row_1(x: int) -> Any:
    return Spoilt(x) if x == 1 else [x]


def run(f: Callable[[int], Any], rows: int = 4) -> SlurmJob:
    return slurm_apply(f, {"x": list(range(rows))}, backend="inline")


# -- what cannot be loaded ----------------------------------------------------------------------


def test_a_value_that_cannot_be_loaded_is_raised_as_rows_end_too() -> None:
    job = run(spoils_row_1)
    rows = job.as_completed()
    assert next(rows) == (0, [0])
    with pytest.raises(RowError, match="row 1: its value cannot be loaded here"):
        next(rows)
    kept = dict(job.as_completed(errors="keep"))
    assert (kept[1].cause, kept[3]) == ("not_loaded", [3])
    assert job.row(1).value.cause == "not_loaded"


@pytest.mark.parametrize("wait", [True, False])
def test_a_value_that_cannot_be_loaded_is_over_with_a_better_one(*, wait: bool) -> None:
    job = run(spoils_row_1)
    job.retry(rows=[1], f=lambda x: [x])
    assert job.results(wait) == [[0], [1], [2], [3]]
    table = job.table(wait, errors="keep")
    assert table["row_cause"].tolist() == [""] * 4


def test_a_value_is_tried_again_when_it_could_not_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = run(spoils_row_1)
    assert isinstance(job.results(wait=False, errors="keep")[1], RowError)
    monkeypatch.setattr(Spoilt, "__setstate__", lambda self, state: self.__dict__.update(state))
    assert job.results(wait=False)[1].x == 1


def test_snapshots_share_objects_until_somebody_waits() -> None:
    job = run(lambda x: [x])
    first = job.results(wait=False)
    assert job.results(wait=False)[0] is first[0]
    first[0].append(9)
    assert job.results()[0] == [0]
    assert job.results(wait=False)[0] == [0]


def test_an_error_of_ours_that_a_function_returns_is_its_value() -> None:
    def returns(x: int) -> Any:
        return InvalidArgumentError(str(x)) if x else RowError("mine")

    job = run(returns, 2)
    assert str(job.result(0)) == "mine"
    assert [str(value) for _, value in job.as_completed()] == ["mine", "1"]
    assert list(map(str, job.results())) == ["mine", "1"]


# -- what does not count any more ---------------------------------------------------------------


def test_only_the_numbers_that_count_make_the_type_of_a_column() -> None:
    job = run(lambda x: 0.5 if x == 2 else x)
    assert job.table()["result"].dtype == "float64"
    job.retry(rows=[2], f=lambda x: x)
    expected = pd.DataFrame({"x": range(4), "result": range(4)})
    pd.testing.assert_frame_equal(job.table(), expected)


def test_the_cause_of_a_failure_that_does_not_count_any_more_is_not_told() -> None:
    def fails(x: int) -> int:
        if x:
            raise ValueError(x)
        return x

    job = run(fails)
    job.retry(rows=[1, 3], f=lambda x: x)
    table = job.table(errors="keep")
    assert table["row_cause"].tolist() == ["", "", "ValueError", ""]
    assert job.status().causes == {"ValueError": 1}


# -- another Python -----------------------------------------------------------------------------

ASK: dict[str, Callable[[SlurmJob], Any]] = {
    "results": lambda job: job.results(),
    "snapshot": lambda job: job.results(wait=False),
    "table": lambda job: job.table(),
    "result": lambda job: job.result(1),
    "as_completed": lambda job: list(job.as_completed()),
    "row": lambda job: job.row(1),
    "run_row": lambda job: job.run_row(1),
    "errors": lambda job: job.errors(),
}


@pytest.mark.parametrize("ask", ASK)
def test_values_that_another_python_wrote_are_loaded_by_who_trusts_them_only(ask: str) -> None:
    folder = run(lambda x: [x]).folder
    content = json.loads((folder / "job.json").read_bytes())
    content["python"]["version"] = "3.1.4"
    (folder / "job.json").write_text(json.dumps(content))
    with pytest.raises(UntrustedFolderError, match=r"made with Python 3\.1 .*trust=True"):
        ASK[ask](SlurmJob(folder))
    ASK[ask](SlurmJob(folder, trust=True))


@pytest.mark.parametrize("ask", ["results", "snapshot", "table", "result", "as_completed", "row"])
def test_values_that_others_could_have_written_are_not_loaded(ask: str) -> None:
    folder = run(lambda x: [x]).folder
    (path,) = folder.glob("run_0/outcomes_*")
    path.chmod(0o666)
    with pytest.raises(UntrustedFolderError, match="outcomes_"):
        ASK[ask](SlurmJob(folder))


# -- damage -------------------------------------------------------------------------------------


@pytest.fixture
def damaged() -> SlurmJob:
    """Give a job of which the values of all rows but the first are damaged."""
    job = run(lambda x: [x])
    job.retry(rows=[1, 2, 3], f=lambda x: [x, x])
    for path in job.folder.glob("run_*/outcomes_*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        if path.parent.name == "run_1":
            path.write_bytes(content)
    return SlurmJob(job.folder)


@pytest.fixture
def lost(damaged: SlurmJob) -> SlurmJob:
    """Give a job of which all values are damaged."""
    for path in damaged.folder.glob("run_0/outcomes_*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    return SlurmJob(damaged.folder)


def test_another_outcome_of_a_row_counts_where_one_is_damaged(damaged: SlurmJob) -> None:
    assert SlurmJob(damaged.folder).result(3) == [3]
    assert SlurmJob(damaged.folder).row(3).value == [3]
    assert list(SlurmJob(damaged.folder).as_completed()) == [(n, [n]) for n in range(4)]
    assert damaged.results() == [[n] for n in range(4)]


def test_a_damaged_row_is_not_ok_whoever_asks_first(lost: SlurmJob) -> None:
    report = SlurmJob(lost.folder).row(2)
    assert (report.status, report.cause, report.value) == ("unfinished", "damaged", None)
    with pytest.raises(RowsFailedError, match="1 x damaged: row 2"):
        SlurmJob(lost.folder).result(2)
    with pytest.raises(RowError, match=r"row 0 \(x=0\) has no outcome that can be read"):
        next(SlurmJob(lost.folder).as_completed())
    kept = dict(SlurmJob(lost.folder).as_completed("keep"))
    assert [kept[row].cause for row in range(4)] == ["damaged"] * 4
    assert [error.cause for error in lost.results(errors="keep")] == ["damaged"] * 4


def test_a_row_whose_value_is_damaged_while_others_run_is_told_at_the_end(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def f(x: int) -> list[int]:
        deadline = time.monotonic() + 60
        while x and not go.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.02)  # long enough to be written at once
        return [x]

    how: dict[str, Any] = {"backend": "local", "nodes": 1, "cpus_per_node": 1}
    job = slurm_apply(f, {"x": [0, 1]}, **how)
    while not job.status().counts.get("ok"):
        time.sleep(0.05)
    (path,) = job.folder.glob("run_0/outcomes_*")
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    rows = job.as_completed(errors="keep")
    threading.Timer(0.5, go.touch).start()
    told = list(rows)
    assert sorted(row for row, _ in told) == [0, 1]
    assert dict(told)[1] == [1]
    assert (dict(told)[0].status, dict(told)[0].cause) == ("unfinished", "damaged")


def test_values_that_are_whole_at_the_second_look_are_not_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = run(lambda x: [x])
    (path,) = job.folder.glob("run_0/outcomes_*")
    good = path.read_bytes()
    late = good[:-1] + bytes([good[-1] ^ 1])  # as NFS may show it
    disk = FolderDisk(job.folder)
    known = Survey(disk, read_job(disk)["uuid"], 4, second_look=9)
    known.update([0])
    (frame,) = known.outcomes.frames
    slept: list[float] = []

    def heals(seconds: float) -> None:
        slept.append(seconds)
        path.write_bytes(good)

    monkeypatch.setattr(time, "sleep", heals)
    path.write_bytes(late)
    assert known.values(frame).value(2) == [2]
    path.write_bytes(late)
    known.verify()
    assert (known.outcomes.not_ok(), slept) == ([], [9, 9])
