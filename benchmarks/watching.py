"""What is seen from outside while a measurement runs: memory, disk, calls of Slurm's commands."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Slurm's commands that ask it something or tell it something.
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "scancel")
_SAMPLE_EVERY = 0.25
#: A look, for which the processes are stopped, is followed by so many times its length without one.
_REST = 9.0


class Watch:
    """Samples, until it is left, the memory of all of Slurm's jobs together, and a folder's size.

    Memory is the proportional set size: a page that several processes share counts once. They are
    stopped meanwhile, or a page that one begins to share after it was counted would count twice.

    Parameters
    ----------
    folder
        Whose bytes are counted.
    configuration
        Path of the cluster's slurm.conf, by which its jobs are told from others on this machine.
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        self.workers_bytes = 0
        self.disk_bytes = 0
        self._folder = folder
        self._mark = f"SLURM_CONF={configuration}\0".encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Watch:  # noqa: PYI034 - Self is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = _SAMPLE_EVERY
        while not self._ended.wait(pause):
            begin = time.monotonic()
            self.workers_bytes = max(self.workers_bytes, _bytes_at_rest([*self._processes()]))
            self.disk_bytes = max(self.disk_bytes, size_of(self._folder)[1])
            pause = max(_SAMPLE_EVERY, _REST * (time.monotonic() - begin))

    def _processes(self) -> Iterator[Path]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (process / "environ").read_bytes()
                if b"SLURM_JOB_ID=" in environment and self._mark in environment:
                    yield process


def _bytes_at_rest(processes: Sequence[Path]) -> int:
    try:
        for process in processes:
            _send(process, signal.SIGSTOP)
        return sum(pss_bytes(process) for process in processes)
    finally:
        for process in processes:
            _send(process, signal.SIGCONT)


def _send(process: Path, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(process.name), number)


def pss_bytes(process: Path) -> int:
    """Give a process's share of the memory that it uses; 0 when it has just ended."""
    with contextlib.suppress(OSError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def size_of(folder: Path) -> tuple[int, int]:
    """Count the files below a folder, and the bytes that they take on the disk."""
    files = taken = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                files += 1
                taken += path.stat().st_blocks * 512
    return files, taken


def count_commands(folder: Path) -> Path:
    """Fill a folder with programs that note when they are called and run the real ones.

    Returns
    -------
    The file that gets a line for each call: seconds since the epoch, and the command's name.
    """
    folder.mkdir()
    calls = folder / "calls"
    calls.touch()
    for name in COMMANDS:
        if real := shutil.which(name):
            script = folder / name
            script.write_text(
                "#!/bin/bash\n"
                f"printf '%s {name}\\n' \"$EPOCHREALTIME\" >> {shlex.quote(str(calls))}\n"
                f'exec {shlex.quote(real)} "$@"\n'
            )
            script.chmod(0o755)
    return calls


def calls_between(calls: Path, begin: float, end: float) -> int:
    """Count the calls in a stretch of time."""
    moments = [float(line.split()[0]) for line in calls.read_text().splitlines()]
    return sum(begin <= moment < end for moment in moments)


def began(marker: Path) -> float | None:
    """Tell when a file was made, in seconds since the epoch."""
    try:
        return os.stat(marker).st_mtime  # noqa: PTH116
    except FileNotFoundError:
        return None
