"""The task's memory as the kernel counts it: limit, peak, and how often it killed for it.

Control groups of both versions are read, and none is needed (cgroups(7); Linux's
admin-guide/cgroup-v1/memory and cgroup-v2). A kill is counted where the process lives, in version
2 at all levels above as well, and Slurm's limit stands one or two levels above. Without a group
that can be read, the machine's own count of kills is left (vmstat).
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.worker.kernel import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESS = "/proc/self/cgroup"
_MOUNT = "/sys/fs/cgroup"
_MACHINE = "/proc/vmstat"
#: Where "no limit" is a number, it is near 2**63 (version 1).
_NO_LIMIT = 1 << 60


class _Files(NamedTuple):
    """How the two versions of control groups name the same things."""

    limit: str
    peak: str
    kills: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
_VERSION_2 = _Files("memory.max", "memory.peak", "memory.events")


class TaskMemory:
    """What the kernel says of the memory of this task.

    Parameters
    ----------
    groups
        Folders of the task's control group and those above it, and which files they have; found
        out by `find` outside of tests.
    machine
        The machine's own counters.
    """

    def __init__(
        self,
        groups: list[tuple[str, _Files]] | None = None,
        machine: str | os.PathLike[str] = _MACHINE,
    ) -> None:
        self._groups = find(_PROCESS, _MOUNT) if groups is None else groups
        self._machine = machine
        self._known = self._kills()

    def take_kill(self) -> bool:
        """Whether the kernel killed something for memory that no earlier answer accounted for.

        It counts a kill before it sends the signal (mm/oom_kill.c, __oom_kill_process), so that
        who sees the death sees the count.
        """
        killed = self._kills() > self._known
        self._known += killed
        return killed

    def limit(self) -> int | None:
        """Give the task's limit in bytes, None when it has none that can be known."""
        limits = (_number(f"{folder}/{files.limit}") for folder, files in self._groups)
        known = [limit for limit in limits if limit is not None and limit < _NO_LIMIT]
        return min(known, default=None)

    def peak(self) -> int | None:
        """Give the most memory that the task has used, in bytes; None when it cannot be known."""
        for folder, files in self._groups:
            limit = _number(f"{folder}/{files.limit}")
            if limit is not None and limit == self.limit():
                return _number(f"{folder}/{files.peak}")
        return None

    def _kills(self) -> int:
        # The nearest group alone: those above it count the same kills again, or those of others.
        if not self._groups:
            return _count(self._machine) or 0
        folder, files = self._groups[0]
        return _count(f"{folder}/{files.kills}") or 0


def find(
    process: str | os.PathLike[str], mount: str | os.PathLike[str]
) -> list[tuple[str, _Files]]:
    """Give the folders of a process's memory group and of those above it, the nearest first.

    Parameters
    ----------
    process
        Its ``/proc/<pid>/cgroup``.
    mount
        Where control groups are mounted.
    """
    try:
        lines = read_text(process).splitlines()
    except OSError:
        return []
    entries = [line.split(":", 2) for line in lines]
    for _, controllers, path in entries:
        if "memory" in controllers.split(","):
            return list(_upwards(f"{mount}/memory", path, _VERSION_1))
    for number, controllers, path in entries:
        if number == "0" and not controllers:
            return list(_upwards(os.fspath(mount), path, _VERSION_2))
    return []


def _upwards(root: str, path: str, files: _Files) -> Iterator[tuple[str, _Files]]:
    """Give the group and those above it; in a container the path may be the host's, not ours."""
    folder = os.path.join(root, path.strip("/")).rstrip("/")
    while True:
        if os.path.exists(f"{folder}/{files.kills}"):
            yield folder, files
        if folder == root:
            return
        folder = os.path.dirname(folder)


def _number(path: str | os.PathLike[str]) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(read_text(path))
    return None


def _count(path: str | os.PathLike[str]) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in read_text(path).splitlines():
            word, _, number = line.partition(" ")
            if word == "oom_kill":
                return int(number)
    return None


def in_words(size: int) -> str:
    """Write a size as Slurm's users do, in units of 1024.

    Examples
    --------
    >>> in_words(150 * 2**20), in_words(4 * 2**30)
    ('150 MB', '4.0 GB')
    """
    megabytes = size / 2**20
    return f"{megabytes:.0f} MB" if megabytes < 1024 else f"{megabytes / 1024:.1f} GB"  # noqa: PLR2004  # 1024 is the unit


def is_lack_of_memory(fault: str) -> bool:
    """Whether it was for want of memory, NumPy's own kind of it too (`_ArrayMemoryError`)."""
    return fault.partition(":")[0].endswith("MemoryError")
