"""Sessions that are cut short while they submit: killed, interrupted, left without an answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    InvalidArgumentError,
    JobAliveError,
    JobExistsError,
    SlurmApplyError,
    SlurmJob,
    SubmissionError,
    SubmissionUnknownError,
    slurm_map,
)
from slurmapply.disk import FolderDisk
from slurmapply.intents import read_intents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slurm_cluster import Cluster

ITEMS = [-1, -2, -3]
BOTH = pytest.mark.parametrize("backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
DOWN = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2;exit 1"

# What a session runs, until it is cut short at a step.
SESSION = """
import os, sys, threading
from slurmapply import SlurmJob, preparing, slurm_map, submitting
from slurmapply.schedulers.local import LocalScheduler
from slurmapply.schedulers.slurm import SlurmScheduler
step, how, backend = sys.argv[1:]
def cut(*arguments, **keywords):
    if how == "killed":
        os._exit(9)
    raise KeyboardInterrupt
def cut_before(owner, name):
    setattr(owner, name, cut)
def cut_after(owner, name):
    whole = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: (whole(*a, **k), cut()))
scheduler = {"slurm": SlurmScheduler, "local": LocalScheduler}[backend]
if step == "before the folder":
    cut_before(preparing.os, "rename")
elif step == "before the intent":
    cut_before(SlurmJob, "submit")
elif step == "before sbatch":
    cut_before(scheduler, "submit")
elif step == "after sbatch":
    cut_after(scheduler, "submit")
elif step == "after the submission":
    cut_after(submitting, "_write_down")
elif step == "while announcing":
    cut_before(SlurmJob, "_announce")
try:
    slurm_map(abs, [-1, -2, -3], job_name="cut", backend=backend, nodes=2, cpus_per_node=1)
except KeyboardInterrupt:
    # The session itself lives on, as in a notebook, and would be asked for nothing.
    sys.exit(9)
"""
STEPS = [
    "before the folder",
    "before the intent",
    "before sbatch",
    "after sbatch",
    "after the submission",
    "while announcing",
]


def session(step: str, how: str, backend: str) -> subprocess.CompletedProcess[str]:
    """Run a session of its own that is cut short at a step."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SESSION, step, how, backend],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def slurm_jobs(name: str) -> set[str]:
    """Give the ids of all jobs that were ever submitted for a job of ours."""
    lines = subprocess.run(
        ["squeue", "-h", "--states=all", "-o", "%F %j"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    pairs = (line.split() for line in lines)
    return {job_id for job_id, found in pairs if re.fullmatch(rf"{name}_[0-9a-f]{{6}}", found)}


def go_on(backend: str, **keywords: Any) -> SlurmJob:
    """Do what a person does in a new session: look, and submit what is not submitted."""
    try:
        job = SlurmJob.open("cut")
    except SlurmApplyError:
        return slurm_map(abs, ITEMS, job_name="cut", backend=backend, nodes=2, cpus_per_node=1)
    if job.status().state == "prepared":
        job.submit(**keywords)
    return job


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _names_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget the Slurm jobs of the test before: they bear the same names."""
    yield
    if request.node.get_closest_marker("slurm"):
        subprocess.run(["scancel", "--me"], check=False)


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


# Cut short at each step


@BOTH
@pytest.mark.parametrize("how", ["killed", "interrupted"])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_step_a_session_is_cut_short_at_there_is_one_submission(
    step: str, how: str, backend: str
) -> None:
    before = slurm_jobs("cut") if backend == "slurm" else set()
    done = session(step, how, backend)
    assert done.returncode == 9, done.stderr
    job = go_on(backend)
    assert job.results() == [1, 2, 3]
    assert job.status().state == "finished"
    if backend == "slurm":
        assert slurm_jobs("cut") - before == {job.job_id}
    assert len(job.job_ids) == 1
    assert {view.life.submission for view in job._follower.run.lives} == {job.job_id}
