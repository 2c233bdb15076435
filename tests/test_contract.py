"""One contract for every backend: what a job promises does not depend on where it runs."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slurmapply import (
    RowError,
    RowsFailedError,
    SlurmJob,
    WaitTimeoutError,
    current_row,
    expand_grid,
    slurm_apply,
    slurm_call,
    slurm_map,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKENDS = ["inline", "local", pytest.param("slurm", marks=pytest.mark.slurm)]
# Where rows are in other processes, so that they can be looked at while they run.
DETACHED = pytest.mark.parametrize("lab", BACKENDS[1:], indirect=True)
WEIGHTS = pd.DataFrame({"weight": [10, 20, 30]})
HIDDEN = 1000
ONE = {"nodes": 1, "cpus_per_node": 1}
TEN = [{"square": x * x, "half": x / 2} for x in range(10)]


@dataclass
class Lab:
    """Where jobs of one backend are made."""

    backend: str
    folder: Path

    def apply(self, f: Callable[..., Any], params: Any, **keywords: Any) -> SlurmJob:
        return slurm_apply(f, params, **self.place(keywords))

    def map(self, f: Callable[..., Any], items: Any, **keywords: Any) -> SlurmJob:
        return slurm_map(f, items, **self.place(keywords))

    def call(self, f: Callable[..., Any], params: Any = None, **keywords: Any) -> SlurmJob:
        return slurm_call(f, params, **self.place(keywords))

    def place(self, keywords: dict[str, Any]) -> dict[str, Any]:
        return {"jobs_folder": self.folder, "backend": self.backend, **keywords}


@pytest.fixture(scope="module", params=BACKENDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if request.param == "slurm":
        request.getfixturevalue("slurm_cluster")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "beside_the_script.py").write_text("def triple(x):\n    return 3 * x\n")
    (folder / "three_letters").write_text("abc")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(variable, str(folder / "home"))
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield Lab(request.param, folder)


# Ten rows of which one raises: most of the contract is about this job.


@pytest.fixture(scope="module")
def mixed(lab: Lab) -> SlurmJob:
    def refuse(x: int) -> None:
        raise ValueError(f"cannot take {x}")

    def square(x: int) -> dict[str, Any]:
        print(f"row {x} prints")
        sys.stderr.write(f"row {x} warns\n")
        if x == 3:
            refuse(x)
        time.sleep(0.02)
        return {"square": x * x, "half": x / 2}

    return lab.apply(square, pd.DataFrame({"x": range(10)}, index=list("abcdefghij"))).wait()


def test_the_table_is_right_and_in_order(mixed: SlurmJob) -> None:
    table = mixed.table(errors="keep")
    assert list(table.columns) == [
        "x", "square", "half", "row_number", "row_status", "row_cause",
    ]  # fmt: skip
    assert list(table.index) == list("abcdefghij")
    assert table["square"].dtype == "Int64"
    ok = table.drop(index="d")
    assert ok["square"].tolist() == [x * x for x in range(10) if x != 3]
    assert ok["half"].tolist() == [x / 2 for x in range(10) if x != 3]
    assert set(ok["row_status"]) == {"ok"}
    assert table.loc["d", ["x", "row_number"]].tolist() == [3, 3]
    assert table.loc["d", ["row_status", "row_cause"]].tolist() == ["error", "ValueError"]
    assert pd.isna(table.loc["d", "square"])


def test_a_row_that_raises_leaves_the_nine_others(mixed: SlurmJob) -> None:
    kept = mixed.results(errors="keep")
    assert [value for number, value in enumerate(kept) if number != 3] == TEN[:3] + TEN[4:]
    error = kept[3]
    assert isinstance(error, RowError)
    assert (error.row, error.status, error.cause) == (3, "error", "ValueError")
    assert repr(error.exception) == "ValueError('cannot take 3')"
    assert "x=3" in str(error)
    for text in (error.traceback, mixed.row(3).traceback):
        assert text.startswith("Traceback (most recent call last):")
        assert "in square" in text
        assert "refuse(x)" in text
        assert text.endswith("ValueError: cannot take 3\n")
        assert "slurmapply" not in text.replace(__file__, "")


def test_rows_that_failed_are_raised_with_what_to_do(mixed: SlurmJob) -> None:
    for ask in (mixed.results, mixed.table, functools.partial(mixed.result, 3)):
        with pytest.raises(RowsFailedError) as caught:
            ask()
        error = caught.value
        assert error.job is mixed
        assert error.table["row_status"].tolist() == ["ok"] * 3 + ["error"] + ["ok"] * 6
        assert "1 x ValueError: cannot take 3 (first: row 3)" in str(error)
        for way in ("job.errors()", "job.retry(f=", 'errors="keep"'):
            assert way in str(error)
        assert "ValueError: cannot take 3\n" in "".join(traceback.format_exception(error))


def test_single_results_and_errors_can_be_looked_at(mixed: SlurmJob) -> None:
    assert mixed.result(4) == TEN[4]
    errors = mixed.errors()
    assert list(errors.columns) == [
        "x", "row_number", "row_status", "row_cause", "message", "traceback",
    ]  # fmt: skip
    assert errors.iloc[0].tolist() == [
        3, 3, "error", "ValueError", "cannot take 3", mixed.row(3).traceback,
    ]  # fmt: skip
    assert len(errors) == 1


def test_all_of_one_row(mixed: SlurmJob) -> None:
    good, bad = mixed.row(2), mixed.row(3)
    assert (good.number, good.status, good.cause) == (2, "ok", "")
    assert (good.parameters, good.value, good.attempt) == ({"x": 2}, TEN[2], 1)
    assert good.log == "row 2 prints\nrow 2 warns\n"
    assert (bad.status, bad.cause, bad.message) == ("error", "ValueError", "cannot take 3")
    assert bad.value is None


def test_a_row_run_here_raises_the_real_exception_and_records_nothing(mixed: SlurmJob) -> None:
    before = sorted(path for path in mixed.folder.rglob("*") if path.is_file())
    with pytest.raises(ValueError, match=r"^cannot take 3$") as caught:
        mixed.run_row(3)
    assert caught.traceback[-1].name == "refuse"
    assert mixed.run_row(5) == TEN[5]
    assert sorted(path for path in mixed.folder.rglob("*") if path.is_file()) == before


def test_rows_come_as_they_end(mixed: SlurmJob) -> None:
    seen = dict(mixed.as_completed(errors="keep"))
    assert isinstance(seen.pop(3), RowError)
    assert seen == {number: value for number, value in enumerate(TEN) if number != 3}
    with pytest.raises(RowError, match="cannot take 3"):
        list(mixed.as_completed())


def test_details_say_how_each_row_ran(mixed: SlurmJob) -> None:
    table = mixed.table(errors="keep", details=True)
    assert list(table.columns[-5:]) == [
        "row_seconds", "row_cpu_seconds", "row_peak_mb", "row_host", "row_attempt",
    ]  # fmt: skip
    slept = table.drop(index="d")
    assert slept["row_seconds"].between(0.02, 5).all()
    assert (slept["row_cpu_seconds"] < slept["row_seconds"]).all()
    assert slept["row_peak_mb"].between(1, 4000).all()
    assert table["row_attempt"].tolist() == [1] * 10
    assert all(isinstance(host, str) and host for host in table["row_host"])


def test_the_status_of_a_job_that_ended(mixed: SlurmJob) -> None:
    status = mixed.status()
    assert (status.state, status.completed, status.ok) == ("finished", True, False)
    assert (status.counts, status.causes) == ({"ok": 9, "error": 1}, {"ValueError": 1})
    assert repr(mixed) == "10 rows: 9 ok, 1 failed (ValueError)"
    assert "row 2 warns" in "".join(mixed.logs().values())


def test_a_log_holds_exactly_what_its_row_printed(lab: Lab) -> None:
    def talk(x: int) -> None:
        print("x" * x, end="" if x % 2 else "\n") if x % 3 else None

    job = lab.map(talk, range(60), **ONE).wait()
    assert [job.logs(row=x) for x in range(60)] == [
        ("x" * x + ("" if x % 2 else "\n")) if x % 3 else "" for x in range(60)
    ]


def test_rows_are_retried_by_cause_mask_status_and_number(lab: Lab) -> None:
    def first(x: int) -> str:
        if x:
            raise (KeyError if x == 2 else ValueError)(x)
        return "first"

    def always(word: str) -> Callable[[int], str]:
        return lambda x: word if x < 5 else ""

    job = lab.apply(first, {"x": range(5)}, **ONE).wait()
    job.retry("KeyError", f=always("cause")).wait()
    assert job.status().counts == {"ok": 2, "error": 3}
    job.retry([False, True, False, False, False], f=always("mask")).wait()
    job.retry("error", f=lambda x: "status" if x == 3 else int("four")).wait()
    job.retry([0, 2], f=always("numbers")).wait()
    with pytest.raises(RowsFailedError, match="1 x ValueError: invalid literal"):
        job.results()
    assert job.retry("failed", f=always("left")).results() == [
        "numbers", "mask", "numbers", "status", "left",
    ]  # fmt: skip
    assert job.table(details=True)["row_attempt"].tolist() == [2, 2, 3, 2, 3]
    assert len(job.job_ids) == 6


# Jobs that are looked at while they run


@DETACHED
def test_a_snapshot_of_a_job_that_runs(lab: Lab, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    def wait_for_gate(x: int) -> int:
        while x > 3 and not os.path.exists(gate):  # noqa: PTH110  # goes by value to the nodes
            time.sleep(0.01)
        return x * x

    job = lab.apply(wait_for_gate, {"x": range(6)}, nodes=1)
    rows = job.as_completed()
    assert {next(rows) for _ in range(4)} == {(0, 0), (1, 1), (2, 4), (3, 9)}
    assert job.results(wait=False) == [0, 1, 4, 9, None, None]
    table = job.table(wait=False, errors="keep")
    assert table["result"].isna().tolist() == [False] * 4 + [True] * 2
    assert set(table["row_status"][4:]) <= {"pending", "running"}
    assert job.errors().empty
    status = job.status()
    assert (status.state, status.completed, status.ok) == ("running", False, False)
    with pytest.raises(WaitTimeoutError) as caught:
        job.wait(timeout=0.1)
    assert caught.value.job is job
    Path(gate).touch()
    assert set(rows) == {(4, 16), (5, 25)}
    assert job.results() == [0, 1, 4, 9, 16, 25]


# What a function can be, and what goes with it


def bound_method() -> Callable[..., Any]:
    class Scale:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __call__(self, x: int) -> int:
            return self.factor * x

        def times(self, x: int) -> int:
            return self.factor * x

    return Scale(3).times


def callable_object() -> Callable[..., Any]:
    scale: Callable[..., Any] = bound_method().__self__  # type: ignore[attr-defined]
    return scale


def closure() -> Callable[..., Any]:
    factor = 3

    def times(x: int) -> int:
        return factor * x

    return times


KINDS: dict[str, Callable[[], Callable[..., Any]]] = {
    "module function": lambda: getattr(importlib.import_module("beside_the_script"), "triple"),  # noqa: B009
    "lambda": lambda: lambda x: 3 * x,
    "closure": closure,
    "partial": lambda: functools.partial(lambda x, factor: factor * x, factor=3),
    "bound method": bound_method,
    "callable object": callable_object,
    "uses a global frame": lambda: lambda x: int(WEIGHTS["weight"].sum() // 20) * x,
    "reads a relative path": lambda: lambda x: len(Path("three_letters").read_text()) * x,
    "imports inside": lambda: lambda x: __import__("beside_the_script").triple(x),
}


@pytest.fixture(scope="module")
def kinds(lab: Lab) -> dict[str, SlurmJob]:
    return {kind: lab.apply(make(), {"x": [1, 2, 3]}, **ONE) for kind, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_every_kind(kinds: dict[str, SlurmJob], kind: str) -> None:
    assert kinds[kind].results() == [3, 6, 9]


def test_a_builtin_takes_columns_and_items(lab: Lab) -> None:
    power = lab.apply(pow, {"base": [2, 3], "exp": [5, 2]}, **ONE)
    absolute = lab.map(abs, [-2, 3], **ONE)
    assert (power.results(), absolute.results()) == ([32, 9], [2, 3])


def test_what_goes_along_with_the_function(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    in_caller = 20
    monkeypatch.setenv("TIMES_WARMED", "0")

    def warm() -> None:
        os.environ["TIMES_WARMED"] = str(int(os.environ["TIMES_WARMED"]) + 1)

    def tell(x: int, y: int) -> list[Any]:
        names = ("HIDDEN", "in_caller", "given")
        known = [globals().get(name) for name in names]
        return [x + y, *known, os.environ["TIMES_WARMED"]]

    by_name = {"more_args": {"y": 5}, "global_objects": ["HIDDEN", "in_caller"]}
    keywords = lab.place({**by_name, "initializer": warm, **ONE})
    named = slurm_apply(tell, {"x": [1, 2]}, **keywords)
    mapped = lab.map(tell, [1], more_args={"y": 6}, global_objects={"given": 7}, **ONE)
    assert named.results() == [[6, HIDDEN, in_caller, None, "1"], [7, HIDDEN, in_caller, None, "1"]]
    assert mapped.results() == [[7, None, None, 7, mapped.results()[0][4]]]


def test_global_objects_of_a_module_of_a_like_name() -> None:
    theirs: dict[str, Any] = {"__name__": "slurmapply_study", "slurm_map": slurm_map}
    exec(  # noqa: S102  # a module that need not be there
        "def tell(x):\n"
        "    return x + given_there\n"
        "def study():\n"
        "    given_there = 5\n"
        "    return slurm_map(tell, [1], global_objects=['given_there'], backend='inline')\n",
        theirs,
    )
    assert theirs["study"]().results() == [6]


def test_what_the_node_needs(lab: Lab, tmp_path: Path) -> None:
    for folder, name in ((lab.folder, "a_package"), (tmp_path, "far_away")):
        Path(folder, f"{name}.py").write_text("PLACE = __file__\n")
    paths = [tmp_path, tmp_path / "missing"]
    job = lab.apply(
        lambda name: (name in sys.modules, importlib.import_module(name).PLACE),
        {"name": ["a_package", "far_away"]},
        packages=["json", "a_package"], sys_path=paths, **ONE,
    )  # fmt: skip
    assert job.results() == [
        (True, f"{lab.folder}/a_package.py"), (False, f"{tmp_path}/far_away.py"),
    ]  # fmt: skip


def test_a_package_that_is_missing_burns_no_row(lab: Lab) -> None:
    job = lab.apply(lambda x: x, {"x": [1, 2]}, packages="no_such_package", **ONE).wait()
    assert job.status().counts == {"unfinished": 2}
    with pytest.raises(RowsFailedError, match=r"2 x load_failed: .*no_such_package"):
        job.results()
    assert job.errors()["row_cause"].tolist() == ["load_failed"] * 2


@DETACHED
def test_setup_lines_run_before_python(lab: Lab) -> None:
    lines = ["export GREETING='good day'", 'export GREETING="$GREETING, node"']
    job = lab.map(lambda name: os.environ[name], ["GREETING"], setup=lines, **ONE)
    assert job.results() == ["good day, node"]


# What reaches the function, and what comes back


def test_values_reach_the_function_as_what_they_are(lab: Lab) -> None:
    grid = expand_grid(max_depth=[None, 5, 10], rate=[0.1, float("nan")])
    frame = pd.DataFrame(
        {
            "whole": np.array([1], dtype=np.int32),
            "real": np.array([0.5], dtype=np.float32),
            "yes": [True],
            "text": ["a"],
            "nothing": pd.array([None], dtype="Int64"),
            "day": pd.to_datetime(["2024-02-29 00:00:00.123456789"]),
        }
    )
    shown = lab.apply(lambda **cells: str(list(map(repr, cells.values()))), grid, **ONE)
    types = lab.apply(lambda **cells: str([repr(cell) for cell in cells.values()]), frame, **ONE)
    assert shown.results() == [
        str([depth, rate]) for depth in ("None", "5", "10") for rate in ("0.1", "nan")
    ]
    assert types.results() == [
        str(["1", "0.5", "True", "'a'", "None", "Timestamp('2024-02-29 00:00:00.123456789')"])
    ]


def test_absent_keys_mean_the_default(lab: Lab) -> None:
    from sklearn.model_selection import ParameterGrid

    def tell(kernel: str, degree: int = 3, gamma: Any = "scale") -> str:
        return f"{kernel} {degree} {gamma}"

    grid = ParameterGrid([{"kernel": ["rbf"], "gamma": [1, None]}, {"kernel": ["poly"]}])
    job = lab.apply(tell, grid, **ONE)
    assert job.results() == ["rbf 3 1", "rbf 3 None", "poly 3 scale"]
    assert job.table()["kernel"].tolist() == ["rbf", "rbf", "poly"]


def test_polars_in_polars_out(lab: Lab) -> None:
    job = lab.apply(lambda x: {"y": x / 2, "s": str(x)}, pl.DataFrame({"x": [3, 1, 2]}), **ONE)
    expected = pl.DataFrame({"x": [3, 1, 2], "y": [1.5, 0.5, 1.0], "s": ["3", "1", "2"]})
    assert job.table().equals(expected)


def test_a_collection_comes_back_as_its_own_kind(lab: Lab) -> None:
    series = pd.Series(["a", "bb"], index=["one", "two"], name="words")
    length = lab.map(len, series, **ONE)
    by_key = lab.map(len, {"one": "a", (2,): [1, 2]}, **ONE)
    called = lab.call(lambda x, y: (x, y), {"x": [1, 2], "y": {"a": series}})
    expected = pd.Series([1, 2], index=["one", "two"], name="words")
    pd.testing.assert_series_equal(length.results(), expected)
    assert by_key.results() == {"one": 1, (2,): 2}
    assert dict(by_key.as_completed()) == {"one": 1, (2,): 2}
    whole, mapping = called.result()
    assert whole == [1, 2]
    assert mapping["a"].equals(series)


# How many rows


@pytest.mark.parametrize("schedule", ["static", "dynamic"])
@pytest.mark.parametrize("rows", [10, 10_000])
def test_many_rows_come_back_in_order(lab: Lab, rows: int, schedule: str) -> None:
    def where(x: int) -> tuple[int, str]:
        return 2 * x, os.environ.get("SLURM_ARRAY_TASK_ID", "")

    table = lab.apply(where, {"x": range(rows)}, schedule=schedule).table()
    assert table["x"].tolist() == list(range(rows))
    assert table["result_0"].tolist() == list(range(0, 2 * rows, 2))
    if lab.backend == "slurm" and schedule == "static":
        assert table["result_1"].tolist() == ["0"] * (rows // 2) + ["1"] * (rows // 2)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"x": [3]}, [(3, 1)]),
        ({"x": [3], "y": [4]}, [(3, 4)]),
        ({"x": [3, 4, 5]}, [(3, 1), (4, 1), (5, 1)]),
    ],
    ids=["1x1", "one row", "one column"],
)
def test_small_tables(lab: Lab, params: Any, expected: Any) -> None:
    job = lab.apply(lambda x, y=1: (x, y), params, nodes=4, cpus_per_node=4)
    assert job.results() == expected
    assert (len(job), job.nodes) == (len(expected), 1)


def test_zero_rows_are_a_finished_job(lab: Lab) -> None:
    job = lab.apply(lambda x: x, pd.DataFrame({"x": pd.Series([], dtype="int64")}))
    status = job.wait(timeout=0).status()
    assert (status.state, status.completed, status.ok) == ("finished", True, True)
    assert (job.results(), list(job.as_completed()), len(job)) == ([], [], 0)
    assert job.table().shape[0] == 0
    assert job.table().columns[0] == "x"
    assert job.job_id is None
    assert lab.map(len, {}).results() == {}


def test_a_row_can_ask_about_itself(lab: Lab) -> None:
    def tell(x: int) -> str:
        from slurmapply import current_row

        row = current_row()
        note = row.folder / "note"
        if row.attempt == 1:
            note.write_text(f"row {row.number} was here")
            raise RuntimeError("once more")
        return json.dumps([row.number, row.attempt, note.read_text(), str(note)])

    job = lab.apply(tell, {"x": [5, 6]}, **ONE).wait()
    assert [json.loads(text) for text in job.retry().results()] == [
        [n, 2, f"row {n} was here", str(job.folder / "rows_" / str(n) / "note")] for n in (0, 1)
    ]
    outside = current_row()
    assert (outside.number, outside.attempt, outside.folder) == (None, 1, Path.cwd())
