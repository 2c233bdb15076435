"""What comes in reaches the function as the value rules say; what is no table is refused."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import subprocess
import sys
from collections import UserDict, defaultdict
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import ParameterGrid

from slurmapply.errors import InvalidArgumentError
from slurmapply.inputs import Items, Params, read_items, read_params
from slurmapply.rows import ABSENT

SOURCE = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
NAN = float("nan")
OBJECT = object()
DAY = dt.datetime(2024, 2, 29, 12, 30)  # noqa: DTZ001  a naive time is what is tested
FINE = pd.Timestamp("2024-02-29 12:30:00.123456789")
FINE_PARIS = FINE.tz_localize("Europe/Paris")
HALF = dt.timedelta(microseconds=500)
FINE_HALF = pd.Timedelta(500_001, unit="ns")


def same(given: Any, wanted: Any) -> bool:
    """Whether type and value are the same; NaN is NaN, and nothing else is."""
    if isinstance(wanted, np.ndarray):
        return type(given) is np.ndarray and given.tolist() == wanted.tolist()
    return type(given) is type(wanted) and repr(given) == repr(wanted)


def values_of(items: Items) -> list[Any]:
    return items.values  # noqa: PD011  it is no frame


def only_column(params: Any) -> list[Any]:
    (cells,) = read_params(params).columns.values()
    assert isinstance(cells, list)
    return cells


PANDAS = [
    (pd.Series([1, 2], dtype="int8"), [1, 2]),
    (pd.Series([1, 2], dtype="uint64"), [1, 2]),
    (pd.Series([1.5, NAN], dtype="float32"), [1.5, NAN]),
    (pd.Series([True, False]), [True, False]),
    (pd.Series([1j]), [1j]),
    (pd.Series([1, None], dtype="Int64"), [1, None]),
    (pd.Series([1.5, None], dtype="Float64"), [1.5, None]),
    (pd.Series([True, None], dtype="boolean"), [True, None]),
    (pd.Series(["a", None], dtype="string"), ["a", None]),
    (pd.Series(["a", "b"]), ["a", "b"]),
    (pd.Series(["a", None]), ["a", None]),
    (pd.Series(["a", None], dtype="category"), ["a", None]),
    (pd.Series([2, 1, 2], dtype="category"), [2, 1, 2]),
    (pd.Series([1.5, NAN], dtype="category"), [1.5, None]),
    (pd.Series(pd.arrays.SparseArray([0, 1])), [0, 1]),
    (pd.Series(pd.arrays.SparseArray([NAN, 1.0])), [NAN, 1.0]),
    (pd.Series([FINE, pd.NaT]), [FINE, pd.NaT]),
    (pd.Series([FINE_PARIS, pd.NaT]), [FINE_PARIS, pd.NaT]),
    (pd.Series([FINE_HALF, pd.NaT]), [FINE_HALF, pd.NaT]),
    (pd.Series([pd.Period("2024-01"), pd.NaT]), [pd.Period("2024-01"), pd.NaT]),
    (pd.Series([pd.Interval(0, 1), None]), [pd.Interval(0.0, 1.0), None]),
    (pd.Series([1, None], dtype=pd.ArrowDtype(pa.int64())), [1, None]),
    (pd.Series(pa.array([NAN, None]), dtype=pd.ArrowDtype(pa.float64())), [NAN, None]),
    (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())), ["a", None]),
    (pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))), [[1], None]),
    (pd.Series([FINE, None], dtype=pd.ArrowDtype(pa.timestamp("ns"))), [FINE, None]),
    (
        pd.Series([np.float64(1.5), np.int64(2), np.True_], dtype=object),
        [1.5, 2, True],
    ),
    (
        pd.Series([np.str_("x"), np.bytes_(b"y"), np.complex64(1j)], dtype=object),
        ["x", b"y", 1j],
    ),
    (pd.Series([None, NAN, pd.NA, pd.NaT], dtype=object), [None, NAN, pd.NA, pd.NaT]),
    (pd.Series([1, True, 2.0, "1"], dtype=object), [1, True, 2.0, "1"]),
    (pd.Series([np.datetime64(1, "ns"), np.timedelta64(1, "s")], dtype=object),
     [np.datetime64(1, "ns"), np.timedelta64(1, "s")]),
    (pd.Series([2**70, np.longdouble(1)], dtype=object), [2**70, np.longdouble(1)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("series", "cells"), PANDAS, ids=lambda each: str(getattr(each, "dtype", "cells"))
)
def test_cells_of_pandas(series: pd.Series[Any], cells: list[Any]) -> None:
    backwards = series.set_axis(range(len(series), 0, -1))
    for params in (series.to_frame("a"), backwards.to_frame("a"), {"a": series}):
        read = only_column(params)
        assert len(read) == len(cells)
        assert all(map(same, read, cells)), read


POLARS = [
    (pl.Series([1, None], dtype=pl.Int8), [1, None]),
    (pl.Series([1.5, NAN, None]), [1.5, NAN, None]),
    (pl.Series([True, None]), [True, None]),
    (pl.Series(["a", None]), ["a", None]),
    (pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
    (pl.Series(["a", None], dtype=pl.Enum(["a"])), ["a", None]),
    (pl.Series([b"a", None]), [b"a", None]),
    (pl.Series([None, None]), [None, None]),
    (pl.Series([decimal.Decimal("1.50")]), [decimal.Decimal("1.50")]),
    (pl.Series([DAY.date(), None]), [DAY.date(), None]),
    (pl.Series([DAY, None], dtype=pl.Datetime("us")), [DAY, None]),
    (pl.Series([DAY, None], dtype=pl.Datetime("ns")), [DAY, None]),
    (pl.Series(np.array([FINE.value, 0]).view("M8[ns]")), [FINE, pd.Timestamp(0)]),
    (
        pl.Series(np.array([FINE_PARIS.value, "NaT"], dtype="M8[ns]"))
        .dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Paris"),
        [FINE_PARIS, None],
    ),
    (pl.Series([HALF, None], dtype=pl.Duration("ns")), [HALF, None]),
    (pl.Series(np.array([500_001, "NaT"], dtype="m8[ns]")), [FINE_HALF, None]),
    (pl.Series([DAY.time(), None]), [DAY.time(), None]),
    (pl.Series([[1, None], None]), [[1, None], None]),
    (pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), [[1, 2], None]),
    (pl.Series([{"x": 1, "y": [2]}, None]), [{"x": 1, "y": [2]}, None]),
    (pl.Series(np.array([FINE.value]).view("M8[ns]")).implode(), [[FINE]]),
    (pl.Series("x", np.array([FINE.value, 0]).view("M8[ns]")).to_frame().to_struct(),
     [{"x": FINE}, {"x": pd.Timestamp(0)}]),
    (pl.Series([OBJECT, None], dtype=pl.Object), [OBJECT, None]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("series", "cells"), POLARS, ids=lambda each: str(getattr(each, "dtype", "cells"))
)
def test_cells_of_polars(series: pl.Series, cells: list[Any]) -> None:
    for params in (series.alias("a").to_frame(), {"a": series}):
        read = only_column(params)
        assert len(read) == len(cells)
        assert all(map(same, read, cells)), read


ARROW = [
    (pa.array([1, None], pa.int8()), [1, None]),
    (pa.array([1.5, NAN, None]), [1.5, NAN, None]),
    (pa.array([True, None]), [True, None]),
    (pa.array(["a", None], pa.large_string()), ["a", None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([b"a", None]), [b"a", None]),
    (pa.array([None]), [None]),
    (pa.array([DAY, None], pa.timestamp("us")), [DAY, None]),
    (pa.array([FINE.value, None], pa.timestamp("ns")), [FINE, None]),
    (pa.array([500_001], pa.duration("ns")), [FINE_HALF]),
    (pa.array([DAY.date(), None]), [DAY.date(), None]),
    (pa.array([1000, None], pa.time64("ns")), [dt.time(microsecond=1), None]),
    (pa.array([[1, None], None]), [[1, None], None]),
    (pa.array([{"x": [1]}, None]), [{"x": [1]}, None]),
]


@pytest.mark.parametrize(("array", "cells"), ARROW, ids=lambda each: str(getattr(each, "type", "")))
def test_cells_of_arrow(array: Any, cells: list[Any]) -> None:
    chunked = pa.chunked_array([array, array])
    for params, times in ((pa.table({"a": array}), 1), ({"a": array}, 1), ({"a": chunked}, 2)):
        read = only_column(params)
        assert len(read) == times * len(cells)
        assert all(map(same, read, times * cells)), read


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ([1, np.int64(2), np.float32(0.5), None], [1, 2, 0.5, None]),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        (np.array([1, 2], "u1"), [1, 2]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([b"a"]), [b"a"]),
        (np.array([1, None], dtype=object), [1, None]),
        (np.array([1], "M8[ns]"), [np.datetime64(1, "ns")]),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
        (np.array([[1, 2], [3, 4]]), [np.array([1, 2]), np.array([3, 4])]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (pd.date_range(FINE, periods=1), [FINE]),
        ((each for each in (1, 2)), [1, 2]),
        ({"k": 1}.values(), [1]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_cells_of_a_mapping_of_columns(column: Any, cells: list[Any]) -> None:
    read = only_column({"a": column})
    assert len(read) == len(cells)
    assert all(map(same, read, cells)), read


class PlainArray:
    """An array as other libraries have it: its elements are arrays again."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = np.array(numbers)
        self.ndim = self.numbers.ndim

    def __array__(self) -> Any:
        return self.numbers

    def __iter__(self) -> Any:
        return (type(self)(number) for number in self.numbers)


