"""Limits of scale: section H of the catalogue."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from slurmapply import SlurmJob, SubmissionError, slurm_apply, slurm_map
from slurmapply.errors import SchedulerError
from slurmapply.outcome import CHECKSUM, HEADER, KIND_PICKLE, FrameBuilder, Measures
from slurmapply.schedulers.base import Submission
from slurmapply.schedulers.slurm import SlurmScheduler
from tests.faults.provocations import ONE, again, outcomes_of
from tests.simulated_disk import Scenario, simulate
from tests.test_sharing_properties import TURNS, check_end
from tests.test_slurm_commands import fakes  # noqa: F401  # it is a fixture

if TYPE_CHECKING:
    from tests.slurm_cluster import Cluster
    from tests.test_slurm_commands import Fakes


def files_of(job: SlurmJob) -> list[Path]:
    return [path for path in job.folder.rglob("*") if path.is_file()]


# What grows and what does not


@pytest.mark.parametrize("chunksize", [None, 20])
def test_H_01_many_quick_rows_make_few_files(chunksize: int | None) -> None:
    # A million rows differ by nothing but the time that a test may take.
    rows = 100_000 if chunksize is None else 1000
    began = time.monotonic()
    job = slurm_map(lambda x: x + 0.5, range(rows), job_name="many", backend="local",
                    chunksize=chunksize).wait()  # fmt: skip
    assert job.status().counts == {"ok": rows}
    assert len(files_of(job)) < 100
    assert time.monotonic() - began < rows * 0.001 + 5
    assert sum(job.results()) == rows * (rows - 1) / 2 + rows / 2
    assert sum(path.stat().st_size for path in job.folder.glob("run_0/*.rec")) < rows * 60 + 100_000


def test_H_02_a_retry_of_scattered_rows_has_a_short_array(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def odd(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    job = slurm_map(odd, range(10_000), job_name="scattered", backend="inline")
    assert job.status().counts == {"ok": 5000, "error": 5000}
    programs = tmp_path / "bin"
    programs.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text(f"#!/bin/bash\nprintf '%s\\n' \"$@\" >'{tmp_path}/argv'\necho 12\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    run = json.loads((job.folder / "run_0/run.json").read_text())
    (job.folder / "run_0/run.json").write_text(json.dumps(run | {"backend": "slurm"}))
    again(job).retry(range(1, 10_000, 2), nodes=500)
    argv = (tmp_path / "argv").read_text().splitlines()
    (array,) = [word for word in argv if word.startswith("--array=")]
    assert array == "--array=0-499"
    assert sum(map(len, argv)) < 2000
    assert (job.folder / "run_1/submit.sh").stat().st_size < 4096
    asked = json.loads((job.folder / "run_1/run.json").read_text())
    assert sum(stop - start for start, stop in asked["rule"]) == 5000


def test_H_02_slurm_runs_thousands_of_scattered_rows_again(slurm_cluster: Cluster) -> None:
    def odd(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    job = slurm_map(odd, range(6000), job_name="scattered").wait()
    assert job.status().counts == {"ok": 3000, "error": 3000}
    assert job.retry(f=lambda x: -x).results() == [x if x % 2 == 0 else -x for x in range(6000)]


def test_H_03_the_script_is_of_one_size_whatever_the_job() -> None:
    table = np.zeros(500_000)
    small = slurm_map(abs, [1], job_name="small", submit=False, nodes=9)
    large = slurm_apply(
        lambda x, text, table: (x, text, table), {"x": ["y" * 1000] * 20_000}, job_name="large",
        more_args={"text": "z" * 5_000_000, "table": table}, submit=False, nodes=9,
    )  # fmt: skip
    sizes = [(job.folder / "submit.sh").stat().st_size for job in (small, large)]
    assert sizes[0] == sizes[1] - len("0-8") + len("0-0")
    assert max(sizes) < 4096


def test_H_04_a_variable_that_is_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGE_LIST", "x" * 200_000)
    with pytest.raises(SchedulerError, match=r"HUGE_LIST has 200000 characters.*unset it"):
        slurm_map(abs, [-1], job_name="e2big", backend="local", **ONE)
    monkeypatch.delenv("HUGE_LIST")
    job = SlurmJob.open("e2big")
    assert job.submit().results() == [1]


def test_H_04_data_of_any_size_is_in_no_argument_and_no_variable() -> None:
    text = "x" * 500_000
    job = slurm_map(lambda x, more: len(x) + len(more), [text], more_args={"more": text},
                    job_name="data", backend="local")  # fmt: skip
    assert job.results() == [1_000_000]


def test_H_05_large_parameters_are_stored_once_and_mapped() -> None:
    tables = [np.arange(250_000.0) for _ in range(40)]  # equal, and each an object of its own
    job = slurm_map(lambda block: float(block[-1]), tables, job_name="once",
                    backend="local", **ONE)  # fmt: skip
    size = sum(path.stat().st_size for path in files_of(job) if path.name != "worker.pyz")
    assert size < 1.1 * tables[0].nbytes
    assert job.results() == [249_999.0] * 40


def test_H_05_a_worker_does_not_copy_what_it_only_reads() -> None:
    table = np.ones(12_000_000)

    def used(_: int, table: Any) -> int:
        float(table.sum())
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) // 1024

    job = slurm_map(used, range(3), more_args={"table": table}, job_name="mapped",
                    backend="local", **ONE)  # fmt: skip
    assert max(job.results()) < 70  # MiB, of which the table would be 92


def frame_with_a_large_value(job: SlurmJob, size: int) -> bytes:
    """Give the beginning of a frame whose one value has a size that no test could write."""
    uuid = bytes.fromhex(json.loads((job.folder / "job.json").read_text())["uuid"])
    frame = FrameBuilder(uuid)
    frame.add(0, 1, KIND_PICKLE, b"", Measures())
    whole = frame.take()
    head = list(HEADER.unpack_from(whole))
    start = HEADER.size + CHECKSUM.size
    table = whole[start : start + head[5] + head[6]]
    place = head[5] - 8  # the column `slot` is the last one
    table = table[:place] + size.to_bytes(8, "little") + table[place + 8 :]
    head[7], head[8] = size, zlib.crc32(table)
    header = HEADER.pack(*head)
    return header + CHECKSUM.pack(zlib.crc32(header)) + table


def test_H_06_a_frame_of_more_than_four_gigabytes_is_stepped_over_and_not_read() -> None:
    job = slurm_map(abs, [-1, -2], job_name="giant", backend="inline")
    path = outcomes_of(job)
    uuid = bytes.fromhex(json.loads((job.folder / "job.json").read_text())["uuid"])
    after = FrameBuilder(uuid)
    after.add(1, 1, KIND_PICKLE, pickle.dumps("behind it"), Measures())
    size = 5 * 2**30
    with path.open("wb") as file:
        file.write(frame_with_a_large_value(job, size))
        file.seek(size, os.SEEK_CUR)  # a hole, which costs no disk
        file.write(after.take())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    job = again(job)
    assert job.status().counts == {"ok": 2}
    assert job.result(1) == "behind it"
    assert job._follower.outcomes.frames[0].columns["slot"][0] == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000


def test_H_07_tasks_that_all_start_at_once_take_different_chunks() -> None:
    # Each takes a turn of one system call, so that all of them are at the same step all the time.
    scenario = Scenario(rows=60, tasks=12, order=bytes(range(8)) * 200)
    simulation = simulate(scenario)
    check_end(simulation)
    rows = [row for _, row, _ in simulation.evaluations]
    assert sorted(rows) == list(range(60))
    links = [name for name in simulation.system.files if name.startswith("run_0/claims/")]
    assert len(links) < 100
    assert not simulation.empty_claims
    assert simulate(Scenario(rows=60, tasks=12, order=TURNS)).survey().outcomes.settled_in(0) == 60


def test_H_08_a_hundred_thousand_tasks_in_the_queue_are_read_quickly(
    fakes: Fakes,  # noqa: F811
) -> None:
    lines = fakes.folder / "lines"
    lines.write_text("".join(f"7|{n}|PENDING||N/A|name|Resources\n" for n in range(100_000)))
    fakes.add("squeue", f"cat '{lines}'")
    submission = Submission("slurm", "7", {"cluster": None, "tasks": 100_000, "options": {}})
    began = time.process_time()
    answer = SlurmScheduler().states([submission])
    assert time.process_time() - began < 5
    assert answer.known
    assert len(answer.tasks) == 100_000
    (call,) = fakes.calls("squeue")
    assert "--jobs=7" in call  # our own job only, never the whole queue


def test_H_09_one_question_is_enough_for_many_submissions(
    fakes: Fakes,  # noqa: F811
) -> None:
    several = [
        Submission("slurm", str(number), {"cluster": None, "tasks": 500, "options": {}})
        for number in range(100, 140)
    ]
    SlurmScheduler().states(several)
    assert len(fakes.calls("squeue")) == 1
    assert len(fakes.calls("sacct")) <= 1
    (call,) = fakes.calls("squeue")
    (ids,) = [word for word in call if word.startswith("--jobs=")]
    assert ids.count(",") == 39  # an id for each array, and none for its tasks


def test_H_10_no_more_tasks_are_asked_for_than_there_are_rows_for(
    fakes: Fakes,  # noqa: F811
) -> None:
    fakes.add("sbatch", "echo 12")
    job = slurm_map(abs, range(10), nodes=100_000, cpus_per_node=2, job_name="few",
                    backend="slurm")  # fmt: skip
    (call,) = fakes.calls("sbatch")
    assert "--array=0-4" in call
    assert job.nodes == 5


def test_H_10_a_limit_on_the_number_of_tasks_is_explained(
    fakes: Fakes,  # noqa: F811
) -> None:
    said = (
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
    )
    fakes.add("sbatch", f"echo '{said}' >&2; exit 1")
    with pytest.raises(SubmissionError) as caught:
        slurm_map(abs, range(400), nodes=200, job_name="many", backend="slurm")
    assert "QOSMaxSubmitJobPerUserLimit" in str(caught.value)
    assert "each array task counts as one" in str(caught.value).lower()
    assert "200" in str(caught.value)
    fakes.add("sbatch", "echo 12")
    assert caught.value.job.submit(nodes=3).nodes == 3


def test_H_10_the_size_of_the_program_does_not_grow_with_the_session() -> None:
    # With a session that has loaded everything. The sources beside are read by nobody, mostly.
    job = slurm_map(abs, [1], job_name="program", submit=False)
    with zipfile.ZipFile(job.folder / "worker.pyz") as archive:
        assert archive.getinfo("modules.bin").file_size < 650_000
    assert (job.folder / "worker.pyz").stat().st_size < 1_200_000
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "worker.pyz"], cwd=job.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    for heavy in ("numpy", "pandas", "narwhals", "subprocess", "asyncio"):
        assert f" {heavy}\n" not in done.stderr
