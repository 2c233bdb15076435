"""Bad input is refused before anything is written, and the refusal says what to do."""

from __future__ import annotations

import functools
import json
import os
import pickle
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slurmapply import (
    FormatError,
    InvalidArgumentError,
    JobAliveError,
    JobExistsError,
    JobFolderError,
    JobNotFoundError,
    NotPicklableError,
    RowsFailedError,
    SchedulerNotFoundError,
    SlurmApplyError,
    SlurmJob,
    SubmissionError,
    UntrustedFolderError,
    slurm_apply,
    slurm_call,
    slurm_map,
)
from slurmapply.schedulers import slurm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

LOCK = threading.Lock()
ROWS = {"depth": [1, 2], "trees": [10, 20]}


@pytest.fixture(autouse=True)
def spying_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an sbatch in front that leaves a trace and refuses."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(f"#!/bin/sh\ntouch '{tmp_path}/submitted'\nexit 1\n")
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


@contextmanager
def refused(
    argument: str | None, *words: str, error: type[SlurmApplyError] = InvalidArgumentError
) -> Iterator[pytest.ExceptionInfo[SlurmApplyError]]:
    """Expect a refusal that holds these words and leaves no file and no submission behind."""
    place = Path.cwd().parent
    before = files_below(place)
    with pytest.raises(error) as caught:
        yield caught
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)
    assert getattr(caught.value, "argument", None) == argument
    for word in words:
        assert word in str(caught.value)
    assert files_below(place) == before


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def fit(depth: int, trees: int, rate: float = 0.1) -> float:
    return depth * trees * rate


def use_lock(depth: int) -> int:
    with LOCK:
        return depth


def generate(depth: int) -> Iterator[int]:
    yield depth


async def wait_for(depth: int) -> int:
    return depth


async def generate_slowly(depth: int) -> AsyncIterator[int]:
    yield depth


class WaitsWhenCalled:
    async def __call__(self, depth: int) -> int:
        return depth


# The function


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (fit(1, 2), ("0.2", "not a function", "without calling it")),
        (None, ("None", "not a function")),
        ("fit", ("'fit' (str)", "not a function", "without quotes")),
        (generate, ("generate", "generator function", "list(f(...))")),
        (functools.partial(generate), ("generate", "generator function")),
        (wait_for, ("wait_for", "async function", "asyncio.run")),
        (generate_slowly, ("generate_slowly", "async generator")),
        (WaitsWhenCalled(), ("WaitsWhenCalled", "async function")),
    ],
)
def test_what_is_no_plain_function(f: Any, words: tuple[str, ...]) -> None:
    with refused("f", *words):
        slurm_apply(f, {"depth": [1]})
    with refused("f", *words):
        slurm_map(f, [1])
    with refused("f", *words):
        slurm_call(f, {"depth": 1})


@pytest.mark.parametrize("params", [ROWS, pd.DataFrame(ROWS), [{"depth": 1}], None, "x.csv"])
def test_swapped_arguments(params: Any) -> None:
    for function in (slurm_apply, slurm_map):
        with refused("f", "function comes first", f"{function.__name__}(f, "):
            function(params, fit)


# The parameters


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (3, ("3 (int)", "not a table", "frame")),
        (None, ("None", "not a table")),
        ("params.csv", ("'params.csv'", "pandas.read_csv")),
        ({1, 2}, ("not a table",)),
        ([1, 2], ("Item 0", "1 (int)", "slurm_map(f, items)")),
        (np.ones((2, 2)), ("Item 0", "pandas.DataFrame(params, columns=[...])")),
        (pd.Series([1]), ("Series", "slurm_map(f, series)")),
        (pl.LazyFrame(ROWS), ("lazy frame", "params.collect()")),
        (pd.DataFrame(index=[0, 1]), ("2 rows but no columns",)),
        (pd.DataFrame(np.ones((2, 2))), ("column named 0", "set_axis")),
        ({"depth": [1, 2], "trees": [1]}, ("'depth' 2, 'trees' 1", "expand_grid")),
        ({"depth": [1, 2], "trees": 10}, ("'trees'", "10 (int)", 'more_args={"trees"')),
        ({"depth": 1, "trees": 10}, ("single values", "slurm_call(f, params)")),
        (pd.DataFrame([[1, 2, 3]], columns=["depth", "depth", "trees"]), ("'depth'", "rename")),
        (ROWS | {"tree": [1, 2]}, ("fit has no argument 'tree'", "did you mean 'trees'?")),
        ({"depth": [1]}, ("fit needs 'trees'", "It takes: depth, trees, rate=...")),
        ([{"depth": 1, "trees": 1}, {"depth": 1}], ("'trees'", "some rows lack")),
        (ROWS | {"rate": [LOCK, LOCK]}, ("a cell cannot be sent", "_thread.lock", "inside")),
    ],
)
def test_params_that_cannot_be_used(params: Any, words: tuple[str, ...]) -> None:
    with refused("params", *words):
        slurm_apply(fit, params)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (pd.DataFrame(ROWS), ("items is a frame", "slurm_apply(f, params)")),
        (pl.DataFrame(ROWS), ("items is a frame", "slurm_apply(f, params)")),
        ("abc", ("single value", "list(items)")),
        (3, ("single value", "[3]")),
        ({1, 2}, ("no order", "sorted(items)")),
        ([LOCK], ("a cell cannot be sent", "_thread.lock")),
    ],
)
def test_items_that_cannot_be_used(items: Any, words: tuple[str, ...]) -> None:
    with refused("items", *words):
        slurm_map(lambda item: item, items)


