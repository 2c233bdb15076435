"""What crosses sessions, folders and machines: the job folder is everything."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    JobAliveError,
    JobExistsError,
    JobFolderError,
    JobNotFoundError,
    NotPicklableError,
    SlurmJob,
    list_jobs,
    local_slurm_array,
    slurm_apply,
    slurm_map,
)
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.slurm_cluster import Cluster

ONE: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1}
DETACHED = pytest.mark.parametrize(
    "backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)]
)


def python(program: str, folder: Path, *arguments: str) -> str:
    """Run a program in a Python session of its own, to that session's end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=folder, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gated(gate: Path) -> Callable[[int], tuple[float, int]]:
    """Give a function that ends when the gate is there: when it began and its process."""
    path = str(gate)

    def f(x: int) -> tuple[float, int]:
        began = time.time()
        with open(f"{path}.{x}", "w") as note:  # noqa: PTH123  # goes by value to the nodes
            note.write(str(os.getpid()))
        while not os.path.exists(path):  # noqa: PTH110
            time.sleep(0.01)
        return began, os.getpid()

    return f


# One session submits, another collects


SUBMIT = """
import sys
from slurmapply import slurm_apply
def area(width, height):
    print("area of", width, height)
    return width * height
job = slurm_apply(area, {"width": [1, 2, 3], "height": [4, 5, 6]}, job_name="areas",
                  backend=sys.argv[1], nodes=1, slurm_options={"begin": "now"})
"""
COLLECT = """
import json, sys
from slurmapply import SlurmJob
job = SlurmJob.open(sys.argv[1])
print(json.dumps([job.table().to_dict("list"), job.logs(row=2), job.row(0).parameters]))
"""


