"""Waiting for a job, with a progress bar where somebody watches."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError, WaitTimeoutError
from slurmapply.states import OVER, JobState, RowStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurmapply.following import Follower

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
    bar = Bar(name, len(follower.outcomes))
    told = ""
    try:
        for state in looks(follower, timeout):
            bar.show(lambda state=state: follower.count(state)[0])  # type: ignore[misc]
            if not told:
                told = follower.note_in_vain(state)
                bar.write(told)
    except KeyboardInterrupt:
        bar.close()
        sys.stderr.write(
            f"stopped waiting for {name}; the job itself goes on (job.cancel() ends it)\n"
        )
        raise
    finally:
        bar.close()
    return state


class Bar:
    """A progress bar on a terminal or in a notebook; nothing in a log file.

    Parameters
    ----------
    name
        Stands before the bar.
    rows
        How many rows there are.
    """

    def __init__(self, name: str, rows: int) -> None:
        self._name = name
        self._rows = rows
        self._bar: Any = None
        self._begin = time.monotonic()
        self._shown = (-1, -1)
        self._shown_at = 0.0

    def show(self, count: Callable[[], Any]) -> None:
        """Show how far the rows are; a job that ends within half a second gets no bar."""
        if self._bar is None:
            if not _watched() or time.monotonic() - self._begin < _NO_BAR_BEFORE:
                return
            from tqdm import tqdm  # noqa: PLC0415  # only where it is seen

            self._bar = tqdm(total=self._rows, desc=self._name, unit="row", file=sys.stderr)
        counts = count()
        ended = sum(
            number
            for status, number in counts.items()
            if status not in (RowStatus.PENDING, RowStatus.RUNNING)
        )
        failed = ended - counts.get(RowStatus.OK, 0)
        now = time.monotonic()
        if (ended, failed) == self._shown and now - self._shown_at < _REDRAW_EVERY:
            return
        self._shown, self._shown_at = (ended, failed), now
        self._bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
        self._bar.n = ended
        self._bar.refresh()

    def write(self, text: str) -> None:
        """Write a line above the bar, or where the bar would be; nothing when there is none."""
        if text and self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif text:
            sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _watched() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    in_notebook = hasattr(shell, "kernel")
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())
