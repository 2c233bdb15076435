"""Bad input: section G of the catalogue. Nothing is written or submitted when it is refused."""

from __future__ import annotations

import datetime as dt
import functools
import os
import sqlite3
import sys
import tempfile
import threading
import weakref
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from slurmapply import (
    InvalidArgumentError,
    JobExistsError,
    JobFolderError,
    NotPicklableError,
    RowsFailedError,
    SlurmApplyError,
    SubmissionError,
    slurm_apply,
    slurm_call,
    slurm_map,
)
from tests.faults.provocations import ONE, again

# The fixture is autouse here too: no refused call may come as far as sbatch.
from tests.test_bad_input import fit, generate, refused, spying_sbatch, wait_for  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply import SlurmJob
    from tests.slurm_cluster import Cluster

ROWS = {"depth": [1, 2], "trees": [10, 20]}


class Model:
    """A class is callable, and makes instances."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def double(self, times: int) -> int:
        return times * self.depth


# G-1 to G-4: the function


@pytest.mark.parametrize("f", [None, 3, "fit", ROWS, [fit], fit(1, 2), generate, wait_for])
def test_G_01_what_is_no_plain_function(f: Any) -> None:
    with refused("f", "function"):
        slurm_apply(f, ROWS)


def test_G_01_other_callables_work() -> None:
    made = slurm_map(Model, [3], job_name="made", backend="inline")
    assert made.results()[0].depth == 3
    callables: list[Any] = [Model(3).double, functools.partial(pow, 3), np.square, str.upper]
    for number, f in enumerate(callables):
        item: Any = "a" if f is str.upper else 2
        slurm_map(f, [item], job_name=f"callable{number}", backend="inline").result()


def test_G_01_what_is_large_and_goes_along_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = np.zeros(14_000_000)
    job = slurm_map(lambda x: x + len(table), [1], job_name="large", submit=False)
    assert "table (112 MB) goes along with lambda" in capsys.readouterr().out
    job.cleanup()


class Handle:
    """Says of itself that it cannot be pickled, as an extension's object would."""

    def __reduce__(self) -> Any:
        raise TypeError("h5py objects cannot be pickled")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (threading.Lock, "lock"),
        (threading.local, "local"),
        (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection"),
        (lambda: __import__("socket").socket(), "socket"),
        (sys._getframe, "frame"),
        (lambda: weakref.ref(Model(1)), "ReferenceType"),
        (functools.partial(Path("/dev/null").open, "w"), "TextIOWrapper"),
        (lambda: (x for x in [1]), "generator"),
        (Handle, "Handle"),
    ],
)  # fmt: skip
def test_G_02_what_cannot_be_sent_is_named(make: Callable[[], Any], kind: str) -> None:
    resource = make()
    try:
        with pytest.raises(NotPicklableError) as caught:
            slurm_map(lambda x: (resource, x), [1])
        assert caught.value.variable == "resource"
        assert "f uses `resource`" in str(caught.value)
        assert kind in str(caught.value)
        assert not list(Path().glob("*slurmapply*"))
    finally:
        getattr(resource, "close", str)()


def test_G_03_a_file_that_is_open_for_reading_is_sent_as_what_it_holds() -> None:
    Path("notes").write_text("some text")
    with Path("notes").open() as notes:
        job = slurm_map(lambda _: notes.read(), [1], job_name="reads", backend="local")
        assert job.results() == ["some text"]


def test_G_04_a_structure_that_is_too_deep_is_refused_in_words() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with refused(None, "f uses `deep`", "recursion", error=NotPicklableError):
        slurm_map(lambda x: (deep, x), [1])
    with refused("items", "a cell cannot be sent", "recursion"):
        slurm_map(len, [deep])


# G-5 to G-8: rows and arguments


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (3, "not a table"), ("x.csv", "pandas.read_csv"), ([1], "slurm_map"),
        (pd.DataFrame(index=[1]), "no columns"),
        (pd.DataFrame([[1, 2]], columns=["depth", "depth"]), "more than one column"),
        (ROWS | {"tree": [1, 2]}, "did you mean 'trees'?"), ({"depth": [1]}, "fit needs 'trees'"),
        ({"depth": [1], "trees": [1, 2]}, "'depth' 1, 'trees' 2"),
    ],
)  # fmt: skip
def test_G_05_a_table_that_does_not_fit(params: Any, word: str) -> None:
    with refused("params", word):
        slurm_apply(fit, params)