@DETACHED
def test_one_session_submits_and_another_collects_from_elsewhere(
    tmp_path: Path, own_folders: Path, backend: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert f"{own_folders}/_slurmapply_areas" in python(SUBMIT, own_folders, backend)
    table = {"width": [1, 2, 3], "height": [4, 5, 6], "result": [4, 10, 18]}
    expected = [table, "area of 3 6\n", {"width": 1, "height": 4}]
    for name in ("areas", f"{own_folders}/_slurmapply_areas"):
        assert json.loads(python(COLLECT, elsewhere, name)) == expected
    assert json.loads(python(COLLECT, own_folders, "_slurmapply_areas")) == expected


def test_a_local_job_outlives_its_session(tmp_path: Path, own_folders: Path) -> None:
    program = f"""
import os, time
from slurmapply import slurm_map
def wait_for_gate(x):
    while not os.path.exists({str(tmp_path / "gate")!r}):
        time.sleep(0.01)
    return x, os.getppid()
job = slurm_map(wait_for_gate, [1, 2], job_name="outlives", backend="local")
print(os.getpid())
"""
    session = int(python(program, own_folders).split()[-1])
    assert not Path(f"/proc/{session}").exists()
    job = SlurmJob.open("outlives")
    assert job.status().state in ("queued", "running")
    (tmp_path / "gate").touch()
    assert [x for x, _ in job.results()] == [1, 2]


def test_all_jobs_of_mine_are_listed(tmp_path: Path, own_folders: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, folder in (("one", "."), ("two", other)):
        slurm_map(abs, [1], job_name=name, jobs_folder=folder, backend="inline")
    (own_folders / "_slurmapply_not_a_job").mkdir()
    assert sorted(job.name for job in list_jobs()) == ["one", "two"]
    assert [job.name for job in list_jobs(other)] == ["two"]
    shutil.rmtree(tmp_path / ".home")  # the list of paths helps, and is never needed
    assert [job.name for job in list_jobs()] == ["one"]
    list_jobs()[0].cleanup()
    assert list_jobs() == []
    with pytest.raises(JobNotFoundError):
        SlurmJob.open("two")
    assert SlurmJob.open(other / "_slurmapply_two").results() == [1]


def test_a_function_of_modules_that_are_elsewhere_is_named_with_its_place(
    own_folders: Path,
) -> None:
    there = own_folders / "there"
    there.mkdir()
    (there / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    made = "from slurmapply import slurm_map; import beside; "
    python(made + "slurm_map(beside.double, [1], job_name='far', backend='inline')", there)
    job = SlurmJob.open(there / "_slurmapply_far")
    assert job.results() == [2]
    with pytest.raises(JobFolderError, match=r"No module named 'beside'") as caught:
        job.retry(rows=[0], more_args={})
    assert str(there) in str(caught.value)
    assert caught.value.path == job.folder


def test_a_job_is_pickled_as_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = slurm_map(abs, [-1], job_name="pickled", backend="inline")
    data = pickle.dumps(job)
    monkeypatch.chdir(tmp_path)
    assert len(data) < 1000
    assert pickle.loads(data).results() == [1]


def test_ctrl_c_ends_the_waiting_only(tmp_path: Path, own_folders: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [1], job_name="goes_on", backend="local")
    program = (
        "from slurmapply import SlurmJob; print('!', flush=True); SlurmJob.open('goes_on').wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=own_folders, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as session:  # fmt: skip
        assert session.stdout
        session.stdout.readline()
        time.sleep(0.5)
        session.send_signal(signal.SIGINT)
        _, said = session.communicate(timeout=20)
    assert "stopped waiting for goes_on; the job itself goes on (job.cancel() ends it)" in said
    assert job.status().state == "running"
    (tmp_path / "gate").touch()
    assert len(job.results()) == 1


def test_what_is_written_while_a_session_looks_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slurm_map(gated(tmp_path / "gate"), range(4), backend="local", nodes=1)
    read = Survey.update

    def read_slowly(survey: Survey, runs: Iterable[int]) -> int:
        new = read(survey, runs)
        (tmp_path / "gate").touch()
        records = list(job.folder.glob("run_0/task_*.jsonl"))
        wait_until(lambda: all('"end"' in path.read_text() for path in records))
        return new

    wait_until(lambda: list(tmp_path.glob("gate.*")))
    with monkeypatch.context() as patch:
        patch.setattr(Survey, "update", read_slowly)
        status = job.status()
    assert status.ok or not status.completed
    assert job.wait().status().ok


# By hand


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a Python that has no slurmapply, nor anything else that was installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return str(folder / "bin/python")


def prepared(**keywords: Any) -> SlurmJob:
    """Write a job's folder as if on a machine whose disk is not seen where it will run."""

    def where(x: int) -> tuple[int, str, str]:
        print("row", x)
        return x * x, sys.prefix, sys.modules["slurmapply"].__file__ or ""

    job = slurm_map(where, range(6), job_name="by_hand", submit=False, **keywords)
    content = json.loads((job.folder / "job.json").read_text())
    content["session"] |= {"folder": "/home/nobody/project", "sys_path": ["/home/nobody/lib"]}
    (job.folder / "job.json").write_text(json.dumps(content))
    return job


def test_a_folder_is_moved_to_a_cluster_submitted_by_hand_twice_and_moved_back(
    tmp_path: Path, bare_python: str, slurm_cluster: Cluster
) -> None:
    home = prepared(python=bare_python, nodes=2, cpus_per_node=1).folder
    there = Path(shutil.move(home, tmp_path / "head_node"))
    by_hand = ["env", "-i", *(f"{k}={v}" for k, v in slurm_cluster.environment.items())]
    by_hand += ["PATH=/usr/bin:/bin", "sbatch", "--parsable", "submit.sh"]
    ids = [subprocess.check_output(by_hand, cwd=there, text=True).strip() for _ in "12"]
    wait_until(lambda: not slurm_cluster.run(["squeue", "-h", "-j", ",".join(ids)]))
    shutil.move(there, home)
    job = SlurmJob.open("by_hand")
    assert job.job_id in ids
    (late,) = {*ids} - {job.job_id}
    prefix = str(Path(bare_python).parents[1])
    inside = f"{tmp_path}/head_node/worker.pyz/slurmapply/__init__.py"
    assert [(x, by) for x, by, _ in job.results()] == [(x * x, prefix) for x in range(6)]
    assert all(package.startswith(inside) for _, _, package in job.results())
    assert job.table(details=True)["row_attempt"].tolist() == [1] * 6
    said = "".join(job.logs().values())
    assert f"belongs to slurm job {job.job_id}; this is {late}, which ends here" in said
    assert "the session's folder /home/nobody/project is not on this machine" in said
    assert [job.logs(row=x) for x in range(6)] == [f"row {x}\n" for x in range(6)]


def test_a_folder_is_run_by_hand_without_a_slurm(bare_python: str) -> None:
    job = prepared()
    environment = {"PATH": "/usr/bin:/bin", "SLURMAPPLY_PYTHON": bare_python}
    first, second = (
        subprocess.run(
            ["bash", "submit.sh"], cwd=job.folder, env=environment, check=True, capture_output=True,
            text=True,
        )
        for _ in "12"
    )  # fmt: skip
    assert first.stdout == ""
    assert f"belongs to local job {job.job_id}" in second.stderr
    assert {prefix for _, prefix, _ in job.results()} == {str(Path(bare_python).parents[1])}
    with pytest.raises(JobAliveError, match="submitted already"):
        job.submit()


def test_a_prepared_job_is_submitted_with_other_resources(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = slurm_map(abs, range(8), job_name="changed", nodes=4, cpus_per_node=2, submit=False)
    former = (job.folder / "submit.sh").read_text()
    assert job.submit(nodes=2, mem="300M", slurm_options={"qos": "x"}, backend="local") is job
    assert job.wait().nodes == 2
    script = (job.folder / "submit.sh").read_text()
    assert "#SBATCH --array=0-1\n" in script
    assert "#SBATCH --mem=300M\n" in script
    assert "#SBATCH --qos=x\n" in script
    late = subprocess.run(
        ["bash", "-c", former], cwd=job.folder, capture_output=True, text=True, check=True
    )
    assert "is not the one that this script was written for" in late.stderr
    workers = min(4, len(os.sched_getaffinity(0)))
    assert f"changed: 8 rows, {workers} at a time, on this machine" in capsys.readouterr().out


def test_local_slurm_array_takes_another_python(bare_python: str) -> None:
    job = slurm_map(lambda x: (x, sys.prefix), [1], submit=False)
    assert local_slurm_array(job, python=bare_python).results() == [
        (1, str(Path(bare_python).parents[1]))
    ]


# Ending a job, and what is left of it


def test_a_local_job_is_cancelled_and_none_of_its_processes_stay(tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), range(6), backend="local", nodes=1)
    note = tmp_path / "gate.0"
    wait_until(lambda: note.exists() and note.read_text())
    with pytest.raises(JobAliveError, match=r"job\.cancel\(\)"):
        job.cleanup(wait=False)
    with pytest.raises(JobAliveError, match="cannot retry"):
        job.retry()
    job.cancel()
    assert job.wait(timeout=20).status().state == "cancelled"
    for path in tmp_path.glob("gate.*"):
        assert not Path(f"/proc/{path.read_text()}").exists()
    assert set(job.status().counts) == {"cancelled"}
    (record,) = job.folder.glob("run_0/task_*.jsonl")
    assert '"end"' in record.read_text()  # it was asked to end, not killed
    job.cancel()  # once more does no harm
    (tmp_path / "gate").touch()
    assert [process > 0 for _, process in job.retry().results()] == [True] * 6


def test_results_are_kept_when_the_rest_is_deleted() -> None:
    def talk(x: int) -> int:
        print(x)
        return -x

    job = slurm_apply(talk, {"x": range(5)}, job_name="kept", backend="local").wait()
    before = job.table()
    job.cleanup(keep="results")
    left = {path.name.split("_")[0] for path in job.folder.rglob("*")}
    assert left.isdisjoint({"worker.pyz", "submit.sh", "console", "slurm", "claims"})
    assert SlurmJob.open("kept").table().equals(before)
    job.cleanup()
    assert list(Path().iterdir()) == []


def test_a_name_is_opened_again_when_the_work_is_the_same() -> None:
    def make(times: int) -> Callable[[int], int]:
        return lambda x: times * x

    job = slurm_map(make(2), [1, 2], job_name="same", backend="inline")
    again = slurm_map(make(2), [1, 2], job_name="same", backend="inline", if_exists="open")
    assert (again.folder, again.job_ids) == (job.folder, job.job_ids)
    for f, items, more, differs in (
        (make(3), [1, 2], {}, "function"),
        (make(2), [1, 3], {}, "parameters"),
        (lambda x, y=0: 2 * x + y, [1, 2], {"y": 1}, "function and arguments"),
    ):
        with pytest.raises(JobExistsError, match=f"its {differs} differ"):
            slurm_map(f, items, more_args=more, job_name="same", backend="inline", if_exists="open")
    assert job.results() == [2, 4]


def test_a_name_is_taken_over_only_from_what_cannot_be_alive(tmp_path: Path) -> None:
    for _ in range(2):  # what was never submitted does not hold its name
        slurm_map(gated(tmp_path / "gate"), [1], job_name="name", submit=False)
    job = slurm_map(gated(tmp_path / "gate"), [1], job_name="name", backend="local")
    for if_exists, says in (("replace", "cannot be replaced"), ("fail", "there is a job named")):
        with pytest.raises(JobExistsError, match=says):
            slurm_map(abs, [-7], job_name="name", backend="inline", if_exists=if_exists)
    (tmp_path / "gate").touch()
    assert len(job.results()) == 1
    new = slurm_map(abs, [-7], job_name="name", backend="inline", if_exists="replace")
    assert new.folder == job.folder
    assert new.results() == [7]
    lock = threading.Lock()
    with pytest.raises(NotPicklableError):
        slurm_map(lambda x: (x, lock), [1], job_name="name", if_exists="replace")
    assert SlurmJob.open("name").results() == [7]
    assert list(Path().iterdir()) == [Path("_slurmapply_name")]


# A Slurm and its queue


def reasons(job: SlurmJob) -> list[str]:
    return [task["reason"] for task in SlurmJob(job.folder).status().queue]


@pytest.mark.slurm
def test_a_second_job_waits_for_the_first_and_says_why(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = slurm_map(gated(gate), [1], **ONE)
    second = slurm_map(lambda _: time.time(), [1], after=[first], **ONE)
    wait_until(lambda: first.status().state == "running")
    # Slurm finds the reason at its next round of scheduling only.
    wait_until(lambda: reasons(second) == ["Dependency"])
    began = time.monotonic()
    status = SlurmJob(second.folder).status()
    assert time.monotonic() - began < 5
    assert (status.state, status.counts) == ("queued", {"pending": 1})
    assert [(task["state"], task["reason"]) for task in status.queue] == [("PENDING", "Dependency")]
    assert "waits for the jobs named in after=" in str(status)
    opened = time.time()
    gate.touch()
    assert second.result() > opened
    assert first.status().completed
    # What has ended is no dependency.
    third = slurm_map(abs, [-1], after=[first, second], **ONE)
    assert "dependency" not in (third.folder / "submit.sh").read_text()
    assert third.results() == [1]


def test_a_job_is_cancelled_by_its_id_while_it_waits(slurm_cluster: Cluster) -> None:
    job = slurm_map(abs, [1, 2], slurm_options={"begin": "now+1hour"}, **ONE)
    name = json.loads((job.folder / "run_0/submission").read_text())["name"]
    namesake = slurm_cluster.run(
        ["sbatch", "--parsable", f"--job-name={name}", "--begin=now+1hour", "--wrap=true"]
    ).strip()
    # Slurm finds out within a second; a handle's first look always asks.
    wait_until(
        lambda: {task["reason"] for task in SlurmJob(job.folder).status().queue} == {"BeginTime"}
    )
    status = job.status()
    assert (status.state, status.completed, status.log) == ("queued", False, {})
    with pytest.raises(JobAliveError, match="cannot clean up"):
        SlurmJob(job.folder).cleanup(wait=False)
    job.cancel()
    assert job.wait(timeout=20).status().counts == {"cancelled": 2}
    queue = slurm_cluster.run(["squeue", "-h", "-o", "%i", "-j", f"{namesake},{job.job_id}"])
    assert queue.split() == [namesake]
    slurm_cluster.run(["scancel", namesake])
    assert job.retry(slurm_options={"begin": None}).results() == [1, 2]


@pytest.mark.slurm
def test_a_refused_job_is_submitted_by_a_later_session(own_folders: Path) -> None:
    program = """
from slurmapply import SubmissionError, slurm_map
try:
    slurm_map(abs, [-1, -2], job_name="refused", partition="nosuch", nodes=1)
except SubmissionError as error:
    print(error.job.folder)
"""
    folder = python(program, own_folders).strip()
    job = SlurmJob.open("refused")
    assert str(job.folder) == folder
    assert (job.job_id, job.status().state) == (None, "prepared")
    assert job.submit(partition="main").results() == [1, 2]


@pytest.mark.slurm
def test_slurm_is_asked_seldom_whatever_the_loop_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, log = shutil.which("squeue"), tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").write_text(f'#!/bin/sh\necho squeue >>{log}\nexec {real} "$@"\n')
    (tmp_path / "bin/squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def asked() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    job = slurm_map(gated(tmp_path / "gate"), [1], **ONE)
    deadline, looks = time.monotonic() + 6, 0
    while time.monotonic() < deadline:
        assert job.status().state in ("queued", "running")
        looks += 1
    assert looks > 50
    assert 1 <= asked() <= 4
    (tmp_path / "gate").touch()
    job.wait()
    before = asked()
    assert before <= 6
    for _ in range(3):
        assert SlurmJob(job.folder).status().state == "finished"
        assert len(repr(job)) > 0
    assert asked() == before


@DETACHED
def test_cleaning_up_right_after_the_last_row_leaves_nothing(
    own_folders: Path, backend: str
) -> None:
    for _ in range(5):
        job = slurm_map(abs, [-1], backend=backend, job_name="gone")
        assert job.results() == [1]
        job.cleanup()
        assert not list(own_folders.iterdir())


@pytest.mark.slurm
def test_tasks_that_are_not_needed_are_ended_before_the_folder_goes(
    slurm_cluster: Cluster, own_folders: Path
) -> None:
    # The second task may start only when the first, which does all rows, has ended.
    job = slurm_map(abs, [-1, -2, -3, -4], nodes=2, cpus_per_node=1, task_limit=1)
    job.wait()
    job_id = job.job_id
    job.cleanup()
    squeue = ["squeue", "-h", "-j", str(job_id), "-t", "PENDING,RUNNING,COMPLETING", "-o", "%T"]
    # A process that has ended is shown as running for a moment.
    wait_until(lambda: not slurm_cluster.run(squeue).strip(), 10)
    assert not list(own_folders.iterdir())
