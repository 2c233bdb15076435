"""A session's own work at a million rows: submission, status, results, tables, and its memory.

No Slurm is needed: the job is only prepared, and its outcomes are written into the folder as four
tasks of two workers would write them. Each step is measured in a process of its own, as often as
is asked; the least time counts, since the machine may be busy otherwise.

    python benchmarks/million.py --rows 1000000 --times 3
    python benchmarks/million.py --values dict --failing 20000 --steps table snapshots
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from slurmapply import RowStatus, SlurmJob, slurm_apply
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life, read_job
from slurmapply.outcome import (
    KIND_FLOAT,
    KIND_INT,
    KIND_PICKLE,
    Failure,
    FrameBuilder,
    Measures,
)
from slurmapply.records import TaskRecord
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS, WORKERS = 4, 2
#: Rows of a frame: about as many quick ones as a worker runs in 10 ms.
FRAME = 2000
NAME = "million"


def add(a: int, b: int) -> int:
    """Add two numbers, as the rows of this benchmark do."""
    return a + b


VALUES: dict[str, Callable[[int], Any]] = {
    "int": lambda row: 3 * row,
    "float": lambda row: row / 7,
    "dict": lambda row: {"rmse": row / 7, "sd": row / 70},
}


def parameters(rows: int) -> Any:
    """Give the table of parameters."""
    numbers = np.arange(rows)
    return pd.DataFrame({"a": numbers, "b": 2 * numbers})


# -- the job folder, as workers leave it ------------------------------------------------------


def make_job(folder: Path, rows: int, values: str, failing: int) -> None:
    """Prepare a job and write the outcomes of its rows; so many of them fail, evenly spread."""
    with contextlib.redirect_stdout(io.StringIO()):
        job = slurm_apply(
            add, parameters(rows), nodes=TASKS, cpus_per_node=WORKERS, jobs_folder=folder,
            job_name=NAME, backend="local", submit=False, max_failures=None,
        )  # fmt: skip
    _write_run(job, 0, range(rows), values, rows // failing if failing else 0)


def add_retry(folder: Path, done: float) -> None:
    """Add a run of all rows that are not ok, so many of which have ended."""
    job = _job(folder)
    disk = FolderDisk(job.folder)
    survey = Survey(disk, read_job(disk)["uuid"], len(job))
    survey.update([0])
    bad = survey.outcomes.not_ok()
    asked = json.loads((job.folder / "run_0/run.json").read_bytes())
    asked |= {"run": 1, "rule": "left"}
    disk.make_folder("run_1")
    disk.write("run_1/run.json", json.dumps(asked).encode())
    ranges = [[row, row + 1] for row in bad]
    disk.write("run_1/rows", json.dumps({"ranges": ranges}).encode())
    _write_run(job, 1, bad[: int(done * len(bad))], "int", 0, ended=done == 1)


def _write_run(
    job: Any, run: int, rows: Any, values: str, each: int, *, ended: bool = True
) -> None:
    disk = FolderDisk(job.folder)
    uuid = bytes.fromhex(read_job(disk)["uuid"])
    submission = {"kind": "local", "job_id": f"bench{run}", "host": "elsewhere"}
    disk.write(f"run_{run}/submission", json.dumps(submission).encode())
    record = TaskRecord(disk, run, Life(f"bench{run}", 0, 0))
    record.start(TASKS * WORKERS)
    files = {}
    for worker in range(TASKS * WORKERS):
        name = f"outcomes_0_0_{worker}_{worker:08x}.rec"
        with disk.create(f"run_{run}/{name}") as file:
            for first in range(worker * FRAME, len(rows), TASKS * WORKERS * FRAME):
                file.write(_frame(uuid, rows[first : first + FRAME], run, values, each))
            files[name] = file.tell()
    if ended:
        record.finish("done", files)


def _frame(uuid: bytes, rows: Any, run: int, values: str, each: int) -> bytes:
    kind = {"int": KIND_INT, "float": KIND_FLOAT, "dict": KIND_PICKLE}[values]
    failure = Failure("ValueError", "no", "Traceback (most recent call last):\n  ...", "f.py:3")
    builder = FrameBuilder(uuid)
    for row in rows:
        measures = Measures(1.7e9 + row * 2e-6, 1e-6 + row * 1e-13, 1e-6)
        if each and row % each == 0:
            builder.add_failure(row, run + 1, RowStatus.ERROR, failure, measures)
            continue
        value = VALUES[values](row)
        stored = pickle.dumps(value, 5) if kind == KIND_PICKLE else value
        builder.add(row, run + 1, kind, stored, measures)
    return builder.take()


# -- the steps, each in a process of its own --------------------------------------------------


@contextlib.contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds that something took, and the processor's."""
    begin, used = time.perf_counter(), time.process_time()
    yield
    found[name] = time.perf_counter() - begin
    found[f"{name}, processor"] = time.process_time() - used


