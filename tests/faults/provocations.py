"""How faults are brought about: small disks, tampered files, processes that meet at a barrier."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ONE: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1}


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs, whose size or number of files is small; a test without it is skipped."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"A SMALL DISK CANNOT BE MOUNTED HERE: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: a process that still runs there does not keep the test's folder.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remounted(place: Path, options: str) -> None:
    """Change the options of a mount."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def fill(place: Path) -> None:
    """Fill a disk to its last byte."""
    with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def use_up_files(place: Path) -> None:
    """Make files until the disk takes no more of them."""
    with contextlib.suppress(OSError):
        for number in range(1_000_000):
            (place / f"filler{number}").touch()


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until it holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def gated(gate: Path) -> Callable[[int], int]:
    """Give a function that notes its begin beside the gate and ends when the gate is there."""
    path = str(gate)

    def wait_for_gate(x: int) -> int:
        with open(f"{path}.{x}", "a") as note:  # noqa: PTH123  # goes by value to the nodes
            note.write("x")
        # A test that failed opens no gate; then its folder goes, in the end.
        folder = os.path.dirname(path)  # noqa: PTH120
        while not os.path.exists(path) and os.path.exists(folder):  # noqa: PTH110
            time.sleep(0.01)
        return x * x

    return wait_for_gate


def again(job: SlurmJob) -> SlurmJob:
    """Open a job as a new session would."""
    return SlurmJob(job.folder)


def outcomes_of(job: SlurmJob) -> Path:
    """Give the one outcomes file of a job."""
    (found,) = job.folder.glob("run_0/outcomes_*.rec")
    return found


def at_once(program: str, arguments: Sequence[Sequence[str]], folder: Path) -> list[str]:
    """Run a program several times, all from the same moment on; give what each printed.

    The program says `meet()` where the others are to be waited for.
    """
    meet = (
        "import sys, pathlib, time\n"
        "def meet():\n"
        "    pathlib.Path(sys.argv[1], f'ready.{sys.argv[2]}').touch()\n"
        "    while len(list(pathlib.Path(sys.argv[1]).glob('ready.*'))) < int(sys.argv[3]): pass\n"
    )
    place = folder / f"barrier{time.monotonic_ns()}"
    place.mkdir()
    sessions = [
        subprocess.Popen(
            [sys.executable, "-c", meet + program, str(place), str(number), str(len(arguments)),
             *own],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number, own in enumerate(arguments)
    ]  # fmt: skip
    said = [session.communicate(timeout=60)[0] for session in sessions]
    assert [session.returncode for session in sessions] == [0] * len(sessions), said
    return said
