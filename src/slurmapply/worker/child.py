"""Processes of a task as the supervisor sees them: how they are forked, what a worker holds."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.worker.birth import become_worker, die_with
from slurmapply.worker.clerk import Clerk
from slurmapply.worker.history import NEW
from slurmapply.worker.messages import GROUP
from slurmapply.worker.page import Page
from slurmapply.worker.pool import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slurmapply.worker.clerk import Desk
    from slurmapply.worker.process import Assignment

_NOTHING = Group(range(0), NEW)
#: What a pipe holds (pipe(7)); more is dropped.
_LONGEST_TRACE = 1 << 16


class Worker:
    """One worker.

    Attributes
    ----------
    number, pid, page
        Of the worker; shared with it.
    outcomes
        Name of its first outcomes file.
    groups, reports, trace
        Descriptors: where it takes groups from, where its reports come from, and where it says
        where it is.
    ready
        It has loaded the function.
    group, since
        What it works on, and since when.
    named
        When the row began that was last named as long running.
    late
        When the row began that is being ended because it took too long.
    pardon
        When a row began, and the seconds that do not count against it.
    whereabouts
        Where a row was that was ended because it took too long.
    """

    def __init__(
        self,
        number: int,
        page: Page,
        outcomes: str,
        pid: int,
        *,
        groups: int,
        reports: int,
        trace: int,
    ) -> None:
        self.number = number
        self.page = page
        self.outcomes = outcomes
        self.pid = pid
        self.groups = groups
        self.reports = reports
        self.trace = trace
        self.ends: tuple[int, ...] = (groups, reports, trace)
        self.ready = False
        self.group = _NOTHING
        self.since = 0.0
        self.named = 0.0
        self.late = 0.0
        self.pardon = (0.0, 0.0)
        self.whereabouts = ""

    @property
    def idle(self) -> bool:
        """Whether it waits for a group."""
        return self.ready and not self.group.positions

    @property
    def busy(self) -> bool:
        """Whether it has a group."""
        return bool(self.group.positions)

    @property
    def unwritten(self) -> range:
        """Positions that it has begun and whose outcomes are not written yet."""
        position = self.page.row.position
        positions = self.group.positions
        if position not in positions:
            return range(0)
        return range(max(positions.start, self.page.written), position + 1)

    def hand(self, group: Group, retries: int, now: float) -> None:
        """Give it a group, and how often each failed row of it may be tried again."""
        self.group, self.since = group, now
        tries = max(0, retries - group.past.failures)
        positions = group.positions
        # It may be killed before it begins, and what it says of its last group tells nothing of
        # this one, whose rows may come before.
        self.page.written = positions.start
        message = GROUP.pack(positions.start, positions.stop, group.past.attempts + 1, tries)
        # A worker that died this moment is buried at the next look around.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.groups, message)

    def attempt_at(self, position: int) -> int:
        """Say which attempt of a position of its group this is."""
        row = self.page.row
        return row.attempt if row.position == position else self.group.past.attempts + 1

    def dismiss(self) -> None:
        """Let it close its files and end."""
        os.close(self.groups)
        self.ends = self.reports, self.trace

    def drop_group(self) -> None:
        """Note that it has no group any more."""
        self.group = _NOTHING

    def close(self) -> None:
        """Take what it wrote when it was asked where it is, and close our ends of its pipes."""
        with contextlib.suppress(BlockingIOError):
            self.whereabouts = os.read(self.trace, _LONGEST_TRACE).decode("utf-8", "replace")
        _close(*self.ends)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end_group(self) -> None:
        """End what the user's code left running in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def fork_worker(number: int, assignment: Assignment, foreign: Iterable[int]) -> Worker:
    """Fork a worker.

    Parameters
    ----------
    number, assignment
        Of the worker; what it works for.
    foreign
        Ends of pipes that the fork must not keep open: a pipe ends only when its last writer has
        closed it, forked copies included.

    Raises
    ------
    OSError
        There may be no more processes or open files.
    """
    page = Page()
    trace, traces = os.pipe()
    for end in (trace, traces):
        os.set_blocking(end, False)

    def run(takes: int, gives: int) -> int:
        name = jobfolder.console_of(assignment.outcomes)
        own = become_worker(name, assignment.disk, page, traces)
        from slurmapply.worker.process import work  # noqa: PLC0415  # loaded by `prepare`

        return work(assignment, page, own, takes, gives)

    try:
        pid, groups, reports = _fork(run, [*foreign, trace])
    except OSError:
        os.close(trace)
        raise
    finally:
        os.close(traces)
    return Worker(
        number, page, assignment.outcomes, pid, groups=groups, reports=reports, trace=trace
    )


def fork_clerk(desk: Callable[[], Desk], foreign: Iterable[int]) -> Clerk:
    """Fork a clerk.

    Parameters
    ----------
    desk
        Makes what it does, in the fork.
    foreign
        As in `fork_worker`.
    """

    def run(takes: int, gives: int) -> int:
        # A stop is the supervisor's to obey; the clerk writes its last words.
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        return desk().serve(takes, gives)

    return Clerk(*_fork(run, foreign))


def _fork(run: Callable[[int, int], int], foreign: Iterable[int]) -> tuple[int, int, int]:
    """Fork a process with a pipe to it and one from it; gives its pid and our two ends."""
    takes, ours_to_write = os.pipe()
    try:
        ours_to_read, gives = os.pipe()
    except OSError:
        _close(takes, ours_to_write)
        raise
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError:
        _close(takes, ours_to_write, ours_to_read, gives)
        raise
    if pid == 0:
        status = 1
        try:
            gc.enable()  # see `packing`: off while the program is loaded
            die_with(parent)
            _close(*foreign, ours_to_write, ours_to_read)
            status = run(takes, gives)
        except Exception:  # noqa: BLE001  # the end of this process; its console tells why
            import traceback  # noqa: PLC0415  # rarely needed, and 4 ms

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    _close(takes, gives)
    return pid, ours_to_write, ours_to_read


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
