"""GPUs: asked of Slurm, dealt out to the workers of a task, and what is said about it."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from slurmapply import SlurmJob, SubmissionError, current_row, slurm_call, slurm_map
from slurmapply.announcing import announcement
from slurmapply.preparing import RunPlan
from slurmapply.resources import check_resources
from slurmapply.worker.gpus import visible_gpus

ALL = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL")


# -- the rule ----------------------------------------------------------------------------------


def slurm(**environ: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": "7", "HOME": "/"} | environ


def test_each_variable_is_dealt_out_by_its_entries() -> None:
    environ = slurm(CUDA_VISIBLE_DEVICES="GPU-a,GPU-b", ZE_AFFINITY_MASK="2,5")
    assert [visible_gpus(worker, 2, environ) for worker in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a", "ZE_AFFINITY_MASK": "2"},
        {"CUDA_VISIBLE_DEVICES": "GPU-b", "ZE_AFFINITY_MASK": "5"},
        {"CUDA_VISIBLE_DEVICES": "GPU-a", "ZE_AFFINITY_MASK": "2"},
    ]


@pytest.mark.parametrize(
    ("gpus", "environ"),
    [
        (None, slurm(CUDA_VISIBLE_DEVICES="0,1")),
        (2, slurm()),
        (2, slurm(CUDA_VISIBLE_DEVICES="")),
        (2, slurm(CUDA_VISIBLE_DEVICES="0")),
        (2, slurm(CUDA_VISIBLE_DEVICES="0,1,2")),
        (2, slurm(CUDA_VISIBLE_DEVICES="NoDevFiles")),
        (2, slurm(CUDA_VISIBLE_DEVICES="1,0", SLURMAPPLY_GPUS=" CUDA_VISIBLE_DEVICES=0,1")),
        (2, slurm(SLURMAPPLY_GPUS=" CUDA_VISIBLE_DEVICES=0,1")),
        (
            2,
            slurm(
                CUDA_VISIBLE_DEVICES="0,1",
                ROCR_VISIBLE_DEVICES="1",
                SLURMAPPLY_GPUS=" CUDA_VISIBLE_DEVICES=0,1 ROCR_VISIBLE_DEVICES=0,1",
            ),
        ),
        (2, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURMAPPLY_GPUS": " CUDA_VISIBLE_DEVICES="}),
    ],
    ids=str,
)
def test_what_was_not_asked_for_or_is_somebody_elses_is_left_alone(
    gpus: int | None, environ: dict[str, str]
) -> None:
    assert visible_gpus(1, gpus, environ) == {}


def test_without_a_slurm_they_are_counted_from_0_unless_the_user_named_them() -> None:
    before = {"SLURMAPPLY_GPUS": " CUDA_VISIBLE_DEVICES= ROCR_VISIBLE_DEVICES="}
    assert visible_gpus(3, 2, before) == {"CUDA_VISIBLE_DEVICES": "1"}
    named = {"CUDA_VISIBLE_DEVICES": "4,6", "SLURMAPPLY_GPUS": " CUDA_VISIBLE_DEVICES=4,6"}
    assert visible_gpus(3, 2, named) == {"CUDA_VISIBLE_DEVICES": "6"}
    assert visible_gpus(3, 3, named) == {}


def test_on_amd_the_later_variables_count_what_the_first_leaves() -> None:
    environ = slurm(**dict.fromkeys(ALL, "0,1"))
    assert visible_gpus(1, 2, environ, amd=True) == {
        "ROCR_VISIBLE_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "GPU_DEVICE_ORDINAL": "0",
        "ZE_AFFINITY_MASK": "1",
    }
    lone = slurm(CUDA_VISIBLE_DEVICES="0,1")
    assert visible_gpus(1, 2, lone, amd=True) == {"CUDA_VISIBLE_DEVICES": "1"}


# -- on nodes ----------------------------------------------------------------------------------


def seen(item: int, together: int = 1) -> tuple[int, dict[str, str]]:
    """Give what this worker sees, once all workers have a row."""
    folder = current_row().folder.parent
    (folder / f"here_{item}").touch()
    while len(list(folder.glob("here_*"))) < together:
        time.sleep(0.01)
    return os.getpid(), {name: os.environ[name] for name in ALL if name in os.environ}


def each_worker_saw(job: SlurmJob) -> list[str]:
    found = job.results()
    assert len({pid for pid, _ in found}) == len(found)
    for _, variables in found:
        assert len(set(variables.values())) == 1, variables
    return sorted(variables["CUDA_VISIBLE_DEVICES"] for _, variables in found)


def on_slurm(workers: int, **how: Any) -> SlurmJob:
    plain: dict[str, Any] = {
        "nodes": 1,
        "processes_per_node": workers,
        "cpus_per_node": 2,
        "backend": "slurm",
    }
    return slurm_map(seen, range(workers), more_args={"together": workers}, **(plain | how))


@pytest.mark.slurm
def test_each_worker_sees_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert each_worker_saw(on_slurm(2, gpus_per_node=2)) == ["0", "1"]
    assert "GPU" not in capsys.readouterr().out


@pytest.mark.slurm
def test_workers_share_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert each_worker_saw(on_slurm(4, gpus_per_node=2)) == ["0", "0", "1", "1"]
    assert "; 2 processes share each GPU\n" in capsys.readouterr().out


@pytest.mark.slurm
def test_a_lone_worker_sees_all() -> None:
    job = slurm_call(seen, {"item": 0}, gpus_per_node=2, backend="slurm")
    assert job.result()[1]["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.slurm
def test_what_the_setup_lines_say_counts() -> None:
    job = on_slurm(2, gpus_per_node=2, setup="export CUDA_VISIBLE_DEVICES=1,0")
    variables = [variables for _, variables in job.results()]
    assert {found["CUDA_VISIBLE_DEVICES"] for found in variables} == {"1,0"}
    assert {found["ROCR_VISIBLE_DEVICES"] for found in variables} == {"0,1"}


@pytest.mark.slurm
def test_gpus_that_were_asked_for_in_another_way_are_left_alone() -> None:
    job = on_slurm(2, slurm_options={"gpus_per_node": 2})
    assert each_worker_saw(job) == ["0,1", "0,1"]


@pytest.mark.slurm
def test_more_than_a_node_has_are_refused_in_words() -> None:
    with pytest.raises(SubmissionError, match="GPUs") as caught:
        on_slurm(2, gpus_per_node=3)
    assert "ask for less with cpus_per_node=, gpus_per_node=" in str(caught.value)
    job = caught.value.job.submit(gpus_per_node=2)
    assert each_worker_saw(job) == ["0", "1"]
    with pytest.raises(SubmissionError):
        on_slurm(2, gpus_per_node="k80:1")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one worker only")
@pytest.mark.parametrize(("named", "expected"), [("", ["0", "1"]), ("5,3", ["3", "5"])])
def test_on_this_machine(monkeypatch: pytest.MonkeyPatch, named: str, expected: list[str]) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    workers: dict[str, Any] = {"processes_per_node": 2, "gpus_per_node": 2, "backend": "local"}
    job = slurm_map(seen, [0, 1], more_args={"together": 2}, nodes=1, **workers)
    assert each_worker_saw(job) == expected


def test_this_process_keeps_what_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    job = slurm_map(seen, [0], gpus_per_node=2, processes_per_node=2, backend="inline")
    assert job.result()[1]["CUDA_VISIBLE_DEVICES"] == "0,1"


# -- what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "processes", "said"),
    [
        (None, 4, ""),
        (2, 2, ""),
        (4, 1, ""),
        (2, 4, "; 2 processes share each GPU"),
        (2, 3, "; up to 2 processes share each GPU"),
        (1, 8, "; 8 processes share the GPU"),
        ("a100:2", 6, "; 3 processes share each GPU"),
        (4, 3, "; 1 of 4 GPUs stays idle, with 3 processes"),
        (4, 2, "; 2 of 4 GPUs stay idle, with 2 processes"),
    ],
)
def test_sharing_is_said(tmp_path: Any, gpus: Any, processes: int, said: str) -> None:
    resources = check_resources({"gpus_per_node": gpus, "processes_per_node": processes})
    plan = RunPlan(0, "all", 100, resources, "slurm")
    line = announcement("job", tmp_path, plan, "Slurm job 1").splitlines()[0]
    assert line.endswith(f"Slurm job 1{said}")