def test_G_05_functions_that_take_anything_get_anything() -> None:
    job = slurm_apply(lambda **cells: sorted(cells), {"a b": [1], "class": [2]}, backend="inline")
    assert job.results() == [["a b", "class"]]


@pytest.mark.parametrize("params", [{"x": []}, pd.DataFrame({"x": []}), []])
def test_G_05_no_rows_end_at_once_and_without_slurm(params: Any, tmp_path: Path) -> None:
    job = slurm_apply(lambda x: x, params)
    assert job.wait(timeout=0).status().ok
    assert job.results() == []
    assert not (tmp_path / "submitted").exists()


CELLS = {
    "float64": pd.Series([0.5, float("nan")]),
    "int8": pd.Series([1, -128], dtype="int8"),
    "uint64": pd.Series([0, 2**64 - 1], dtype="uint64"),
    "Int64": pd.Series([1, None], dtype="Int64"),
    "bool": pd.Series([True, False]),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "string": pd.Series(["a", None], dtype="string"),
    "object": pd.Series([{"a": [1]}, None]),
    "mixed": pd.Series([1, "a"], dtype=object),
    "datetime": pd.Series([pd.Timestamp("2024-02-29 01:02:03.123456789"), pd.NaT]),
    "zoned": pd.Series(pd.date_range("2024", periods=2, tz="Europe/Berlin")),
    "timedelta": pd.Series([pd.Timedelta(1, "ns"), pd.NaT]),
    "category": pd.Series(["low", "high"], dtype="category"),
    "period": pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
    "decimal": pd.Series([Decimal("1.10"), Decimal("0.00")]),
    "date": pd.Series([dt.date(2024, 2, 29), None]),
    "bytes": pd.Series([b"\0\xff", b""]),
    "complex": pd.Series([1 + 2j, 0j]),
    "array": pd.Series([np.arange(3), np.zeros((2, 2))]),
}


@pytest.mark.parametrize("kind", CELLS)
def test_G_06_cells_reach_the_function_as_what_they_are(kind: str) -> None:
    frame = pd.DataFrame({"cell": CELLS[kind]})
    job = slurm_apply(lambda cell: cell, frame, job_name="cells", backend="inline")
    expected: list[Any] = [
        None if cell is pd.NA or (kind == "string" and cell is None) else cell
        for cell in CELLS[kind].tolist()
    ]
    given: Any
    for given, got in zip(expected, job.results(), strict=True):
        assert type(got) is type(given)
        same = np.array_equal(got, given) if kind == "array" else got == given or given != given  # noqa: PLR0124
        assert same, (given, got)


@pytest.mark.parametrize(
    "index",
    [["a", "a", "b"], pd.MultiIndex.from_product([["x"], [1, 2, 3]], names=["k", "n"]), [5, 3, 9]],
    ids=["doubled", "multi", "sliced"],
)
def test_G_07_results_keep_the_index(index: Any) -> None:
    frame = pd.DataFrame({"x": [1, 2, 3]}, index=index)
    job = slurm_apply(lambda x: {"y": -x}, frame, job_name="index", backend="inline")
    table = job.table()
    assert table.index.equals(frame.index)
    assert table["y"].tolist() == [-1, -2, -3]
    part = slurm_apply(lambda x: -x, frame.iloc[::-2], job_name="part", backend="inline").table()
    assert part.index.equals(frame.iloc[::-2].index)


def test_G_08_fixed_arguments_must_not_clash_and_are_stored_once() -> None:
    with refused("more_args", "'trees'", "both in params and in more_args"):
        slurm_apply(fit, ROWS, more_args={"trees": 3})
    table = np.arange(1_000_000.0)
    job = slurm_apply(
        lambda x, table: float(table[x]), {"x": list(range(50))}, more_args={"table": table},
        job_name="once", backend="inline",
    )  # fmt: skip
    size = sum(path.stat().st_size for path in job.folder.rglob("*") if path.is_file())
    assert size < 1.3 * table.nbytes
    assert job.results()[49] == 49.0


