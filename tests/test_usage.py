"""What a job asked for against what it used: the tables, and when advice is given and when not."""

from __future__ import annotations

import html
import json
import re
import sys
import time
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from slurmapply import Usage, slurm_apply, slurm_map
from slurmapply.accounting import Accounting
from slurmapply.choice import Outcomes
from slurmapply.errors import SchedulerError
from slurmapply.numeric import NumberColumn
from slurmapply.outcome_file import Frame, Origin, Same
from slurmapply.schedulers.base import Account, Submission
from slurmapply.taskuse import TaskUse, _with_account, _worked
from slurmapply.usage import summed_up
from slurmapply.usage_advice import Asked, RowsUse, advise, missing
from tests.shims import gated, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurmapply import SlurmJob
    from tests.shims import Shims
    from tests.slurm_cluster import Cluster

HOUR = 3600.0
#: Four workers with two gigabytes each, well used.
ASKED = Asked("slurm", nodes=2, cpus=4, processes=4, memory=True)
TASK = TaskUse(
    0, 0, "node01", workers=4, cpus=4, queued=5.0, elapsed=1000.0, begun=1.0, busy=3800.0,
    cpu=3700.0, cpu_all=3710.0, peak_mb=6500.0, memory_mb=8192.0, limit=0.5 * HOUR, ended="done",
)  # fmt: skip
ROWS = RowsUse(1000, 1000, 7600.0, 7400.0, (7, 30.0), (12, 1600.0), peaks=1000)


def advice(
    asked: Asked = ASKED, tasks: list[TaskUse] | None = None, rows: RowsUse = ROWS
) -> list[str]:
    return advise(asked, [TASK, TASK._replace(task=1)] if tasks is None else tasks, rows)


def only(said: list[str]) -> str:
    (line,) = said
    return line


# -- advice ----------------------------------------------------------------------------------


def test_a_job_that_asked_for_what_it_used_is_told_nothing() -> None:
    assert advice() == []


def test_much_memory_that_nobody_used() -> None:
    small = TASK._replace(peak_mb=1800.0)
    line = only(advice(tasks=[small]))
    assert line == (
        "you asked for 8.0 GB per node; no task used more than 1.8 GB, a row 1.6 GB: 3 GB are "
        'enough (mem="3G")'
    )


def test_without_a_count_for_the_task_the_largest_row_counts_once_for_each_worker() -> None:
    line = only(advice(tasks=[TASK._replace(peak_mb=None)], rows=ROWS._replace(largest=(3, 614.4))))
    assert line == (
        "you asked for 8.0 GB per node; 4 workers, of which the largest row (3) used 614 MB, make "
        '2.4 GB: 3 GB are enough (mem="3G")'
    )


def test_a_task_full_of_cached_files_is_judged_by_its_rows() -> None:
    full = TASK._replace(peak_mb=8190.0)
    assert 'mem="1G"' in only(advice(tasks=[full], rows=ROWS._replace(largest=(3, 200.0))))
    # Nobody knows what it was full of.
    assert advice(tasks=[full], rows=ROWS._replace(largest=None, peaks=0)) == []


def test_the_sites_own_amount_is_not_called_asked_for() -> None:
    line = only(advice(ASKED._replace(memory=False), [TASK._replace(peak_mb=100.0)]))
    assert line.startswith("there was 8.0 GB per node; ")
    assert 'mem="200M"' in line


def test_little_memory_left_is_a_warning() -> None:
    line = only(
        advice(tasks=[TASK._replace(peak_mb=None)], rows=ROWS._replace(largest=(3, 1990.0)))
    )
    assert line.endswith('make 7.8 GB, which is close to it: ask for mem="10G"')


def test_rows_that_ran_out_of_memory_name_the_way_on() -> None:
    line = only(advice(rows=ROWS._replace(out_of_memory=3)))
    assert line == (
        "you asked for 8.0 GB per node, and 3 rows of 4 at a time ran out of it: "
        'job.retry("out_of_memory", mem="16G")'
    )


def test_what_is_known_so_far_is_called_so() -> None:
    some = ROWS._replace(ended=10, peaks=10)
    assert "(10 of 1000 rows so far)" in only(
        advice(tasks=[TASK._replace(peak_mb=900.0)], rows=some)
    )


def test_peaks_of_a_few_rows_say_nothing_of_the_others() -> None:
    few = ROWS._replace(peaks=10, largest=(3, 20.0))
    unknown = [TASK._replace(peak_mb=None)]
    assert advice(tasks=unknown, rows=few) == []
    said = missing(ASKED, unknown, few)
    assert said[0].startswith("of 1000 rows, the peak memory of only 10 is known: rows under 10 ms")
    assert "control groups" in said[1]


