"""A worker as its supervisor sees it: how it is forked, what it holds, how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from slurmapply import jobfolder
from slurmapply.worker.page import NO_ROW, Page
from slurmapply.worker.process import Assignment, become_worker, work

if TYPE_CHECKING:
    from collections.abc import Iterable

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Worker:
    """One worker.

    Attributes
    ----------
    number, pid, page
        Of the worker; shared with it.
    outcomes
        Name of its outcomes file.
    groups, reports
        Descriptors: where it takes groups from, where its reports come from.
    ready
        It has loaded the function.
    group, attempt, since
        What it works on, and since when.
    named
        The position that was last named as long running.
    """

    number: int
    page: Page
    outcomes: str
    pid: int
    groups: int
    reports: int
    ready: bool = False
    group: range = field(default_factory=lambda: range(0))
    attempt: int = 1
    since: float = 0.0
    named: int = NO_ROW

    @property
    def idle(self) -> bool:
        """Whether it waits for a group."""
        return self.ready and not self.group

    @property
    def unwritten(self) -> range:
        """Positions that it has begun and whose outcomes are not written yet."""
        position = self.page.row[0]
        if position not in self.group:
            return range(0)
        return range(max(self.group.start, self.page.written), position + 1)

    def kill_group(self) -> None:
        """End what the user's code left running."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def fork_worker(number: int, assignment: Assignment, others: Iterable[Worker]) -> Worker:
    """Fork a worker.

    Parameters
    ----------
    number, assignment
        Of the worker; what it works for.
    others
        Workers whose ends of pipes the fork must not keep open: a pipe ends only when its last
        writer has closed it, forked copies included.
    """
    child_reads, groups = os.pipe()
    reports, child_writes = os.pipe()
    page = Page()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        foreign = [end for other in others for end in (other.groups, other.reports)]
        _be_worker(
            parent, assignment, page, (child_reads, child_writes), [*foreign, groups, reports]
        )
    os.close(child_reads)
    os.close(child_writes)
    return Worker(number, page, assignment.outcomes, pid, groups, reports)


def _be_worker(
    parent: int,
    assignment: Assignment,
    page: Page,
    ends: tuple[int, int],
    foreign: Iterable[int],
) -> NoReturn:
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)
        for descriptor in foreign:
            os.close(descriptor)
        become_worker(jobfolder.console_of(assignment.outcomes), assignment.disk)
        status = work(assignment, page, *ends)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def death(status: int) -> tuple[str, str]:
    """Say how a process ended: cause and sentence."""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return name, f"the process died of {name} (signal {os.WTERMSIG(status)})"
    code = os.WEXITSTATUS(status)
    return f"exit_{code}", f"the process ended itself with exit status {code}, without an answer"
