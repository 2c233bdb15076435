"""How long this task may run, and how long Slurm waits between its last two signals."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any

from slurmapply.worker.kernel import read_text, start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Slurm may warn up to 60 s earlier than it was asked to, 90 s at most (sbatch(1), --signal).
_EARLIEST_WARNING = 90 + 60 + 10
#: Of shorter limits nobody is warned (schedulers/options, warning_signal).
_SHORTEST_WARNED = 300
#: The controller ends a task at its limit or up to 30 s later, never much earlier.
_EARLIEST_END = 5
#: slurm.conf(5): KillWait, seconds between SIGTERM and SIGKILL.
_KILL_WAIT = 30
_CONFIGURATIONS = ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")
#: How long before Slurm's SIGKILL the last rows are ended, so that the last words are written.
_LAST_WORDS = 2.0
_LAST_MOMENT = 0.5


class TaskTime:
    """When a task must end.

    Parameters
    ----------
    limit
        Its time limit in seconds, None when it is not known.
    kill_wait
        Seconds between SIGTERM and SIGKILL, None where no SIGKILL follows.
    """

    def __init__(self, limit: float | None, kill_wait: float | None) -> None:
        self.limit = limit
        self._kill_wait = kill_wait
        self._told_at: float | None = None

    def note_end(self) -> None:
        """Note that SIGTERM came."""
        self._told_at = self._told_at or time.monotonic()

    def reason(self, signalled: str) -> str:
        """Say why the task stops that got this signal."""
        near = is_near(self.limit, process_age(), warning=signalled == "SIGUSR1")
        return "time_limit" if near else signalled

    @property
    def cause(self) -> str:
        """What ends a row that is ended with its task now."""
        return "time_limit" if is_near(self.limit, process_age(), warning=False) else "stopped"

    @property
    def must_end_rows(self) -> bool:
        """Whether the last rows have no more time."""
        return self._since_told() > max(1.0, (self._kill_wait or 0.0) - _LAST_WORDS)

    @property
    def is_up(self) -> bool:
        """Whether nothing can be waited for any more."""
        return self._since_told() > max(2.0, (self._kill_wait or 0.0) - _LAST_MOMENT)

    def _since_told(self) -> float:
        if self._told_at is None or self._kill_wait is None:
            return 0.0
        return time.monotonic() - self._told_at


def limit_of(asked: Mapping[str, Any], environment: Mapping[str, str]) -> float | None:
    """Give the task's time limit in seconds, None when it cannot be known.

    Parameters
    ----------
    asked
        The run's ``run.json``.
    environment
        Where newer Slurms say when the task will end; 22.05 does not.
    """
    seconds = asked.get("time_seconds")
    if seconds is not None:
        return float(seconds)
    with contextlib.suppress(KeyError, ValueError):
        start, end = environment["SLURM_JOB_START_TIME"], environment["SLURM_JOB_END_TIME"]
        return float(end) - float(start)
    return None


def is_near(limit: float | None, age: float, *, warning: bool) -> bool:
    """Whether a signal at this age of the task is about its time limit.

    Parameters
    ----------
    limit, age
        Seconds.
    warning
        It is the warning signal, not SIGTERM.
    """
    if limit is None:
        return False
    early = _EARLIEST_WARNING if warning and limit > _SHORTEST_WARNED else _EARLIEST_END
    return age >= limit - early


def process_age() -> float:
    """Give how long this process has been there, in seconds: since the batch script began.

    The script's last line replaces the shell by this program, so it is the same process.
    """
    uptime = float(read_text("/proc/uptime").split()[0])
    return uptime - start_time() / os.sysconf("SC_CLK_TCK")


def kill_wait(environment: Mapping[str, str]) -> float:
    """Give how long after SIGTERM Slurm sends SIGKILL, from its configuration on this node."""
    for path in (environment.get("SLURM_CONF"), *_CONFIGURATIONS):
        with contextlib.suppress(OSError, TypeError):
            text = read_text(path or "")
            found = re.search(r"(?mi)^\s*KillWait\s*=\s*(\d+)", text)
            # slurmctld waits at least five seconds (_rpc_terminate_job in slurmd/req.c).
            return max(5.0, float(found[1])) if found else _KILL_WAIT
    return _KILL_WAIT
