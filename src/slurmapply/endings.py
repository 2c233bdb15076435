"""Why rows are left, judged by how their task ended. Pure functions of evidence.

A row that nothing was written about belongs to the task that claimed it last. Why it is left is
what ended that task; the first line that holds decides:

============== ===================================================================================
cause          evidence
============== ===================================================================================
the reason     its record's, where it is the task's own doing: ``load_failed``, ``no_memory``
               (``out_of_memory``), ``write_failed``, ``no_workers``, ``max_failures``
               (``stopped_early``), ``time_limit``
damaged        it ended with ``done``: the row's outcome was written, and cannot be read
Slurm's word   ``TIMEOUT``, ``PREEMPTED``, ``NODE_FAIL``, ``CANCELLED``, ...; ``OUT_OF_MEMORY`` only
               without an ``end``: Slurm says it too of a task that lost one worker and went on
never_started  it wrote no record at all
stopped_early  it wrote why it stopped: a signal whose sender nobody named, ...
killed         it wrote no last word
============== ===================================================================================

A row that nobody claimed could have been taken by any task: the most telling end counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmapply.outcome import Failure
from slurmapply.wording import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slurmapply.records import LifeView
    from slurmapply.schedulers.base import TaskState

_OWN_REASONS = {
    "load_failed": "load_failed",
    "no_memory": "out_of_memory",
    "write_failed": "write_failed",
    "no_workers": "no_workers",
    "max_failures": "stopped_early",
    "time_limit": "time_limit",
}
_SLURM_WORDS = {
    "TIMEOUT": "time_limit",
    "DEADLINE": "time_limit",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node_failed",
    "BOOT_FAIL": "node_failed",
    "CANCELLED": "cancelled",
    "OUT_OF_MEMORY": "out_of_memory",
}
_MOST_TELLING = (
    "load_failed", "write_failed", "no_workers", "out_of_memory", "time_limit", "node_failed",
    "preempted", "cancelled", "never_started", "stopped_early", "killed", "damaged",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """What is known of how a task ended.

    Attributes
    ----------
    number
        Of the task.
    life
        What its latest life recorded; None when there is no record.
    said
        The batch system's last word about it; None when it said none, or was not asked.
    last_line
        Of its console.
    limit
        Its time limit in seconds, None when it is not known.
    folder
        The job folder, as the session names it.
    """

    number: int
    life: LifeView | None = None
    said: TaskState | None = None
    last_line: str = ""
    limit: float | None = None
    folder: str = ""

    @property
    def started(self) -> bool:
        """Whether it wrote a sign of life."""
        return self.life is not None and self.life.started is not None

    @property
    def ended(self) -> bool:
        """Whether it wrote its last record."""
        return self.life is not None and self.life.end is not None

    @property
    def reason(self) -> str:
        """Why it stopped, in its record's word; empty when it wrote none."""
        record = _last_record(self.life)
        return str(record["reason"]) if record else ""

    @property
    def message(self) -> str:
        """What its record says about the reason."""
        record = _last_record(self.life)
        return str(record.get("message", "")) if record else ""


def _last_record(life: LifeView | None) -> Mapping[str, Any] | None:
    return (life.stopping or life.end) if life else None


def tells_all(life: LifeView | None) -> bool:
    """Whether a life's record says why it ended, so that nobody else needs to be asked."""
    record = _last_record(life)
    return record is not None and record["reason"] in {*_OWN_REASONS, "done"}


def cause_of(end: TaskEnd) -> str:
    """Give the cause of rows that a task has left, by the table at the head of this module.

    Examples
    --------
    >>> cause_of(TaskEnd(0))
    'never_started'
    """
    if end.reason in _OWN_REASONS:
        return _OWN_REASONS[end.reason]
    if end.reason == "done":
        return "damaged"
    word = end.said.word if end.said else ""
    if word in _SLURM_WORDS and not (word == "OUT_OF_MEMORY" and end.ended):
        return _SLURM_WORDS[word]
    if not end.started:
        return "never_started"
    return "stopped_early" if end.reason else "killed"


def most_telling(ends: Iterable[TaskEnd]) -> TaskEnd:
    """Choose among the ends of all tasks, for a row that none of them claimed."""
    return min(ends, key=_rank)