# G-9, G-10: the name


@pytest.mark.parametrize("name", ["", "..", "/", "-", "☃", "é/", "\0", "x" * 300, 7, b"x"])
def test_G_09_names_of_which_nothing_is_left(name: Any) -> None:
    with refused("job_name", "job_name"):
        slurm_map(abs, [1], job_name=name)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("a b", "a_b"), ("-x", "x"), ("a\nb", "a_b"), ("%j", "j"), ("../up", "up"), ("con.", "con")],
)
def test_G_09_names_are_cleaned(name: str, cleaned: str) -> None:
    job = slurm_map(abs, [1], job_name=name, backend="inline")
    assert (job.name, job.folder.name) == (cleaned, f"_slurmapply_{cleaned}")


def test_G_10_a_name_that_is_taken_is_refused_with_the_ways_on() -> None:
    slurm_map(abs, [-1], job_name="a b", backend="inline")
    for name in ("a b", "a_b", "a  b"):
        with refused(None, "'a_b'", "SlurmJob.open", '"replace"', error=JobExistsError) as caught:
            slurm_map(abs, [2], job_name=name, backend="inline")
        assert "finished" in str(caught.value)


# G-11 to G-17: what is asked of the cluster


@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True, float("inf"), [1]])
@pytest.mark.parametrize(
    "name", ["nodes", "cpus_per_node", "processes_per_node", "task_limit", "chunksize"]
)
def test_G_11_numbers_that_are_none(name: str, value: Any) -> None:
    with refused(name, "whole number"):
        slurm_map(abs, [1], **{name: value})


def test_G_11_more_than_the_cluster_has_is_quoted_from_slurm(
    slurm_cluster: Cluster,
    spying_sbatch: Path,  # noqa: F811
) -> None:
    (spying_sbatch / "sbatch").unlink()
    with pytest.raises(SubmissionError) as caught:
        slurm_map(abs, [-1], cpus_per_node=9, job_name="greedy")
    assert "Requested node configuration is not available" in str(caught.value)
    # More nodes than there are rows, or than the cluster has, are no fault: they are tasks.
    assert slurm_map(abs, [-1], nodes=10**9, cpus_per_node=1, job_name="few").results() == [1]


@pytest.mark.parametrize("value", ["abc", "-1", "0", 60, 1.5, "", "1:2:3:4", dt.timedelta(0), True])
def test_G_12_times_that_are_none(value: Any) -> None:
    with refused("time", "time"):
        slurm_map(abs, [1], time=value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("2h", "02:00:00"), ("1:30:00", "01:30:00"), (dt.timedelta(minutes=90), "01:30:00"),
     ("1-00:00:00", "1-00:00:00"), ("90min", "01:30:00")],
)  # fmt: skip
def test_G_12_times_are_shown_in_one_way(value: Any, shown: str) -> None:
    job = slurm_map(abs, [1], time=value, submit=False)
    assert f"#SBATCH --time={shown}\n" in (job.folder / "submit.sh").read_text()


@pytest.mark.parametrize("value", ["5X", "much", -4, "-4G", "", 1.5, True])
def test_G_13_memory_that_is_none(value: Any) -> None:
    with refused("mem", "mem"):
        slurm_map(abs, [1], mem=value)


def test_G_13_two_kinds_of_memory_exclude_each_other() -> None:
    with refused("slurm_options", "mem and mem-per-cpu exclude each other"):
        slurm_map(abs, [1], mem="1G", slurm_options={"mem-per-cpu": "1G"})


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"partition": "mian"}, ("invalid partition specified: mian", "main, urgent")),
        ({"slurm_options": {"gres": "gqu:1"}}, ("Invalid generic resource",)),
        ({"slurm_options": {"constraint": "skylake"}}, ("Invalid feature specification",)),
    ],
)
def test_G_14_typos_that_only_slurm_knows_are_quoted(
    spying_sbatch: Path,  # noqa: F811
    keywords: dict[str, Any],
    words: tuple[str, ...],
) -> None:
    (spying_sbatch / "sbatch").unlink()
    with pytest.raises(SubmissionError) as caught:
        slurm_map(abs, [-1], job_name="typo", **ONE, **keywords)
    for word in words:
        assert word in str(caught.value)
    job: SlurmJob = caught.value.job
    job.submit(partition="main", slurm_options={"gres": None, "constraint": None})
    assert job.results() == [1]