def test_the_arguments_of_a_single_call() -> None:
    with refused("params", "mapping of argument names", "list"):
        slurm_call(fit, [1, 2])  # type: ignore[arg-type]
    with refused("params", "no argument 'dept' (did you mean 'depth'?)", "needs 'depth'"):
        slurm_call(fit, {"dept": 1, "trees": 2})


def test_fixed_arguments_that_do_not_fit() -> None:
    with refused("more_args", "'trees'", "both in params and in more_args", "leave it out"):
        slurm_apply(fit, ROWS, more_args={"trees": 3})
    with refused("more_args", "no argument 'rat' (did you mean 'rate'?)"):
        slurm_apply(fit, ROWS, more_args={"rat": 3})
    with refused("more_args", "mapping"):
        slurm_apply(fit, ROWS, more_args=[3])  # type: ignore[arg-type]
    with refused("global_objects", "no 'nowhere'", "mapping of name to object"):
        slurm_apply(fit, ROWS, global_objects=["nowhere"])
    with refused("initializer", "function without arguments", "3"):
        slurm_apply(fit, ROWS, initializer=3)  # type: ignore[arg-type]


# What cannot be sent


@pytest.mark.parametrize(
    ("make", "variable", "words"),
    [
        (lambda: (lambda depth: (LOCK, depth), {}), "LOCK", ("f uses `LOCK`",)),
        (lambda: (capture(threading.Lock()), {}), "captured", ("f uses `captured`",)),
        (lambda: (takes_y, {"more_args": {"y": LOCK}}), "y", ("more_args holds `y`",)),
        (lambda: (takes_y, {"global_objects": {"z": LOCK}}), "z", ("global_objects holds `z`",)),
        (
            lambda: (takes_y, {"initializer": lambda: LOCK}),
            "LOCK",
            ("initializer uses `LOCK`",),
        ),
        (
            lambda: (functools.partial(lambda depth, y: (depth, y), y=LOCK), {}),
            "y",
            ("f uses `y`",),
        ),
    ],
)
def test_what_cannot_be_pickled_is_named(
    make: Callable[[], tuple[Any, dict[str, Any]]], variable: str, words: tuple[str, ...]
) -> None:
    f, keywords = make()
    words = (*words, "lock", "Make it inside the function")
    with refused(None, *words, error=NotPicklableError) as caught:
        slurm_apply(f, {"depth": [1]}, **keywords)
    assert vars(caught.value)["variable"] == variable


def capture(captured: Any) -> Callable[[int], Any]:
    return lambda depth: (captured, depth)


def takes_y(depth: int, y: Any = None) -> Any:
    return depth, y


# How much, where, and under which name


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "2", True, float("nan"), [2]])
@pytest.mark.parametrize(
    "name", ["nodes", "cpus_per_node", "processes_per_node", "task_limit", "chunksize"]
)
def test_numbers_that_are_no_count(name: str, value: Any) -> None:
    with refused(name, f"{name} must be a whole number, 1 or more", str(value)):
        slurm_apply(fit, ROWS, **{name: value})


CALLS: list[tuple[Callable[..., Any], Callable[..., Any], Any]] = [
    (slurm_apply, fit, ROWS),
    (slurm_map, takes_y, [1]),
    (slurm_call, takes_y, {"depth": 1}),
]


