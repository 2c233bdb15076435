"""`cost=`: which rows start first, what comes back, and what is refused."""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slurmapply import (
    InvalidArgumentError,
    JobFolderError,
    slurm_apply,
    slurm_call,
    slurm_map,
)
from slurmapply.errors import FormatError
from slurmapply.order import OrderedRows
from slurmapply.rows import RowNumbers

if TYPE_CHECKING:
    from slurmapply import SlurmJob

COSTS = [3, 1, 4, 1, 5, 9, 2, 6]
BY_COST = [5, 7, 4, 2, 0, 6, 1, 3]


def note(x: int) -> int:
    with Path("started").open("a") as file:
        file.write(f"{x}\n")
    return 10 * x


def started() -> list[int]:
    return [int(line) for line in Path("started").read_text().split()]


def run(costs: Any, **how: Any) -> SlurmJob:
    """Run rows one after the other, and note which began when."""
    one: dict[str, Any] = {
        "nodes": 1,
        "cpus_per_node": 1,
        "job_name": "by_cost",
        "if_exists": "replace",
    }
    Path("started").unlink(missing_ok=True)
    return slurm_map(note, range(8), cost=costs, **(one | how)).wait()


def test_each_row_is_found_at_its_position() -> None:
    numbers = [7, 1, 2, 1000, 4]
    rows = OrderedRows(numbers, RowNumbers.of(sorted(numbers)), ((1.0, 5),))
    assert [rows.position(number) for number in numbers] == list(range(5))


@pytest.mark.parametrize("backend", ["inline", "local"])
@pytest.mark.parametrize("chunksize", [None, 3])
def test_rows_start_by_descending_cost_and_come_back_in_their_own_order(
    backend: str, chunksize: int | None
) -> None:
    job = run(COSTS, backend=backend, chunksize=chunksize)
    assert started() == BY_COST
    assert job.results() == [10 * x for x in range(8)]


@pytest.mark.parametrize(
    "costs",
    [
        tuple(COSTS),
        np.array(COSTS),
        np.array(COSTS, dtype="float32"),
        pd.Series(COSTS, index=range(8, 0, -1)),
        pl.Series(COSTS),
        (float(cost) for cost in COSTS),
        [cost * 1e300 / 9 for cost in COSTS],
        [cost * 5e-324 for cost in COSTS],
    ],
)
def test_costs_are_any_sequence_of_numbers(costs: Any) -> None:
    run(costs, backend="inline")
    assert started() == BY_COST


def test_without_costs_rows_start_in_their_own_order() -> None:
    for costs in (None, [0] * 8, [2.5] * 8):
        run(costs, backend="inline")
        assert started() == list(range(8))


def test_a_column_of_costs_reaches_the_function_too() -> None:
    frame = pd.DataFrame({"x": range(8), "price": COSTS})

    def f(x: int, price: int) -> int:
        note(x)
        return price

    job = slurm_apply(f, frame, cost="price", backend="inline", job_name="column")
    assert started() == BY_COST
    table = job.table()
    assert list(table["x"]) == list(range(8))
    assert list(table["result"]) == COSTS


def test_a_retry_keeps_the_order_for_what_is_left() -> None:
    def fails(x: int) -> int:
        if x not in (5, 4):
            raise ValueError(x)
        return x

    job = slurm_map(
        fails, range(8), cost=COSTS, nodes=1, cpus_per_node=1, max_failures=None,
        backend="local", job_name="again",
    ).wait()  # fmt: skip
    job.retry(f=note).wait()
    assert started() == [row for row in BY_COST if row not in (5, 4)]
    Path("started").unlink()
    job.retry(rows=[1, 2, 7]).wait()
    assert started() == [7, 2, 1]
    Path("started").unlink()
    job.retry(rows=[1, 2, 7], schedule="static").wait()
    assert started() == [1, 2, 7]
    assert job.results() == [5 if x == 5 else 4 if x == 4 else 10 * x for x in range(8)]