@pytest.mark.parametrize(
    "options",
    [
        {"array": "1-3"}, {"output": "x"}, {"chdir": "/"}, {"wrap": "id"}, {"wait": True},
        {"parsable": True}, {"signal": "USR1"}, {"open-mode": "truncate"}, {"open_mode": "x"},
        {"comment": "a\nb"}, {"comment": "a\0b"}, {"foo bar": 1}, {"--qos": "x"}, {"q": "x"},
        {"qos": {"a": 1}}, {3: "x"}, {"": "x"}, "qos=x", ["qos"],
    ],
    ids=str,
)  # fmt: skip
def test_G_15_options_that_are_refused(options: Any) -> None:
    with refused("slurm_options", "slurm_options"):
        slurm_map(abs, [1], slurm_options=options)


def test_G_15_flags_are_set_and_left_out() -> None:
    job = slurm_map(
        abs, [1], submit=False,
        slurm_options={"exclusive": True, "mail_type": "END", "qos": None, "hold": False},
    )  # fmt: skip
    script = (job.folder / "submit.sh").read_text()
    assert "#SBATCH --exclusive\n" in script
    assert "#SBATCH --mail-type=END\n" in script
    assert "qos" not in script
    assert "hold" not in script


@pytest.mark.parametrize("entry", ["a\0b", 3, None, "if", "cat <<X"])
def test_G_16_setup_lines_that_are_none(entry: Any) -> None:
    with refused("setup", "setup"):
        slurm_map(abs, [1], setup=[entry])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["module load nothing"], "module load nothing"),
        (["set -e", "false"], "a setup line ended the script (status 1)"),
        (["exit 0"], "a setup line ended the script"),
    ],
)
def test_G_16_a_setup_line_that_fails_says_so_and_burns_no_row(
    lines: list[str], reason: str
) -> None:
    job = slurm_map(abs, [-1], setup=lines, job_name="setup", backend="local", **ONE).wait()
    assert job.status().counts == {"unfinished": 1}
    with pytest.raises(RowsFailedError) as caught:
        job.results()
    assert reason in str(caught.value)
    assert "job.retry(setup=" in str(caught.value)
    assert job.retry(setup=[]).results() == [1]


@pytest.mark.parametrize(
    "lines", ["export A=1\r\nexport B=2\r\n", ["export A=1", "export B=2"], ["A=1 B=2; export A B"]]
)
def test_G_16_dos_lines_and_lines_without_an_end_work(lines: Any) -> None:
    job = slurm_map(lambda name: os.environ[name], ["A", "B"], setup=lines, backend="local")
    assert job.results() == ["1", "2"]


def test_G_17_a_python_that_is_missing_falls_back_or_is_named(tmp_path: Path) -> None:
    job = slurm_map(abs, [-1], python="/no/such/python", job_name="fallback", backend="local")
    assert job.results() == [1]
    lonely = slurm_map(abs, [-1], python="/no/such/python", job_name="lonely", backend="local",
                       setup="PATH=/nowhere", **ONE).wait()  # fmt: skip
    (message,) = lonely.errors()["message"]
    assert "/no/such/python" in message or "python=" in message
    assert "no Python" in lonely.logs()[0]