class ForeignArray(PlainArray):
    """One that can give its elements."""

    def tolist(self) -> Any:
        return self.numbers.tolist()


def test_numbers_come_out_of_other_libraries_arrays() -> None:
    assert only_column({"a": ForeignArray([1.5, 2.5])}) == [1.5, 2.5]
    assert values_of(read_items(ForeignArray([1, 2]))) == [1, 2]
    assert [type(each) for each in values_of(read_items(PlainArray([1])))] == [PlainArray]
    matrix = values_of(read_items(ForeignArray([[1, 2], [3, 4]])))
    assert [type(row) for row in matrix] == [ForeignArray, ForeignArray]


def test_cells_that_are_objects_are_the_very_objects() -> None:
    objects = [OBJECT, [1], np.arange(2), len, {"a": 1}]
    column = np.empty(len(objects), dtype=object)
    column[:] = objects
    frame = pd.DataFrame({"a": pd.Series(column, dtype=object)})
    for params in (frame, {"a": objects}, {"a": column}, [{"a": each} for each in objects]):
        assert [id(cell) for cell in only_column(params)] == [id(each) for each in objects]


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.datetimes(), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@given(st.lists(CELL, min_size=1, max_size=6))
def test_any_cells_survive_every_way_in(cells: list[Any]) -> None:
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    objects = pl.Series("a", cells, dtype=pl.Object).to_frame()
    for params in (frame, objects, {"a": cells}, [{"a": cell} for cell in cells]):
        assert all(map(same, only_column(params), cells))


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**53), 2**53).map(float))))
def test_nulls_and_nans_of_polars_are_told_apart(cells: list[float | None]) -> None:
    read = only_column(pl.DataFrame({"a": cells}, schema={"a": pl.Float64}))
    assert all(map(same, read, cells))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[7, 7]),
        pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        pa.table({"a": [1, 2], "b": ["x", "y"]}),
    ],
    ids=lambda frame: type(frame).__module__,
)
def test_a_frame_is_kept_as_it_is(frame: Any) -> None:
    for given_ in (frame, nw.from_native(frame)):
        params = read_params(given_)
        assert params == Params({"a": [1, 2], "b": ["x", "y"]}, 2, params.frame)
        assert params.frame is frame