def test_a_row_that_is_left_is_put_down_to_the_task_that_had_it() -> None:
    def slow(x: int) -> int:
        if x == 6:
            Path("six").touch()
            time.sleep(60)
        return x

    job = slurm_map(
        slow, range(8), cost=COSTS, nodes=1, cpus_per_node=1, backend="local", job_name="left"
    )
    while not Path("six").exists():
        time.sleep(0.02)
    job.cancel()
    job.wait()
    assert sorted(job.errors()["row_number"]) == [1, 3, 6]


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ([1] * 7, "one number for each row is needed: 8, not 7"),
        ([1] * 9, "8, not 9"),
        ([], "8, not 0"),
        ([1] * 7 + [math.nan], "row 7 has nan"),
        ([math.inf] + [1] * 7, "row 0 has inf"),
        ([1, -0.5] + [1] * 6, "row 1 has -0.5"),
        ([1, "2"] + [1] * 6, "row 1 has '2'"),
        ([1, None] + [1] * 6, "row 1 has None"),
        ([1, True] + [1] * 6, "row 1 has True"),
        ([1, 2j] + [1] * 6, "row 1 has 2j"),
        ([1, Decimal(1)] + [1] * 6, "row 1 has Decimal"),
        ([1, 10**400] + [1] * 6, "row 1 has 1000"),
        (pd.Series([1.0, None] + [1.0] * 6), "row 1 has nan"),
        (pd.Series([1, None] + [1] * 6, dtype="Int64"), "row 1 has None"),
        (pd.Series(["a"] * 8), "row 0 has 'a'"),
        (5, "the name of a column, or a list of numbers"),
        (True, "the name of a column, or a list of numbers"),
        (b"12345678", "the name of a column, or a list of numbers"),
        (dict.fromkeys(range(8), 1), "the name of a column, or a list of numbers"),
        (set(range(8)), "the name of a column, or a list of numbers"),
        (pd.DataFrame({"c": COSTS}), "the name of a column, or a list of numbers"),
        (np.ones((8, 2)), "the name of a column, or a list of numbers"),
        (np.array(3.0), "the name of a column, or a list of numbers"),
        (abs, "the name of a column, or a list of numbers"),
        ("price", "did you mean 'prices'"),
        ("zzz", "it has x, prices, names"),
        ("names", "row 0 has 'a'"),
    ],
)
def test_what_is_no_cost_is_refused_before_anything_is_written(costs: Any, words: str) -> None:
    params = {"x": range(8), "prices": COSTS, "names": list("abcdefgh")}

    def f(**cells: Any) -> Any:
        return cells

    with pytest.raises(InvalidArgumentError) as caught:
        slurm_apply(f, params, cost=costs, job_name="bad", submit=False)
    assert str(caught.value).startswith("cost: ")
    assert words in str(caught.value)
    assert caught.value.argument == "cost"
    assert not list(Path().glob("_slurmapply_*"))


def test_a_column_that_some_rows_lack_is_no_cost() -> None:
    with pytest.raises(InvalidArgumentError, match="row 1 has"):
        slurm_apply(lambda **cells: cells, [{"c": 1}, {"d": 1}], cost="c", submit=False)


def test_items_have_no_columns_to_name() -> None:
    with pytest.raises(InvalidArgumentError, match="items have no column 'x'"):
        slurm_map(abs, [1], cost="x", submit=False)


def test_costs_have_no_place_where_rows_are_dealt_out_beforehand_or_alone() -> None:
    with pytest.raises(InvalidArgumentError, match='schedule="static"'):
        slurm_map(abs, [1, 2], cost=[1, 2], schedule="static", submit=False)
    with pytest.raises(InvalidArgumentError, match=r"slurm_call\(\) has no keyword 'cost'"):
        slurm_call(abs, cost=[1])  # type: ignore[call-arg]
    job = slurm_map(abs, [1, 2], cost=[1, 2], backend="inline", job_name="kept")
    with pytest.raises(InvalidArgumentError, match="cost cannot be changed here"):
        job.retry(rows=[0], cost=[1, 2])
    assert not list(Path().glob("_slurmapply_abs*"))


def test_no_rows_have_no_cost() -> None:
    job = slurm_map(abs, [], cost=[], backend="inline", job_name="none")
    assert job.results() == []


def test_only_a_job_with_costs_has_an_order() -> None:
    plain = slurm_map(abs, [1, 2], job_name="plain", submit=False)
    priced = slurm_map(abs, [1, 2], cost=[1, 2], job_name="priced", submit=False)
    assert not (plain.folder / "rows.order").exists()
    head, _, body = (priced.folder / "rows.order").read_bytes().partition(b"\n")
    assert json.loads(head)["costs"] == [[1.0, 1], [0.5, 1]]
    assert body == bytes([1, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_lost_order_ends_the_task_with_its_name(harm: str) -> None:
    job = slurm_map(abs, [1, 2], cost=[1, 2], backend="inline", job_name="harmed", submit=False)
    order = job.folder / "rows.order"
    if harm == "gone":
        order.unlink()
    else:
        order.write_bytes(order.read_bytes()[:-4])
    with pytest.raises((FormatError, JobFolderError), match=r"rows\.order"):
        job.submit()
