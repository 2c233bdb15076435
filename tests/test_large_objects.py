"""Large objects: on the disk once, in a node's memory once, the same in every worker.

The table in docs/large-objects.md says what is shared; each of its lines has objects here.
"""

from __future__ import annotations

import array
import functools
import json
import operator
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

from slurmapply import JobFolderError, slurm_apply, slurm_call, slurm_map
from slurmapply.buffers import BufferWriter, DataFileError, check_room
from slurmapply.pickles import LARGE, BufferReader, Stored
from slurmapply.pickling import INSIDE, ObjectWriter
from tests.faults.provocations import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster import Cluster

SIZE = 200_000
ROWS = 20_000
NUMBERS = np.arange(SIZE, dtype="f8")
TEXTS = [f"text number {number}" for number in range(ROWS)]
DAYS = pd.date_range("2020", periods=SIZE, freq="s")
PAGE = Path(__file__).parents[1] / "docs/large-objects.md"


class Plain(np.ndarray[Any, Any]):
    """A subclass that pickles as arrays do."""


def structured(count: int) -> Any:
    made = np.zeros(count, dtype=[("when", "M8[s]"), ("much", "f8"), ("many", "i4")])
    made["many"] = np.arange(count)
    return made


def read_only() -> Any:
    made = NUMBERS.copy()
    made.flags.writeable = False
    return made


def mapped() -> Any:
    made = np.memmap("mapped.npy", dtype="f8", mode="w+", shape=(SIZE,))
    made[:] = NUMBERS
    return made


def masked() -> Any:
    made = np.ma.masked_less(NUMBERS, 1000.0)
    made.fill_value = -7.0
    return made


def hard() -> Any:
    made = masked()
    made.harden_mask()
    return made


@functools.cache
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "number": NUMBERS[:ROWS],
            "text": TEXTS,
            "when": pl.Series(np.arange(ROWS)).cast(pl.Datetime("us", "Europe/Berlin")),
            "kind": pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Enum(["a", "b"])),
            "category": pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Categorical),
            "list": [[1, 2, 3], None] * (ROWS // 2),
            "struct": [{"a": 1, "b": "a text of some length"}] * ROWS,
            "missing": [True, None] * (ROWS // 2),
        }
    )


