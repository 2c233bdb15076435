"""Waiting for a job, with a progress bar where somebody watches."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError, WaitTimeoutError
from slurmapply.progressbar import ending
from slurmapply.states import OVER, JobState
from slurmapply.watching import watched_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurmapply.following import Follower
    from slurmapply.status import JobStatus
    from slurmapply.watching import Place

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
#: Looks get rarer as the wait goes on: a fiftieth of the time waited so far.
_SHARE = 0.02
#: Nor do they take more than a quarter of a processor: this machine may be a node too. A job of
#: thousands of workers has as many files, and each is a question to the disk's server.
_REST = 3.0
_LONGEST_REST = 30.0
#: A wait that is over by then needs no bar; one that goes on shows its clock so often.
_NO_BAR_BEFORE = 0.5
_REDRAW_EVERY = 1.0
#: Rows that end faster than anybody reads are not shown one by one.
_REDRAW_AFTER = 0.1


def check_timeout(timeout: Any) -> float | None:
    """Check a number of seconds.

    Raises
    ------
    InvalidArgumentError
        It is negative, not a number, or nothing that could be one.
    """
    if timeout is None:
        return None
    good = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not good or math.isnan(timeout) or timeout < 0:
        raise InvalidArgumentError(
            f"timeout: seconds are needed, 0 or more, not {timeout!r}.", argument="timeout"
        )
    return float(timeout)


def looks(follower: Follower, timeout: float | None) -> Iterator[JobState]:
    """Look at a job again and again, ever more seldom, until nothing of it can still run.

    Yields
    ------
    JobState
        What each look showed, the last one included.

    Raises
    ------
    WaitTimeoutError
        The time is over.
    """
    begin = time.monotonic()
    while True:
        used = time.process_time()
        state = follower.look(waiting=True)
        yield state
        if state in OVER:
            return
        waited = time.monotonic() - begin
        if timeout is not None and waited >= timeout:
            raise WaitTimeoutError(
                f"the job has not ended within {timeout:g} s; it is {state}. It goes on: wait "
                "again, look with job.status(), or end it with job.cancel()."
            )
        pause = pause_after(waited, time.process_time() - used)
        left = math.inf if timeout is None else timeout - waited
        time.sleep(min(pause, max(left, 0.001)))


def pause_after(waited: float, used: float) -> float:
    """Give the seconds until the next look.

    Parameters
    ----------
    waited
        Seconds since the waiting began.
    used
        Processor seconds that the last look took; not the time in which Slurm was asked.

    Examples
    --------
    >>> pause_after(0.1, 0.001), pause_after(10.0, 0.001), pause_after(10.0, 2.0)
    (0.02, 0.2, 6.0)
    """
    rest = min(_LONGEST_REST, used * _REST)
    return max(_FIRST_PAUSE, min(_LONGEST_PAUSE, waited * _SHARE), rest)


def wait(follower: Follower, name: str, timeout: float | None) -> JobState:
    """Wait for a job's end; Ctrl-C ends the waiting only, and says so."""
    state = JobState.UNKNOWN
    bar = Bar()
    told = ""
    try:
        for state in looks(follower, timeout):
            bar.show(lambda state=state: follower.status(state, dict))  # type: ignore[misc]
            if not told:
                told = follower.note_in_vain(state)
                bar.write(told)
    except KeyboardInterrupt:
        bar.close()
        sys.stderr.write(
            f"stopped waiting for {name}; the job itself goes on (job.cancel() ends it)\n"
        )
        raise
    except BaseException:
        bar.close()
        raise
    bar.end(lambda: ending(follower.status(state, dict), _seconds(follower)))
    return state


def _seconds(follower: Follower) -> float | None:
    """Give the seconds since the first task of the latest run began."""
    starts = [float(view.started["time"]) for view in follower.run.lives if view.started]
    return max(0.0, time.time() - min(starts)) if starts else None


class Bar:
    """How the rows are doing, where somebody watches; nothing in a log file.

    It is shown when the wait has lasted for half a second, and leaves one line.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._place: Place | None = None
        self._counts: dict[str, int] = {}
        self._shown_at = -math.inf

    def show(self, look: Callable[[], JobStatus]) -> None:
        """Show how the rows are, unless that is too much to ask.

        Parameters
        ----------
        look
            Tells it; not called where nobody watches.
        """
        now = time.monotonic()
        if self._place is None:
            self._place = watched_place() if now - self._begin >= _NO_BAR_BEFORE else None
        if self._place is None or now - self._shown_at < _REDRAW_AFTER:
            return
        status = look()
        if status.counts == self._counts and now - self._shown_at < _REDRAW_EVERY:
            return
        self._counts, self._shown_at = status.counts, now
        self._place.show(status, now - self._begin)

    def write(self, text: str) -> None:
        """Write a line above the bar, or where the bar would be."""
        if not text:
            return
        if self._place is None:
            sys.stderr.write(f"{text}\n")
            return
        self._place.write(text)
        self._shown_at = -math.inf

    def end(self, text: Callable[[], str]) -> None:
        """Leave a line where the bar was; nothing where there was none."""
        if self._place is not None:
            self._place.write(text())

    def close(self) -> None:
        """Leave nothing."""
        if self._place is not None:
            self._place.clear()