@pytest.mark.parametrize("value", [-1, 1.5, "2", True, None, float("nan"), [2]])
@pytest.mark.parametrize("name", ["retries", "seed"])
def test_numbers_that_are_neither_0_nor_a_count(name: str, value: Any) -> None:
    if (name, value) == ("seed", None):
        return
    for function, f, over in CALLS:
        with refused(name, f"{name} must be a whole number, 0 or more", str(value)):
            function(f, over, **{name: value})


@pytest.mark.parametrize(
    "value",
    [0, -1, True, False, "2", "soon", "1:30", "", float("nan"), float("inf"), [2], "-5s", 10**400],
)
def test_row_timeouts_that_are_no_length_of_time(value: Any) -> None:
    words = (f"row_timeout={value!r}", "such as 90, or '10m'", "None is no limit")
    for function, f, over in CALLS:
        with refused("row_timeout", *words):
            function(f, over, row_timeout=value)
    with refused("row_timeout", "timedelta(0)"):
        slurm_apply(fit, ROWS, row_timeout=timedelta(0))


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "many", "2", float("nan"), [2]])
def test_max_failures_that_are_none(value: Any) -> None:
    with refused("max_failures", "max_failures", "whole number, 1 or more", str(value)):
        slurm_apply(fit, ROWS, max_failures=value)


@pytest.mark.parametrize(
    "value", [0, -1, True, 1.5, "2", "a100", "a100:0", "a100:2,k80:1", ":2", "a\nb:1", [2]]
)
def test_gpus_that_are_none(value: Any) -> None:
    with refused("gpus_per_node", "gpus_per_node"):
        slurm_apply(fit, ROWS, gpus_per_node=value)


def test_gpus_that_are_said_twice() -> None:
    with refused("slurm_options", "gpus_per_node= and slurm_options['gpus-per-node']"):
        slurm_apply(fit, ROWS, gpus_per_node=1, slurm_options={"gpus_per_node": 2})


def test_a_seed_longer_than_numpys() -> None:
    with refused("seed", "below 2**128"):
        slurm_apply(fit, ROWS, seed=2**128)


