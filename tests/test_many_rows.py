"""A million rows: what a session does with all of them at once is what it does with one."""

from __future__ import annotations

import functools
import io
import pickle
import sys
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import million
from slurmapply import JobState, RowStatus, SlurmJob, fingerprint, slurm_apply, slurm_map
from slurmapply.cells import MANY, cells_of, many_cells
from slurmapply.choice import Outcomes
from slurmapply.columns import arrow_array, polars_series, typed_series
from slurmapply.disk import FolderDisk
from slurmapply.gathering import (
    gathered_hosts,
    gathered_measures,
    gathered_numbers,
    gathered_values,
)
from slurmapply.jobfolder import Life, read_job, run_folder
from slurmapply.outcome import (
    KIND_BOOL,
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    Failure,
    FrameBuilder,
    Measures,
)
from slurmapply.outcome_file import FileReader, Origin
from slurmapply.records import TaskRecord
from slurmapply.rows import RowNumbers
from slurmapply.runview import RunReader, RunView
from slurmapply.states import OK_CODE, OVER
from slurmapply.statuses import WORDS, EndedRows, Statuses
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from slurmapply.numeric import NumberColumn
    from slurmapply.outcome_file import Frame

UUID = bytes(range(16))
ROWS = 12
KINDS = {bool: KIND_BOOL, int: KIND_INT, float: KIND_FLOAT, type(None): KIND_NONE}
some = settings(max_examples=200, derandomize=True, deadline=None)

#: A row's outcome: its value, or the cause of its failure.
cells = st.one_of(
    st.sampled_from([None, True, 0, -1, 2**53 + 1, 0.5, float("nan"), "text", ()]),
    st.integers(-9, 9),
    st.builds(lambda cause: Failure(cause, "no"), st.sampled_from(["ValueError", "KeyError"])),
)
frames = st.lists(
    st.tuples(
        st.integers(0, 2),  # the run
        st.one_of(
            st.permutations(range(ROWS)).map(lambda rows: rows[:5]),
            st.integers(0, ROWS - 4).map(lambda first: list(range(first, first + 4))),
        ),
        st.lists(cells, min_size=5, max_size=5),
    ),
    max_size=5,
)


def add(builder: FrameBuilder, row: int, value: Any, run: int) -> None:
    measures = Measures(1.0, row / 8, row / 16, row if row % 2 else -1.0)
    if isinstance(value, Failure):
        builder.add_failure(row, run + 1, RowStatus.ERROR, value, measures)
        return
    kind = KINDS.get(type(value), KIND_PICKLE)
    stored = pickle.dumps(value) if kind == KIND_PICKLE else value
    builder.add(row, run + 1, kind, stored, measures)


def in_memory(drawn: Iterable[tuple[int, list[int], list[Any]]]) -> tuple[Outcomes, Any]:
    """Make outcomes of frames; gives what reads a frame's values, too."""
    outcomes, files = Outcomes(ROWS), {}
    for number, (run, rows, values) in enumerate(drawn):
        builder = FrameBuilder(UUID)
        for row, value in zip(rows, values, strict=False):
            add(builder, row, value, run)
        data = builder.take()
        file: BinaryIO = io.BytesIO(data)
        (frame,) = FileReader(Origin(run, 0, number, f"f{number}"), UUID).read(file, len(data))
        files[frame] = file
        outcomes.add(frame)
    return outcomes, lambda frame: frame.load_values(files[frame])


def one_by_one(outcomes: Outcomes, read: Any) -> list[Any]:
    values = []
    for row in range(ROWS):
        found = outcomes.find(row)
        ok = found and found[0].columns["status"][found[1]] == OK_CODE
        values.append(read(found[0]).value(found[1]) if found and ok else None)
    return values


# -- all at once is as one by one -----------------------------------------------------------


