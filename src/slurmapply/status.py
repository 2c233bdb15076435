"""What is known of a job at a moment: its state, how its rows are doing, what Slurm says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slurmapply.states import FAILED, NOT_OK, JobState, RowStatus
from slurmapply.wording import duration, harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slurmapply.schedulers.base import TaskState

#: Characters of each console that are printed, as rslurm does; the line they are in is whole.
_TAIL = 60
_LONGEST_LINE = 200
_SHOWN_TASKS = 8


@dataclass(frozen=True)
class JobStatus:
    """A look at a job.

    Attributes
    ----------
    state : JobState
        One of prepared, queued, running, stopping, finished, cancelled, unknown; equal to its
        word as a string.
    completed : bool
        Nothing of the job can still run.
    ok : bool
        Every row is ok.
    counts : dict of str to int
        Rows by status; statuses that no row has are left out.
    causes : dict of str to int
        Failed rows by cause.
    queue : list of dict
        What the batch system says of each task: its word, reason, the reason in plain words;
        ``expected_start``, seconds since 1970, where it has an estimate for a waiting one.
    age : float
        Seconds since the batch system last answered; 0 when it did not need to be asked.
    seconds_left : float or None
        A guess from the rows that have ended.
    note : str
        What to know besides: a batch system that does not answer, tasks that are held, damaged
        files.
    duplicates : int
        Outcomes of rows that a run has run already, as after a task was thought dead and was not;
        one of each row counts.
    """

    name: str
    state: JobState
    counts: dict[str, int]
    causes: dict[str, int] = field(default_factory=dict)
    queue: list[dict[str, Any]] = field(default_factory=list)
    age: float = 0.0
    seconds_left: float | None = None
    note: str = ""
    duplicates: int = 0
    read_log: Callable[[], dict[int, str]] = field(default=dict, repr=False, compare=False)
    read_reasons: Callable[[], list[str]] = field(default=list, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.counts.values())

    @property
    def completed(self) -> bool:
        """Nothing of the job can still run."""
        return self.state in (JobState.FINISHED, JobState.CANCELLED)

    @property
    def ok(self) -> bool:
        """Every row is ok."""
        return self.counts.get(RowStatus.OK, 0) == self.rows

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return sum(self.counts.get(status, 0) for status in FAILED)

    @property
    def not_ok(self) -> int:
        """Rows that failed or that nothing is left to run."""
        return sum(self.counts.get(status, 0) for status in NOT_OK)

    @property
    def log(self) -> dict[int, str]:
        """The last part of each task's consoles, by the task's number."""
        return self.read_log()

    @property
    def reasons(self) -> list[str]:
        """For each cause, how many rows, and a sentence about the first with what to do."""
        return self.read_reasons()

    def summary(self) -> str:
        """Give one line: ``9 rows: 5 ok, 1 failed (ValueError), 3 running; about 40 s left``."""
        parts = [f"{self.counts.get(RowStatus.OK, 0)} ok"]
        if self.failed:
            parts.append(f"{self.failed} failed ({harmless(', '.join(self.causes))})")
        others = (RowStatus.RUNNING, RowStatus.PENDING, RowStatus.UNFINISHED, RowStatus.CANCELLED)
        parts += [f"{self.counts[each]} {each}" for each in others if self.counts.get(each)]
        left = f"; about {duration(self.seconds_left)} left" if self.seconds_left else ""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        if self.state is JobState.PREPARED and not self.counts.get(RowStatus.OK):
            return f"{rows}: prepared, not submitted"
        return f"{rows}: {', '.join(parts)}{left}"

    def __str__(self) -> str:
        lines = [f"{self.name} is {self.state}. {self.summary()}"]
        lines += [f"  {reason}" for reason in self.reasons]
        lines += [f"  {line}" for line in self._queue_lines()]
        if self.completed:
            lines.append("Job completed or stopped.")
        if self.duplicates:
            lines.append(f"{self.duplicates} outcomes are second ones of their rows; one counts.")
        if self.note:
            lines.append(harmless(self.note))
        lines += _log_lines(self.log)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        from slurmapply.cards import status_card  # noqa: PLC0415  # notebooks alone need it

        return status_card(self, self._queue_lines())

    def _queue_lines(self) -> list[str]:
        lines = [_queue_line(entry) for entry in self.queue[:_SHOWN_TASKS]]
        left = len(self.queue) - len(lines)
        return [*lines, f"... and {left} more tasks"] if left else lines


def _queue_line(entry: Mapping[str, Any]) -> str:
    task = "" if entry["task"] is None else f" task {entry['task']}"
    host = f" on {entry['host']}" if entry["host"] else ""
    reason = f" ({entry['reason']})" if entry["reason"] else ""
    words = f": {entry['explanation']}" if entry["explanation"] else ""
    line = f"{entry['job_id']}{task}: {entry['state']}{host}{reason}{words}"
    start = expected(entry.get("expected_start"), time.time())
    return harmless(f"{line.removesuffix('.')}. {start}" if start else line)


def expected(start: float | None, now: float) -> str:
    """Say when Slurm expects a task to start; nothing where it does not know, or is late.

    Parameters
    ----------
    start, now
        Seconds since 1970.

    Examples
    --------
    >>> expected(None, 0.0), expected(60.0, 3600.0)
    ('', '')
    """
    if start is None or start <= now:
        return ""
    then, today = time.localtime(start), time.localtime(now)
    clock = "%H:%M" if then[:3] == today[:3] else "%a %d %b %H:%M"
    about = time.strftime(clock, then)
    return f"Slurm expects it to start about {about} (in {duration(start - now)})."


def _log_lines(log: Mapping[int, str]) -> list[str]:
    shown = {task: text.rstrip() for task, text in log.items() if text.strip()}
    if not shown:
        return []
    tails = (f"{task}: {harmless(_tail(shown[task]))}" for task in sorted(shown)[:_SHOWN_TASKS])
    return ["Last console output:", *tails]


def _tail(text: str) -> str:
    begin = text.rfind("\n", 0, max(0, len(text) - _TAIL)) + 1
    return text[max(begin, len(text) - _LONGEST_LINE) :]


def sorted_queue(states: Iterable[TaskState]) -> list[dict[str, Any]]:
    """Give what the batch system says of tasks, those first that have something to say."""
    return [
        _queue_entry(state)
        for state in sorted(states, key=lambda s: (not s.explanation, s.job_id, s.task or 0))
    ]


def in_vain(name: str, tasks: Sequence[TaskState]) -> str:
    """Say that the tasks that are left do not start by themselves; empty when there are none."""
    said = dict.fromkeys(
        f"{_explained(task).rstrip('.') or 'is held'} ({task.reason or task.word})"
        for task in tasks
    )
    if not said:
        return ""
    end = "" if "job.cancel()" in "".join(said) else " job.cancel() ends it."
    return (
        f"nothing of {name} starts by itself: Slurm job {tasks[0].job_id} {'; '.join(said)}.{end}"
    )


def _explained(state: TaskState) -> str:
    return state.explanation.replace("<id>", state.job_id)


def _queue_entry(state: TaskState) -> dict[str, Any]:
    return {
        "job_id": state.job_id,
        "task": state.task,
        "state": state.word,
        "reason": state.reason,
        "explanation": _explained(state),
        "host": state.host,
        "expected_start": state.expected_start,
    }
