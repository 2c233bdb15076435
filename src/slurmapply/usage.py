"""What a job asked for against what it used, and what to ask for next time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slurmapply.frames import kind_of_frame
from slurmapply.gathering import row_numbers
from slurmapply.numeric import NumberColumn
from slurmapply.resources import resources_of
from slurmapply.sizing import megabytes_in_words
from slurmapply.states import OVER, RowStatus
from slurmapply.taskuse import TaskUse, read_tasks
from slurmapply.usage_advice import Asked, RowsUse, advise, missing
from slurmapply.wording import duration, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurmapply.collecting import Collector
    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.runview import RunView
    from slurmapply.states import JobState

_MOST_ADVICE = 8
#: Seconds in which a task closes its files and writes its last record, seldom more.
_LAST_WORDS = 1.0
_PAUSE = 0.02


class Usage:
    """What a job asked for against what it used.

    Printed, it is a summary with the advice; in a notebook the same as a small card.

    Parameters
    ----------
    name
        The job's.
    asked
        By the latest run.
    uses
        What each task used.
    of_rows
        What the rows used.
    frames
        The two tables.

    Attributes
    ----------
    tasks : frame
        One line for each task of each run: ``run``, ``task``, ``host``, ``workers``,
        ``queued_seconds`` (from the submission to the first start), ``elapsed_seconds``,
        ``busy_seconds`` (of all its workers, in rows), ``cpu_seconds`` (programs that rows
        started included, once the task has ended), ``idle_share``, ``peak_mb`` (the kernel's
        count for the whole task, cached files included), ``cpus`` and ``memory_mb`` (what it was
        given; empty without a Slurm), ``limit_seconds``, ``ended`` (why). Empty where it is not
        known.
    rows : frame
        One line for each row: ``row_number``, ``seconds``, ``cpu_seconds``, ``peak_mb``, ``host``,
        ``attempt``; of the attempt that counts, empty where there is none yet. A frame of the
        kind that the parameters came in, as `tasks` is.
    advice : list of str
        What to change next time, each with its arithmetic; empty when all is well.
    missing : list of str
        What advice would need, and is not known.
    uses : tuple of TaskUse
        What `tasks` is made of.
    """

    def __init__(
        self,
        name: str,
        asked: Asked,
        uses: Sequence[TaskUse],
        of_rows: RowsUse,
        frames: tuple[Any, Any],
    ) -> None:
        self._name = name
        self._asked = asked
        self.uses = tuple(uses)
        self._of_rows = of_rows
        self.tasks, self.rows = frames
        self.advice = advise(asked, uses, of_rows)
        self.missing = missing(asked, uses, of_rows)

    def __str__(self) -> str:
        lines = [self._heading(), *(f"  {line}" for line in self.facts)]
        lines += [f"Not known: {line}." for line in self.missing]
        lines += [f"Advice: {line}." for line in self.advice[:_MOST_ADVICE]]
        return harmless("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415  # notebooks alone need it

        def listed(lines: Sequence[str]) -> str:
            return "".join(f"<li>{html.escape(harmless(line))}</li>" for line in lines)

        notes = [f"Not known: {line}." for line in self.missing]
        advice = f"<p><b>Advice</b></p><ul>{listed(self.advice)}</ul>" if self.advice else ""
        heading = html.escape(harmless(self._heading()))
        return f"<div><p><b>{heading}</b></p><ul>{listed([*self.facts, *notes])}</ul>{advice}</div>"

    def _heading(self) -> str:
        begun = sum(bool(use.hosts) for use in self.uses)
        runs = len({use.run for use in self.uses})
        several = f" of {runs} runs" if runs > 1 else ""
        rows = self._of_rows
        return (
            f"{self._name}: {rows.ended} of {rows.rows} rows, {begun} "
            f"{'task' if begun == 1 else 'tasks'}{several}"
        )

    @property
    def facts(self) -> list[str]:
        """What was used of what was asked for, as it is printed."""
        return [
            *_time_facts(self.uses),
            *_processor_facts(self.uses, self._of_rows),
            *_memory_facts(self._asked, self.uses, self._of_rows),
        ]


def _time_facts(uses: Sequence[TaskUse]) -> Iterator[str]:
    elapsed = [use.elapsed for use in uses if use.elapsed is not None]
    if elapsed:
        limit = next((use.limit for use in reversed(uses) if use.limit), None)
        of = f" of its limit of {duration(limit)}" if limit else ""
        yield f"time: the longest task took {duration(max(elapsed))}{of}"
    queued = [use.queued for use in uses if use.queued is not None and use.cpus]
    if queued:
        yield f"queue: a task waited {duration(max(queued))} at most"


def _processor_facts(uses: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    if rows.seconds > 0:
        yield (
            f"CPU: rows ran for {duration(rows.seconds)} together, and used "
            f"{rows.cpu / rows.seconds:.2f} CPUs each"
        )
    begun = [use for use in uses if use.elapsed and use.workers]
    capacity = sum((use.elapsed or 0.0) * (use.workers or 0) for use in begun)
    if capacity:
        idle = min(1.0, max(0.0, 1 - sum(use.busy for use in begun) / capacity))
        yield f"idle: workers were in no row for {idle:.0%} of their time"


def _memory_facts(asked: Asked, uses: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    given = next((use.memory_mb for use in reversed(uses) if use.memory_mb), None)
    peaks = [use.peak_mb for use in uses if use.peak_mb is not None]
    parts = []
    if given:
        word = "asked for" if asked.memory else "given"
        parts.append(f"{megabytes_in_words(given)} {word} per node")
    if peaks:
        parts.append(f"a task used {megabytes_in_words(max(peaks))} at most")
    if rows.largest:
        row, size = rows.largest
        parts.append(f"a row {megabytes_in_words(size)} (row {row})")
    if parts:
        yield f"memory: {', '.join(parts)}"


def usage_of(
    disk: FolderDisk, job: Mapping[str, Any], follower: Follower, collector: Collector, like: Any
) -> Usage:
    """Put together what a job used so far.

    Parameters
    ----------
    disk, job
        The folder and its ``job.json``.
    follower, collector
        What is known of the job.
    like
        The parameters' own frame, or None.
    """
    state = _with_last_words(follower)
    uses = read_tasks(disk, follower, state)
    columns = collector.usage_columns()
    lost = len(follower.rows_that_are({RowStatus.OUT_OF_MEMORY}, state))
    of_rows = summed_up(job["rows"], columns, out_of_memory=lost)
    frames = (_tasks_table(uses, like), _rows_table(job["rows"], columns, like))
    return Usage(str(job["name"]), _asked(follower.run), uses, of_rows, frames)


def _with_last_words(follower: Follower) -> JobState:
    """Look, and give tasks whose rows are done the moment in which they say what they used."""
    state = follower.look()
    deadline = time.monotonic() + _LAST_WORDS
    while state in OVER and follower.run.started and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        state = follower.look(ask=False)
    return state


def _asked(run: RunView) -> Asked:
    resources = resources_of(run.asked["resources"])
    kind = run.submission.kind if run.submission else str(run.asked["backend"])
    memory = resources.mem is not None
    return Asked(kind, run.asked["tasks"], resources.cpus_per_node, resources.processes, memory)


def summed_up(rows: int, columns: Mapping[str, Any], *, out_of_memory: int = 0) -> RowsUse:
    """Sum up the columns of rows.

    Parameters
    ----------
    rows
        How many there are.
    columns
        ``seconds``, ``cpu_seconds`` and ``peak_mb``, as numbers or all empty.
    out_of_memory
        How many rows ran out of it.
    """
    seconds, cpu, peak = (_known(columns[name]) for name in ("seconds", "cpu_seconds", "peak_mb"))
    return RowsUse(
        rows,
        len(seconds[1]),
        float(seconds[1].sum()),
        float(cpu[1].sum()),
        _largest(*seconds),
        _largest(*peak),
        len(peak[1]),
        out_of_memory,
    )


def _known(column: NumberColumn | list[Any]) -> tuple[Any, Any]:
    """Give the rows that have a number, and their numbers."""
    import numpy as np  # noqa: PLC0415

    if not isinstance(column, NumberColumn):
        return np.zeros(0, "int64"), np.zeros(0)
    rows = np.flatnonzero(~column.empty)
    return rows, column.cells[rows]


def _largest(rows: Any, numbers: Any) -> tuple[int, float] | None:
    if not len(rows):
        return None
    place = int(numbers.argmax())
    return int(rows[place]), float(numbers[place])


def _tasks_table(uses: Sequence[TaskUse], like: Any) -> Any:
    kind = kind_of_frame(like)
    columns: dict[str, list[Any]] = {
        "run": [use.run for use in uses],
        "task": [use.task for use in uses],
        "host": [use.hosts or None for use in uses],
        "workers": [use.workers for use in uses],
        "queued_seconds": [use.queued for use in uses],
        "elapsed_seconds": [use.elapsed for use in uses],
        "busy_seconds": [use.busy if use.hosts else None for use in uses],
        "cpu_seconds": [_cpu(use) for use in uses],
        "idle_share": [use.idle for use in uses],
        "peak_mb": [use.peak_mb for use in uses],
        "cpus": [use.cpus for use in uses],
        "memory_mb": [use.memory_mb for use in uses],
        "limit_seconds": [use.limit for use in uses],
        "ended": [use.ended or None for use in uses],
    }
    return kind.beside(kind.without_columns(len(uses), None), columns)


def _cpu(use: TaskUse) -> float | None:
    if use.cpu_all is not None:
        return use.cpu_all
    return use.cpu if use.hosts else None


def _rows_table(rows: int, columns: Mapping[str, Any], like: Any) -> Any:
    kind = kind_of_frame(like)
    return kind.beside(
        kind.without_columns(rows, like), {"row_number": row_numbers(rows), **columns}
    )