def test_a_single_call_has_no_failures_to_count() -> None:
    with refused("max_failures", "slurm_call() has no keyword 'max_failures'"):
        slurm_call(fit, {"depth": 1, "trees": 1}, max_failures=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"job_name": ""}, ("''", "0 characters are left", "1 to 100")),
        ({"job_name": "../;$()é"}, ("0 characters are left", "only letters, digits and _")),
        ({"job_name": "x" * 101}, ("101 characters",)),
        ({"job_name": 7}, ("a string is needed", "7")),
        ({"time": 60}, ("no unit", "'60min'")),
        ({"time": "soon"}, ("'soon'",)),
        ({"mem": "much"}, ("'much'",)),
        ({"mem": -4}, ("-4",)),
        ({"partition": "a\nb"}, ("one line of text",)),
        ({"account": ""}, ("''",)),
        ({"schedule": "fair"}, ("'fair'", '"dynamic"', '"static"')),
        ({"setup": ["if"]}, ("bash says",)),
        ({"setup": [3]}, ("3",)),
        ({"python": 3.11}, ("interpreter", "3.11")),
        ({"packages": [json]}, ("strings are needed",)),
        ({"sys_path": 3}, ("3",)),
        ({"template": "missing.sh"}, ("'missing.sh'", "default_template()")),
        ({"if_exists": "maybe"}, ("'maybe'", '"fail", "open" or "replace"')),
        ({"after": "tuning"}, ("'tuning'", "SlurmJob.open")),
        ({"backend": "cloud"}, ("'cloud'", "'slurm', 'local', 'inline'")),
        ({"jobname": "x"}, ("rslurm's jobname is job_name",)),
        ({"job_array_task_limit": 3}, ("task_limit",)),
        ({"cpus_per_nod": 3}, ("did you mean cpus_per_node?",)),
        ({"rate": 0.2}, ("more_args",)),
        ({"colour": 3}, ("arguments of f go into more_args",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_keywords_that_cannot_be_used(keywords: dict[str, Any], words: tuple[str, ...]) -> None:
    with refused(next(iter(keywords)), next(iter(keywords)), *words):
        slurm_apply(fit, ROWS, **keywords)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(
            ({name: "x"}, (f"cannot set {name.replace('_', '-')!r}",))
            for name in (
                "array", "output", "job-name", "job_name", "error", "nodes", "ntasks",
                "cpus-per-task", "wrap", "chdir", "signal", "open_mode", "wait",
            )
        ),
        ({"out": "x"}, ("beginning of 'output'", "write names in full")),
        ({"comment": "a\n#SBATCH --uid=0"}, ("newline or another control character", "leave it")),
        ({"comment": "a\0b"}, ("control character",)),
        ({"mail type": "END"}, ("not the name of an sbatch option", "mail-type")),
        ({"--qos": "long"}, ("without the dashes",)),
        ({"qos": ["a", "b"]}, ("several values are one string",)),
        ({"mem": "2G"}, ("mem= and slurm_options['mem'] say the same thing",)),
        ("qos=long", ("mapping", "{'qos': 'long'}")),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_slurm_options_that_are_refused(options: Any, words: tuple[str, ...]) -> None:
    with refused("slurm_options", "slurm_options", *words):
        slurm_apply(fit, ROWS, slurm_options=options, mem="1G")


def test_hostile_characters_in_a_name_are_dropped() -> None:
    job = slurm_map(abs, [1], job_name="../a b/$(touch x)\n;'\"é", backend="inline")
    assert (job.name, job.folder.name) == ("a_btouch_x_", "_slurmapply_a_btouch_x_")
    assert [path.name for path in Path().iterdir()] == [job.folder.name]


def test_a_name_that_is_taken() -> None:
    slurm_map(abs, [1], job_name="taken", backend="inline")
    with refused(None, "'taken'", "finished", "SlurmJob.open", '"replace"', error=JobExistsError):
        slurm_map(abs, [2], job_name="taken", backend="inline")
    Path("_slurmapply_notes").mkdir()
    with refused(None, "no job folder of slurmapply", "job_name", error=JobExistsError):
        slurm_map(abs, [1], job_name="notes", if_exists="replace")


@pytest.mark.parametrize("folder", ["missing", "a_file", "/sys", "/proc"])
def test_a_folder_where_nothing_can_be_written(folder: str) -> None:
    Path("a_file").touch()
    with refused(None, folder, "jobs_folder=", error=JobFolderError):
        slurm_apply(fit, ROWS, jobs_folder=folder)


# Slurm says no, or is not there


@pytest.mark.parametrize("backend", ["slurm", "auto"])
def test_no_sbatch_where_a_slurm_should_be(
    spying_sbatch: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("PATH", str(spying_sbatch))
    monkeypatch.setenv("SLURM_CONF", "/shared/slurm.conf")
    (spying_sbatch / "sbatch").unlink()
    words = ("no sbatch on PATH", "SLURM_CONF", "module load slurm", 'backend="local"')
    with refused(None, *words, error=SchedulerNotFoundError):
        slurm_apply(fit, ROWS, backend=backend)


def test_without_any_trace_of_a_slurm_rows_run_on_this_machine(
    spying_sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spying_sbatch / "sbatch").unlink()
    for name in ("bash", "uname"):
        (spying_sbatch / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(spying_sbatch))
    for variable in ("SLURM_CONF", "SLURM_JOB_ID", "MODULEPATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(slurm, "_TRACE_PATHS", ())
    with refused(None, "no sbatch on PATH", 'backend="local"', error=SchedulerNotFoundError):
        slurm_apply(fit, ROWS, backend="slurm")
    job = slurm_map(lambda x: -x, [1])
    assert job.results() == [-1]
    assert str(job.job_id).startswith("local-")


@pytest.mark.slurm
def test_a_refusal_of_sbatch_is_quoted_and_can_be_gone_on_from(
    spying_sbatch: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (spying_sbatch / "sbatch").unlink()
    with pytest.raises(SubmissionError) as caught:
        slurm_map(abs, [-1], partition="nosuch", job_name="refused", nodes=1)
    error = caught.value
    assert "invalid partition specified: nosuch" in str(error)
    assert "that `sinfo` lists with partition=. Here are: main, urgent, cheap." in str(error)
    assert (error.command[0], error.exit_code) == ("sbatch", 1)
    assert error.job.status().state == "prepared"
    assert error.job.submit(partition="main").results() == [1]
    with pytest.raises(SubmissionError, match="option '--no-such-option=1'") as caught:
        slurm_map(abs, [-1], slurm_options={"no_such_option": 1}, job_name="refused_too")
    assert "`man sbatch`" in str(caught.value)


def test_a_package_that_the_node_lacks_is_named() -> None:
    job = slurm_map(abs, [1, 2], packages="no_such_package", backend="local").wait()
    assert job.status().counts == {"unfinished": 2}
    with pytest.raises(RowsFailedError, match="No module named 'no_such_package'"):
        job.results()


# Folders that cannot be opened


def test_folders_that_are_no_jobs() -> None:
    with refused(None, "no job 'nothing'", "list_jobs()", error=JobNotFoundError):
        SlurmJob.open("nothing")
    job = slurm_map(abs, [1], job_name="lengths", backend="inline")
    with refused(None, "no job 'length'", "Did you mean 'lengths'?", error=JobNotFoundError):
        SlurmJob.open("length")
    Path("empty").mkdir()
    with refused(None, "not a job folder", "no job.json", error=FormatError):
        SlurmJob.open("empty")
    for content in ("", "[]", "{}", '{"format": 1}', "\ufffd"):
        (job.folder / "job.json").write_text(content)
        with refused(None, "job.json", error=FormatError):
            SlurmJob.open("lengths")


def test_a_folder_of_a_newer_format() -> None:
    job = slurm_map(abs, [1], job_name="newer", backend="inline")
    content = json.loads((job.folder / "job.json").read_text())
    content |= {"format": 99, "versions": {"slurmapply": "9.9"}}
    (job.folder / "job.json").write_text(json.dumps(content))
    words = ("slurmapply 9.9", "format 99", "Update slurmapply")
    with refused(None, *words, error=FormatError):
        SlurmJob.open("newer")


@pytest.mark.parametrize("name", ["", "function.pkl", "rows.bin"])
def test_a_folder_that_others_could_have_written(name: str) -> None:
    job = slurm_map(abs, [1], job_name="open", backend="inline")
    (job.folder / name).chmod(0o775)
    with refused(None, "chmod -R go-w", "trust=True", error=UntrustedFolderError):
        SlurmJob.open("open").run_row(0)
    assert SlurmJob.open("open", trust=True).run_row(0) == 1


# What is asked of a job


@pytest.mark.parametrize(
    ("ask", "argument", "words"),
    [
        (lambda job: job.results(errors="ignore"), "errors", ('"raise" or "keep"',)),
        (lambda job: job.table(errors=None), "errors", ("None",)),
        (lambda job: job.result(), "row", ("3 rows", "job.result(0)")),
        (lambda job: job.result(3), "row", ("no row 3", "0 to 2")),
        (lambda job: job.row(-1), "row", ("no row -1",)),
        (lambda job: job.logs(row="a"), "row", ("'a'",)),
        (lambda job: job.wait(timeout=-1), "timeout", ("0 or more",)),
        (lambda job: job.retry([3]), "rows", ("no row 3", "0 to 2")),
        (lambda job: job.retry([True]), "rows", ("1 values", "3 rows")),
        (lambda job: job.retry("sad"), "rows", ("'sad'", "ok")),
        (lambda job: job.retry([0], f=fit), "params", ("fit", "needs")),
        (lambda job: job.retry([0], color=1), "color", ("cannot be changed here",)),
        (lambda job: job.retry([0], nodes=0), "nodes", ("whole number",)),
        (lambda job: job.retry([0], row_timeout=-1), "row_timeout", ("above zero",)),
        (lambda job: job.retry([0], retries=True), "retries", ("whole number",)),
        (lambda job: job.retry([0], max_failures=0), "max_failures", ("whole number",)),
        (lambda job: job.retry([0], gpus_per_node="x"), "gpus_per_node", ("a100:2",)),
        (lambda job: job.retry([0], seed=1), "seed", ("cannot be changed here",)),
        (lambda job: job.cleanup(keep="all"), "keep", ('"results"',)),
    ],
)
def test_questions_that_make_no_sense(
    ask: Callable[[SlurmJob], Any], argument: str, words: tuple[str, ...]
) -> None:
    job = slurm_map(abs, [1, 2, 3], job_name="asked", backend="inline")
    with refused(argument, *words):
        ask(job)


def test_a_job_that_was_never_submitted_cannot_be_waited_for() -> None:
    job = slurm_map(abs, [1], job_name="prepared", submit=False)
    for ask in (job.wait, job.results, job.table, job.retry, lambda: next(job.as_completed())):
        with refused(None, "never submitted", "job.submit()", error=SlurmApplyError):
            ask()
    with refused("after", "never submitted"):
        slurm_map(abs, [1], after=job)


def test_a_job_is_submitted_once() -> None:
    job = slurm_map(abs, [1], job_name="once", backend="inline")
    with refused(None, "submitted already", str(job.job_id), "retry", error=JobAliveError):
        job.submit()
