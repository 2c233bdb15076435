"""What a job asks of the shared disk, counted: system calls on the job folder, by task.

Tasks are started without a Slurm, all at once, each under strace(1). What they ask of the job
folder is what a file server would see, before any cache: one line for each number of tasks, and
beside it what the formulas of docs/explanation/scale.md say.

    python benchmarks/scale.py --rows 1000 --tasks 1 2 4 8
    python benchmarks/scale.py --rows 1000000 --tasks 1000 --seconds 0.1
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from slurmapply import SlurmJob, slurm_map

#: Kinds of requests, and the system calls that are counted as each.
KINDS = {
    "open": ("open", "openat"),
    "list": ("getdents64",),
    "link": ("link", "linkat"),
    "remove": ("unlink", "unlinkat"),
    "sync": ("fsync",),
    "look": ("stat", "newfstatat", "statx", "lstat", "readlink"),
    "write": ("write",),
}
_CALL = re.compile(r"^\d+\s+(\w+)\(")


class Load(NamedTuple):
    """What one run of all tasks asked for.

    Attributes
    ----------
    rows, tasks, workers
        Of the job; workers of each task.
    calls
        System calls on the job folder, by kind, of all tasks together; ``create`` are those among
        ``open`` that made a file.
    claims, files, size
        Claims, files in the job folder, and their bytes.
    seconds
        From the first task's start to the last one's end.
    """

    rows: int
    tasks: int
    workers: int
    calls: Counter[str]
    claims: int
    files: int
    size: int
    seconds: float


def claims_expected(rows: int, tasks: int) -> float:
    """Give the number of claims that factoring needs: 2 T log2(N / 2T) for T tasks, at least T.

    Examples
    --------
    >>> round(claims_expected(1_000_000, 1000))
    17932
    """
    return max(float(tasks), 2 * tasks * math.log2(max(2.0, rows / (2 * tasks))))


def count(rows: int, tasks: int, workers: int, seconds: float, folder: Path) -> Load:
    """Run a job's tasks under strace and count what they ask of its folder.

    Parameters
    ----------
    rows, tasks, workers
        Of the job.
    seconds
        How long each row sleeps.
    folder
        Where the job folder and the traces are made.
    """
    job = _prepare(rows, tasks, workers, seconds, folder)
    begin = time.perf_counter()
    running = [_start(job, task, folder) for task in range(job.nodes)]
    failed = sum(process.wait() != 0 for process in running)
    elapsed = time.perf_counter() - begin
    if failed or not job.status().ok:
        raise SystemExit(f"{failed} tasks failed: {job.status()}")
    calls: Counter[str] = Counter()
    for task in range(job.nodes):
        calls += _calls_in(_trace(folder, task), str(job.folder))
    files = [path for path in job.folder.rglob("*") if path.is_file()]
    claims = len(list((job.folder / "run_0/claims").glob("*.0")))
    size = sum(path.stat().st_size for path in files)
    return Load(rows, tasks, workers, calls, claims, len(files), size, elapsed)


def _prepare(rows: int, tasks: int, workers: int, seconds: float, folder: Path) -> SlurmJob:
    with contextlib.redirect_stdout(io.StringIO()):
        return slurm_map(
            time.sleep,
            [seconds] * rows,
            nodes=tasks,
            cpus_per_node=workers,
            job_name=f"scale_{rows}_{tasks}_{workers}",
            jobs_folder=folder,
            submit=False,
        )


def _start(job: SlurmJob, task: int, folder: Path) -> subprocess.Popen[bytes]:
    asked = json.loads((job.folder / "run_0/run.json").read_text())
    uuid = json.loads((job.folder / "job.json").read_text())["uuid"]
    names = ",".join(name for kind in KINDS.values() for name in kind)
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-e", f"trace={names}"]
    program = [sys.executable, "worker.pyz", "--uuid", uuid, "--run", "0", "--tag", asked["tag"]]
    return subprocess.Popen(  # noqa: S603
        [*trace, "-e", "signal=none", "-o", _trace(folder, task), *program],
        cwd=job.folder,
        env={**os.environ, "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": str(task)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _trace(folder: Path, task: int) -> Path:
    return folder / f"trace_{task}.txt"


def _calls_in(trace: Path, folder: str) -> Counter[str]:
    """Count the calls of a trace that name the job folder or a file in it."""
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    found: Counter[str] = Counter()
    with trace.open(errors="replace") as lines:
        for line in lines:
            call = _CALL.match(line)
            # What is asked of an open descriptor is answered from the client's cache.
            if call is None or folder not in line or "AT_EMPTY_PATH" in line:
                continue
            found[kinds[call[1]]] += 1
            found["create"] += "O_CREAT" in line
    return found


def report(load: Load) -> str:
    """Write one line of the table."""
    expected = claims_expected(load.rows, load.tasks)
    per_task = {kind: load.calls[kind] / load.tasks for kind in [*KINDS, "create"]}
    cells: list[Any] = [load.rows, load.tasks, load.workers, load.claims, round(expected)]
    cells += [f"{per_task[kind]:.1f}" for kind in per_task]
    cells += [load.files, f"{load.size / 1e6:.1f}", f"{load.seconds:.0f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Count for each number of tasks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0)
    given = parser.parse_args()
    if shutil.which("strace") is None:
        raise SystemExit("strace is not here; apt-get install strace.")
    names = ["rows", "tasks", "workers", "claims", "formula"]
    names += [f"{kind} a task" for kind in [*KINDS, "create"]] + ["files", "MB", "seconds"]
    print("| " + " | ".join(names) + " |\n|" + " --: |" * len(names), flush=True)
    for rows in given.rows:
        for tasks in given.tasks:
            with tempfile.TemporaryDirectory() as name:
                load = count(rows, tasks, given.workers, given.seconds, Path(name))
            print(report(load), flush=True)


if __name__ == "__main__":
    main()