def test_what_is_known_is_not_called_missing() -> None:
    assert missing(ASKED, [TASK], ROWS) == []
    assert missing(ASKED, [], RowsUse(5, 0)) == ["no row has ended yet"]


def test_a_long_limit_of_a_short_task() -> None:
    line = only(advice(tasks=[TASK._replace(limit=10 * HOUR)]))
    assert line == (
        "the time limit was 10.0 h, and the longest task took 17 min: with "
        'time="30min" Slurm finds a place for it sooner'
    )


def test_a_task_that_nearly_came_to_its_limit() -> None:
    line = only(advice(tasks=[TASK._replace(limit=1100.0)]))
    assert line.endswith('which is close: ask for time="30min"')


def test_tasks_that_came_to_their_limit_say_how_much_is_needed() -> None:
    cut = TASK._replace(ended="time_limit", limit=1000.0)
    line = only(advice(tasks=[cut], rows=ROWS._replace(ended=250, peaks=250)))
    assert "with 250 of 1000 rows done; all of them take about 67 min" in line
    assert 'job.retry(time="2h") or more nodes' in line


@pytest.mark.parametrize("ended", ["", "SIGTERM", "max_failures", "killed"])
def test_the_time_of_a_task_that_did_not_end_well_says_nothing(ended: str) -> None:
    assert advice(tasks=[TASK._replace(limit=10 * HOUR, ended=ended)]) == []


def test_rows_that_wait() -> None:
    waiting = TASK._replace(cpu_all=760.0)
    line = only(advice(tasks=[waiting], rows=ROWS._replace(cpu=700.0)))
    assert "rows used 0.20 CPUs on average, programs that they started included" in line
    assert "processes_per_node=8 on the same 4 CPUs" in line


def test_rows_whose_programs_compute_do_not_wait() -> None:
    assert advice(rows=ROWS._replace(cpu=70.0)) == []


def test_nobody_says_that_rows_wait_before_a_task_has_told_of_its_programs() -> None:
    unknown = TASK._replace(cpu_all=None)
    assert advice(tasks=[unknown], rows=ROWS._replace(cpu=70.0)) == []


def test_rows_with_more_threads_than_processors() -> None:
    line = only(advice(rows=ROWS._replace(cpu=4 * 7600.0)))
    assert line == (
        "a row used 4.0 CPUs, and each of 4 workers has 1 of 4 CPUs: rows that have threads need "
        "processes_per_node=1, or fewer threads"
    )


def test_processors_that_nobody_used() -> None:
    line = only(advice(ASKED._replace(cpus=16)))
    assert line.startswith("each of 4 workers had 4 CPUs and used 0.98: processes_per_node=16")


def test_a_little_work_says_nothing_of_processors() -> None:
    assert advice(tasks=[TASK], rows=ROWS._replace(seconds=4.0, cpu=0.1)) == []


def test_short_rows_are_not_worth_many_tasks() -> None:
    short = TASK._replace(elapsed=2.0, busy=1.0, cpu_all=1.0, begun=1.4)
    tasks = [short, short._replace(task=1)]
    line = only(advice(tasks=tasks, rows=ROWS._replace(seconds=2.0, longest=(7, 0.1))))
    assert line == (
        "workers were idle for 88% of their time: all rows together took 2 s, and starting a task "
        "takes about 1 s: nodes=1 does as well"
    )


def test_more_workers_than_rows() -> None:
    tasks = [TASK._replace(busy=900.0, cpu_all=900.0), TASK._replace(task=1, busy=900.0)]
    line = only(advice(tasks=tasks, rows=ROWS._replace(rows=2, ended=2, peaks=2)))
    assert line.endswith("there are 2 rows for 8 workers: nodes=1 is enough")


def test_a_long_row_that_others_waited_for() -> None:
    tasks = [TASK._replace(busy=1500.0, cpu_all=1500.0)]
    line = only(advice(tasks=tasks, rows=ROWS._replace(longest=(17, 900.0))))
    assert "row 17 took 15 min of the 17 min of its task" in line
    assert "cost=" in line


def test_idle_workers_of_a_task_that_goes_on_may_be_busy_soon() -> None:
    going = [TASK._replace(busy=10.0, cpu_all=None, ended="")]
    assert advice(tasks=going, rows=ROWS._replace(ended=3, peaks=3)) == []


