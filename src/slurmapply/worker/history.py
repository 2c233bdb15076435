"""What became of a row's earlier attempts, and what follows when its worker died: pure rules."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from slurmapply.records import never_fits
from slurmapply.states import RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurmapply.records import LifeView


class Past(NamedTuple):
    """The earlier attempts of a row.

    Attributes
    ----------
    attempts
        How many there were.
    failures
        How many of this run's were the row's own fault, which ``retries`` counts.
    killed
        Its process was killed from outside once.
    memory
        Its process was killed for memory once.
    """

    attempts: int = 0
    failures: int = 0
    killed: bool = False
    memory: bool = False


NEW = Past()


class Death(NamedTuple):
    """How a worker ended in the middle of a row.

    Attributes
    ----------
    status
        As waitpid(2) gives it.
    memory
        The kernel had killed for memory.
    own_hand
        The user's code was about to kill its own process.
    timeout
        The supervisor ended it because the row took too long.
    """

    status: int
    memory: bool = False
    own_hand: bool = False
    timeout: bool = False

    @property
    def name(self) -> str:
        """The cause in one word: ``SIGSEGV``, ``exit_3``."""
        if os.WIFSIGNALED(self.status):
            return _signal_name(os.WTERMSIG(self.status))
        return f"exit_{os.WEXITSTATUS(self.status)}"


class Verdict(NamedTuple):
    """What follows from a death.

    Attributes
    ----------
    status
        What is written of the row; None: it is tried again.
    cause, message
        In one word; for people, to follow "row 17".
    past
        The row's history from now on.
    failure
        It counts against ``retries``.
    """

    status: RowStatus | None
    cause: str
    message: str
    past: Past
    failure: bool


def judge(death: Death, past: Past, retries: int, memory: str, timeout: float | None) -> Verdict:
    """Say what follows when a worker died in the middle of a row.

    What may have come from outside is tried once more: a kill for memory may have taken an
    innocent process, and a kill by hand says nothing about the row. What the row did to itself is
    its own.

    Parameters
    ----------
    death
        How the worker ended.
    past
        What was before, this attempt counted among ``attempts``.
    retries
        Attempts more that a failed row has.
    memory
        Limit and peak for people, as ``limit 150 MB, peak 149 MB``.
    timeout
        Seconds that a row may take.
    """
    if death.timeout:
        message = f"was stopped after {timeout:g} s (row_timeout)"
        return _failed(RowStatus.ROW_TIMEOUT, "row_timeout", message, past, retries)
    if death.name == "SIGKILL" and death.memory:
        said = f"ran out of memory ({memory})" if memory else "ran out of memory"
        if not past.memory:
            return Verdict(None, "out_of_memory", said, past._replace(memory=True), failure=False)
        said += ", also when it was tried alone"
        return _failed(RowStatus.OUT_OF_MEMORY, "out_of_memory", said, past, retries)
    if death.name == "SIGKILL" and not death.own_hand and not past.killed:
        return Verdict(
            None, "SIGKILL", _crash(death, past), past._replace(killed=True), failure=False
        )
    return _failed(RowStatus.CRASHED, death.name, _crash(death, past), past, retries)


def _failed(status: RowStatus, cause: str, message: str, past: Past, retries: int) -> Verdict:
    again = past.failures < retries
    past = past._replace(failures=past.failures + 1)
    return Verdict(None if again else status, cause, message, past, failure=True)


def _crash(death: Death, past: Past) -> str:
    if not os.WIFSIGNALED(death.status):
        how = f"ended itself with exit status {os.WEXITSTATUS(death.status)}, without an answer"
    elif death.own_hand:
        how = "killed itself"
    elif death.name == "SIGKILL":
        how = "was killed from outside" + (", as when it was tried before" if past.killed else "")
    else:
        how = f"died of signal {os.WTERMSIG(death.status)}"
    return f"crashed: {death.name} (its process {how})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal_{number}"


def histories(lives: Iterable[LifeView]) -> dict[int, Past]:
    """Give the history of each row that the records of a run name."""
    found: dict[int, Past] = {}
    for view in lives:
        for row, attempt in view.attempts.items():
            past = found.get(row, NEW)
            found[row] = past._replace(attempts=max(past.attempts, attempt))
        for record in view.interrupted:
            past = found.get(record["row"], NEW)
            failure = bool(record.get("failure"))
            found[record["row"]] = Past(
                max(past.attempts, record["attempt"]),
                past.failures + failure,
                past.killed or (record["cause"] == "SIGKILL" and not failure),
                past.memory or record["cause"] == "out_of_memory",
            )
    return found


def hopeless_rows(lives: Iterable[LifeView]) -> set[int]:
    """Rows that no task of this run can finish within its time limit."""
    return {record["row"] for view in lives for record in view.interrupted if never_fits(record)}
