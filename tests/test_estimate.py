"""What is proposed from a few measured rows, and what is said when they cannot be measured."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slurmapply import (
    Estimate,
    InvalidArgumentError,
    NotPicklableError,
    SubmissionError,
    SubmissionUnknownError,
    current_row,
    estimate,
    estimating,
    list_jobs,
    set_defaults,
    settings,
    slurm_apply,
)
from slurmapply.estimating import spread_evenly
from slurmapply.proposal import Measured, MeasuredRow, Wish, propose
from slurmapply.sizing import memory_of, memory_option, time_of, time_option
from tests.shims import TIMED_OUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.shims import Shims
    from tests.slurm_cluster import Cluster


def measured(
    total: int, *seconds: float, cpus: float = 1.0, peak: float | None = 100.0, **more: Any
) -> Measured:
    rows = [MeasuredRow(n, each, each * cpus, peak) for n, each in enumerate(seconds)]
    return Measured(total, rows, 2.0, **more)


# -- arithmetic ------------------------------------------------------------------------------


def test_what_is_proposed_and_how_it_is_explained() -> None:
    keywords, lines = propose(measured(1000, 50.0, 60.0, 70.0), Wish())
    assert keywords == {"nodes": 9, "cpus_per_node": 4, "mem": "700M", "time": "45min"}
    assert lines == [
        "work: 1000 rows x 60 s = 16.7 h for one process",
        "size: nodes=9, cpus_per_node=4: 16.7 h / 36 processes = 28 min",
        (
            'memory: mem="700M": 4 processes x 100 MB (the largest row\'s peak) x 1.5, for others '
            "may be larger + 64 MB for the task itself"
        ),
        (
            'time: time="45min": (28 min + 70 s for a long row at the end + 2.0 s until the first '
            "row begins) x 1.5, rounded up"
        ),
    ]


def test_what_is_decided_stands() -> None:
    keywords, lines = propose(measured(1000, 60.0), Wish(nodes=2, cpus=8, processes=2))
    assert keywords == {
        "nodes": 2, "cpus_per_node": 8, "processes_per_node": 2, "mem": "400M", "time": "8h",
    }  # fmt: skip
    assert "(nodes and cpus_per_node as given)" in lines[1]


def test_a_little_work_is_for_one_process() -> None:
    keywords, lines = propose(measured(10, 0.02), Wish())
    assert keywords == {"nodes": 1, "cpus_per_node": 1, "mem": "300M", "time": "5min"}
    assert lines[0] == "work: 10 rows x 20 ms = 0.2 s for one process"


def test_there_are_no_more_workers_than_rows() -> None:
    keywords, lines = propose(measured(3, 7200.0, 7200.0, 7200.0), Wish())
    assert (keywords["nodes"], keywords["cpus_per_node"]) == (1, 3)
    assert "3 processes x 100 MB" in lines[2]
    assert 'time: time="4h": (2.0 h for a long row + 2.0 s until' in lines[3]


def test_rows_with_threads_get_processors_for_them() -> None:
    keywords, lines = propose(measured(1000, 60.0, cpus=3.9), Wish())
    assert (keywords["cpus_per_node"], keywords["processes_per_node"]) == (16, 4)
    assert lines[0] == "threads: a row used 3.9 CPUs, so that each process gets 4"


def test_a_moment_of_work_says_nothing_of_threads() -> None:
    assert propose(measured(10, 0.1, cpus=4.0), Wish())[0]["cpus_per_node"] == 1


def test_no_work_at_all_has_a_time_all_the_same() -> None:
    assert propose(measured(5, 0.0), Wish())[0]["time"] == "5min"


def test_what_all_processes_share_counts_once() -> None:
    keywords, lines = propose(measured(1000, 60.0, shared_mb=3000.0), Wish())
    assert keywords["mem"] == "4G"
    assert "+ 2.9 GB that they share + 64 MB" in lines[2]


@pytest.mark.parametrize(
    ("more", "said"),
    [({}, "rows under 10 ms"), ({"in_session": True, "task_peak_mb": 9.0}, "this session's")],
)
def test_memory_that_is_not_known_is_not_proposed(more: dict[str, Any], said: str) -> None:
    keywords, lines = propose(measured(1000, 0.001, peak=None, **more), Wish())
    assert "mem" not in keywords
    assert said in lines[2]


def test_the_task_as_a_whole_stands_in_for_rows_that_are_too_short() -> None:
    keywords, lines = propose(measured(1000, 0.001, peak=None, task_peak_mb=300.0), Wish())
    assert keywords["mem"] == "600M"
    assert "a whole task's peak" in lines[2]


def test_rows_that_differ_much_are_said_to() -> None:
    _, lines = propose(measured(1000, 1.0, 1.0, 60.0), Wish())
    assert lines[-1].startswith("note: rows differ much, from 1.0 s to 60 s: rows=12 measures more")
    assert not propose(measured(3, 1.0, 1.0, 60.0), Wish())[1][-1].startswith("note")


def test_the_first_call_of_a_quick_function_is_no_measure_of_the_others() -> None:
    assert propose(measured(1000, 0.001), Wish())[1][-1].startswith("note: rows as short as these")
    assert not propose(measured(1000, 0.1), Wish())[1][-1].startswith("note")


def test_very_much_work_does_not_ask_for_the_whole_cluster() -> None:
    keywords, _ = propose(measured(1_000_000, 3600.0), Wish())
    assert (keywords["nodes"], keywords["cpus_per_node"]) == (32, 4)


@pytest.mark.parametrize("amount", [0.0, 1.0, 99.9, 100.0, 101.0, 923.0, 924.0, 925.0, 5000.0, 1e6])
def test_rounded_amounts_are_enough(amount: float) -> None:
    assert memory_of(memory_option(amount)) >= amount
    assert time_of(time_option(amount)) >= amount
    assert not slurm_apply(
        grow, {"x": []}, mem=memory_option(amount), time=time_option(amount)
    ).nodes


@pytest.mark.parametrize("total", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_rows_are_spread_evenly(count: int, total: int) -> None:
    rows = spread_evenly(count, total)
    assert len({*rows}) == len(rows) == min(count, total)
    assert rows == sorted(rows)
    assert rows[0] == 0
    assert count == 1 or rows[-1] == total - 1
    steps = {b - a for a, b in itertools.pairwise(rows)}
    assert not steps or max(steps) - min(steps) <= 1


# -- measured --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    """Run without a Slurm unless a test says otherwise."""
    set_defaults(backend="local")
    yield
    settings.session.cache_clear()


def grow(x: int, rate: float = 0.5) -> float:
    block = bytearray(x * 1_000_000)
    time.sleep(0.02)
    return len(block) * rate


def crash(x: int) -> None:
    os.abort()


def left() -> list[str]:
    return [path.name for path in Path().iterdir()]


def test_a_plan_can_be_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    plan = estimate(grow, {"x": [1, 90, 1, 1, 1]}, rows=2, more_args={"rate": 2}, seed=3)
    assert isinstance(plan, Estimate)
    assert capsys.readouterr().out.startswith("measuring rows 0 and 4 of 5 (local-")
    assert plan.ok
    assert left() == []
    assert plan.keywords.keys() == {
        "backend", "seed", "more_args", "nodes", "cpus_per_node", "mem", "time",
    }  # fmt: skip
    assert "measured rows 0 and 4 of 5 (local-" in plan.explanation
    assert str(plan).splitlines()[-1].startswith("proposal: nodes=1, cpus_per_node=1, mem=")
    job = slurm_apply(grow, {"x": [1, 90, 1, 1, 1]}, **plan.keywords)
    assert job.results()[1] == 180e6
    assert job.seed == 3


def test_the_largest_of_the_measured_rows_counts() -> None:
    small = estimate(grow, {"x": [1, 1, 1]}).keywords["mem"]
    large = estimate(grow, {"x": [1, 400, 1]}).keywords["mem"]
    assert memory_of(large) - memory_of(small) >= 500


@pytest.mark.parametrize(
    "params",
    [
        pd.DataFrame({"x": [1, 2, 3]}, index=["a", "b", "c"]),
        pl.DataFrame({"x": [1, 2, 3]}),
        {"x": [1, 2, 3]},
        [{"x": 1}, {"x": 2, "rate": 1.0}, {"x": 3}],
        ({"x": n} for n in (1, 2, 3)),
    ],
)
def test_any_table_will_do(params: Any) -> None:
    assert "measured all 3 rows" in estimate(grow, params).explanation


def test_rows_have_their_own_numbers_and_seeds() -> None:
    def note(x: int) -> None:
        with open(f"{x}.txt", "w") as file:  # noqa: PTH123
            file.write(f"{current_row().number} {current_row().seed}")

    estimate(note, {"x": range(10)}, rows=2, seed=5)
    slurm_apply(note, {"x": range(9, 10)}, seed=5)
    numbers = [Path(f"{x}.txt").read_text().split() for x in (0, 9)]
    assert [number for number, _ in numbers] == ["0", "9"]


def test_a_large_object_is_named_with_its_size() -> None:
    table = np.ones(4_000_000)

    def use(x: int) -> float:
        return float(table[x])

    lines = estimate(use, {"x": [1, 2]}).explanation.splitlines()
    assert lines[1] == "function: 31 MB go to each node with it"
    assert lines[2].startswith("large: table (31 MB) goes along with it")
    assert estimate(grow, {"x": [1]}).explanation.count("large:") == 0


def test_limits_are_for_the_measured_rows_and_others_are_proposed() -> None:
    plan = estimate(grow, {"x": [1]}, mem="30G", time="20h", nodes=3, cpus_per_node=5)
    assert (plan.keywords["nodes"], plan.keywords["cpus_per_node"]) == (3, 5)
    assert (plan.keywords["mem"], plan.keywords["time"]) != ("30G", "20h")


def test_in_this_very_process_memory_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    plan = estimate(grow, {"x": [1, 2]}, backend="inline")
    assert "memory: not known, since the rows ran in this session's process" in str(plan)
    assert "mem" not in plan.keywords
    assert plan.keywords["backend"] == "inline"
    assert "<li>proposal: nodes=1" in plan._repr_html_()
    assert "measuring all 2 rows" in capsys.readouterr().out
    assert left() == []


# -- rows that fail --------------------------------------------------------------------------


def test_a_failing_row_is_named_with_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    plan = estimate(lambda x: 1 / (x - 5), {"x": [5, 6, 7]})
    said = "row 0 (x=5) raised ZeroDivisionError: "
    assert said in str(plan)
    assert str(plan).startswith("nothing is proposed, for not all measured rows are ok:")
    assert "retry" not in str(plan)
    assert "row 1" not in str(plan)
    assert (plan.ok, plan.keywords) == (False, {})
    assert said in capsys.readouterr().out
    assert left() == []


def test_a_row_that_crashes_or_takes_too_long_is_no_harm_to_the_session() -> None:
    assert "row 0 (x=1) crashed: " in str(estimate(crash, {"x": [1]}))
    said = str(estimate(lambda x: time.sleep(60 * x), {"x": [1]}, row_timeout=0.5))
    assert "estimate(..., row_timeout=1) tries with more" in said
    assert left() == []


def test_a_module_that_is_missing_on_the_node() -> None:
    said = str(estimate(grow, {"x": [1]}, packages="no_such_module"))
    assert said.startswith("nothing is proposed")
    assert "no_such_module" in said


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": 0}, "rows must be a whole number, 1 or more, not 0"),
        ({"rows": "3"}, "rows must be a whole number"),
        ({"rows": 1.5}, "rows must be a whole number"),
        ({"params": {"x": []}}, "it has no rows, so there is nothing to measure"),
        ({"params": []}, "it has no rows"),
        ({"params": {"y": [1]}}, "no argument 'y'"),
        ({"params": grow, "f": {"x": [1]}}, "the function comes first"),
        ({"f": "grow"}, "grow"),
        ({"nodes": 0}, "nodes must be a whole number, 1 or more"),
        ({"cpus_per_node": "2"}, "cpus_per_node must be a whole number"),
        ({"processes_per_node": -1}, "processes_per_node must be a whole number"),
        ({"time": 30}, "has no unit"),
        ({"mem": "4"}, "has no unit"),
        ({"backend": "cloud"}, "backend: one of"),
        ({"tiem": "2h"}, "did you mean time?"),
        ({"rate": 2}, "more_args={'rate': ...}"),
        ({"jobname": "x"}, "rslurm's jobname is job_name here"),
        ({"more_args": {"rates": 2}}, "rates"),
        ({"more_args": 3}, "more_args"),
        ({"initializer": 3}, "initializer"),
        ({"slurm_options": {"array": "1"}}, "array"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(given: dict[str, Any], said: str) -> None:
    call: dict[str, Any] = {"f": grow, "params": {"x": [1]}} | given
    with pytest.raises(InvalidArgumentError) as error:
        estimate(call.pop("f"), call.pop("params"), **call)
    assert said in str(error.value)
    assert left() == []


def test_what_cannot_be_sent_is_named() -> None:
    with Path("file").open("w") as file, pytest.raises(NotPicklableError, match="`file`"):
        estimate(lambda x: file.write(f"{x}"), {"x": [1]})
    assert left() == ["file"]


def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(InvalidArgumentError, match="path of a folder is needed"):
        estimate(grow, {"x": [1]}, jobs_folder=3)  # type: ignore[arg-type]


def test_ctrl_c_takes_the_small_job_away(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Path("begun").absolute()

    def wait(x: int) -> None:
        begun.touch()
        time.sleep(60)

    calls = []
    really = estimating._wait

    def interrupted(job: Any) -> None:
        calls.append(job)
        if len(calls) > 1:
            return really(job)
        wait_until(begun.exists)
        raise KeyboardInterrupt

    monkeypatch.setattr(estimating, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimate(wait, {"x": [1]})
    assert len(calls) == 2
    assert left() == ["begun"]


# -- on a Slurm ------------------------------------------------------------------------------


@pytest.fixture
def on_slurm(slurm_cluster: Cluster) -> Cluster:
    set_defaults(backend=None)
    return slurm_cluster


def test_rows_are_measured_in_one_small_slurm_job(
    on_slurm: Cluster, shims: Shims, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shims.add("sbatch", f'printf "%s\\n" "$@" >>{tmp_path}/asked; exec "$real" "$@"')
    wish: dict[str, Any] = {"nodes": 3, "cpus_per_node": 8, "mem": "300M", "partition": "main"}
    plan = estimate(grow, {"x": [100] * 50}, **wish)
    asked = (tmp_path / "asked").read_text().split()
    assert {"--array=0-0", "--cpus-per-task=1", "--partition=main"} <= {*asked}
    assert shims.calls("sbatch") == 1
    assert plan.keywords["partition"] == "main"
    assert plan.keywords["nodes"] == 3
    assert 8 * 100 * 1.5 <= memory_of(plan.keywords["mem"]) < 8 * 100 * 5
    assert " on node0" in plan.explanation
    number = capsys.readouterr().out.partition("(")[2].partition(")")[0]
    assert number.isdecimal()
    assert left() == []
    assert not list_jobs()
    queue = ["squeue", "-h", "-j", number, "-t", "PENDING,RUNNING", "-o", "%T"]
    wait_until(lambda: not on_slurm.run(queue).strip())


def test_a_row_that_needs_more_memory_than_there_is(on_slurm: Cluster) -> None:
    if not on_slurm.memory_limits:
        pytest.skip("no cgroups (version 1) that this account may write")
    said = str(estimate(grow, {"x": [1, 1000]}, mem="150M"))
    assert "row 1 (x=1000) ran out of memory" in said
    assert 'estimate(..., mem="300M") tries with more' in said


def test_a_refused_job_leaves_nothing(on_slurm: Cluster) -> None:
    del on_slurm
    with pytest.raises(SubmissionError, match="partition=") as refused:
        estimate(grow, {"x": [1]}, partition="nosuch")
    assert refused.value.job is None
    assert left() == []


@pytest.mark.usefixtures("on_slurm", "impatient")
def test_a_job_that_may_have_been_taken_keeps_its_folder(shims: Shims) -> None:
    shims.add("sbatch", TIMED_OUT)
    shims.add("squeue", TIMED_OUT)
    shims.add("sacct", TIMED_OUT)
    with pytest.raises(SubmissionUnknownError):
        estimate(grow, {"x": [1]})
    assert len(left()) == 1
