"""What ran when and where: each attempt of each row as a bar on the lane of its worker.

Pure: from outcomes and the records of tasks to numbers that can be drawn. Times are seconds since
the first task of the run began, so that the retry of the next day stands below the first run and
not a screen's width beside it. What lies before zero is waiting.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply import jobfolder
from slurmapply.states import STATUS_CODES, RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurmapply.outcome_file import Frame
    from slurmapply.records import LifeView
    from slurmapply.runview import RunView

#: What a bar can show besides settled statuses: an attempt that goes on, or ended without outcome.
RUNNING, INTERRUPTED = 110, 111
#: The words for what a bar shows, the worst last: where bars share a place, the worst is seen.
SHOWN = {
    STATUS_CODES[RowStatus.OK]: str(RowStatus.OK),
    RUNNING: str(RowStatus.RUNNING),
    INTERRUPTED: "interrupted",
    STATUS_CODES[RowStatus.ROW_TIMEOUT]: str(RowStatus.ROW_TIMEOUT),
    STATUS_CODES[RowStatus.ERROR]: str(RowStatus.ERROR),
    STATUS_CODES[RowStatus.OUT_OF_MEMORY]: str(RowStatus.OUT_OF_MEMORY),
    STATUS_CODES[RowStatus.CRASHED]: str(RowStatus.CRASHED),
}
#: A row's record and its worker's next row are timed by different processes.
_SLACK = 0.01
#: No cluster has arrays of so many; a damaged number must not become so many lines.
_MOST_TASKS = 1_000_000


class Lane(NamedTuple):
    """One worker of a task, over all starts of that task: its bars follow each other."""

    run: int
    task: int
    worker: int


class Wait(NamedTuple):
    """From when to when a task was in the queue."""

    run: int
    task: int
    begin: float
    end: float


class RunTimes(NamedTuple):
    """A run's times in seconds since the epoch.

    `submitted` is None where nobody wrote it down; `zero` is when the first task began, or the
    moment of looking where none has; `end` the last that is known of it.
    """

    number: int
    submitted: float | None
    zero: float
    end: float
    started: bool


class Bars(NamedTuple):
    """All attempts, as NumPy's arrays: index of the lane, begin and end, what is shown."""

    lane: Any
    begin: Any
    end: Any
    code: Any


@dataclass(frozen=True, slots=True)
class Timeline:
    """What ran when and where.

    Attributes
    ----------
    lanes
        Sorted by run, task and worker; a task that has not begun has one, too.
    bars, waits
        On the lanes; of tasks in the queue.
    runs
        The runs, in order.
    hosts
        Where a task ran, by run and task.
    """

    lanes: Sequence[Lane]
    bars: Bars
    waits: Sequence[Wait]
    runs: Sequence[RunTimes]
    hosts: Mapping[tuple[int, int], str]


class Moment(NamedTuple):
    """When a job was looked at: seconds since the epoch, the rows that run then.

    `alive` says whether tasks of the last run may still begin.
    """

    now: float
    running: frozenset[int]
    alive: bool


def timeline(
    runs: Sequence[RunView],
    frames: Iterable[Frame],
    submitted: Mapping[int, float],
    moment: Moment,
) -> Timeline:
    """Put together what ran when and where.

    Parameters
    ----------
    runs, frames
        All runs, and all frames of their outcomes.
    submitted
        When each run was submitted, as far as it is known.
    moment
        When this is.
    """
    collected = _Collected()
    collected.add_outcomes(frames)
    for run in runs:
        for view in run.lives:
            collected.add_life(run.number, view, moment)
    collected.add_idle((run.number, task) for run in runs for task in _tasks(run))
    lanes, bars = collected.sorted()
    times = [_times(run, submitted.get(run.number), lanes, bars, moment) for run in runs]
    zeros = {each.number: each.zero for each in times}
    waits = [
        wait
        for run, each in zip(runs, times, strict=True)
        for wait in _waits(run, each, moment if moment.alive and run is runs[-1] else None)
    ]
    hosts = {(run.number, view.life.task): _host(view) for run in runs for view in run.lives}
    return Timeline(lanes, _since(bars, lanes, zeros), waits, times, hosts)


def _host(view: LifeView) -> str:
    return str(view.started["node"] or view.started["host"]) if view.started else ""


def _tasks(run: RunView) -> range:
    """Give the tasks that can be expected; without a Slurm one task has all rows."""
    if run.submission is not None and run.submission.kind == "slurm":
        return range(min(run.asked["tasks"], _MOST_TASKS))
    return range(1 if run.submission or run.lives else 0)


