"""What a worker spends on a row besides the function: CPU time of its loop, by kind of function.

Each kind is run by the worker's own loop, with its files and its console, in a process of its own.
The figures are microseconds of CPU a row: of the loop alone (the function called in a plain `for`
is taken off), and with the function.

    python benchmarks/worker_loop.py --rows 200000
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder, slurm_apply
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.rows import RowNumbers
from slurmapply.seeds import seed_of
from slurmapply.worker import loop
from slurmapply.worker.birth import Watch
from slurmapply.worker.console import become_console
from slurmapply.worker.page import Page
from slurmapply.worker.process import Assignment, Session, load
from slurmapply.worker.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a task hands its workers at once is worth 50 ms: so many quick rows.
GROUP = 20_000


def adds(a: int, b: int) -> int:
    """Give an int, the quickest row of all."""
    return a + b


def divides(a: int, b: int) -> float:
    """Give a float."""
    return a / (b + 1)


def is_none(a: int, b: int) -> None:  # a function of the same two columns
    """Give nothing."""


def both(a: int, b: int) -> dict[str, int]:
    """Give a dict, which must be pickled."""
    return {"sum": a + b, "difference": a - b}


def prints(a: int, b: int) -> int:
    """Print a line."""
    print("row", a)
    return b


def raises(a: int, b: int) -> int:
    """Raise."""
    raise ValueError(a - b)


def takes_milliseconds(a: int, b: int) -> int:
    """Compute for a millisecond or two."""
    end = time.perf_counter() + 0.0015
    while time.perf_counter() < end:
        pass
    return a + b


@functools.wraps(adds)
def wrapped(**columns: int) -> int:
    """Take its arguments by name only, as a decorator's function does."""
    return adds(**columns)


#: Each with the part of all rows that is enough for it.
KINDS: dict[str, tuple[Callable[..., Any], float]] = {
    "int": (adds, 1),
    "float": (divides, 1),
    "None": (is_none, 1),
    "by name": (wrapped, 1),
    "dict": (both, 0.5),
    "prints a line": (prints, 0.5),
    "raises": (raises, 0.01),
    "1.5 ms": (takes_milliseconds, 0.005),
}


def measured(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """Run one kind in this process, whose output becomes the console; gives microseconds a row."""
    function, part = KINDS[kind]
    count = max(1, int(rows * part))
    params = {"a": list(range(count)), "b": list(range(count))}
    with contextlib.redirect_stdout(io.StringIO()):
        job = slurm_apply(function, params, submit=False, jobs_folder=folder, backend="local")
    work = worker_loop(job.folder)
    begin = time.process_time()
    for start in range(0, count, GROUP):
        work.run(range(start, min(start + GROUP, count)), 1, 0)
    work.close()
    seconds = time.process_time() - begin
    bare = 0.0 if kind == "raises" else bare_seconds(function, params)
    return {"loop": (seconds - bare) / count * 1e6, "all": seconds / count * 1e6}


def worker_loop(folder: Path) -> loop.RowLoop:
    """Make this process a worker of a job, as far as its loop can tell."""
    disk = FolderDisk(folder)
    job, asked = jobfolder.read_job(disk), jobfolder.read_run(disk, 0)
    assignment = Assignment(
        disk,
        job["uuid"],
        RowNumbers.first(job["rows"]),
        jobfolder.function_files(asked),
        Life("0", 0, 0).outcomes(0, "0"),
        Session(job["session"]["folder"], (), (), seed_of(job)),
    )
    call, arguments = load(assignment)
    with disk.create(jobfolder.console_of(assignment.outcomes)) as file:
        console = become_console(file.fileno())
    page = Page()
    watch = Watch(page)
    sys.addaudithook(watch)
    clear = Traces(watch).clear
    return loop.RowLoop(assignment, call, arguments, page, console=console, clear=clear)


def bare_seconds(function: Callable[..., Any], params: dict[str, list[int]]) -> float:
    """Time the function alone."""
    rows = [{"a": a, "b": b} for a, b in zip(params["a"], params["b"], strict=True)]
    begin = time.process_time()
    for row in rows:
        function(**row)
    return time.process_time() - begin


def main() -> None:
    """Run all kinds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=3, help="the least of so many is shown")
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        answer = os.fdopen(os.dup(1), "w")
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measured(asked.only, asked.rows, Path(name))), file=answer, flush=True)
        return
    print("CPU microseconds a row    loop    with the function")
    for kind in KINDS:
        command = [sys.executable, __file__, f"--rows={asked.rows}", f"--only={kind}"]
        found = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603
            for _ in range(asked.times)
        ]
        best = min(found, key=lambda each: each["all"])
        print(f"{kind:<23} {best['loop']:7.2f} {best['all']:12.2f}", flush=True)


if __name__ == "__main__":
    main()