def _rank(end: TaskEnd) -> tuple[int, bool, bool]:
    cause = cause_of(end)
    # Of two tasks that stopped early, the one that says why.
    return _MOST_TELLING.index(cause), not end.message, not (end.last_line or end.said)


def why(end: TaskEnd) -> Failure:
    """Say why a row is left: its message goes on after "row 17 "."""
    cause = cause_of(end)
    return Failure(cause, _SENTENCES[cause](end).strip().rstrip("."), place=end.reason)


def too_long(record: Mapping[str, Any]) -> Failure:
    """Say why no task tries a row again that needs more than the time limit."""
    ran, limit = duration(record["seconds"]), duration(record["limit"])
    return Failure(
        "time_limit",
        f"ran for {ran}, and the time limit of its task is {limit}: no task tries it again",
        place="too_long",
    )


def was_cancelled(*, ran: bool) -> Failure:
    """Say that ``job.cancel()`` came before a row's end."""
    return Failure("cancelled", f"was cancelled with the job {'while' if ran else 'before'} it ran")


def waits_for(state: TaskState) -> Failure:
    """Say what a row waits for that will not come by itself; its place is what to do about it."""
    reason = state.reason or state.word
    said = state.explanation.replace("<id>", state.job_id).rstrip(".")
    why_never, _, rest = said.partition(": job.cancel()")
    if rest:
        fix = f"job.cancel(){rest}"
        return Failure("never_started", f"waits in vain ({reason}): {why_never}", place=fix)
    fix = f"scontrol release {state.job_id}, or job.cancel()"
    return Failure("held", f"waits in vain: its task is held ({reason})", place=fix)


def _time_limit(end: TaskEnd) -> str:
    limit = f" of {duration(end.limit)}" if end.limit else ""
    deadline = end.said is not None and end.said.word == "DEADLINE"
    return f"was left when its task reached its {'deadline' if deadline else f'time limit{limit}'}"


def _node_failed(end: TaskEnd) -> str:
    host = end.said.host if end.said else ""
    node = host or (end.life.started or {}).get("node", "") if end.life else host
    return f"was left when the node of its task failed{f' ({node})' if node else ''}"


def _never_started(end: TaskEnd) -> str:
    if end.last_line:
        return f"never began: its task ended before Python could start it: {end.last_line}"
    if end.said is not None and end.said.explanation:
        return f"never began: {end.said.explanation}"
    return (
        "never began: no task wrote a sign of life: Slurm never started one, or the nodes do not "
        f"see {end.folder or 'the job folder'}"
    )


def _stopped_early(end: TaskEnd) -> str:
    if end.message:
        return f"was left when its task stopped early: {end.message}"
    by = f"by {end.reason}" if end.reason.startswith("SIG") else f"early ({end.reason})"
    return f"was left when its task was stopped {by}{_slurm_says(end)}"


def _killed(end: TaskEnd) -> str:
    said = _slurm_says(end)
    return f"was left when its task ended without a word: it was killed, or its node died{said}"


def _out_of_memory(end: TaskEnd) -> str:
    if end.reason != "no_memory":
        return "was left when its whole task was killed for memory, with all that it ran"
    return (
        "was not begun: the function with what it uses does not fit into the memory of its task: "
        f"{end.message}"
    )


def _slurm_says(end: TaskEnd) -> str:
    if end.said is None:
        return ""
    return f" (Slurm says {' '.join(filter(None, (end.said.word, end.said.exit_code)))})"


_SENTENCES: dict[str, Callable[[TaskEnd], str]] = {
    "load_failed": lambda end: (
        f"was not begun: the function could not be loaded on the node: {end.message}"
    ),
    "write_failed": lambda end: f"was left when outcomes could not be written: {end.message}",
    "no_workers": lambda end: (
        f"was left because its task could start no worker process: {end.message}"
    ),
    "time_limit": _time_limit,
    "preempted": lambda _: (
        "was left when another job took the place of its task (preempted), which Slurm did not "
        "queue again"
    ),
    "node_failed": _node_failed,
    "out_of_memory": _out_of_memory,
    "cancelled": lambda end: (
        f"was left when its task (number {end.number}) was ended with scancel, not by job.cancel()"
    ),
    "never_started": _never_started,
    "stopped_early": _stopped_early,
    "killed": _killed,
    "damaged": lambda _: (
        "has no outcome that can be read, though its task ended well: the file is damaged or gone"
    ),
}