@some
@given(frames)
def test_all_values_at_once_are_those_of_each_row(drawn: Any) -> None:
    outcomes, read = in_memory(drawn)
    values, unread = gathered_values(outcomes, None, lambda frame: read(frame).all())
    assert list(map(repr, values)) == list(map(repr, one_by_one(outcomes, read)))
    assert not unread


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2, 5]])
def test_nothing_stands_for_a_value_that_cannot_be_loaded(rows: list[int]) -> None:
    outcomes, _ = in_memory([(0, rows, ["a", "b", Failure("KeyError", "")])])
    error = ImportError("b")
    values, unread = gathered_values(outcomes, "-", lambda _: (["a", None, None], {1: error}))
    assert values == ["a" if row == rows[0] else "-" for row in range(ROWS)]
    assert unread == {rows[1]: error}


@some
@given(frames)
def test_a_column_of_numbers_is_the_one_that_its_cells_make(drawn: Any) -> None:
    outcomes, read = in_memory(drawn)
    column, values = gathered_numbers(outcomes), one_by_one(outcomes, read)
    if column is not None:
        check_same_column(column, values)
    else:
        assert {*map(type, values)} - {type(None)} not in ({int}, {float}, {bool})


def check_same_column(column: NumberColumn, values: list[Any]) -> None:
    pd.testing.assert_series_equal(typed_series(column), typed_series(values))
    ours, theirs = polars_series("x", column), polars_series("x", values)
    assert ours.dtype == theirs.dtype
    assert list(map(repr, ours)) == list(map(repr, theirs))
    ours, theirs = arrow_array("x", column), arrow_array("x", values)
    assert ours.type == theirs.type
    assert list(map(repr, ours)) == list(map(repr, theirs))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([3, -4], "int64"),
        ([3, None], "Int64"),
        ([0.5, float("nan"), None], "float64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        ([2**53, 0.5], "float64"),
        ([2**53 + 1, 0.5], None),
        ([-(2**53) - 1, 0.5], None),
        ([1, True], None),
        ([1, "a"], None),
        ([None, None], None),
        ([Failure("ValueError", "no"), 7], "Int64"),
    ],
)
def test_which_values_make_a_column_of_numbers(values: list[Any], dtype: str | None) -> None:
    outcomes, read = in_memory([(0, list(range(ROWS)), (values * ROWS)[:ROWS])])
    column = gathered_numbers(outcomes)
    assert (column and str(typed_series(column).dtype)) == dtype
    if column is not None:
        check_same_column(column, one_by_one(outcomes, read))


@some
@given(frames)
def test_how_rows_ran_at_once_is_as_of_each_row(drawn: Any) -> None:
    outcomes, _ = in_memory(drawn)
    found = [outcomes.find(row) for row in range(ROWS)]
    for name in ("seconds", "cpu", "peak_mb", "attempt"):
        each = [f and f[0].columns[name][f[1]] for f in found]
        each = [None if value == -1.0 else value for value in each]
        column = gathered_measures(outcomes, name)
        pd.testing.assert_series_equal(typed_series(column), typed_series(each))
    hosts = gathered_hosts(outcomes, lambda frame: frame.origin.file)
    assert hosts == [f and f[0].origin.file for f in found]


@some
@given(frames)
def test_what_is_counted_is_what_each_row_says(drawn: Any) -> None:
    outcomes, _ = in_memory(drawn)
    check_outcomes(outcomes)
    for frame in outcomes.frames[:2]:
        outcomes.discard(frame)
        check_outcomes(outcomes)


def check_outcomes(outcomes: Outcomes) -> None:
    found = [outcomes.find(row) for row in range(ROWS)]
    codes = [f[0].columns["status"][f[1]] if f else 0 for f in found]
    assert list(outcomes.codes) == codes
    assert outcomes.not_ok() == [row for row in range(ROWS) if codes[row] != OK_CODE]
    assert list(outcomes.left()) == outcomes.not_ok()
    keys = [f and (f[0].columns["status"][f[1]], f[0].cause(f[1])) for f in found]
    assert outcomes.tally == Counter(filter(None, keys))
    for run in range(4):
        before = [key for row, key in enumerate(keys) if outcomes.last_run(row) < run]
        assert outcomes.tally_before(run) == Counter(filter(None, before))
    counting: Counter[Frame] = Counter(f[0] for f in found if f)
    for frame, which in outcomes.counting():
        assert counting.pop(frame) == (len(frame) if which is None else sum(which))
    assert not counting


