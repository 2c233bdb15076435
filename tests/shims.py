"""Slurm's commands made to misbehave: programs before the real ones on PATH, as a pytest plugin."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply.schedulers.slurm import SlurmScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

DOWN = (
    "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
)
TIMED_OUT = "echo 'error: Socket timed out on send/recv operation' >&2; exit 1"
REAL = 'exec "$real" "$@"'


class Shims:
    """Commands before the real ones on PATH; each call is counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, body: str) -> None:
        """Put a command there; ``$real`` in its body is the real one."""
        path = os.environ["PATH"].split(":")
        real = shutil.which(name, path=":".join(p for p in path if p != str(self.folder)))
        file = self.folder / name
        file.write_text(f'#!/bin/bash\nreal={real}\necho >>"$0.calls"\n{body}\n')
        file.chmod(0o755)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def calls(self, name: str) -> int:
        log = self.folder / f"{name}.calls"
        return log.stat().st_size if log.exists() else 0


@pytest.fixture
def shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shims:
    made = Shims(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this session wait a short time only for Slurm's answers."""

    def scheduler() -> SlurmScheduler:
        return SlurmScheduler(timeout=2.0, submit_timeout=4.0, pauses=(0.0, 0.2))

    monkeypatch.setattr("slurmapply.backends.SlurmScheduler", scheduler)


def slurm_jobs(name: str) -> set[str]:
    """Give the ids of all jobs that this test ever submitted for a job of ours."""
    asked = ["squeue", "-h", "--states=all", "-o", "%F|%j|%Z"]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    found = (line.split("|", 2) for line in lines)
    # Other tests submit jobs of the same name, from other folders.
    return {
        job_id
        for job_id, named, folder in found
        if re.fullmatch(rf"{name}_[0-9a-f]{{6}}", named) and Path.cwd() in Path(folder).parents
    }


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gated(gate: Path) -> Callable[[int], int]:
    """Give a function that notes its begin beside the gate and ends when the gate is there."""
    path = str(gate)

    def wait_for_gate(x: int) -> int:
        with open(f"{path}.{x}", "a") as note:  # noqa: PTH123  # goes by value to the nodes
            note.write("x")
        while not os.path.exists(path):  # noqa: PTH110
            time.sleep(0.01)
        return x * x

    return wait_for_gate
