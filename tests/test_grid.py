"""Every combination, each value with its type."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmapply.errors import InvalidArgumentError
from slurmapply.grid import expand_grid
from slurmapply.inputs import read_params

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary(),
    st.lists(st.integers(), max_size=3), st.tuples(st.integers(), st.integers()),
)  # fmt: skip
#: Columns that are mixed, and columns of one type.
COLUMN = st.one_of(
    st.lists(ANYTHING, max_size=4),
    *(
        st.lists(kind, max_size=4)
        for kind in (st.integers(), st.floats(), st.booleans(), st.text())
    ),
)


def same(given: Any, wanted: Any) -> bool:
    return type(given) is type(wanted) and repr(given) == repr(wanted)


@given(st.dictionaries(st.sampled_from("abcd"), COLUMN, min_size=1, max_size=4))
def test_rows_are_those_of_product_in_its_order_and_reach_f_unchanged(
    columns: dict[str, list[Any]],
) -> None:
    params = read_params(expand_grid(**columns))
    wanted = list(itertools.product(*columns.values()))
    assert list(params.columns) == list(columns)
    assert params.length == len(wanted)
    rows = list(zip(*params.columns.values(), strict=True))
    assert all(
        same(cell, value)
        for row, combination in zip(rows, wanted, strict=True)
        for cell, value in zip(row, combination, strict=True)
    )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        (range(3), "int64"),
        ([0.5, 1.0], "float64"),
        ([math.nan], "float64"),
        ([True, False], "bool"),
        (["a", "bc"], pd.DataFrame({"a": ["a", "bc"]})["a"].dtype),
        (["\udc80"], object),
        ([None, 5, 10], object),
        ([True, 1], object),
        ([1, 2.5], object),
        ([2**70], object),
        ([-(2**63) - 1], object),
        ([[1], [2]], object),
        ([(1, 2), (3, 4)], object),
        ([b"x"], object),
        ([], object),
        (np.array([1, 2], "int8"), "int64"),
        (np.array([1, 2], "float32"), "float64"),
        (pd.Series([1, None], dtype="Int64"), object),
        (pd.Index([1, 2]), "int64"),
        (pl.Series([1.5]), "float64"),
        ((value for value in (1, 2)), "int64"),
        ({1: "a"}.keys(), "int64"),
        ([1, 2].__iter__(), "int64"),
        ("abc", pd.DataFrame({"a": ["abc"]})["a"].dtype),
        (b"abc", object),
        (7, "int64"),
        (None, object),
        (np.float64(7), "float64"),
        (np.array(7), "int64"),
    ],
)
def test_type_of_a_column(values: Any, dtype: Any) -> None:
    grid = expand_grid(a=values)
    assert grid["a"].dtype == dtype
    assert isinstance(grid.index, pd.RangeIndex)


def test_cells_without_a_type_of_their_own_are_the_very_objects() -> None:
    objects = [[1], (1, 2), np.arange(3), len, object(), {"a": 1}, {1}]
    cells = expand_grid(a=objects, b=[1, 2])["a"].tolist()
    assert [id(cell) for cell in cells[::2]] == [id(each) for each in objects]
    assert [id(cell) for cell in cells[1::2]] == [id(each) for each in objects]


@pytest.mark.parametrize("value", ["abc", b"abc", 5, None, len, math.inf])
def test_a_single_value_is_a_column_of_one(value: Any) -> None:
    grid = expand_grid(a=value, b=[1, 2])
    assert read_params(grid).columns == {"a": [value, value], "b": [1, 2]}


def test_an_empty_column_gives_no_rows_and_all_columns() -> None:
    grid = expand_grid(a=[1, 2], b=[], c="x")
    assert list(grid) == ["a", "b", "c"]
    assert len(grid) == 0
    assert grid["a"].dtype == "int64"


def test_doctest_order_is_last_column_fastest() -> None:
    assert expand_grid(a=[1, 2], b=["x", "y"]).to_dict("list") == {
        "a": [1, 1, 2, 2],
        "b": ["x", "y", "x", "y"],
    }


@pytest.mark.parametrize(
    ("columns", "argument", "message"),
    [
        ({}, "columns", r"no columns.*expand_grid\(\*\*mapping\)"),
        ({"a": {"x": 1}}, "a", "dict, which is no sequence"),
        ({"a": {1, 2}}, "a", "set, which is no sequence"),
        ({"a": frozenset([1])}, "a", "frozenset, which is no sequence"),
        ({"b": [1], "a": pd.DataFrame({"x": [1]})}, "a", "DataFrame, which is no sequence"),
        ({"a": pl.LazyFrame({"x": [1]})}, "a", "LazyFrame, which is no sequence"),
    ],
)
def test_what_is_no_list_of_values_is_refused(
    columns: dict[str, Any], argument: str, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        expand_grid(**columns)
    assert refusal.value.argument == argument