def test_without_a_slurm_nothing_is_said_of_memory_time_and_processors() -> None:
    local = Asked("local", 1, 4, 4)
    lazy = TASK._replace(peak_mb=10.0, limit=10 * HOUR, cpu_all=10.0)
    assert advice(local, [lazy]) == []
    assert missing(local, [TASK._replace(peak_mb=None)], ROWS) == []


def test_there_is_nothing_to_say_of_nothing() -> None:
    assert advice(tasks=[], rows=RowsUse(0, 0)) == []
    assert TaskUse(0, 3).idle is None


# -- many rows -------------------------------------------------------------------------------


def frame_of(first: int, rows: int) -> Frame:
    numbers = range(first, first + rows)
    columns: dict[str, Any] = {name: Same(0, rows) for name in ("kind", "cause", "slot")}
    columns |= {"row": numbers, "status": Same(1, rows), "attempt": Same(1, rows)}
    columns |= {"start": array("d", numbers), "seconds": Same(0.5, rows)}
    columns |= {"cpu": array("f", [0.25]) * rows, "peak_mb": Same(-1.0, rows)}
    origin = Origin(0, first % 2, 0, f"f{first}")
    return Frame(
        origin, 0, 0, columns=columns, causes=[], values_place=(0, 0), values_checksum=0
    )  # fmt: skip


def calls_of(act: Callable[[], Any]) -> int:
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def test_a_million_rows_are_summed_up_without_a_call_for_each() -> None:
    outcomes = Outcomes(1_000_000)
    for first in range(0, 1_000_000, 100_000):
        outcomes.add(frame_of(first, 100_000))
    found = _worked(outcomes)
    assert found[0, 0, 0].seconds == pytest.approx(500_000)
    assert found[0, 0, 0].cpu == pytest.approx(250_000)
    assert (found[0, 0, 0].first, found[0, 0, 0].last) == (0.0, 999_999.5)
    assert calls_of(lambda: _worked(outcomes)) < 500
    numbers = np.arange(1_000_000.0)
    column = NumberColumn(numbers, numbers % 2 == 0)
    columns = {"seconds": column, "cpu_seconds": column, "peak_mb": [None] * 1_000_000}
    assert summed_up(1_000_000, columns).longest == (999_999, 999_999.0)
    assert summed_up(1_000_000, columns).ended == 500_000
    assert calls_of(lambda: summed_up(1_000_000, columns)) < 500


# -- real jobs -------------------------------------------------------------------------------


def grow(x: int) -> int:
    block = bytearray(x * 1_000_000)
    time.sleep(0.02)
    return len(block)


def last(usage: Usage) -> dict[str, Any]:
    line: dict[str, Any] = usage.tasks.iloc[-1].to_dict()
    return line


def test_a_local_job() -> None:
    job = slurm_apply(grow, {"x": [1, 80, 1, 1]}, backend="local", nodes=1, job_name="grown").wait()
    usage = job.usage()
    line = last(usage)
    assert (line["run"], line["task"], line["workers"], line["ended"]) == (0, 0, 2, "done")
    assert line["busy_seconds"] == pytest.approx(usage.rows["seconds"].sum())
    assert line["cpu_seconds"] >= usage.rows["cpu_seconds"].sum()
    assert line["queued_seconds"] >= 0
    assert 0 <= line["idle_share"] < 1
    assert pd.isna(line["memory_mb"])
    assert list(usage.rows["row_number"]) == [0, 1, 2, 3]
    assert usage.rows["peak_mb"].idxmax() == 1
    assert usage.rows["peak_mb"][1] > 80
    assert list(usage.rows["attempt"]) == [1] * 4
    text = str(usage)
    assert text.startswith("grown: 4 of 4 rows, 1 task\n")
    assert re.search(r"memory: a row \d+ MB \(row 1\)", text)


def test_a_job_while_it_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = slurm_map(gated(gate), range(3), backend="local", nodes=1)
    wait_until(lambda: len([*tmp_path.glob("gate.*")]) == 2)
    wait_until(lambda: job.status().counts.get("running") == 2)
    usage = job.usage()
    line = last(usage)
    assert usage.missing == ["no row has ended yet"]
    assert usage.rows["seconds"].isna().all()
    assert pd.isna(line["ended"])
    # Both workers are in a row, which the records name after two seconds.
    assert line["busy_seconds"] > 3
    assert line["idle_share"] < 0.3
    gate.touch()
    assert last(job.wait().usage())["ended"] == "done"