def memory() -> float:
    """Give the most memory of this process so far, in bytes."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _job(folder: Path) -> SlurmJob:
    return SlurmJob(folder / f"_slurmapply_{NAME}")


def _check(found: int, rows: int) -> None:
    if found != rows:
        raise SystemExit(f"{found} rows instead of {rows}")


def submission(folder: Path, rows: int) -> dict[str, float]:
    """Write a job folder (what sbatch takes is not ours)."""
    params = parameters(rows)
    found: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        slurm_apply(add, parameters(8), jobs_folder=folder, backend="local", submit=False)
        with timed(found, "submission"):
            slurm_apply(add, params, jobs_folder=folder, backend="local", submit=False)
    return found


def status(folder: Path, rows: int) -> dict[str, float]:
    """Look for the first time, and again; then as after the first, to print."""
    job = _job(folder)
    found: dict[str, float] = {}
    with timed(found, "first look"):
        counts = job.status().counts
    with timed(found, "status"):
        job.status()
    with timed(found, "status printed"):
        str(job.status())
    _check(sum(counts.values()), rows)
    return found


def results(folder: Path, rows: int) -> dict[str, float]:
    """Read all results after a look."""
    job = _job(folder)
    job.status()
    found: dict[str, float] = {}
    with timed(found, "results"):
        values = job.results(errors="keep")
    _check(len(values), rows)
    return found


def table(folder: Path, rows: int) -> dict[str, float]:
    """Make a table after a look."""
    job = _job(folder)
    job.status()
    found: dict[str, float] = {}
    failing = not job.status().ok
    with timed(found, "table"):
        made = job.table(errors="keep") if failing else job.table()
    with timed(found, "table again"):
        job.table(errors="keep") if failing else job.table()
    with timed(found, "table, details"):
        job.table(errors="keep", details=True)
    _check(len(made), rows)
    return found


def snapshots(folder: Path, rows: int) -> dict[str, float]:
    """Take two snapshots with nothing new between them."""
    job = _job(folder)
    found: dict[str, float] = {}
    with timed(found, "first snapshot"):
        job.results(wait=False, errors="keep")
    with timed(found, "next snapshot"):
        values = job.results(wait=False, errors="keep")
    _check(len(values), rows)
    return found


def peak(folder: Path, rows: int) -> dict[str, float]:
    """Measure the memory of a session that prepares a job, and then makes the table of one."""
    with contextlib.redirect_stdout(io.StringIO()):
        warm = slurm_apply(add, parameters(8), jobs_folder=folder, backend="inline")
        warm.table()
        params = parameters(rows)
        before = 1024.0 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
        slurm_apply(add, params, jobs_folder=folder, backend="local", submit=False)
        submitted = memory()
        job = _job(folder)
        made = job.wait().table()
    _check(len(made), rows)
    return {
        "bytes per row, submission": (submitted - before) / rows,
        "bytes per row, with the table": (memory() - before) / rows,
    }


STEPS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    step.__name__: step for step in (submission, status, results, table, snapshots, peak)
}


def measured(step: str, folder: Path, rows: int, times: int) -> dict[str, float]:
    """Run a step in processes of its own; gives the least of each figure."""
    command = [sys.executable, __file__, "--run", step, "--rows", str(rows), "--folder"]
    runs = []
    for _ in range(times):
        done = subprocess.run([*command, str(folder)], stdout=subprocess.PIPE, check=True)  # noqa: S603
        runs.append(json.loads(done.stdout))
    return {name: min(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Make the job, run the steps, print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--values", choices=VALUES, default="int")
    parser.add_argument("--failing", type=int, default=0, help="rows that fail")
    parser.add_argument("--retried", type=float, help="share of them that a retry has run")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["XDG_STATE_HOME"] = os.environ["XDG_DATA_HOME"] = str(given.folder or "/nowhere")
    if given.run:
        print(json.dumps(STEPS[given.run](given.folder, given.rows)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        make_job(Path(name), given.rows, given.values, given.failing)
        if given.retried is not None:
            add_retry(Path(name), given.retried)
        for step in given.steps:
            for what, figure in measured(step, Path(name), given.rows, given.times).items():
                print(f"{what:32}{figure:12.3f}")


if __name__ == "__main__":
    main()
