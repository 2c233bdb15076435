"""The local backend: section L of the catalogue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply import SlurmJob, slurm_map
from slurmapply.schedulers import slurm
from tests.faults.provocations import ONE, again, gated, wait_until
from tests.test_task import count_calls, noted, prepare

if TYPE_CHECKING:
    import pytest

SESSION = """
import os, sys, time
from slurmapply import slurm_map
def f(x, gate=sys.argv[1]):
    import os, time
    while not os.path.exists(gate):
        time.sleep(0.01)
    return x, os.getsid(0)
slurm_map(f, [1, 2], job_name="detached")
print(os.getsid(0), flush=True)
os.kill(os.getpid(), 9)
"""


def without_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no trace of a Slurm."""
    folder.mkdir()
    for name in ("bash", "uname"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("SLURM_CONF", "SLURM_JOB_ID", "MODULEPATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(slurm, "_TRACE_PATHS", ())


def test_L_01_without_a_slurm_rows_run_here_by_the_same_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_slurm(tmp_path / "bin", monkeypatch)
    job = slurm_map(lambda x: (x, os.getpid()), range(20), job_name="here")
    results = job.results()
    assert [x for x, _ in results] == list(range(20))
    assert os.getpid() not in {pid for _, pid in results}
    names = {path.name for path in (job.folder / "run_0").iterdir()}
    assert {"claims", "rows", "submission", "run.json"} <= names
    assert any(name.startswith("task_") for name in names)


def test_L_01_it_outlives_its_session(
    tmp_path: Path, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_slurm(tmp_path / "bin", monkeypatch)
    gate = tmp_path / "gate"
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(gate)], cwd=own_folders, stdout=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    job = SlurmJob.open("detached")
    assert job.status().state in ("queued", "running")
    gate.touch()
    results = job.results()
    assert [x for x, _ in results] == [1, 2]
    assert int(done.stdout.split()[-1]) not in {session for _, session in results}


def processes_of(folder: Path) -> list[int]:
    """Give the processes of a job: those that have a file of its folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(end.readlink()) for end in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(str(folder)) for link in links) and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def test_L_02_after_a_reboot_the_rows_that_are_left_can_be_retried(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = gated(gate)
    job = slurm_map(
        lambda x: wait(x) if x > 1 else x * x, range(5), job_name="reboot", backend="local", **ONE
    )
    wait_until(lambda: job.status().counts.get("ok") == 2)
    pids = processes_of(job.folder)
    assert len(pids) == 3  # the supervisor, its clerk, its worker
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(job.folder), 10)
    job = again(job).wait(timeout=20)
    status = job.status()
    assert (status.state, status.completed, status.ok) == ("finished", True, False)
    assert status.counts == {"ok": 2, "unfinished": 3}
    assert set(job.errors()["row_cause"]) == {"killed"}
    gate.touch()
    assert job.retry().results() == [0, 1, 4, 9, 16]
    assert job.table(details=True)["row_attempt"].tolist()[:2] == [1, 1]


def test_L_02_a_supervisor_of_before_the_reboot_is_dead_whatever_has_its_number(
    tmp_path: Path,
) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [3], job_name="reboot", backend="local", **ONE)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    path = job.folder / "run_0/submission"
    before = path.read_text()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in before
    path.write_text(before.replace(boot, boot[::-1]))
    try:
        assert again(job).wait(timeout=20).status().counts == {"unfinished": 1}
    finally:
        path.write_text(before)
        (tmp_path / "gate").touch()
    assert again(job).results() == [9]


def test_L_03_two_local_runs_of_one_folder_share_no_row(own_folders: Path) -> None:
    job = prepare(noted, 30, more_args={"seconds": 0.02})
    commands = ["bash", "submit.sh"]
    runs = [
        subprocess.Popen(commands, cwd=job.folder, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [run.communicate(timeout=30)[1] for run in runs]
    assert sum("belongs to local job" in text for text in said) == 2, said
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert again(job).results() == [x * x for x in range(30)]
    assert count_calls(own_folders) == dict.fromkeys(range(30), 1)
