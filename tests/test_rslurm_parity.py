"""rslurm 0.6.2, feature by feature: a test for each row of the list that the project started from.

The rows are numbered as in that list (arguments 1 to 39, behaviours 40 to 53); what R's own
package calls otherwise is named in each test.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import slurmapply
from slurmapply import (
    InvalidArgumentError,
    JobNotFoundError,
    RowsFailedError,
    SchedulerNotFoundError,
    SlurmJob,
    SubmissionError,
    cancel_slurm,
    cleanup_files,
    default_template,
    get_job_status,
    get_slurm_out,
    local_slurm_array,
    print_job_status,
    slurm_apply,
    slurm_call,
    slurm_job,
    slurm_map,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[1]
TABLE = pd.DataFrame({"x": [1, 2, 3, 4], "y": [10, 20, 30, 40]})
OFFSET = 100


def add(x: int, y: int = 0) -> int:
    return x + y


@pytest.fixture(autouse=True)
def _no_accidents(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is not said to run inline or locally here must not reach a Slurm of this machine.
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")


def inline(f: Callable[..., Any] = add, params: Any = TABLE, **keywords: Any) -> SlurmJob:
    return slurm_apply(f, params, backend="inline", **keywords)


def script(f: Callable[..., Any] = add, params: Any = TABLE, **keywords: Any) -> str:
    """Give the submit script of a job with these keywords."""
    job = slurm_apply(f, params, submit=False, **keywords)
    return (job.folder / "submit.sh").read_text()


def fake_slurm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, says: str = "echo '4711;east'"
) -> Path:
    """Put an sbatch in front that takes everything, writing down its environment."""
    folder.mkdir()
    log = folder / "called"
    silent = dict.fromkeys(("scontrol", "squeue", "sinfo"), "exit 1")
    for name, body in {"sbatch": says, **silent}.items():
        (folder / name).write_text(f'#!/bin/sh\n(echo "$0 $@"; env) >>{log}\n{body}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


# slurm_apply, argument by argument


def test_row_01_f_is_called_once_per_row_with_named_scalars() -> None:
    job = inline(lambda **cells: [type(c).__name__ for c in cells.values()] + list(cells))
    assert job.results() == [["int", "int", "x", "y"]] * 4
    with pytest.raises(InvalidArgumentError, match="not a function"):
        inline("add")  # type: ignore[arg-type]


def test_row_02_params_is_a_table_whose_columns_f_takes() -> None:
    with pytest.raises(InvalidArgumentError, match="add has no argument 'z'"):
        inline(add, {"x": [1], "z": [2]})
    assert inline(lambda **any_name: sum(any_name.values()), {"z": [2]}).results() == [2]
    assert inline(pow, {"base": [2], "exp": [3]}).results() == [8]
    with pytest.raises(InvalidArgumentError, match="not a table"):
        inline(add, 3)


def test_row_03_constant_arguments_are_given_once() -> None:
    assert inline(add, {"x": [1, 2]}, more_args={"y": 5}).results() == [6, 7]
    # One of f's arguments may have the name of one of ours.
    job = inline(lambda x, nodes: x * nodes, {"x": [2]}, more_args={"nodes": 7})
    assert job.results() == [14]


def test_row_04_jobname_is_cleaned_or_made_up() -> None:
    assert inline(job_name=r"test^\* call").name == "test_call"
    made_up = inline().name
    assert re.fullmatch(r"add_[0-9a-f]{6}", made_up)
    assert inline().name != made_up


def test_row_05_nodes_is_the_most_array_tasks() -> None:
    assert "#SBATCH --array=0-3\n" in script(nodes=4, cpus_per_node=1)
    assert "--nodes" not in script(nodes=3)
    with pytest.raises(InvalidArgumentError, match="nodes must be a whole number"):
        inline(nodes=[2, 3])


def test_row_06_cpus_per_node_is_asked_of_slurm() -> None:
    assert "#SBATCH --cpus-per-task=7\n" in script(cpus_per_node=7)
    with pytest.raises(InvalidArgumentError, match="cpus_per_node must be a whole number"):
        inline(cpus_per_node="2")


def test_row_07_processes_per_node_may_exceed_the_cpus() -> None:
    more = slurm_apply(add, TABLE, nodes=1, processes_per_node=4, submit=False)
    same = slurm_apply(add, TABLE, nodes=1, cpus_per_node=3, submit=False)
    asked = [json.loads((job.folder / "run_0/run.json").read_text()) for job in (more, same)]
    assert [run["processes_per_node"] for run in asked] == [4, 3]
    job = slurm_map(
        lambda _: time.sleep(0.3), range(4), backend="local", nodes=1, cpus_per_node=2,
        processes_per_node=2,
    )  # fmt: skip
    workers = {path.name.split("_")[3] for path in job.wait().folder.glob("run_0/outcomes_*")}
    assert len(workers) == min(2, len(os.sched_getaffinity(0)))


def test_row_08_preschedule_cores_is_schedule() -> None:
    with pytest.raises(InvalidArgumentError, match='schedule="static"'):
        inline(preschedule_cores=True)
    for schedule in ("static", "dynamic"):
        assert inline(schedule=schedule).results() == [11, 22, 33, 44]


def test_row_09_job_array_task_limit_is_task_limit() -> None:
    assert "#SBATCH --array=0-1%1\n" in script(task_limit=1)
    with pytest.raises(InvalidArgumentError, match="task_limit"):
        inline(job_array_task_limit=1)


def test_row_10_global_objects_are_found_by_name() -> None:
    mine = 20

    def look(x: int) -> list[Any]:
        return [x, globals().get("OFFSET"), globals().get("mine")]

    job = slurm_apply(look, {"x": [1]}, global_objects=["OFFSET", "mine"], backend="inline")
    assert job.results() == [[1, OFFSET, mine]]
    assert inline(look, {"x": [1]}, global_objects={"mine": 3}).results() == [[1, None, 3]]


def test_row_11_add_objects_is_answered_with_global_objects() -> None:
    with pytest.raises(InvalidArgumentError, match="add_objects is global_objects") as caught:
        inline(add_objects=["OFFSET"])
    assert caught.value.argument == "add_objects"


def test_row_12_pkgs_are_imported_on_the_node() -> None:
    Path("parity_package.py").write_text("")
    job = slurm_map(
        lambda name: name in sys.modules, ["parity_package"],
        packages="parity_package", sys_path=".", backend="local",
    )  # fmt: skip
    assert job.results() == [True]


def test_row_13_libpaths_are_appended_and_may_be_missing(tmp_path: Path) -> None:
    paths = [f"{tmp_path}/missing", str(tmp_path)]
    job = slurm_call(lambda: list(sys.path), sys_path=paths, backend="local")
    assert job.result()[-1] == str(tmp_path)
    assert str(tmp_path / "missing") not in job.result()


def test_row_14_rscript_path_is_python() -> None:
    assert f'"${{SLURMAPPLY_PYTHON:-}}" {sys.executable} python3' in script()
    assert '"${SLURMAPPLY_PYTHON:-}" /opt/python' in script(python="/opt/python")


def test_row_15_r_template_is_initializer_and_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match=r"initializer .* or setup"):
        inline(r_template="run.R")
    monkeypatch.setenv("PARITY_READY", "no")
    job = inline(
        lambda x: (x, os.environ["PARITY_READY"]), {"x": [1]},
        initializer=lambda: os.environ.update(PARITY_READY="yes"),
    )  # fmt: skip
    assert job.results() == [(1, "yes")]
    assert "\nmodule load gcc\n" in script(setup="module load gcc")


def test_row_16_sh_template_is_template() -> None:
    Path("site.sh").write_text("#!/bin/bash\n{{directives}}\n# our site\n{{setup}}exec {{command}}")
    assert "\n# our site\n" in script(template="site.sh")
    with pytest.raises(InvalidArgumentError, match="sh_template is template"):
        inline(sh_template="site.sh")


def test_row_17_slurm_options_are_any_long_options() -> None:
    options = {"mail_type": "END", "qos": "long", "exclusive": True, "hold": False, "nice": None}
    text = script(slurm_options=options)
    for line in ("--mail-type=END", "--qos=long", "--exclusive"):
        assert f"#SBATCH {line}\n" in text
    assert "hold" not in text
    assert "nice" not in text
    for ours in ("array", "job-name", "nodes", "cpus-per-task", "output"):
        with pytest.raises(InvalidArgumentError, match=f"cannot set '{ours}'"):
            inline(slurm_options={ours: "1"})


def test_row_18_submit_false_writes_the_folder_only(capsys: pytest.CaptureFixture[str]) -> None:
    job = slurm_apply(add, TABLE, job_name="later", submit=False)
    assert f"submission scripts output in directory {job.folder}" in capsys.readouterr().out
    assert (job.job_id, job.status().state) == (None, "prepared")


def test_row_19_without_a_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SchedulerNotFoundError, match=r"no sbatch .* submit=False"):
        slurm_apply(add, TABLE, backend="slurm")
    assert slurm_apply(add, TABLE, submit=False).status().state == "prepared"


def test_row_20_the_value_is_a_handle() -> None:
    job = inline(job_name="handle", nodes=7, cpus_per_node=2)
    assert isinstance(job, SlurmJob)
    assert (job.name, job.nodes) == ("handle", 2)
    assert job.job_ids == [job.job_id]


# slurm_map and slurm_call


def test_row_21_slurm_map_gives_each_item_to_the_first_argument() -> None:
    items = [1, "a", None, {"k": [TABLE]}, len]
    job = slurm_map(lambda item, rest=1: (type(item).__name__, rest), items, backend="inline")
    assert [name for name, _ in job.results()] == [type(item).__name__ for item in items]
    with pytest.raises(InvalidArgumentError, match="other way round"):
        slurm_map(items, len, backend="inline")  # type: ignore[arg-type]


def test_row_22_slurm_map_takes_the_keywords_of_slurm_apply() -> None:
    of_map, of_apply = (inspect.signature(f).parameters for f in (slurm_map, slurm_apply))
    assert list(of_map)[2:] == list(of_apply)[2:]
    assert {name: p.default for name, p in list(of_map.items())[2:]} == {
        name: p.default for name, p in list(of_apply.items())[2:]
    }
    job = slurm_map(add, [1, 2], more_args={"y": 5}, nodes=1, schedule="static", backend="inline")
    assert job.results() == [6, 7]


def test_row_23_names_of_the_items_come_back() -> None:
    named = {"a": [1, 2], "b": []}
    assert slurm_map(len, named, backend="inline").results() == {"a": 2, "b": 0}
    lengths = slurm_map(len, pd.Series(named), backend="inline").results()
    assert lengths.equals(pd.Series({"a": 2, "b": 0}))


def test_row_24_slurm_call_calls_any_function_once() -> None:
    assert slurm_call(max, None, backend="inline", job_name="none").status().counts == {"error": 1}
    assert slurm_call(pow, {"base": 2, "exp": 3}, backend="inline").result() == 8


def test_row_25_params_of_a_call_are_named_and_optional() -> None:
    job = slurm_call(lambda frame, name: (len(frame), name), {"frame": TABLE, "name": "t"},
                     backend="inline")  # fmt: skip
    assert job.result() == (4, "t")
    assert slurm_call(lambda: 42, backend="inline").result() == 42
    with pytest.raises(InvalidArgumentError, match="no argument 'z'"):
        slurm_call(add, {"x": 1, "z": 2}, backend="inline")


def test_row_26_slurm_call_is_one_task_with_fewer_keywords() -> None:
    taken = list(inspect.signature(slurm_call).parameters)
    assert {"nodes", "more_args", "processes_per_node", "task_limit", "schedule"}.isdisjoint(taken)
    assert {"job_name", "global_objects", "packages", "sys_path", "python", "template"} < {*taken}
    text = (slurm_call(add, {"x": 1}, submit=False).folder / "submit.sh").read_text()
    assert "#SBATCH --array=0-0\n" in text
    assert "#SBATCH --cpus-per-task=1\n" in text
    for ours in ("job-name", "ntasks", "output"):
        with pytest.raises(InvalidArgumentError, match=f"cannot set '{ours}'"):
            slurm_call(add, {"x": 1}, slurm_options={ours: "1"})


# The job and its functions


def test_row_27_slurm_job_opens_a_job_by_hand() -> None:
    job = inline(job_name="earlier")
    assert slurm_job("earlier").results() == [11, 22, 33, 44]
    assert slurm_job(job.folder, jobid=job.job_id, nodes=2).job_id == job.job_id
    with pytest.raises(InvalidArgumentError, match="submitted as"):
        slurm_job("earlier", jobid=99)
    slurm_apply(add, TABLE, job_name="by_hand", submit=False)
    assert slurm_job("by_hand", jobid=4711).job_id == "4711"


def test_row_28_the_status_has_completed_queue_and_log() -> None:
    job = slurm_call(lambda: print("said"), backend="local").wait()
    status = get_job_status(job)
    assert (status.completed, status.queue, status.log) == (True, [], {0: "said\n"})
    assert get_job_status(inline(submit=False)).log == {}


def test_row_29_the_status_prints_the_end_of_each_console() -> None:
    job = slurm_call(lambda: print("first", "x" * 80, "last", sep="\n"), backend="local").wait()
    shown = str(get_job_status(job))
    assert "Job completed or stopped.\nLast console output:\n0: xxx" in shown
    assert shown.endswith("x\nlast")
    assert "first" not in shown


def test_row_30_print_job_status_is_deprecated_and_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = inline(job_name="printed")
    with pytest.warns(DeprecationWarning, match="get_job_status"):
        print_job_status(job)
    assert "printed is finished. 4 rows: 4 ok" in capsys.readouterr().out


def test_row_31_get_slurm_out_takes_a_job() -> None:
    for function in (get_slurm_out, get_job_status, cancel_slurm, cleanup_files, local_slurm_array):
        with pytest.raises(InvalidArgumentError, match="a SlurmJob is needed") as caught:
            function("tuning")  # type: ignore[arg-type]
        assert caught.value.argument == "job"


def test_row_32_results_come_raw_or_as_a_table() -> None:
    job = inline(lambda x, y: {"sum": x + y, "difference": x - y})
    assert get_slurm_out(job)[3] == {"sum": 44, "difference": -36}
    table = get_slurm_out(job, outtype="table")
    assert table.equals(pd.DataFrame(get_slurm_out(job, "raw")))
    with pytest.raises(InvalidArgumentError, match='"raw" or "table"'):
        get_slurm_out(job, outtype="list")


def test_row_33_a_single_call_makes_no_table() -> None:
    job = slurm_call(add, {"x": 1}, backend="inline")
    assert get_slurm_out(job) == 1
    with pytest.raises(InvalidArgumentError, match=r'use "raw", or job\.table'):
        get_slurm_out(job, outtype="table")


def test_row_34_get_slurm_out_waits_or_not(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def wait_for_gate(x: int) -> int:
        while not gate.exists():
            time.sleep(0.01)
        return x

    job = slurm_map(wait_for_gate, [1, 2], backend="local", nodes=1)
    assert get_slurm_out(job, wait=False) == [None, None]
    gate.touch()
    assert get_slurm_out(job) == [1, 2]


def test_row_35_ncores_is_taken() -> None:
    assert get_slurm_out(inline(), ncores=4) == [11, 22, 33, 44]


def test_row_36_missing_result_files_shift_no_row() -> None:
    def slow(x: int) -> int:
        time.sleep(0.1)
        return x

    job = slurm_map(slow, range(6), backend="local", nodes=1, cpus_per_node=2).wait()
    first, *others = sorted(job.folder.glob("run_0/outcomes_*.rec"))
    first.unlink()
    later = SlurmJob(job.folder)
    kept = later.results(errors="keep")
    lost = [row for row in range(6) if kept[row] != row]
    assert 0 < len(lost) < 6 if others else len(lost) == 6
    table = later.table(errors="keep")
    assert table["row_status"].tolist() == ["unfinished" if r in lost else "ok" for r in range(6)]
    with pytest.raises(RowsFailedError, match=r"job\.retry\("):
        later.results()
    assert later.retry().results() == list(range(6))


def test_row_37_cancel_slurm_ends_the_job_and_keeps_its_files() -> None:
    job = slurm_map(lambda _: time.sleep(60), range(4), backend="local")
    cancel_slurm(job)
    assert job.wait(timeout=20).status().state == "cancelled"
    assert job.status().counts == {"cancelled": 4}
    assert job.folder.exists()


def test_row_38_cleanup_files_waits_and_deletes_the_folder() -> None:
    job = slurm_map(time.sleep, [0.5], backend="local", job_name="cleaned")
    cleanup_files(job)
    assert list(Path().iterdir()) == []
    with pytest.raises(JobNotFoundError, match="no job 'cleaned'"):
        slurm_job("cleaned")


def test_row_39_local_slurm_array_runs_a_prepared_job_here() -> None:
    jobs = [
        slurm_apply(add, TABLE, submit=False),
        slurm_map(abs, [-1], submit=False),
        slurm_call(add, {"x": 1}, submit=False),
    ]
    assert all(local_slurm_array(job) is job for job in jobs)
    assert [get_slurm_out(job) for job in jobs] == [[11, 22, 33, 44], [1], 1]
    again = slurm_map(abs, [-2], submit=False)
    assert get_slurm_out(local_slurm_array(again, python=sys.executable)) == [2]


# What the code and the docs promise


def test_row_40_the_folder_holds_all_of_the_job() -> None:
    job = inline(job_name="test_apply")
    assert job.folder == Path.cwd() / "_slurmapply_test_apply"
    assert {path.name for path in job.folder.iterdir()} == {
        "job.json", "function.pkl", "data.bin", "rows.bin", "rows.json", "rows.frame",
        "worker.pyz", "submit.sh", "run_0",
    }  # fmt: skip
    assert job.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(slurmapply.JobExistsError):
        inline(job_name="test_apply")


def test_row_41_a_folder_can_be_moved_run_and_moved_back(tmp_path: Path) -> None:
    job = slurm_apply(add, TABLE, job_name="moving", submit=False)
    assert str(job.folder) not in (job.folder / "submit.sh").read_text()
    there = shutil.move(job.folder, tmp_path / "head_node")
    subprocess.run(["bash", "submit.sh"], cwd=there, check=True, env=without_slurm())
    shutil.move(there, "_slurmapply_moving")
    assert get_slurm_out(slurm_job("moving")) == [11, 22, 33, 44]


def without_slurm(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 10, 100])
def test_row_42_rows_are_cut_as_in_rslurm(rows: int) -> None:
    nodes, cpus = 4, 2
    job = slurm_map(abs, range(rows), nodes=nodes, cpus_per_node=cpus, submit=False)
    chunk = cpus if rows < cpus * nodes else math.ceil(rows / nodes)
    assert job.nodes == math.ceil(rows / chunk)
    text = (job.folder / "submit.sh").read_text()
    assert f"#SBATCH --array=0-{job.nodes - 1}\n" in text


def test_row_43_each_task_runs_its_own_rows() -> None:
    job = slurm_map(
        lambda x: (x, os.environ["SLURM_ARRAY_TASK_ID"]), range(9), nodes=3, cpus_per_node=1,
        schedule="static", submit=False,
    )  # fmt: skip
    for task in (2, 0, 1):
        task_of_slurm = without_slurm(SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID=str(task))
        subprocess.run(["bash", "submit.sh"], cwd=job.folder, check=True, env=task_of_slurm)
        assert len(list(job.folder.glob(f"run_0/outcomes_{task}_*.rec"))) == 1
    assert job.results() == [(x, str(x // 3)) for x in range(9)]


def test_row_44_an_error_interrupts_nothing_else() -> None:
    kept = slurm_map(lambda x: 1 // x, range(3), backend="inline", schedule="static")
    assert kept.results(errors="keep")[1:] == [1, 0]
    assert kept.errors()["row_number"].tolist() == [0]


def test_row_45_functions_are_serialised() -> None:
    for f in (math.sqrt, lambda x: x**0.5, compiled("lambda x: x ** 0.5")):
        assert slurm_map(f, [4.0], backend="inline").results() == [2.0]


def compiled(source: str) -> Callable[..., Any]:
    function: Callable[..., Any] = eval(compile(source, "<compiled>", "eval"))  # noqa: S307
    return function


@pytest.mark.parametrize(
    "params", [{"x": [1], "y": [2]}, {"x": [3, 1, 2]}, {"x": [1]}], ids=["row", "column", "1x1"]
)
def test_row_46_small_tables_work_and_order_is_kept(params: dict[str, list[int]]) -> None:
    expected = pd.DataFrame(params).sum(axis=1).tolist()
    assert inline(add, pd.DataFrame(params)).results() == expected
    assert slurm_map(abs, [params["x"][0]], backend="inline").results() == [params["x"][0]]


def test_row_47_templates_have_named_fields() -> None:
    ours = default_template()
    for field in ("directives", "script", "setup", "threads", "python", "version", "command"):
        assert "{{" + field + "}}" in ours
    Path("mine.sh").write_text(ours.replace("{{directives}}", "{{directives}}\n#SBATCH --qos=x"))
    assert "\n#SBATCH --qos=x\n" in script(template="mine.sh")
    Path("bad.sh").write_text("{{command}} {{cpus}}")
    with pytest.raises(InvalidArgumentError, match=r"unknown field {{cpus}}\. Known are"):
        script(template="bad.sh")


def test_row_48_a_second_job_can_depend_on_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, "echo 'sbatch: lua: welcome' >&2; echo 4711")
    first = slurm_apply(add, TABLE, backend="slurm")
    assert first.job_id == "4711"
    text = script(slurm_options={"dependency": f"afterany:{first.job_id}"})
    assert "#SBATCH --dependency=afterany:4711\n" in text
    second = slurm_apply(add, TABLE, after=first, submit=False)
    assert "#SBATCH --dependency=afterany:4711\n" in (second.folder / "submit.sh").read_text()


def test_row_49_waiting_submits_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_slurm(tmp_path / "bin", monkeypatch)
    job = slurm_map(abs, [1], backend="slurm", nodes=1)
    task = without_slurm(SLURM_ARRAY_JOB_ID="4711", SLURM_ARRAY_TASK_ID="0")
    subprocess.run(["bash", "submit.sh"], cwd=job.folder, check=True, env=task)
    assert job.wait(timeout=5).results() == [1]
    assert log.read_text().count("/sbatch ") == 1


def test_row_50_slurm_clusters_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_slurm(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("SLURM_CLUSTERS", "east")
    job = slurm_map(abs, [1], backend="slurm")
    assert "\nSLURM_CLUSTERS=east\n" in log.read_text()
    assert json.loads((job.folder / "run_0/submission").read_text())["cluster"] == "east"


def test_row_51_each_task_has_a_console() -> None:
    assert "#SBATCH --output=run_0/slurm_%a.out\n" in script()
    job = slurm_call(lambda: print("out", file=sys.stderr), backend="local").wait()
    assert (job.folder / "run_0/slurm_0.out").exists()
    assert job.logs(task=0) == "out\n"


def test_row_52_what_sbatch_says_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch)
    job = slurm_map(abs, [1], backend="slurm")
    assert f"{job.name}: 1 row, 1 at a time (1 node x 2 processes), Slurm job 4711 on east" in (
        capsys.readouterr().out
    )
    (tmp_path / "bin/sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Invalid qos' >&2;exit 1")
    with pytest.raises(SubmissionError, match="sbatch: error: Invalid qos"):
        slurm_map(abs, [1], backend="slurm")


def test_row_53_the_docs_have_a_page_for_people_from_rslurm() -> None:
    pages = {path.name: path.read_text() for path in (REPOSITORY / "docs").rglob("*.md")}
    (page,) = (text for name, text in pages.items() if "rslurm" in name)
    names = "slurm_apply slurm_map slurm_call slurm_job get_job_status print_job_status"
    names += " get_slurm_out cancel_slurm cleanup_files local_slurm_array"
    arguments = "jobname nodes cpus_per_node processes_per_node preschedule_cores"
    arguments += " job_array_task_limit global_objects add_objects pkgs libPaths rscript_path"
    arguments += " r_template sh_template slurm_options submit jobid outtype wait ncores"
    for name in (*names.split(), *arguments.split()):
        assert name in page, f"the page does not say what {name} is here"
    everything = "\n".join([*pages.values(), (REPOSITORY / "README.md").read_text()])
    for topic in (
        "slurm_call(",
        "slurm_map(",
        "slurm_options=",
        "submit=False",
        "default_template()",
    ):
        assert topic in everything, f"no page shows {topic}"


def test_every_row_has_its_test() -> None:
    names = " ".join(name for name in globals() if name.startswith("test_row_"))
    assert [int(number) for number in re.findall(r"test_row_(\d\d)_", names)] == list(range(1, 54))