@some
@given(
    drawn=frames,
    rows=st.sets(st.integers(0, ROWS - 1)),
    state=st.sampled_from(JobState),
    cancelled=st.booleans(),
)
def test_statuses_of_all_rows_are_those_of_each(
    drawn: Any, rows: set[int], state: JobState, *, cancelled: bool
) -> None:
    outcomes, _ = in_memory([(min(run, 1), *rest) for run, *rest in drawn])
    # A run settles no rows but its own.
    rows |= {row for row in range(ROWS) if outcomes.last_run(row) == 1}
    run = RunView(1, {"tasks": 1}, None, RowNumbers.of(rows), cancelled)
    statuses = Statuses(outcomes)
    each = [statuses.of_row(row, run, state) for row in range(ROWS)]
    assert [WORDS[code] for code in statuses.codes(run, state)] == each
    counts, causes = statuses.count(run, state)
    assert counts == Counter(status.value for status in each)
    due = [state not in OVER and row in rows and outcomes.last_run(row) < 1 for row in range(ROWS)]
    told = [outcomes.key(row)[1] for row in range(ROWS) if outcomes.find(row) and not due[row]]
    assert causes == Counter(filter(None, told))
    assert statuses.rows({RowStatus.OK, RowStatus.ERROR}, run, state) == [
        row for row in range(ROWS) if each[row] in ("ok", "error")
    ]


def test_what_a_retry_leaves_alone_is_counted_anew_when_it_changes() -> None:
    outcomes, _ = in_memory([(0, [0, 1, 2, 3], [1, *[Failure("KeyError", "")] * 3])])
    statuses, rows = Statuses(outcomes), RowNumbers.of([1, 2])
    run = RunView(1, {"tasks": 1}, None, rows, cancelled=False)
    counted = {"ok": 1, "error": 1, "pending": 2, "unfinished": ROWS - 4}
    assert statuses.count(run, JobState.RUNNING) == (counted, {"KeyError": 1})
    late, _ = in_memory([(0, [3, 4], [5, 6])])  # of a task that was thought dead
    outcomes.add(late.frames[0])
    counted = {"ok": 3, "pending": 2, "unfinished": ROWS - 5}
    assert statuses.count(run, JobState.RUNNING) == (counted, {})


@pytest.mark.parametrize("foreign", [-1, ROWS])
def test_an_outcome_of_a_row_that_the_job_has_not_counts_nowhere(foreign: int) -> None:
    for neighbour in (0, 5, ROWS - 1):
        outcomes, _ = in_memory([(0, sorted([foreign, neighbour]), [7, 7])])
        assert outcomes.tally == {(OK_CODE, ""): 1}
        assert outcomes.not_ok() == [row for row in range(ROWS) if row != neighbour]


def test_rows_that_ended_are_told_once_and_in_order() -> None:
    ended = EndedRows(4)
    assert list(ended.new(bytes([101, 1, 102, 2]), JobState.RUNNING)) == [1, 3]
    assert list(ended.new(bytes([101, 1, 102, 2]), JobState.RUNNING)) == []
    assert list(ended.new(bytes([101, 1, 1, 2]), JobState.RUNNING)) == [2]
    assert list(ended.new(bytes([103, 1, 1, 2]), JobState.FINISHED)) == [0]
    assert list(ended.new(bytes([103, 1, 1, 2]), JobState.FINISHED)) == []


# -- only what is new -------------------------------------------------------------------------

LOADED: list[int] = []


def loaded(number: int) -> dict[str, int]:
    LOADED.append(number)
    return {"n": number}