@pytest.mark.parametrize(
    ("params", "columns", "length"),
    [
        ([{"a": 1}, {"b": 2, "a": 3}], {"a": [1, 3], "b": [ABSENT, 2]}, 2),
        ([{"a": None}, {"a": np.int8(1)}], {"a": [None, 1]}, 2),
        ((row for row in [{"a": 1}]), {"a": [1]}, 1),
        ([UserDict(a=1), defaultdict(int, b=2)], {"a": [1, ABSENT], "b": [ABSENT, 2]}, 2),
        (ParameterGrid({"b": [1], "a": [3, 4]}), {"a": [3, 4], "b": [1, 1]}, 2),
        (ParameterGrid([{"a": [1]}, {"b": [2]}]), {"a": [1, ABSENT], "b": [ABSENT, 2]}, 2),
        ({"a": [], "b": ()}, {"a": [], "b": []}, 0),
        ({}, {}, 0),
        ([], {}, 0),
        (pd.DataFrame({"a": []}), {"a": []}, 0),
        (pl.DataFrame(schema={"a": pl.Int64}), {"a": []}, 0),
        (pd.DataFrame(), {}, 0),
        ({"not an identifier": [1]}, {"not an identifier": [1]}, 1),
    ],
)
def test_rows(params: Any, columns: dict[str, list[Any]], length: int) -> None:
    read = read_params(params)
    assert read.columns == columns
    assert list(read.columns) == list(columns)
    assert read.length == length
    assert all(type(name) is str for name in read.columns)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("table.csv", r"params is 'table.csv' \(str\), not a table.*pandas.read_csv"),
        (b"table", "not a table"),
        (5, r"params is 5 \(int\), not a table"),
        (None, "params is None, not a table"),
        ({1, 2}, "not a table"),
        (len, r"function \(len\). Were the arguments swapped.*slurm_apply\(f, params\)"),
        (pd.Series([1]), r"a Series \(Series\), not a table.*slurm_map\(f, series\)"),
        (pl.Series([1]), r"slurm_map\(f, series\)"),
        (pl.LazyFrame({"a": [1]}), r"lazy frame.*params\.collect\(\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (pa.table([[1], [2], [3]], names=["a", "b", "a"]), "more than one column named 'a'"),
        (pd.DataFrame([[1, 2]]), r"named 0 \(int\).*set_axis"),
        (pd.DataFrame({("a", "b"): [1]}), r"named \('a', 'b'\) \(tuple\)"),
        ({1: [1]}, r"named 1 \(int\)"),
        ([{None: 1}], r"named None \(NoneType\)"),
        (pd.DataFrame(index=[1, 2]), "2 rows but no columns"),
        ([{}, {}, {}], "3 rows but no columns"),
        ({"a": [1, 2], "b": [1]}, "differ in length: 'a' 2, 'b' 1.*expand_grid"),
        (
            {"a": 1, "b": "text"},
            r"single values, not columns.*slurm_call\(f, params\).*\"a\": \[1\]",
        ),
        (
            {"a": [1, 2], "b": "text"},
            r"Column 'b' of params is 'text' \(str\), not a list.*more_args",
        ),
        ({"a": [1, 2], "b": None}, "Column 'b' of params is None"),
        ({"a": [1, 2], "b": np.array(3)}, "Column 'b' of params is array.3. .ndarray."),
        ({"a": [1], "b": {"x": 1}}, "column of params is a dict, which is no sequence"),
        ({"a": [1], "b": {1}}, "column of params is a set, which is no sequence"),
        ({"a": pl.DataFrame({"x": [1]})}, "column of params is a DataFrame"),
        ([1, 2], r"Item 0 of params is 1 \(int\), not a mapping.*slurm_map"),
        ([{"a": 1}, ("a", 2)], "Item 1 of params is"),
        (np.zeros((2, 2)), "Item 0 of params is a ndarray.*pandas.DataFrame"),
        (pl.DataFrame({"a": [1]}).cast(pl.Time), "times of day with nanoseconds"),
        (pa.table({"a": pa.array([1], pa.time64("ns"))}), "times of day with nanoseconds"),
    ],
)
def test_what_is_no_table_of_parameters_is_refused(params: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        read_params(params)
    assert refusal.value.argument == "params"


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([1, np.int8(2), "a"], Items([1, 2, "a"], None, "list")),
        ((1, 2), Items([1, 2], None, "list")),
        (range(2), Items([0, 1], None, "list")),
        ((each for each in "ab"), Items(["a", "b"], None, "list")),
        (np.array([1.5, 2.5]), Items([1.5, 2.5], None, "list")),
        (pa.chunked_array([[1], [None]]), Items([1, None], None, "list")),
        (pd.Index([1, 2]), Items([1, 2], None, "list")),
        ({"x": 1, 2: np.float64(3)}, Items([1, 3.0], ["x", 2], "dict")),
        ({}, Items([], [], "dict")),
        ([], Items([], None, "list")),
    ],
)
def test_items(items: Any, expected: Items) -> None:
    read = read_items(items)
    assert read == expected
    assert list(map(type, read.values)) == list(map(type, expected.values))