def test_a_cancelled_job() -> None:
    job = slurm_map(time.sleep, [0.01, 0.01, 60, 60], backend="local", nodes=1, chunksize=1)
    wait_until(lambda: job.status().counts.get("ok") == 2)
    job.cancel()
    wait_until(lambda: job.status().completed)
    usage = job.usage()
    assert usage.rows["seconds"].notna().sum() == 2
    assert last(usage)["ended"] == "SIGTERM"
    assert "2 of 4 rows" in str(usage)


def test_all_runs_count(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def fail_once(x: int) -> int:
        time.sleep(0.02)
        if x and not mark.exists():
            raise ValueError(x)
        return x

    job = slurm_apply(fail_once, {"x": [0, 1, 2]}, backend="local").wait()
    mark.touch()
    job.retry().wait()
    usage = job.usage()
    assert list(usage.tasks["run"]) == [0, 1]
    assert (usage.tasks["busy_seconds"] > 0.03).all()
    assert list(usage.rows["attempt"]) == [1, 2, 2]
    assert "2 tasks of 2 runs" in str(usage)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table])
def test_tables_are_of_the_kind_that_the_parameters_were(kind: Any) -> None:
    params = kind({"x": [1, 2]})
    usage = slurm_apply(grow, params, backend="inline").usage()
    assert type(usage.tasks) is type(usage.rows) is type(params)
    columns = list(usage.rows.columns) if kind is not pa.table else usage.rows.column_names
    assert columns == ["row_number", "seconds", "cpu_seconds", "peak_mb", "host", "attempt"]


def test_the_index_of_the_parameters_is_kept() -> None:
    params = pd.DataFrame({"x": [1, 2]}, index=["a", "b"])
    assert list(slurm_apply(grow, params, backend="inline").usage().rows.index) == ["a", "b"]


@pytest.mark.parametrize("items", [{"a": 1, "b": 2}, pd.Series([1, 2]), [1, 2]])
def test_items_have_a_usage_too(items: Any) -> None:
    usage = slurm_map(grow, items, backend="inline").usage()
    assert list(usage.rows["row_number"]) == [0, 1]
    assert last(usage)["workers"] == 1


def test_no_rows_and_no_submission() -> None:
    empty = slurm_apply(grow, {"x": []}, backend="inline").usage()
    assert (len(empty.tasks), len(empty.rows), empty.advice) == (0, 0, [])
    prepared = slurm_apply(grow, {"x": [1]}, submit=False).usage()
    assert (len(prepared.tasks), prepared.missing) == (0, ["no row has ended yet"])


def test_a_notebook_shows_the_same_and_runs_nothing() -> None:
    job = slurm_apply(grow, {"x": [1]}, backend="inline", job_name="shown")
    usage = job.usage()
    card = usage._repr_html_()
    assert html.escape(str(usage).splitlines()[1].strip()) in card
    evil = Usage("<b>x</b>", ASKED, [TASK._replace(peak_mb=10.0)], ROWS, (None, None))
    assert "<b>x</b>" not in evil._repr_html_()
    assert "<ul><li>you asked for 8.0 GB per node" in evil._repr_html_()


def record_file(job: SlurmJob) -> Path:
    (path,) = (job.folder / "run_0").glob("task_*.jsonl")
    return path


def rewrite(job: SlurmJob, **changed: Any) -> None:
    """Change the fields of the last record; None takes one away."""
    path = record_file(job)
    *before, end = path.read_text().splitlines()
    content = {k: v for k, v in {**json.loads(end), **changed}.items() if v is not None}
    path.write_text("\n".join([*before, json.dumps(content)]) + "\n")


@pytest.mark.parametrize("damage", ["much", [1], {"x": 1}, True, None])
def test_what_a_record_should_not_hold_is_not_known(damage: Any) -> None:
    job = slurm_apply(grow, {"x": [1]}, backend="inline")
    rewrite(job, peak_mb=damage, memory_mb=damage, cpu_seconds=damage)
    line = last(type(job)(job.folder).usage())
    assert pd.isna(line["peak_mb"])
    assert line["cpu_seconds"] >= 0


def test_a_task_that_was_killed_lasted_as_long_as_there_is_a_sign_of_it() -> None:
    job = slurm_map(time.sleep, [0.3, 0.1], backend="local", nodes=1).wait()
    job.usage()
    path = record_file(job)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    line = last(type(job)(job.folder).usage())
    assert line["ended"] == "killed"
    assert 0.3 <= line["elapsed_seconds"] < 10