class Counted:
    """What it becomes when it is unpickled is counted."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return loaded, (self.number,)


@pytest.fixture
def growing() -> tuple[SlurmJob, Callable[[list[int]], None]]:
    """Give a job whose outcomes come as they are asked for."""
    job = slurm_map(abs, range(4), job_name="growing", backend="local", submit=False)
    disk = FolderDisk(job.folder)
    disk.write("run_0/submission", b'{"kind": "local", "job_id": "x", "host": "elsewhere"}')
    uuid = bytes.fromhex(read_job(disk)["uuid"])
    LOADED.clear()

    def settle(rows: list[int]) -> None:
        builder = FrameBuilder(uuid)
        for row in rows:
            add(builder, row, Counted(row), 0)
        disk.append("run_0/outcomes_0_0_0_ab.rec", builder.take())

    return job, settle


def test_a_snapshot_reads_only_what_is_new(growing: Any) -> None:
    job, settle = growing
    settle([0, 1])
    first = job.results(wait=False)
    assert (first, LOADED) == ([{"n": 0}, {"n": 1}, None, None], [0, 1])
    settle([2])
    next_one = job.results(wait=False)
    assert (next_one, LOADED) == ([{"n": 0}, {"n": 1}, {"n": 2}, None], [0, 1, 2])
    assert next_one is not first
    assert next_one[0] is first[0]
    assert job.table(wait=False)["n"].tolist()[:3] == [0, 1, 2]
    assert LOADED == [0, 1, 2]
    settle([3])
    assert job.results()[3] == {"n": 3}
    assert LOADED == [0, 1, 2, 0, 1, 2, 3]
    assert job.results()[0] is not first[0]


def test_what_is_damaged_meanwhile_is_in_no_later_result(growing: Any) -> None:
    job, settle = growing
    settle([0, 1])
    settle([2])
    path = job.folder / "run_0/outcomes_0_0_0_ab.rec"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    job._follower.survey._second_look = 0.0
    assert job.results(wait=False) == [{"n": 0}, {"n": 1}, None, None]
    assert job.results(wait=False) == [{"n": 0}, {"n": 1}, None, None]


class CountingDisk(FolderDisk):
    """Counts the files that are opened."""

    opened: ClassVar[Counter[str]] = Counter()

    def open(self, name: str, **keywords: Any) -> BinaryIO | None:
        self.opened[name] += 1
        return super().open(name, **keywords)


def test_files_of_tasks_that_ended_well_are_not_opened_again(growing: Any) -> None:
    job, settle = growing
    settle([0, 1])
    disk = CountingDisk(job.folder)
    disk.opened.clear()
    survey = Survey(disk, read_job(disk)["uuid"], 4)
    name = "run_0/outcomes_0_0_0_ab.rec"
    # A worker without a row writes an empty file, which no listing needs to show.
    assert [survey.has_read(name, size) for size in (0, 1)] == [True, False]
    size = (job.folder / name).stat().st_size
    for ended, opened in (({}, 1), ({}, 2), ({name: size + 1}, 3), ({name: size}, 3)):
        survey.ended = ended
        survey.update([0])
        assert disk.opened[name] == opened, ended
    with (job.folder / name).open("ab") as file:
        file.write(b"?" * 200)
    survey.ended = {name: size + 200}
    for opened in (4, 5):  # damage may heal
        survey.update([0])
        assert disk.opened[name] == opened


@pytest.mark.parametrize(("reason", "opened"), [("done", 0), ("SIGTERM", 1)])
def test_who_ended_before_its_time_may_still_write(growing: Any, reason: str, opened: int) -> None:
    job, settle = growing
    settle([0, 1, 2])
    name = "outcomes_0_0_0_ab.rec"
    record = TaskRecord(FolderDisk(job.folder), 0, Life("x", 0, 0))
    record.start(1)
    record.finish(reason, {name: (job.folder / run_folder(0) / name).stat().st_size})
    follower = SlurmJob(job.folder)._follower
    follower.look(ask=False)
    disk = CountingDisk(job.folder)
    follower.survey._disk = disk
    disk.opened.clear()
    follower.look(ask=False)
    assert disk.opened[f"run_0/{name}"] == opened


def test_a_record_is_read_again_when_it_grows_or_its_bytes_are_late(growing: Any) -> None:
    job, _ = growing
    life = Life("x", 0, 0)
    record = TaskRecord(FolderDisk(job.folder), 0, life)
    reader = RunReader(FolderDisk(job.folder), 4)
    record.start(1)
    (first,) = reader.lives(0)
    assert reader.lives(0)[0] is first
    record.finish("done")
    path = job.folder / life.record(0)
    good = path.read_bytes()
    for late in (bytes(20), bytes(19) + b"\n"):  # as NFS may show it
        path.write_bytes(good[:-20] + late)
        assert reader.lives(0)[0].end is None
    path.write_bytes(good)
    assert reader.lives(0)[0].end is not None


# -- numbers as arrays ------------------------------------------------------------------------

NUMBERS = np.arange(MANY)


@pytest.mark.parametrize(
    ("column", "packed"),
    [
        *(
            (pd.Series(NUMBERS.astype(kind)), True)
            for kind in ("i1", "i4", "i8", "u4", "f4", ">i4")
        ),
        (pd.Series(NUMBERS / 3).where(NUMBERS % 5 > 0), True),
        (pd.Series(NUMBERS[:-1]), False),
        (pd.Series(NUMBERS.astype("u8") + np.uint64(2**63)), False),
        (pd.Series(NUMBERS % 2 == 0), False),
        (pd.Series(NUMBERS, dtype="Int64").mask(NUMBERS == 3), False),
        (pd.Series(NUMBERS.astype("M8[s]")), False),
        (pd.Series(NUMBERS.astype("m8[s]")), False),
        (pd.Series(NUMBERS.astype("c16")), False),
        (pd.Series(NUMBERS).astype("category"), False),
        (NUMBERS[::-1], True),
        (NUMBERS.astype("f2"), True),
        (pl.Series(NUMBERS), True),
        (pl.Series([None, *NUMBERS.tolist()]), False),
        (pl.Series(NUMBERS / 3), True),
        (pl.Series(NUMBERS).cast(pl.Decimal(10, 2)), False),
        (pa.chunked_array([NUMBERS, NUMBERS]), True),
        (pa.chunked_array([[None, *NUMBERS.tolist()]]), False),
        (NUMBERS.tolist(), False),
        (range(MANY), False),
    ],
)
def test_many_numbers_are_an_array_of_the_same_cells(column: Any, *, packed: bool) -> None:
    found = many_cells(column)
    assert isinstance(found, list) is not packed
    plain = cells_of(column)
    assert list(map(repr, found)) == list(map(repr, plain))
    assert [*map(type, found)] == [*map(type, plain)]


def kinds_of(n: int, x: float, m: int | None) -> tuple[str, ...]:
    return tuple(type(each).__name__ for each in (n, x, m))


def test_a_function_gets_pythons_own_numbers_from_an_array(make_frame: Any) -> None:
    frame = make_frame({"n": NUMBERS, "x": NUMBERS / 3, "m": [None, *NUMBERS.tolist()[1:]]})
    job = slurm_apply(kinds_of, frame, backend="inline", job_name="arrays")
    first, other = ("float", "float") if isinstance(frame, pd.DataFrame) else ("NoneType", "int")
    expected = Counter({("int", "float", other): MANY - 1})
    expected["int", "float", first] += 1
    assert Counter(job.results()) == expected


@pytest.fixture(params=[pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def make_frame(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_table_of_many_given_as_a_mapping(tmp_path: Path) -> None:
    params = {"n": NUMBERS, "l": [[each] for each in NUMBERS.tolist()]}
    job = slurm_apply(lambda n, l: n + l[0], params, backend="inline", job_name="mapping")  # noqa: E741
    table = job.table()
    assert table["n"].dtype == "int64"
    assert table["n"].tolist() == NUMBERS.tolist()
    assert table["l"].tolist() == params["l"]
    assert table["result"].tolist() == (2 * NUMBERS).tolist()


def test_equal_parameters_have_one_digest_whatever_they_come_in() -> None:
    def digest(**columns: Any) -> str:
        return fingerprint.of_work(abs, columns, {}, {})["parameters"]

    array, numbers = many_cells(NUMBERS), NUMBERS.tolist()
    assert digest(x=array) == digest(x=numbers)
    others = [
        digest(y=array),
        digest(x=numbers[::-1]),
        digest(x=[*map(float, numbers)]),
        digest(x=[True, *numbers[1:]]),
        digest(x=[2**70, *numbers[1:]]),
        digest(x=array, y=array),
    ]
    assert len({digest(x=array), *others}) == len(others) + 1


# -- cost that does not grow with the rows ----------------------------------------------------

#: Calls for 1000 rows that frames of 2000 rows and blocks of 4096 may need; a loop over the rows
#: has one for each row at least.
_CALLS_FOR_1000 = 120


def calls(work: Callable[[], Any]) -> int:
    """Count the calls of Python and C functions."""
    counted = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Write jobs of few and of many rows."""
    folders = {rows: tmp_path_factory.mktemp(f"rows{rows}") for rows in (20_000, 100_000)}
    for rows, folder in folders.items():
        million.make_job(folder, rows, "int", 0)
    return folders


