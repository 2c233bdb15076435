"""Processes of a cluster: told by a mark in their environment, found in ``/proc``."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "SLURMAPPLY_CLUSTER_DAEMON_OF"
PROC = Path("/proc")


def start_ticks(pid: int) -> str | None:
    """Give a process's start time, which tells it from a later one with its number."""
    fields = _stat(pid)
    return fields[19] if fields else None


def is_running(pid: int | None) -> bool:
    """Tell whether a process lives; one that waits only to be reaped does not."""
    if pid is None:
        return False
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def _stat(pid: int) -> list[str]:
    """Give ``/proc/PID/stat`` after the name: state, parent, ... (man 5 proc)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def of_cluster(folder: Path) -> list[int]:
    """Give the living processes of a cluster: its daemons and all that descends from them.

    What a job runs carries no mark, but descends from slurmstepd.
    """
    entry = f"{MARK}={folder}".encode()
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for pid in _all_pids():
        if is_running(pid):
            children.setdefault(int(_parent(pid)), []).append(pid)
            if entry in _environment(pid) or _is_step(pid, folder):
                found.append(pid)
    for pid in found:  # grows while it is walked
        found.extend(child for child in children.get(pid, []) if child not in found)
    return found


def _is_step(pid: int, folder: Path) -> bool:
    """Tell whether it is a slurmstepd of the cluster: its title overwrites its environment."""
    if not name_of(pid).startswith("slurmstepd"):
        return False
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cwd").readlink().is_relative_to(folder)
    return False


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> str:
    fields = _stat(pid)
    return fields[1] if fields else "0"


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another account's
        return []


def name_of(pid: int) -> str:
    """Give a process's command line, or its short name."""
    try:
        line = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")
        return line.decode(errors="replace").strip() or f"process {pid}"
    except OSError:
        return f"process {pid}"


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_cluster(folder: Path, *, spare: int | None = None, timeout_seconds: float = 5.0) -> None:
    """Kill all that is left of a cluster, again and again until nothing is.

    A daemon may start a child between the look and the kill: hence the loop.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        left = [pid for pid in of_cluster(folder) if pid != spare]
        if not left:
            return
        send(left, signal.SIGKILL)
        time.sleep(0.02)