def test_a_matrix_is_its_rows() -> None:
    matrix = np.arange(4).reshape(2, 2)
    assert [row.tolist() for row in values_of(read_items(matrix))] == [[0, 1], [2, 3]]


def test_a_series_is_kept() -> None:
    series = pd.Series([1, None], index=["b", "b"], name="n", dtype="Int64")
    items = read_items(series)
    assert (values_of(items), items.kind, items.keys) == ([1, None], "series", None)
    assert items.frame.equals(series)
    assert items.frame.index.tolist() == ["b", "b"]
    polars = pl.Series("n", [1, None])
    items = read_items(polars)
    assert (values_of(items), items.kind) == ([1, None], "series")
    assert items.frame is polars


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (pd.DataFrame({"a": [1]}), r"items is a frame \(DataFrame\).*slurm_apply\(f, params\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "items is a frame"),
        (pl.LazyFrame({"a": [1]}), "items is a frame"),
        (pa.table({"a": [1]}), "items is a frame"),
        ("abc", r"'abc' \(str\), a single value.*list\(items\)"),
        (b"abc", "a single value"),
        (len, r"function \(len\). Were the arguments swapped.*slurm_map\(f, items\)"),
        ({1, 2}, r"a set, which has no order.*sorted\(items\)"),
        (frozenset([1]), "no order"),
        (5, r"5 \(int\), a single value: give a list, \[5\]"),
        (None, "None, a single value"),
        (np.array(5), "a single value"),
    ],
)
def test_what_is_no_ordered_collection_is_refused(items: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        read_items(items)
    assert refusal.value.argument == "items"


def test_importing_loads_no_library_of_frames() -> None:
    code = (
        "import sys, slurmapply.grid, slurmapply.inputs, slurmapply.results, slurmapply.signature\n"
        "print({'numpy', 'pandas', 'polars', 'pyarrow', 'narwhals'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=SOURCE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