class _Collected:
    """Bars as they are found, with their lanes numbered in that order."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, int] = {}
        self._of_file: dict[str, int] = {}
        self._lane = array("q")
        self._begin = array("d")
        self._seconds = array("d")
        self._code = array("B")
        self._cut_short: dict[tuple[int, int], list[tuple[float, float]]] = {}

    def _number(self, run: int, task: int, worker: int) -> int:
        return self._lanes.setdefault(Lane(run, task, worker), len(self._lanes))

    def add_outcomes(self, frames: Iterable[Frame]) -> None:
        """Add the attempts that have an outcome; by arrays, whatever their number."""
        for frame in frames:
            run, task, _, file = frame.origin
            if file not in self._of_file:
                self._of_file[file] = self._number(run, task, jobfolder.worker_of(file))
            self._lane.extend(array("q", [self._of_file[file]]) * len(frame))
            self._begin.extend(frame.columns["start"])
            self._seconds.extend(frame.columns["seconds"])
            self._code.extend(frame.columns["status"])

    def add_life(self, run: int, view: LifeView, moment: Moment) -> None:
        """Add the attempts of one start of a task that have no outcome."""
        for row, record in view.running.items():
            start = record.get("start")
            if row in moment.running and view.end is None and isinstance(start, (int, float)):
                worker = jobfolder.worker_of(str(record.get("console")))
                lane = self._number(run, view.life.task, worker)
                self._add(lane, start, max(0.0, moment.now - start), RUNNING)
        for record in view.interrupted:
            start = record.get("start")
            if isinstance(start, (int, float)):
                found = self._cut_short.setdefault((run, view.life.task), [])
                found.append((start, float(record["seconds"])))

    def add_idle(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Add a lane for each task that has none."""
        found = {lane[:2] for lane in self._lanes}
        for task in tasks:
            if task not in found:
                self._number(*task, 0)

    def _add(self, lane: int, begin: float, seconds: float, code: int) -> None:
        self._lane.append(lane)
        self._begin.append(begin)
        self._seconds.append(seconds)
        self._code.append(code)

    def _place(self, task: tuple[int, int], attempts: list[tuple[float, float]]) -> None:
        """Add interrupted attempts. Whose they were is not written down: they go where room is."""
        import numpy as np  # noqa: PLC0415

        lane, begin = np.array(self._lane, np.int64), np.array(self._begin)
        end = begin + np.array(self._seconds)
        mine = [self._lanes[each] for each in sorted(self._lanes) if each[:2] == task]
        taken = {each: (begin[lane == each], end[lane == each]) for each in mine}
        for start, seconds in sorted(attempts):
            stop = start + seconds
            free = (
                each
                for each, (begins, ends) in taken.items()
                if not ((begins < stop - _SLACK) & (ends > start + _SLACK)).any()
            )
            found = next(free, None)
            if found is None:
                found = self._number(*task, len(taken))
                taken[found] = (np.array([]), np.array([]))
            begins, ends = taken[found]
            taken[found] = (np.append(begins, start), np.append(ends, stop))
            self._add(found, start, seconds, INTERRUPTED)

    def sorted(self) -> tuple[list[Lane], Bars]:
        """Give the lanes in order, and the bars on them; what is no time is left out."""
        import numpy as np  # noqa: PLC0415

        for task, attempts in self._cut_short.items():
            self._place(task, attempts)
        lanes = sorted(self._lanes)
        place = np.zeros(len(lanes), np.int64)
        place[[self._lanes[lane] for lane in lanes]] = np.arange(len(lanes))
        begin, seconds = np.array(self._begin), np.array(self._seconds)
        good = np.isfinite(begin) & np.isfinite(seconds) & (seconds >= 0)
        lane = place[np.array(self._lane, np.int64)[good]]
        code = np.array(self._code, np.uint8)[good]
        return lanes, Bars(lane, begin[good], (begin + seconds)[good], code)


def _times(
    run: RunView, submitted: float | None, lanes: Sequence[Lane], bars: Bars, moment: Moment
) -> RunTimes:
    import numpy as np  # noqa: PLC0415

    mine = np.array([lane.run == run.number for lane in lanes], bool)[bars.lane]
    begun = [float(view.started["time"]) for view in run.lives if view.started]
    begun += [float(bars.begin[mine].min())] if mine.any() else []
    known = [*begun, *_last_words(run.lives), *([submitted] if submitted else [])]
    known += [float(bars.end[mine].max())] if mine.any() else []
    end = max(known, default=moment.now)
    return RunTimes(run.number, submitted, min(begun, default=end), end, bool(begun))


def _last_words(lives: Iterable[LifeView]) -> Iterator[float]:
    for view in lives:
        for record in (view.stopping, view.end):
            time = record.get("time") if record else None
            if isinstance(time, (int, float)):
                yield float(time)


def _since(bars: Bars, lanes: Sequence[Lane], zeros: Mapping[int, float]) -> Bars:
    import numpy as np  # noqa: PLC0415

    zero = np.array([zeros[lane.run] for lane in lanes], float)[bars.lane]
    return bars._replace(begin=bars.begin - zero, end=bars.end - zero)


def _waits(run: RunView, times: RunTimes, moment: Moment | None) -> Iterator[Wait]:
    """Give a run's times in the queue: before a task's first start, and before it was started anew.

    A task that never began waited until the run's end; with a moment, it waits still.
    """
    if run.submission is not None and run.submission.kind == "inline":
        return
    until = moment.now if moment else times.end
    for task in _tasks(run):
        since = times.submitted
        lives = [view for view in run.lives if view.life.task == task and view.started]
        for view in sorted(lives, key=lambda view: view.life.life):
            start = float(view.started["time"]) if view.started else 0.0
            if since is not None and start > since:
                yield Wait(run.number, task, since - times.zero, start - times.zero)
            since = max(_last_words([view]), default=None)
        if not lives and since is not None and until > since:
            yield Wait(run.number, task, since - times.zero, until - times.zero)