def test_the_lives_of_a_task_are_one_line() -> None:
    job = slurm_map(time.sleep, [0.1, 0.1], backend="local", nodes=1).wait()
    before = last(job.usage())
    end = json.loads(record_file(job).read_text().splitlines()[-1])["time"]
    again = [
        {"record": "started", "time": end + 100, "host": "other", "node": "", "workers": 2},
        {"record": "interrupted", "row": 1, "attempt": 2, "seconds": 3.0, "cause": "SIGKILL"},
        {"record": "end", "reason": "done", "time": end + 110, "files": {}, "cpu_seconds": 1.5},
    ]
    path = record_file(job)
    second = path.with_name(path.name.replace("_0.jsonl", "_1.jsonl"))
    second.write_text("".join(json.dumps(record) + "\n" for record in again))
    line = last(type(job)(job.folder).usage())
    assert line["host"] == f"{before['host']}, other"
    assert line["elapsed_seconds"] == pytest.approx(before["elapsed_seconds"] + 10)
    assert line["busy_seconds"] == pytest.approx(before["busy_seconds"] + 3)
    assert line["cpu_seconds"] == pytest.approx(before["cpu_seconds"] + 1.5)
    assert line["queued_seconds"] == before["queued_seconds"]


# -- the accounts ----------------------------------------------------------------------------


def test_accounts_fill_in_what_is_not_known_and_nothing_else() -> None:
    account = Account(100.0, 160.0, 900.0, memory_mb=4096.0, peak_mb=700.0)
    bare = TASK._replace(queued=None, peak_mb=None, memory_mb=None)
    filled = _with_account(bare, account)
    assert (filled.queued, filled.peak_mb, filled.memory_mb) == (60.0, 700.0, 4096.0)
    assert _with_account(TASK, account) == TASK
    assert _with_account(bare, Account()) == bare


def test_accounts_are_asked_once_a_minute_and_may_fail() -> None:
    asked = []

    def answer(submissions: Any) -> Any:
        asked.append(submissions)
        raise SchedulerError("sacct is down")

    accounting, submission = Accounting(answer), Submission("slurm", "7")
    assert accounting.of([]) == {}
    assert asked == []
    assert accounting.of([submission]) == accounting.of([submission]) == {}
    assert asked == [[submission]]


# -- on a Slurm ------------------------------------------------------------------------------


def test_a_job_on_slurm(slurm_cluster: Cluster, shims: Shims) -> None:
    for name in ("squeue", "sacct"):
        shims.add(name, 'exec "$real" "$@"')
    params = {"x": [100, 10, 10, 10]}
    job = slurm_apply(grow, params, nodes=2, mem="1500M", time="2h", job_name="grown").wait()
    asked = shims.calls("sacct")
    usage = job.usage()
    lines = usage.tasks.to_dict("records")
    assert [(line["task"], line["cpus"], line["ended"]) for line in lines] == [
        (0, 2, "done"), (1, 2, "done"),
    ]  # fmt: skip
    assert {line["memory_mb"] for line in lines} == {1500.0}
    assert {line["limit_seconds"] for line in lines} == {7200.0}
    assert all(0 <= line["queued_seconds"] < 60 for line in lines)
    assert {line["host"][:5] for line in lines} == {"node0"}
    assert any('time="5min"' in line for line in usage.advice)
    if slurm_cluster.memory_limits:
        assert max(line["peak_mb"] for line in lines) > 100
        assert any("you asked for 1.5 GB per node; no task used" in line for line in usage.advice)
        assert shims.calls("sacct") == asked, "the folder says all"


@pytest.mark.slurm
@pytest.mark.parametrize("sacct", ['exec "$real" "$@"', "echo no >&2; exit 1"])
def test_without_the_kernels_count_the_accounts_may_help(shims: Shims, sacct: str) -> None:
    shims.add("sacct", sacct)
    job = slurm_map(time.sleep, [2.5], nodes=1, cpus_per_node=1, mem="300M").wait()
    job.usage()
    rewrite(job, peak_mb=None, memory_mb=None)
    line = last(type(job)(job.folder).usage())
    assert line["memory_mb"] == 300.0
    if "exec" not in sacct:
        assert pd.isna(line["peak_mb"])
        return
    # The accounts lag behind; each new session may ask.
    wait_until(lambda: not pd.isna(last(type(job)(job.folder).usage())["peak_mb"]))
    assert 1 < last(type(job)(job.folder).usage())["peak_mb"] < 300
