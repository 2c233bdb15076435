"""The session's own machine: the same submit script and worker, started once and detached.

Nothing here limits memory or time. A submission is alive while its process is: host, boot and
the process's start time name it for good, a pid alone would not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply.schedulers.base import Answer, Phase, Submission, TaskState
from slurmapply.schedulers.command import (
    boot_id,
    process_start_time,
    processes_with_variable,
    start_detached,
    user_environment,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurmapply.schedulers.base import Request

_ID = "SLURMAPPLY_SUBMISSION"
_NAME = "SLURMAPPLY_NAME"
#: How long a cancelled supervisor has to end its workers and write its last record.
_GRACE_SECONDS = 5.0


class LocalScheduler:
    """Runs all tasks of a run in one supervisor on this machine."""

    def submit(self, request: Request) -> Submission:
        """Start the run's script in the background."""
        job_id = f"local-{secrets.token_hex(4)}"
        pid = start_detached(
            ["bash", request.script],
            cwd=request.folder,
            output=request.folder / request.console,
            environment=user_environment() | {_ID: job_id, _NAME: request.slurm_name},
        )
        return _submission(job_id, pid)

    def recover(self, request: Request) -> Submission | None:
        """Find the process of a submission that was cut short, by what it was started with.

        Its task writes the submission down itself when it starts; before that, the script may be
        busy with its setup lines for minutes.
        """
        for pid, environment in processes_with_variable(_NAME, request.slurm_name):
            return _submission(environment[_ID], pid)
        return None

    def states(self, submissions: Sequence[Submission]) -> Answer:
        """Look whether the processes are there."""
        here = socket.gethostname()
        elsewhere = {str(s.details["host"]) for s in submissions if s.details["host"] != here}
        if elsewhere:
            hosts = ", ".join(sorted(elsewhere))
            return Answer(known=False, error=f"it was started on {hosts}; look at it from there")
        return Answer(
            known=True,
            tasks=tuple(
                TaskState(s.job_id, 0, Phase.RUNNING, "RUNNING", host=here)
                for s in submissions
                if _alive(s)
            ),
        )

    def cancel(self, submission: Submission) -> None:
        """Ask the supervisor to end, and end it if it does not."""
        pid = int(submission.details["pid"])
        deadline = time.monotonic() + _GRACE_SECONDS
        with contextlib.suppress(ProcessLookupError):
            if _alive(submission):
                os.kill(pid, signal.SIGTERM)
            while _alive(submission) and time.monotonic() < deadline:
                time.sleep(0.02)
            if _alive(submission):
                os.kill(pid, signal.SIGKILL)

    def describe(self, submission: Submission) -> str:
        """Say where it runs, and what is not enforced there."""
        return f"on this machine (process {submission.details['pid']}; mem and time not enforced)"


def _submission(job_id: str, pid: int) -> Submission:
    details = {
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "pid": pid,
        "start_time": process_start_time(pid),
    }
    return Submission("local", job_id, details)


def _alive(submission: Submission) -> bool:
    details = submission.details
    if details["boot_id"] != boot_id() or details["start_time"] is None:
        return False
    return process_start_time(int(details["pid"])) == int(details["start_time"])


_OF_ONE_MACHINE = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "ramfs",
}  # fmt: skip
#: What an NFS server of this machine gives to others (exports(5)); the first is what it does now.
_EXPORTS = ("/var/lib/nfs/etab", "/etc/exports")


def is_here(path: Path) -> bool:
    """Whether a path is on a file system of this machine, as far as /proc/mounts tells."""
    return file_system(path) in _OF_ONE_MACHINE


def unshared_file_system(path: Path) -> str:
    """Name the kind of a file system that no other machine sees, empty for one that they may."""
    return file_system(path) if is_here(path) and not _is_exported(path) else ""


def _is_exported(path: Path) -> bool:
    # A small cluster's login node often is its file server.
    lines: list[str] = []
    for file in _EXPORTS:
        with contextlib.suppress(OSError):
            lines += Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    roots = (Path(line.split()[0].strip('"')) for line in lines if line.startswith(("/", '"/')))
    return any(root == path or root in path.parents for root in roots)


def file_system(path: Path) -> str:
    """Name the kind of the file system that a path is on, empty where that cannot be known."""
    best, kind = "", ""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, point, found, *_ = line.split()
        point = point.replace("\\040", " ")
        inside = point == "/" or path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
