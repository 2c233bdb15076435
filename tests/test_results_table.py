"""What goes out: one line per row in row order, the shape decided once, nothing lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import time
import warnings
from collections import OrderedDict, namedtuple
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmapply.grid import expand_grid
from slurmapply.inputs import Items, read_items, read_params
from slurmapply.numeric import NumberColumn
from slurmapply.results import EMPTY, collection, results_table, rows_table

NAN = float("nan")
INDEX = pd.MultiIndex.from_tuples([("b", 1), ("a", 1), ("a", 1)], names=["k", None])
KINDS: dict[str, Any] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


@dataclasses.dataclass
class Fit:
    rmse: float
    inner: Any = None


class Point(NamedTuple):
    x: int
    y: float


NoField = namedtuple("NoField", [])  # noqa: PYI024  it has no field to be typed


class Model:
    pass


MODEL = Model()


def table(values: list[Any], **kwargs: Any) -> pd.DataFrame:
    """Make the table of some results alone."""
    result = results_table(None, values, extra={}, **kwargs)
    assert isinstance(result, pd.DataFrame)
    return result


def rows(frame: Any) -> dict[str, list[Any]]:
    """Read any frame back as Python cells; NaN and NaT as None, to compare them."""
    native = read_params(frame).columns
    return {
        name: [None if cell is pd.NaT or cell != cell else cell for cell in cells]  # noqa: PLR0124
        for name, cells in native.items()
    }


@pytest.fixture(params=list(KINDS))
def make(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ([1, 2], {"result": [1, 2]}),
        ([1, "a", None, 2.5], {"result": [1, "a", None, 2.5]}),
        ([None, None], {"result": [None, None]}),
        ([EMPTY, EMPTY], {"result": [None, None]}),
        ([], {"result": []}),
        ([np.float64(1), np.array(2.0)], {"result": [1.0, 2.0]}),
        ([dt.time(1), decimal.Decimal(1)], {"result": [dt.time(1), decimal.Decimal(1)]}),
        ([{"a": 1}, {"b": "x", "a": 2}], {"a": [1, 2], "b": [None, "x"]}),
        ([{"a": 1}, None, EMPTY], {"a": [1, None, None]}),
        ([{"a": 1}, {}], {"a": [1, None]}),
        ([{1: 1.5, None: "x"}], {"1": [1.5], "None": ["x"]}),
        ([Fit(1.5), OrderedDict(rmse=2.5)], {"rmse": [1.5, 2.5], "inner": [None, None]}),
        ([Point(1, 2.0), {"y": 3.0}], {"x": [1, None], "y": [2.0, 3.0]}),
        ([pd.Series({"m": 1.5, "s": 2.5}), pd.Series([0.5], index=["s"])],
         {"m": [1.5, None], "s": [2.5, 0.5]}),
        ([(1, "a"), [2, "b"]], {"result_0": [1, 2], "result_1": ["a", "b"]}),
        ([(1, 2), None, EMPTY], {"result_0": [1, None, None], "result_1": [2, None, None]}),
        ([np.array([1, 2]), (3, 4)], {"result_0": [1, 3], "result_1": [2, 4]}),
        ([pl.Series([1, 2]), range(2)], {"result_0": [1, 0], "result_1": [2, 1]}),
        ([pd.Index([1]), pd.Categorical(["a"])], {"result_0": [1, "a"]}),
        ([list(range(50))], {f"result_{place}": [place] for place in range(50)}),
    ],
)  # fmt: skip
def test_shape(values: list[Any], columns: dict[str, list[Any]]) -> None:
    result = table(values)
    assert list(result) == list(columns)
    assert len(result) == len(values)
    given_, wanted = rows(result), rows(columns)
    assert given_ == wanted
    assert [type(c) for cs in given_.values() for c in cs] == [
        type(c) for cs in wanted.values() for c in cs
    ]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ([{"a": 1}] * 5 + [2.5] * 2, "5 dict, 2 float"),
        ([{"a": 1}, None, [1]], "1 dict, 1 list"),
        ([[1, 2], [1]], "2 list"),
        ([[], []], "2 list"),
        ([{}, {}], "2 dict"),
        ([NoField()], "1 NoField"),
        ([list(range(51))], "1 list"),
        ([np.zeros((2, 2)), np.zeros((2, 2))], "2 ndarray"),
        ([np.zeros(2), np.array(2.0)], "2 ndarray"),
        ([MODEL, EMPTY], "1 Model"),
        ([{1}, {2}], "2 set"),
        ([Fit], "1 type"),
        ([bytearray(b"x")], "1 bytearray"),
        ([{1: "a", "1": "b"}], "1 dict"),
        ([pd.Series([1, 2], index=["a", "a"])], "1 Series"),
        ([pd.DataFrame({"a": [1]}), {"a": 1}], "1 DataFrame, 1 dict"),
        ([pd.DataFrame([[1, 2]], columns=["a", "a"])], "1 DataFrame"),
        ([pd.DataFrame({"a": [1]}), pd.DataFrame([[1, 2]], columns=["a", "a"])], "2 DataFrame"),
        ([pd.DataFrame(), pd.DataFrame()], "2 DataFrame"),
        ([pl.LazyFrame({"a": [1]})], "1 LazyFrame"),
    ],
)
def test_what_fits_no_shape_stays_an_object_and_is_counted(values: list[Any], kinds: str) -> None:
    with pytest.warns(UserWarning, match=f"result column holds objects: {kinds}\\.") as caught:
        result = table(values)
    assert len(caught) == 1
    assert list(result) == ["result"]
    assert result["result"].dtype == object
    wanted = [None if value is EMPTY else value for value in values]
    assert list(map(id, result["result"].tolist())) == list(map(id, wanted))


FINE = pd.Timestamp("2024-02-29 12:30:00.123456789")


@pytest.mark.parametrize(
    ("values", "dtype", "cells"),
    [
        ([1, 2], "int64", None),
        ([1, EMPTY], "Int64", [1, None]),
        ([True, None], "boolean", [True, None]),
        ([True, False], "bool", None),
        ([1.5, EMPTY], "float64", [1.5, NAN]),
        ([1, 2.5, None], "float64", [1.0, 2.5, NAN]),
        ([2**53 + 1, 2.5], object, None),
        ([2**70, EMPTY], object, [2**70, None]),
        ([2**70, 1], object, None),
        ([True, 1], object, None),
        ([np.int8(1), np.int64(2)], "int64", [1, 2]),
        ([np.float32(0.5), 1], "float64", [0.5, 1.0]),
        (["a", "b"], pd.Series(["a", "b"]).dtype, None),
        (["a", EMPTY], pd.Series(["a", None]).dtype, ["a", None]),
        (["\udc80", "a"], object, None),
        ([1j, 2.0j], "complex128", None),
        ([FINE, EMPTY], "datetime64[ns]", [FINE, pd.NaT]),
        ([np.datetime64(1, "ns")], "datetime64[ns]", [pd.Timestamp(1)]),
        ([FINE.tz_localize("UTC")], "datetime64[ns, UTC]", None),
        ([dt.datetime(2024, 1, 1), 5], object, None),  # noqa: DTZ001
        ([pd.Period("2024-01"), None], "period[M]", [pd.Period("2024-01"), pd.NaT]),
        ([b"x", None], object, None),
        ([pd.NA, 1], object, None),
    ],
)
def test_type_of_a_column_of_pandas(values: list[Any], dtype: Any, cells: list[Any] | None) -> None:
    wanted = values if cells is None else cells
    for column in (
        table(values)["result"],
        table([value if value is EMPTY else {"x": value} for value in values])["x"],
    ):
        assert column.dtype == dtype
        read = read_params({"a": column}).columns["a"]
        assert list(map(repr, read)) == list(map(repr, wanted))


@pytest.mark.parametrize("value", [dt.timedelta(seconds=3), np.timedelta64(3, "s")])
def test_durations_are_durations_for_pandas(value: Any) -> None:
    column = table([value, EMPTY])["result"]
    assert column.dtype.kind == "m"
    assert column[0] == pd.Timedelta(3, unit="s")
    assert column[1] is pd.NaT


@pytest.mark.parametrize(
    ("cells", "dtype", "back"),
    [
        ([1, None], pl.Int64, None),
        ([1.5, NAN, None], pl.Float64, None),
        ([1, 2.5], pl.Float64, [1.0, 2.5]),
        ([True, None], pl.Boolean, None),
        (["a", None], pl.String, None),
        ([b"a", None], pl.Binary, None),
        ([None, None], pl.Null, None),
        ([dt.date(2024, 1, 1), None], pl.Date, None),
        ([dt.datetime(2024, 1, 1, 1, 1, 1, 5), None], None, None),  # noqa: DTZ001
        ([FINE, None], pl.Datetime("ns"), None),
        ([FINE.tz_localize("Europe/Paris"), None], pl.Datetime("ns", "Europe/Paris"), None),
        ([dt.timedelta(microseconds=3), None], None, None),
        ([np.datetime64("2024-01-01", "s")], None, [dt.datetime(2024, 1, 1)]),  # noqa: DTZ001
        ([dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))], pl.Object, None),
        ([[1, 2], None], pl.List(pl.Int64), None),
        ([[1], [2.5]], pl.Object, None),
        ([np.array([1, 2]), np.array([3])], pl.List(pl.Int64), [[1, 2], [3]]),
        ([{"a": 1}, {"a": 2}], pl.Struct({"a": pl.Int64}), None),
        ([{"a": 1}, {"b": 2}], pl.Object, None),
        ([(1, 2), None], pl.Object, None),
        ([1, "a", None], pl.Object, None),
        ([{1}, None], pl.Object, None),
        ([2**200], pl.Object, None),
        (["\udc80"], pl.Object, None),
        ([decimal.Decimal("1.5")], pl.Decimal, None),
    ],
)
def test_type_of_a_column_of_polars(cells: list[Any], dtype: Any, back: Any) -> None:
    params = read_params(pl.DataFrame({"p": range(len(cells))}))
    result = results_table(params, [{"x": cell} for cell in cells], extra={})
    assert isinstance(result, pl.DataFrame)
    if dtype is not None:
        assert result["x"].dtype == dtype
    read = read_params(result).columns["x"]
    assert list(map(repr, read)) == list(map(repr, cells if back is None else back))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, None], "int64"),
        ([1, 2.5], "double"),
        ([NAN, None], "double"),
        ([True, None], "bool"),
        (["a", None], "string"),
        ([FINE, None], "timestamp[ns]"),
        ([FINE.tz_localize("UTC"), None], "timestamp[ns, tz=UTC]"),
        ([[1], None], "list<item: int64>"),
        ([{"a": 1}, None], "struct<a: int64>"),
    ],
)
def test_type_of_a_column_of_arrow(cells: list[Any], kind: str) -> None:
    params = read_params(pa.table({"p": range(len(cells))}))
    result = results_table(params, [{"x": cell} for cell in cells], extra={})
    assert isinstance(result, pa.Table)
    assert str(result.schema.field("x").type).replace("element", "item") == kind
    read = read_params(result).columns["x"]
    assert list(map(str, read)) == [str(float(c) if kind == "double" and c else c) for c in cells]


@pytest.mark.parametrize("cells", [[1, "a"], [{1}, {2}], [2**70, 1], [(1, 2), (3, 4)]])
def test_what_arrow_cannot_hold_makes_a_table_of_pandas(cells: list[Any]) -> None:
    params = read_params(pa.table({"p": [1, 2]}))
    with pytest.warns(UserWarning, match="Arrow table cannot hold the objects of column 'x'"):
        result = results_table(params, [{"x": cell} for cell in cells], extra={})
    assert isinstance(result, pd.DataFrame)
    assert result.to_dict("list") == {"p": [1, 2], "x": cells}


def test_order_and_kind_of_the_whole_table(make: Any) -> None:
    frame = make({"p": [1, 2, 3], "q": ["a", "b", "c"]})
    extra: dict[str, list[Any]] = {
        "row_number": [0, 1, 2],
        "row_status": ["ok", "error", "ok"],
        "row_cause": [None, "ValueError", None],
        "row_seconds": [0.5, None, 1.5],
    }
    result = results_table(read_params(frame), [{"r": 10}, EMPTY, {"r": 30}], extra=extra)
    assert type(result) is type(frame)
    assert rows(result) == {
        "p": [1, 2, 3],
        "q": ["a", "b", "c"],
        "r": [10, None, 30],
        **extra,
    }
    assert list(rows(result)) == ["p", "q", "r", *extra]


def test_a_table_of_results_alone_is_of_the_kind_of_like(make: Any) -> None:
    frame = make({"p": [1, 2]})
    result = results_table(None, [{"a": 1}, EMPTY], extra={"row_number": [0, 1]}, like=frame)
    assert type(result) is type(frame)
    assert rows(result) == {"a": [1, None], "row_number": [0, 1]}


def test_results_alone_keep_the_index_of_like() -> None:
    like = pd.DataFrame({"p": [1, 2, 3]}, index=INDEX)
    assert results_table(None, [1, 2, 3], extra={}, like=like).index.equals(INDEX)
    assert len(results_table(None, [1, 2], extra={}, like=like)) == 2


@pytest.mark.parametrize(
    "index",
    [INDEX, pd.Index(["z", "z", "a"], name="n"), pd.Index([5, 5, 0]), pd.RangeIndex(2, 8, 2)],
)
def test_every_index_is_kept(index: Any) -> None:
    frame = pd.DataFrame({"p": [1, 2, 3]}, index=index)
    result = results_table(read_params(frame), [1, EMPTY, 3], extra={"row_number": [0, 1, 2]})
    assert result.index.equals(index)
    assert result.index.names == index.names
    assert result["result"].tolist() == [1, pd.NA, 3]
    assert result["row_number"].tolist() == [0, 1, 2]
    assert list(frame) == ["p"]


def test_types_of_parameters_are_kept() -> None:
    frame = pd.DataFrame({"p": pd.Categorical(["a", "b"]), "q": np.array([1, 2], "int8")})
    result = results_table(read_params(frame), [1, 2], extra={})
    assert result.dtypes[["p", "q"]].equals(frame.dtypes)


def test_parameters_that_were_no_frame_keep_their_cells() -> None:
    params = read_params([{"a": 1, "b": None}, {"a": 2.5}, {"a": None, "b": [1]}])
    result = results_table(params, [1, 2, 3], extra={})
    assert result["a"].tolist() == [1, 2.5, None]
    assert type(result["a"][0]) is int
    assert result["b"].tolist() == [None, None, [1]]
    assert isinstance(result.index, pd.RangeIndex)


@pytest.mark.parametrize(
    ("parameters", "value", "extra", "names"),
    [
        (["x"], {"x": 1}, [], ["x", "x_result"]),
        (["result"], 1, [], ["result", "result_result"]),
        (["x", "x_result"], {"x": 1}, [], ["x", "x_result", "x_result_result"]),
        (["x"], {"x": 1, "x_result": 2}, [], ["x", "x_result_result", "x_result"]),
        (["p"], {"row_number": 1}, ["row_number"], ["p", "row_number_result", "row_number"]),
        (["row_number"], 1, ["row_number"], ["row_number", "result", "row_number_slurmapply"]),
        (["result_0"], (1, 2), [], ["result_0", "result_0_result", "result_1"]),
    ],
)
def test_a_name_that_is_taken_gets_a_suffix(
    make: Any, parameters: list[str], value: Any, extra: list[str], names: list[str]
) -> None:
    params = read_params(make({name: [7] for name in parameters}))
    result = rows(results_table(params, [value], extra={name: [0] for name in extra}))
    assert list(result) == names
    assert all(result[name] == [7] for name in parameters)


def test_frames_are_stacked_and_parameters_repeated(make: Any) -> None:
    params = read_params(make({"p": ["a", "b", "c", "d", "e"]}))
    values = [
        make({"x": [1, 2], "y": [True, False]}),
        make({"x": [], "y": []}),
        EMPTY,
        make({"x": [3], "y": [True]}),
        None,
    ]
    result = results_table(params, values, extra={"row_number": [0, 1, 2, 3, 4]})
    assert rows(result) == {
        "p": ["a", "a", "b", "c", "d", "e"],
        "x": [1, 2, None, None, 3, None],
        "y": [True, False, None, None, True, None],
        "row_number": [0, 0, 1, 2, 3, 4],
    }
    assert type(result) is type(params.frame)


def test_frames_of_another_kind_or_layout_are_stacked_too(make: Any) -> None:
    params = read_params(make({"p": [1, 2, 3, 4]}))
    values = [
        pd.DataFrame({"x": [1], "y": [1.5]}),
        pl.DataFrame({"x": [2, 3]}),
        pa.table({"z": ["a"]}),
        pd.DataFrame(),
    ]
    assert rows(results_table(params, values, extra={})) == {
        "p": [1, 2, 2, 3, 4],
        "x": [1, 2, 3, None, None],
        "y": [1.5, None, None, None, None],
        "z": [None, None, None, "a", None],
    }


def test_frames_of_one_layout_but_another_kind_are_stacked_too(make: Any) -> None:
    params = read_params(make({"p": [1, 2, 3]}))
    columns = {"x": [1], "y": ["a"]}
    values = [pl.DataFrame(columns), pa.table(columns), pd.DataFrame(columns)]
    assert rows(results_table(params, values, extra={})) == {
        "p": [1, 2, 3], "x": [1, 1, 1], "y": ["a", "a", "a"],
    }  # fmt: skip


def test_stacked_frames_of_pandas_keep_types_and_index() -> None:
    params = read_params(pd.DataFrame({"p": [1, 2, 3]}, index=INDEX))
    part = pd.DataFrame(
        {"i": np.array([1, 2], "int16"), "c": pd.Categorical(["a", "b"]), "f": np.float32(1)}
    )
    full = results_table(params, [part, part, part], extra={})
    assert [str(full[name].dtype) for name in "icf"] == ["int16", "category", "float32"]
    assert full.index.equals(INDEX[[0, 0, 1, 1, 2, 2]])
    gaps = results_table(params, [part, EMPTY, part], extra={})
    assert [str(gaps[name].dtype) for name in "icf"] == ["Int16", "category", "float32"]
    assert gaps.index.equals(INDEX[[0, 0, 1, 2, 2]])


def test_stacked_frames_of_polars_keep_types() -> None:
    params = read_params(pl.DataFrame({"p": [1, 2, 3]}))
    part = pl.DataFrame({"i": [1, 2]}, schema={"i": pl.Int16})
    result = results_table(params, [part, EMPTY, part], extra={})
    assert result["i"].dtype == pl.Int16
    texts = pl.DataFrame({"i": ["a"]})
    unlike = results_table(params, [pl.DataFrame({"i": [[1]]}), EMPTY, texts], extra={})
    assert rows(unlike)["i"] == [[1], None, "a"]


@pytest.mark.parametrize(
    ("frame", "columns"),
    [
        (pd.DataFrame({"x": [1, 2]}, index=[3, 8]), {"x": [1, 2]}),
        (pd.DataFrame({"x": [1]}, index=["mean"]), {"index": ["mean"], "x": [1]}),
        (pd.DataFrame({"x": [1]}, index=pd.Index([3], name="k")), {"k": [3], "x": [1]}),
        (pd.DataFrame({"k": [1]}, index=pd.Index([3], name="k")), {"k": [1]}),
        (pd.DataFrame([[1, 2]]), {"0": [1], "1": [2]}),
        (
            pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)], names=["k", "l"])),
            {"k": [1], "l": [2], "x": [1]},
        ),
    ],
)
def test_an_index_of_a_result_that_says_something_becomes_columns(
    frame: pd.DataFrame, columns: dict[str, list[Any]]
) -> None:
    assert rows(table([frame])) == columns


def test_rows_table_takes_just_these_rows(make: Any) -> None:
    params = read_params(make({"p": [1, 2, 3], "q": ["a", "b", "c"]}))
    result = rows_table(params, [2, 0], {"row_number": [2, 0], "message": ["x", None]})
    assert type(result) is type(params.frame)
    assert rows(result) == {
        "p": [3, 1], "q": ["c", "a"], "row_number": [2, 0], "message": ["x", None],
    }  # fmt: skip
    none = rows_table(params, [], {"row_number": [], "message": []})
    assert rows(none) == {"p": [], "q": [], "row_number": [], "message": []}


def test_rows_table_keeps_the_index_and_makes_one_without_a_frame() -> None:
    params = read_params(pd.DataFrame({"p": [1, 2, 3]}, index=INDEX))
    assert rows_table(params, [2], {"row_number": [2]}).index.equals(INDEX[[2]])
    result = rows_table(read_params({"p": [1, None]}), [1], {"row_number": [1]})
    assert result.index.tolist() == [1]
    assert result["p"].tolist() == [None]


@pytest.mark.parametrize("wrong", [[0], [0, 1, 2]])
def test_a_column_of_another_length_is_never_filled_up(make: Any, wrong: list[int]) -> None:
    params = read_params(make({"p": [1, 2]}))
    with pytest.raises(Exception, match=r"(?i)length|height|row"):
        results_table(params, [1, 2], extra={"row_number": wrong})
    with pytest.raises(Exception, match=r"(?i)length|height|row"):
        results_table(params, wrong, extra={})


@pytest.mark.parametrize("length", [0, 3])
def test_a_grid_of_no_or_few_rows(length: int) -> None:
    result = results_table(
        read_params(expand_grid(a=range(length), b=["x"])), [1.5] * length, extra={}
    )
    assert list(result) == ["a", "b", "result"]
    assert len(result) == length


VALUE = st.one_of(st.none(), st.just(EMPTY), st.integers(), st.floats(), st.text(), st.booleans())


@given(st.lists(VALUE))
def test_scalars_stay_in_their_row_whatever_is_beside_them(values: list[Any]) -> None:
    params = read_params({"p": list(range(len(values)))})
    result = results_table(params, values, extra={})
    for row, (number, cell) in enumerate(zip(result["p"], result["result"], strict=True)):
        assert number == row
        value = values[row]
        empty = value is None or value is EMPTY or value != value  # noqa: PLR0124
        assert pd.isna(cell) if empty else cell == value


@given(st.lists(st.dictionaries(st.sampled_from("pxyz"), VALUE.filter(lambda v: v is not EMPTY))))
def test_fields_stay_in_their_row(values: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = results_table(read_params({"p": list(range(len(values)))}), values, extra={})
    if not any(values):
        return
    for row, value in enumerate(values):
        for name in "pxyz":
            column = "p_result" if name == "p" else name
            if column in result:
                cell, wanted = result[column][row], value.get(name)
                empty = wanted is None or wanted != wanted  # noqa: PLR0124
                assert pd.isna(cell) if empty else cell == wanted


@pytest.mark.parametrize(
    ("items", "values", "expected"),
    [
        (None, [1, EMPTY], [1, None]),
        (read_items([5, 6]), [1, MODEL], [1, MODEL]),
        (read_items({"a": 5, "b": 6}), [1, EMPTY], {"a": 1, "b": None}),
        (read_items({}), [], {}),
    ],
)
def test_a_collection_is_of_the_kind_of_the_items(
    items: Items | None, values: list[Any], expected: Any
) -> None:
    result = collection(items, values)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2, 3], "int64"),
        ([1, EMPTY, 3], "Int64"),
        ([1, MODEL, [2]], object),
        ([[1], [2], [3]], object),
    ],
)
def test_a_series_gives_a_series(values: list[Any], dtype: Any) -> None:
    series = pd.Series([7, 8, 9], index=INDEX, name="n")
    result = collection(read_items(series), values)
    assert result.index.equals(INDEX)
    assert result.name == "n"
    assert result.dtype == dtype
    assert read_params({"n": result}).columns["n"] == [
        None if value is EMPTY else value for value in values
    ]


def test_a_series_of_polars_gives_one_of_polars() -> None:
    items = read_items(pl.Series("n", [7, 8]))
    result = collection(items, [1, EMPTY])
    assert result.name == "n"
    assert result.to_list() == [1, None]
    assert collection(items, [MODEL, 1]).to_list() == [MODEL, 1]


@pytest.mark.parametrize("value", [1.5, 3])
def test_a_million_scalars_take_no_longer_than_a_few_hundred_nanoseconds_each(value: Any) -> None:
    values = [value] * 1_000_000
    params = read_params({"p": values})
    begin = time.process_time()
    results_table(params, values, extra={})
    assert time.process_time() - begin < 2.0


def test_columns_of_numbers_are_repeated_with_their_empty_cells() -> None:
    seconds = NumberColumn(np.array([1.0, 2.0, 3.0]), np.array([False, True, False]))
    values = [pd.DataFrame({"a": [1, 2]}), EMPTY, pd.DataFrame({"a": [3]})]
    found = results_table(None, values, extra={"seconds": seconds})
    expected = pd.Series([1.0, 1.0, NAN, 3.0], name="seconds")
    pd.testing.assert_series_equal(found["seconds"], expected, check_index=False)
