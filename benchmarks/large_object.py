"""A large array that every call reads, captured by the function as any other global.

One `slurm_map` of 64 calls on four nodes of four workers. Each call touches every page of the
array. Printed are the seconds from submission to results, the bytes of the job folder, and the
memory of all workers together: the sum of their proportional set sizes (PSS, in which a page that
k processes share counts 1/k for each), the largest of many looks. Looking costs the workers time,
so seconds are taken in runs of their own. Needs a Slurm: ``make cluster`` gives one.

    python benchmarks/large_object.py --megabytes 500 --times 3
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slurmapply import slurm_map

if TYPE_CHECKING:
    from slurmapply import SlurmJob

CALLS, NODES, WORKERS = 64, 4, 4
_LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Figures:
    """What one run took; sizes in bytes, `pss` None where nobody looked."""

    seconds: float
    on_disk: int
    pss: int | None = None


class Watch:
    """Looks, in a thread, at the memory of all workers of a job; keeps the largest sum."""

    def __init__(self, job: SlurmJob) -> None:
        self.peak = 0
        self._uuid = json.loads((job.folder / "job.json").read_bytes())["uuid"].encode()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Stop looking; gives the largest sum."""
        self._end.set()
        self._thread.join()
        return self.peak

    def _look(self) -> None:
        while not self._end.wait(_LOOK_EVERY):
            self.peak = max(self.peak, self._sum())

    def _sum(self) -> int:
        """Add up; they stand still meanwhile, or what one shares later would count twice."""
        workers = self._workers()
        for pid in workers:
            _send(pid, signal.SIGSTOP)
        try:
            return sum(map(proportional_size, workers))
        finally:
            for pid in workers:
                _send(pid, signal.SIGCONT)

    def _workers(self) -> list[int]:
        """Find the workers: processes of the job's program that lead a group of their own."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if self._is_worker(pid)]

    def _is_worker(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            above = Path(f"/proc/{parent}/cmdline").read_bytes()
        except OSError:
            return False
        return self._uuid in command and above == command and os.getpgid(pid) == pid


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def proportional_size(pid: int) -> int:
    """Give a process's proportional set size in bytes, 0 once it is gone (proc(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def run(folder: Path, name: str, megabytes: int, *, watched: bool) -> Figures:
    """Run the calls once; gives what that took."""
    table = np.arange(megabytes * 1_000_000 // 8, dtype="f8")

    def part(row: int) -> float:
        return float(table[row::512].sum())

    expected = [part(row) for row in range(CALLS)]
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        job = slurm_map(
            part, range(CALLS), job_name=name, jobs_folder=folder,
            nodes=NODES, cpus_per_node=WORKERS,
            slurm_options={"exclusive": True},  # else Slurm would put two tasks on one node
        )  # fmt: skip
    watch = Watch(job) if watched else None
    results = job.results()
    seconds = time.perf_counter() - begin
    if results != expected:
        raise SystemExit("a wrong result")
    figures = Figures(seconds, bytes_of(job), watch.end() if watch else None)
    job.wait().cleanup()
    return figures


def bytes_of(job: SlurmJob) -> int:
    """Add up what the job folder takes on the disk, holes not counted."""
    files = (path for path in job.folder.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def main() -> None:
    """Run it several times and print the best and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    size = asked.megabytes * 1_000_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        timed = [
            run(folder, f"timed_{n}", asked.megabytes, watched=False) for n in range(asked.times)
        ]
        looked_at = run(folder, "watched", asked.megabytes, watched=True)
    seconds = ", ".join(f"{figures.seconds:.2f}" for figures in timed)
    print(f"{CALLS} calls that read {asked.megabytes} MB, {NODES} nodes x {WORKERS} workers")
    print(f"seconds from submission to results: {seconds}")
    print(f"bytes in the job folder: {timed[-1].on_disk / size:.3f} x the array")
    print(f"memory of all workers (PSS): {(looked_at.pss or 0) / size:.2f} x the array")


if __name__ == "__main__":
    main()