def opened(folder: Path) -> SlurmJob:
    return SlurmJob(folder / f"_slurmapply_{million.NAME}")


STEPS: dict[str, Callable[[SlurmJob], Any]] = {
    "first look": lambda job: job.status(),
    "results": lambda job: job.results(),
    "table": lambda job: job.table(),
    "details": lambda job: job.table(errors="keep", details=True),
    "snapshot": lambda job: job.table(wait=False),
}


@pytest.mark.parametrize("step", STEPS)
def test_calls_do_not_grow_with_the_rows(jobs: dict[int, Path], step: str) -> None:
    few, many = (calls(functools.partial(STEPS[step], opened(each))) for each in jobs.values())
    assert many - few < (100 - 20) * _CALLS_FOR_1000


def test_calls_of_a_submission_do_not_grow_with_the_rows() -> None:
    frames = map(million.parameters, (20_000, 100_000))
    few, many = (calls(functools.partial(submitted, frame)) for frame in frames)
    assert many - few < (100 - 20) * _CALLS_FOR_1000


def submitted(params: Any) -> SlurmJob:
    return slurm_apply(million.add, params, backend="local", submit=False)


def test_a_second_look_does_nothing_for_each_row_or_frame(jobs: dict[int, Path]) -> None:
    seen = []
    for folder in jobs.values():
        job = opened(folder)
        job.status()
        seen.append(calls(job.status))
    assert abs(seen[1] - seen[0]) < 40


def test_memory_of_a_submission_and_a_table(jobs: dict[int, Path]) -> None:
    rows = 100_000
    params = million.parameters(rows)
    submitted(million.parameters(10))
    opened(jobs[20_000]).table()
    tracemalloc.start()
    try:
        submitted(params)
        submission = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        opened(jobs[rows]).table()
        table = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Measured: 48 and 117 bytes.
    assert submission < 80 * rows
    assert table < 160 * rows


def test_a_retry_of_many_rows_is_counted_by_its_rule(tmp_path: Path) -> None:
    million.make_job(tmp_path, 20_000, "int", 2_000)
    assert opened(tmp_path).status().counts == {"ok": 18_000, "error": 2_000}
    million.add_retry(tmp_path, 0.5)
    status = SlurmJob.__repr__(opened(tmp_path))
    assert status.startswith("20000 rows: 19000 ok, 1000 pending"), status
    assert opened(tmp_path).table(wait=False)["result"].isna().sum() == 1000
