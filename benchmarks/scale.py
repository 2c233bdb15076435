"""What a job asks of the shared disk, counted, beside what docs/explanation/scale.md says of it.

Tasks are started without a Slurm, all at once, each under strace(1). What they ask of the job
folder is what a file server would see, before any cache::

    python benchmarks/scale.py --rows 1000 --tasks 1 2 4 8

A machine has no room for a thousand tasks with their workers. So with ``--simulate`` only their
claims are real: the package's own code on a real folder, in one process, each task's clock its own.
Tasks start within a minute, and rows take random times::

    python benchmarks/scale.py --simulate --rows 1000000 --tasks 10 100 1000
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply import SlurmJob, slurm_map
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.rows import RowNumbers
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claims
from slurmapply.worker.run import Run, plan_run

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Kinds of requests, and the system calls that are counted as each.
KINDS = {
    "open": ("open", "openat"),
    "list": ("getdents64",),
    "link": ("link", "linkat"),
    "remove": ("unlink", "unlinkat"),
    "sync": ("fsync",),
    "look": ("stat", "newfstatat", "statx", "lstat", "readlink"),
}
#: The working folder, which is the job's at first, before a path that is not in it.
_AWAY = re.compile(r'AT_FDCWD<[^>]*>(?=, "/)')
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
        for traced in lines:
            line = _AWAY.sub("", traced)
            call = _CALL.match(line)
            # What is asked of an open descriptor is answered from the client's cache.
            if call is None or folder not in line or '>, ""' in line:
                continue
            found[kinds[call[1]]] += 1
            found["create"] += "O_CREAT" in line
    return found


class CountingDisk(FolderDisk):
    """A real folder that counts what is asked of it, and how many names its listings gave."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: Counter[str] = Counter()

    def read(self, name: str) -> bytes | None:
        """Count a reading."""
        self.asked["read"] += 1
        return super().read(name)

    def names(self, folder: str) -> list[str]:
        """Count a listing, and what it lists."""
        found = super().names(folder)
        self.asked["list"] += 1
        self.asked["names"] += len(found)
        return found

    def link(self, source: str, name: str) -> bool:
        """Count a link, and one that another task had made already."""
        won = super().link(source, name)
        self.asked["link"] += 1
        self.asked["lost"] += not won
        return won


def simulate(rows: int, tasks: int, workers: int, folder: Path) -> Counter[str]:
    """Let many tasks share out rows, their claims real and their work a random time.

    Parameters
    ----------
    rows, tasks, workers
        Of the job; workers of each task.
    folder
        Where claims are made.

    Returns
    -------
    Counter
        Readings, listings, names in them, links and lost ones; claims; rows that were claimed.
    """
    chance = random.Random(1)  # noqa: S311  # no secret
    disk = CountingDisk(folder)
    for name in ("run_0", "run_0/claims"):
        disk.make_folder(name)
    asked = dict.fromkeys(("retries", "row_timeout", "max_failures", "chunksize"))
    asked |= {"tasks": tasks, "processes_per_node": workers, "cpus_per_node": workers}
    run = plan_run(0, "00" * 16, RowNumbers.first(rows), asked | {"schedule": "dynamic"})
    looks = [(60 * chance.random(), task) for task in range(tasks)]
    heapq.heapify(looks)
    claims: dict[int, Claims] = {}
    while looks:
        now, task = heapq.heappop(looks)
        if task not in claims:
            claims[task] = Claims(disk, run, Life("1", task, 0), Survey(disk, run.uuid, rows))
        claim = claims[task].take()
        if claim is not None:
            heapq.heappush(looks, (now + _work(claim.positions, run, chance), task))
            disk.asked["claims"] += 1
            disk.asked["rows"] += sum(map(len, claim.positions))
    return disk.asked


def _work(positions: Iterable[range], run: Run, chance: random.Random) -> float:
    """Give how long a task is busy with a chunk: rows of 10 s, each some longer or shorter."""
    count = sum(map(len, positions))
    return 10 * count / run.processes * chance.lognormvariate(0, 1 / math.sqrt(count))


def report_simulated(rows: int, tasks: int, asked: Counter[str]) -> str:
    """Write one line of the table."""
    if asked["rows"] != rows:
        raise SystemExit(f"{asked['rows']} rows were claimed, of {rows}")
    cells: list[Any] = [
        rows,
        tasks,
        asked["claims"],
        round(claims_expected(rows, tasks)),
        asked["lost"],
    ]
    cells += [f"{asked[kind] / tasks:.1f}" for kind in ("link", "read", "list", "names")]
    return "| " + " | ".join(map(str, cells)) + " |"


def report(load: Load) -> str:
    """Write one line of the table."""
    expected = claims_expected(load.rows, load.tasks)
    per_task = {kind: load.calls[kind] / load.tasks for kind in [*KINDS, "create"]}
    cells: list[Any] = [load.rows, load.tasks, load.workers, load.claims, round(expected)]
    cells += [f"{per_task[kind]:.1f}" for kind in per_task]
    cells += [load.files, f"{load.size / 1e6:.1f}", f"{load.seconds:.0f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def print_head(names: list[str]) -> None:
    """Begin a table."""
    print("| " + " | ".join(names) + " |\n|" + " --: |" * len(names), flush=True)


def main() -> None:
    """Count for each number of tasks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--simulate", action="store_true", help="only claims, of many tasks")
    given = parser.parse_args()
    if given.simulate:
        names = ["rows", "tasks", "claims", "formula", "lost"]
        print_head([*names, *(f"{kind} a task" for kind in ("link", "read", "list", "names"))])
        for rows in given.rows:
            for tasks in given.tasks:
                with tempfile.TemporaryDirectory() as name:
                    asked = simulate(rows, tasks, given.workers, Path(name))
                print(report_simulated(rows, tasks, asked), flush=True)
        return
    if shutil.which("strace") is None:
        raise SystemExit("strace is not here; apt-get install strace.")
    names = ["rows", "tasks", "workers", "claims", "formula"]
    names += [f"{kind} a task" for kind in [*KINDS, "create"]] + ["files", "MB", "seconds"]
    print_head(names)
    for rows in given.rows:
        for tasks in given.tasks:
            with tempfile.TemporaryDirectory() as name:
                load = count(rows, tasks, given.workers, given.seconds, Path(name))
            print(report(load), flush=True)


if __name__ == "__main__":
    main()