def table() -> pa.Table:
    columns = {"number": NUMBERS[:ROWS], "text": TEXTS, "list": [[1, 2], None] * (ROWS // 2)}
    return pa.table(columns)


def sparse(kind: str) -> Any:
    return sp.random(1000, 1000, density=0.05, format=kind, random_state=1)


#: By line of the page's table; each gives the object, and what it takes when it is not its nbytes.
CASES: dict[str, list[Callable[[], Any]]] = {
    "NumPy: numbers, bool, complex, in C or Fortran order": [
        lambda: NUMBERS,
        lambda: np.asfortranarray(NUMBERS.reshape(400, 500)),
        lambda: NUMBERS.astype(">i4"),
        lambda: (NUMBERS % 100).astype("f2"),
        lambda: NUMBERS > 5,
        lambda: NUMBERS + 1j,
        read_only,
    ],
    "NumPy: `datetime64`, `timedelta64`": [
        lambda: NUMBERS.astype("M8[s]"),
        lambda: np.asfortranarray(NUMBERS.astype("m8[ns]").reshape(400, 500)),
    ],
    "NumPy: strings of fixed length": [lambda: np.array(TEXTS), lambda: np.array(TEXTS, "S20")],
    "NumPy: structured, record arrays, `matrix`": [
        lambda: structured(ROWS),
        lambda: structured(ROWS).view(np.recarray),
        lambda: NUMBERS.reshape(400, 500).view(np.matrix),
    ],
    "NumPy: masked arrays": [masked, hard, lambda: np.ma.MaskedArray(NUMBERS.astype("M8[s]"))],
    "NumPy: slices, transposed and reversed views": [
        lambda: NUMBERS[::3],
        lambda: NUMBERS[::-1],
        lambda: NUMBERS[: SIZE // 4],
        lambda: NUMBERS.reshape(400, 500)[:, 10:200],
        lambda: NUMBERS.reshape(100, 20, 100).transpose(2, 0, 1)[::-1],
        lambda: NUMBERS.astype("M8[s]")[::-2],
    ],
    "NumPy: broadcast arrays, sliding windows": [
        lambda: np.broadcast_to(NUMBERS[:, None], (SIZE, 50)),
        lambda: np.lib.stride_tricks.sliding_window_view(NUMBERS, 100),
    ],
    "NumPy: `memmap` (its content goes along)": [mapped],
    "NumPy: a subclass without a way of pickling of its own": [lambda: NUMBERS.view(Plain)],
    "NumPy: `object`, `StringDType`": [
        lambda: np.array(TEXTS, dtype=object),
        lambda: np.array(TEXTS, dtype=np.dtypes.StringDType()),
    ],
    "pandas: numbers, dates, with and without a time zone": [
        lambda: pd.DataFrame({"number": NUMBERS, "count": np.arange(SIZE), "when": DAYS}),
        lambda: pd.Series(DAYS.tz_localize("UTC").tz_convert("Europe/Berlin")),
        lambda: DAYS.tz_localize("UTC"),
lambda: pd.DataFrame({"number": NUMBERS, "count": NUMBERS})[["count"]].iloc[::2],
    ],
    "pandas: nullable numbers, categories, periods, intervals": [
        lambda: pd.Series(np.arange(SIZE), dtype="Int64"),
        lambda: pd.Series(NUMBERS > 5, dtype="boolean"),
        lambda: pd.Series(["a", "b"] * 50_000, dtype="category"),
        lambda: pd.Series(pd.period_range("2000", periods=ROWS, freq="h")),
        lambda: pd.Series(pd.interval_range(0, ROWS)),
    ],
    "pandas: `str` and Arrow columns, slices of them": [
        lambda: pd.Series(TEXTS, dtype="string[pyarrow]"),
        lambda: pd.DataFrame({"text": TEXTS}, dtype="str"),
        lambda: pd.Series(NUMBERS, dtype="double[pyarrow]"),
        lambda: pd.Series(TEXTS, dtype="str").iloc[: len(TEXTS) // 3],
    ],
    "pandas: `MultiIndex` of numbers": [
        lambda: pd.DataFrame(
            {"number": NUMBERS}, pd.MultiIndex.from_product([range(400), range(500)])
        ),
    ],
    "pandas: `object` columns": [
        lambda: pd.DataFrame({"text": np.array(TEXTS, dtype=object)}, dtype=object),
    ],
    "polars: frames and Series, slices of them": [
        frame,
        lambda: frame()[ROWS // 3 : ROWS // 2],
        lambda: pl.concat([frame(), frame()], rechunk=False),
        lambda: frame()["number"],
        lambda: frame()["kind"],
        lambda: frame()["text"][::2],
    ],
    "polars: `Int128`, `LazyFrame`": [
        lambda: pl.DataFrame({"wide": pl.Series(range(ROWS), dtype=pl.Int128)}),
        lambda: frame().lazy(),
    ],
    "pyarrow: tables, batches, arrays, slices of them": [
        table,
        lambda: table().slice(5, ROWS // 3),
        lambda: table().to_batches()[0],
        lambda: pa.array(NUMBERS)[17 : SIZE // 3],
        lambda: pa.chunked_array([TEXTS, TEXTS]).slice(ROWS // 2, ROWS),
        lambda: pa.array(TEXTS).dictionary_encode(),
    ],
    "SciPy: sparse matrices and arrays": [
        lambda: sparse("csr"),
        lambda: sparse("csc"),
        lambda: sp.coo_array(sparse("coo")),
    ],
    "lists and dicts of many small arrays": [
        lambda: [NUMBERS[first : first + 128].copy() for first in range(3000)],
        lambda: {n: np.full(3000, n) for n in range(300)},
    ],
    "`bytes`, `str`, `bytearray`, `array.array`": [
        lambda: bytes(SIZE * 4),
        lambda: "x" * SIZE * 4,
        lambda: bytearray(SIZE * 4),
        lambda: array.array("d", NUMBERS),
    ],
    "lists, dicts and sets of Python's own objects": [
        lambda: TEXTS,
        lambda: dict(enumerate(TEXTS)),
        lambda: set(TEXTS),
    ],
}  # fmt: skip
FLAT = [(line, number) for line, makers in CASES.items() for number in range(len(makers))]


def stored(value: Any, path: Path) -> Stored:
    with path.open("w+b") as file:
        return ObjectWriter(BufferWriter(file.fileno())).dump(value)


def reloaded(value: Any, path: Path) -> Any:
    return BufferReader(path).load(*stored(value, path).plain())


def shared_by_the_page() -> dict[str, bool]:
    rows = re.findall(r"^\| (.+) \| (shared|copied) \|$", PAGE.read_text(), re.MULTILINE)
    return {line: word == "shared" for line, word in rows}


def test_the_page_says_of_each_kind_whether_it_is_shared() -> None:
    assert [*shared_by_the_page()] == [*CASES]


def size_of(value: Any) -> int:
    """Give the bytes that an object's content takes, each byte of memory counted once."""
    if isinstance(value, np.ma.MaskedArray):
        return size_of(value.data) + size_of(np.ma.getmaskarray(value))
    if isinstance(value, np.ndarray):
        lengths = zip(value.shape, value.strides, strict=True)
        spanned = value.itemsize + sum((n - 1) * abs(stride) for n, stride in lengths)
        return int(min(value.nbytes, spanned))
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        used: Any = value.memory_usage(deep=True)
        return int(np.sum(np.asarray(used)))
    if isinstance(value, (pl.DataFrame, pl.Series)):
        texts = value.to_frame() if isinstance(value, pl.Series) else value
        views = sum(16 * len(texts) for kind in texts.dtypes if kind in (pl.String, pl.Struct))
        return int(value.estimated_size()) + views
    if isinstance(value, (list, dict)):
        return int(sum(map(size_of, value if isinstance(value, list) else value.values())))
    if sp.issparse(value):
        return sum(
            getattr(value, part).nbytes
            for part in ("data", "indices", "indptr", "row", "col")
            if hasattr(value, part)
        )
    return int(value.nbytes)


@pytest.mark.parametrize(("line", "number"), FLAT)
def test_an_object_is_on_disk_once_and_comes_back_as_it_was(
    line: str, number: int, tmp_path: Path
) -> None:
    value = CASES[line][number]()
    path = tmp_path / "data.bin"
    pickled = stored(value, path)
    back = BufferReader(path).load(*pickled.plain())
    same(back, value)
    if not shared_by_the_page()[line]:
        assert path.stat().st_size < LARGE
        return
    on_disk = len(pickled.data) + path.stat().st_size
    small = INSIDE if "small" in line else 0
    assert on_disk <= 1.02 * size_of(value) + 2 * LARGE + small
    assert len(pickled.data) < (INSIDE if "polars" in line else 3 * LARGE) + 1.3 * small


def same(back: Any, value: Any) -> None:
    assert type(back) is type(value)
    kinds = (kind for kind in COMPARISONS if isinstance(value, kind))
    COMPARISONS[next(kinds)](back, value)


def same_masked(back: Any, value: Any) -> None:
    same(np.asarray(back.data), np.asarray(value.data))
    assert np.array_equal(back.mask, value.mask)
    assert str(back.fill_value) == str(value.fill_value)
    assert back.hardmask == value.hardmask


def same_array(back: Any, value: Any) -> None:
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    assert np.array_equal(back, value)
    assert back.flags.writeable == value.flags.writeable or value.dtype.hasobject
    for order in ("c_contiguous", "f_contiguous"):
        assert getattr(back.flags, order) or not getattr(value.flags, order)


def same_columns(back: Any, value: Any) -> None:
    """Compare what is of polars or pyarrow."""
    assert back.equals(value)
    for types in ("schema", "dtype", "type"):
        assert getattr(back, types, None) == getattr(value, types, None)


def same_sparse(back: Any, value: Any) -> None:
    assert back.format == value.format
    assert (back != value).nnz == 0


def same_collection(back: Any, value: Any) -> None:
    assert len(back) == len(value)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        assert np.array_equal(back[key], item)


#: By type, the first that fits.
COMPARISONS: dict[Any, Callable[[Any, Any], None]] = {
    np.ma.MaskedArray: same_masked,
    np.ndarray: same_array,
    pd.DataFrame: pd.testing.assert_frame_equal,
    pd.Series: pd.testing.assert_series_equal,
    pd.Index: pd.testing.assert_index_equal,
    pl.LazyFrame: lambda back, value: same(back.collect(), value.collect()),
    (pl.DataFrame, pl.Series): same_columns,
    (pa.Table, pa.RecordBatch, pa.Array, pa.ChunkedArray): same_columns,
    (sp.spmatrix, sp.sparray): same_sparse,
    (list, dict): same_collection,
    object: lambda back, value: operator.eq(back, value) or pytest.fail("another value"),
}

#: What stays inside of many small arrays, and their headers. (polars makes categories anew.)
SMALL_ARRAYS = INSIDE + 3000 * 500

PROGRAM = """
import gc, importlib, json, pickle, sys
from pathlib import Path
sys.path[:0] = {path!r}
for name in ("numpy", "pandas", "polars", "pyarrow", "scipy.sparse", "tests.test_large_objects"):
    importlib.import_module(name)
from slurmapply.pickles import BufferReader

def anonymous():
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split("RssAnon:")[1].split()[0])

gc.freeze()  # what was imported need not be looked through each time
grown = []
for number in range({count}):
    data, places = pickle.loads(Path(f"{{number}}.pkl").read_bytes())
    kept, took = [], []
    # At times modules are imported, caches filled, or an allocator takes more than it needs. A copy
    # is made each time: the least of some loads shows it.
    for again in range(5):
        gc.collect()
        before = anonymous()
        kept.append(BufferReader(Path(f"{{number}}.bin")).load(data, places))
        took.append(anonymous() - before)
    grown.append(min(took))
    del kept
print(json.dumps(grown))
"""


def test_a_worker_copies_nothing_of_what_is_shared(tmp_path: Path) -> None:
    shared = [each for each in FLAT if shared_by_the_page()[each[0]]]
    for name, (line, number) in enumerate(shared):
        pickled = stored(CASES[line][number](), tmp_path / f"{name}.bin")
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(pickled.plain()))
    program = PROGRAM.format(path=sys.path, count=len(shared))
    said = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    grown = dict(zip(shared, json.loads(said), strict=True))
    allowed = {"polars": 8 * LARGE, "lists and dicts": SMALL_ARRAYS}
    too_much = {
        (line, number): took
        for (line, number), took in grown.items()
        if took > next((most for kind, most in allowed.items() if line.startswith(kind)), LARGE)
    }
    assert too_much == {}, grown


# -- where objects come from ---------------------------------------------------------------------


def big() -> Any:
    return np.arange(300_000, dtype="f8")


class Model:
    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def predict(self, x: int) -> float:
        return float(self.weights[x])


def closing_over(weights: Any) -> Callable[[int], float]:
    return lambda x: float(weights[x])


def with_default(weights: Any) -> Callable[..., float]:
    def f(x: int, weights: Any = weights) -> float:
        return float(weights[x])

    return f


def global_of(weights: Any) -> Any:
    space: dict[str, Any] = {"weights": weights}
    exec("def f(x):\n    return float(weights[x])\n", space)  # noqa: S102  # a notebook's cell
    return space["f"]


FUNCTIONS: list[Callable[[Any], Callable[..., float]]] = [
    global_of,
    closing_over,
    with_default,
    lambda weights: functools.partial(lambda weights, x: float(weights[x]), weights),
    lambda weights: Model(weights).predict,
]


@pytest.mark.parametrize("make", FUNCTIONS)
def test_what_a_function_holds_is_shared_without_being_named(make: Callable[..., Any]) -> None:
    weights = big()
    job = slurm_apply(make(weights), {"x": [3, 5]}, backend="inline")
    assert (job.folder / "data.bin").stat().st_size == weights.nbytes
    assert job.results() == [3.0, 5.0]


def reads(x: Any, weights: Any) -> float:
    return float(weights[x])


def test_arguments_cells_and_items_are_shared_and_stand_there_once() -> None:
    weights = big()
    views = [weights, weights.copy(), weights.reshape(600, 500).T]
    for job in (
        slurm_map(reads, [3], more_args={"weights": weights}, backend="inline"),
        slurm_apply(reads, {"x": [3], "weights": [weights]}, backend="inline"),
        slurm_call(reads, {"x": 3, "weights": weights}, backend="inline"),
        slurm_apply(
            lambda x: reads(x, weights),
            {"x": [3]}, global_objects={"weights": weights}, backend="inline",
        ),
        slurm_map(lambda view: float(view.ravel("K")[3]), views, backend="inline"),
    ):  # fmt: skip
        assert (job.folder / "data.bin").stat().st_size == weights.nbytes
        assert set(job.results()) == {3.0}


def adds_one(weights: Any) -> float:
    weights += 1
    return float(weights[0])


def test_what_a_row_writes_into_its_cell_is_seen_by_no_other_row() -> None:
    weights = np.zeros(300_000)
    job = slurm_map(adds_one, [weights, weights, weights.copy()], backend="local", nodes=1,
                    cpus_per_node=1)  # fmt: skip
    assert job.results() == [1.0, 1.0, 1.0]
    assert job.retry(rows=range(3)).results() == [1.0, 1.0, 1.0]


class Measured(np.ndarray[Any, Any]):
    """A subclass that has its own way of pickling."""

    unit = ""

    def __reduce__(self) -> Any:
        return measured, (np.asarray(self), self.unit)


def measured(array: Any, unit: str) -> Measured:
    made: Measured = array.view(Measured)
    made.unit = unit
    return made


def test_a_subclass_keeps_its_own_way_of_pickling(tmp_path: Path) -> None:
    value = measured(NUMBERS, "m")
    back = reloaded(value, tmp_path / "data.bin")
    assert (type(back), back.unit) == (Measured, "m")
    assert np.array_equal(back, value)


def test_a_frame_that_arrow_would_bring_back_as_another_is_left_to_polars(tmp_path: Path) -> None:
    things = pl.Series([object()] * ROWS, dtype=pl.Object)
    with pytest.raises(pl.exceptions.ComputeError, match="Object is not supported"):
        stored(pl.DataFrame({"thing": things}), tmp_path / "data.bin")


def test_what_is_cut_out_of_columns_stays_in_columns(tmp_path: Path) -> None:
    value = np.asfortranarray(NUMBERS.reshape(400, 500))[:100]
    back = reloaded(value, tmp_path / "data.bin")
    assert np.array_equal(back, value)
    assert back.flags.f_contiguous


@pytest.mark.parametrize("length", [200, 100_000])
def test_two_equal_arrays_are_two(length: int, tmp_path: Path) -> None:
    one, other = [np.zeros(length) for _ in range(2)]
    fixed = np.zeros(length)
    fixed.flags.writeable = False
    filler = [np.full(1000, float(number)) for number in range(INSIDE // 8000 + 1)]
    back = reloaded([filler, one, other, fixed, one], tmp_path / "data.bin")
    _, first, second, third, again = back
    first[0] = 1.0
    assert again is first
    assert (second[0], third[0]) == (0.0, 0.0)
    second[0] = 2.0
    assert (first[0], third[0]) == (1.0, 0.0)
    assert not third.flags.writeable


def test_objects_that_are_kept_by_the_thousand_leave_descriptors_for_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.bin"
    pickled = stored(big(), path)
    reader = BufferReader(path)
    kept = [reader.load(*pickled.plain()) for _ in range(300)]
    assert len(list(Path("/proc/self/fd").iterdir())) < 290
    kept[0][0], kept[-1][0] = -1.0, -2.0
    assert [each[0] for each in kept] == [-1.0, *[0.0] * 298, -2.0]
    assert kept[-1][-1] == 299_999.0


def test_many_buffers_that_differ_late_are_told_apart_by_one_digest_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    made: list[Any] = []
    blake2b = hashlib.blake2b

    def counted(**keywords: Any) -> Any:
        made.append(blake2b(**keywords))
        return made[-1]

    monkeypatch.setattr(hashlib, "blake2b", counted)
    arrays = [np.zeros(LARGE // 8) for _ in range(6)]
    for number, each in enumerate(arrays[:5]):
        each[100] = number
    alone = np.arange(LARGE / 4)
    path = tmp_path / "data.bin"
    with path.open("w+b") as file:
        writer = ObjectWriter(BufferWriter(file.fileno()))
        pickled = [writer.dump(each) for each in [alone, *arrays]]
    assert len(made) == 6, "none for the one that is like no other"
    places = [each.buffers[0] for each in pickled]
    assert places[6] == places[1]
    assert len(set(places)) == 6
    for one, value in zip(pickled, [alone, *arrays], strict=True):
        assert np.array_equal(BufferReader(path).load(*one.plain()), value)


def test_buffers_begin_where_processors_and_pages_do(tmp_path: Path) -> None:
    odd = [np.arange(size).astype("u1") for size in (LARGE + 1, LARGE + 3, 1 << 20, 5 << 20)]
    pickled = stored(odd, tmp_path / "data.bin")
    offsets = [offset for offset, _, _ in pickled.buffers]
    assert [offset % 64 for offset in offsets] == [0] * 4
    assert [offset % 4096 for offset in offsets[2:]] == [0, 0]


# -- no room -------------------------------------------------------------------------------------


def no_room(size: str, free: str) -> str:
    return (
        rf"No space left on device: {size} MB of data are to be copied there, and {free} MB are "
        r"free \(none of it was copied\)"
    )


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    weights = np.arange(15_000_000, dtype="f8")
    with small_disk(tmp_path / "disk", "size=20m") as place:
        for f, more in ((reads, {"weights": weights}), (closing_over(weights), {})):
            with pytest.raises(JobFolderError, match=no_room("120", "21")) as caught:
                slurm_map(f, [3], jobs_folder=place, backend="inline", more_args=more)
            assert "copied): weights (120 MB). Is there room" in str(caught.value)
            assert not list(place.iterdir())
        with pytest.raises(JobFolderError, match=no_room("120", "21")):
            slurm_map(len, [weights], jobs_folder=place, backend="inline")
        with pytest.raises(JobFolderError, match=no_room("30", "21")):
            slurm_map(closing_over(bytes(30_000_000)), [3], jobs_folder=place, backend="inline")
        job = slurm_map(abs, [-3], jobs_folder=place, backend="inline")
        before = sorted(job.folder.rglob("*"))
        with pytest.raises(JobFolderError, match=no_room("120", "2[01]")):
            job.retry(rows=[0], f=closing_over(weights))
        assert sorted(job.folder.rglob("*")) == before


def test_equal_buffers_need_room_for_one(tmp_path: Path) -> None:
    weights = np.arange(1_000_000, dtype="f8")
    with small_disk(tmp_path / "disk", "size=12m") as place:
        job = slurm_map(lambda both: both[1][3], [[weights, weights.copy()]], jobs_folder=place,
                        backend="inline")  # fmt: skip
        assert job.result() == 3.0


def test_nothing_is_copied_where_not_all_of_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs_result((4096, 4096, 100, 25, 25, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: free)
    path = tmp_path / "data.bin"
    with path.open("w+b") as file:
        writer = ObjectWriter(BufferWriter(file.fileno()))
        with pytest.raises(DataFileError, match="102 kB are free"):
            writer.dump([np.zeros(LARGE // 8), np.ones(LARGE // 8)])
        assert path.stat().st_size == 0
        writer.dump([np.zeros(LARGE // 8)])
        assert path.stat().st_size == LARGE


def test_a_disk_that_does_not_know_its_size_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: unknown)
    check_room(0, 1 << 50)


# -- no memory -----------------------------------------------------------------------------------


def texts_of(count: int) -> Callable[[int], int]:
    texts = [f"{number:060d}" for number in range(count)]
    return lambda row: len(texts[row])


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            2_000_000,
            "MemoryError: each worker needs at least 120 MB for it, and the task has a limit of m",
        ),
        (700_000, "each of its 4 workers loads it (limit 100 MB, peak 1"),
    ],
)
def test_a_function_that_does_not_fit_into_the_tasks_memory_is_said_to_be_one(
    slurm_cluster: Cluster, texts: int, said: str
) -> None:
    if not slurm_cluster.memory_limits:
        pytest.skip("no cgroups (version 1) that this account may write")
    job = slurm_map(texts_of(texts), range(8), nodes=1, cpus_per_node=4, mem="100M").wait(120)
    assert set(job.errors()["row_cause"]) == {"out_of_memory"}
    row = job.row(0)
    assert row.status == "unfinished"
    assert row.sentence.startswith(
        "row 0 was not begun: the function with what it uses does not fit into the memory of its "
        f"task: {said}"
    )
    assert row.sentence.endswith(': job.retry(mem="200M")')
    assert job.retry(mem="1G", processes_per_node=1).results() == [60] * 8


@pytest.mark.slurm
def test_an_array_larger_than_the_tasks_memory_is_read_all_the_same(slurm_cluster: Cluster) -> None:
    weights = np.arange(15_000_000, dtype="f8")

    def total(row: int) -> tuple[float, int]:
        total = float(weights[row::512].sum())
        status = Path("/proc/self/status").read_text()
        return total, int(status.split("RssAnon:")[1].split()[0]) // 1024

    job = slurm_map(total, range(4), nodes=2, cpus_per_node=2, mem="100M")
    expected = [float(weights[row::512].sum()) for row in range(4)]
    assert [value for value, _ in job.results()] == expected
    assert max(megabytes for _, megabytes in job.results()) < 60
    job.cleanup()