def test_G_17_a_wrapper_is_an_interpreter_too(tmp_path: Path) -> None:
    wrapper = tmp_path / "in container"
    wrapper.write_text(f'#!/bin/sh\nexport WRAPPED=yes\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    job = slurm_map(lambda _: os.environ["WRAPPED"], [1], python=wrapper, backend="local")
    assert job.results() == ["yes"]


# G-18 to G-22: what is asked of a job


@pytest.mark.parametrize(
    "rows", [[9], [-1], 9, [0, 9], ["a"], "sad", [True], [1.0], [None], {"a": 1}]
)
def test_G_18_rows_that_are_not_there(rows: Any) -> None:
    job = slurm_map(abs, [1, 2, 3], job_name="rows", backend="inline")
    with refused("rows", "rows"):
        job.retry(rows)


def test_G_18_doubled_and_no_rows() -> None:
    job = slurm_map(abs, [1, 2, 3], job_name="rows", backend="inline")
    assert job.retry([1, 1]).results() == [1, 2, 3]
    assert job.table(details=True)["row_attempt"].tolist() == [1, 2, 1]
    before = job.job_ids
    assert job.retry([]) is job
    assert job.retry() is job
    assert job.job_ids == before


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True, [1]])
def test_G_19_times_to_wait_that_are_none(timeout: Any) -> None:
    job = slurm_map(abs, [1], job_name="waits", backend="inline")
    with refused("timeout", "timeout"):
        job.wait(timeout=timeout)
    assert job.wait(timeout=0).wait(timeout=float("inf")).results() == [1]


@pytest.mark.parametrize("folder", ["missing", "a_file", "a_file/below", "loop", "/proc"])
def test_G_20_folders_where_no_job_can_be_made(folder: str) -> None:
    Path("a_file").touch()
    Path("loop").symlink_to("loop")
    with refused(None, folder.partition("/below")[0], error=JobFolderError):
        slurm_map(abs, [1], jobs_folder=folder)


def test_G_20_the_home_of_an_unknown_user_is_refused_in_words() -> None:
    with pytest.raises(SlurmApplyError, match="no_such_user"):
        slurm_map(abs, [1], jobs_folder="~no_such_user/jobs")


@pytest.mark.parametrize("folder", [None, 3, b"x", ["a"], ""])
def test_G_20_what_is_no_path(folder: Any) -> None:
    if folder in (None, ""):
        job = slurm_map(abs, [1], jobs_folder=folder or ".", backend="inline")
        assert job.folder.parent == Path.cwd()
        return
    with pytest.raises(InvalidArgumentError, match="jobs_folder"):
        slurm_map(abs, [1], jobs_folder=folder)


def test_G_20_a_folder_is_kept_as_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "link").symlink_to("jobs")
    monkeypatch.setenv("HOME", str(tmp_path))
    folders: list[Any] = ["~/jobs", "../jobs", tmp_path / "link"]
    for number, folder in enumerate(folders):
        job = slurm_map(abs, [1], jobs_folder=folder, job_name=f"j{number}", backend="inline")
        monkeypatch.chdir("/")
        assert job.folder.is_absolute()
        assert job.results() == again(job).results() == [1]
        monkeypatch.chdir(tmp_path / "work")
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {
        "_slurmapply_j0", "_slurmapply_j1", "_slurmapply_j2",
    }  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="ONLY ROOT CAN BE ANOTHER USER")
def test_G_20_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:
        theirs = Path(place, "theirs")
        theirs.mkdir(mode=0o755)
        Path(place).chmod(0o755)
        monkeypatch.chdir(place)
        for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            monkeypatch.setenv(variable, place)
        os.seteuid(65534)
        try:
            with pytest.raises(JobFolderError, match=f"{theirs}.*Permission denied.*jobs_folder="):
                slurm_map(abs, [1], jobs_folder=theirs)
        finally:
            os.seteuid(0)
        monkeypatch.chdir("/")


@pytest.mark.parametrize("value", [-1, "soon", True, float("nan")])
@pytest.mark.parametrize("name", ["retries", "max_failures", "row_timeout"])
def test_G_21_limits_that_are_none(name: str, value: Any) -> None:
    with refused(name, name):
        slurm_map(abs, [1], **{name: value})


def test_G_22_objects_of_a_module_that_the_node_cannot_import_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_there.py").write_text("class Item:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_there  # type: ignore[import-not-found]

    job = slurm_map(lambda item: type(item).__name__, [only_there.Item()], job_name="gone",
                    submit=False)  # fmt: skip
    (tmp_path / "only_there.py").unlink()
    job.submit(backend="local").wait()
    with pytest.raises(RowsFailedError, match="No module named 'only_there'"):
        job.results()
    assert slurm_call(lambda: 1, backend="local").result() == 1
    monkeypatch.delitem(sys.modules, "only_there")
