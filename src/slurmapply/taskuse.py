"""What each task used: from its records and outcomes, and the accounts where these lack."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.errors import InvalidArgumentError
from slurmapply.intents import submission_time
from slurmapply.outcome_file import Same
from slurmapply.schedulers.amounts import parse_memory
from slurmapply.states import OVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurmapply.choice import Outcomes
    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.records import LifeView
    from slurmapply.runview import RunView
    from slurmapply.schedulers.base import Account
    from slurmapply.states import JobState

_MEGABYTES = {"M": 1, "G": 1024}


class TaskUse(NamedTuple):
    """What one task of a run asked for and used, over all of its lives; None: not known.

    Attributes
    ----------
    run, task
        Which.
    hosts
        Where it ran, "" if it has not.
    workers, cpus
        Of it.
    queued, elapsed
        Seconds that it waited before its first life, and that its lives took.
    begun
        Seconds from the start of its latest life to that life's first row.
    busy, cpu
        Seconds that its workers were in rows, and seconds of CPU of these rows.
    cpu_all
        Seconds of CPU of the whole task, programs that rows started included.
    peak_mb, memory_mb
        The most memory that it used, files that the kernel kept for it included; its limit. MiB.
    limit
        Its time limit in seconds.
    ended
        Why it ended ("done", "time_limit", ...); "" where it has not.
    """

    run: int
    task: int
    hosts: str = ""
    workers: int | None = None
    cpus: int | None = None
    queued: float | None = None
    elapsed: float | None = None
    begun: float | None = None
    busy: float = 0.0
    cpu: float = 0.0
    cpu_all: float | None = None
    peak_mb: float | None = None
    memory_mb: float | None = None
    limit: float | None = None
    ended: str = ""

    @property
    def idle(self) -> float | None:
        """The share of its workers' time in which they were in no row."""
        if not self.elapsed or not self.workers:
            return None
        return min(1.0, max(0.0, 1 - self.busy / (self.elapsed * self.workers)))


@dataclass(slots=True)
class _Worked:
    """What the outcomes of one life say."""

    seconds: float = 0.0
    cpu: float = 0.0
    first: float | None = None
    last: float | None = None


def read_tasks(disk: FolderDisk, follower: Follower, state: JobState) -> list[TaskUse]:
    """Give what the tasks of all runs used, in order.

    Parameters
    ----------
    disk, follower, state
        The folder, what is known of it, the job's state.
    """
    worked = _worked(follower.outcomes)
    runs = [follower.view_run(number) for number in range(follower.run.number + 1)]
    tasks = [
        use
        for run in runs
        for use in _TasksOfRun(disk, follower, run, worked, is_over=_is_over(follower, run, state))
    ]
    return [*_completed(tasks, follower, runs)]


def _is_over(follower: Follower, run: RunView, state: JobState) -> bool:
    return run.number < follower.run.number or state in OVER


def _worked(outcomes: Outcomes) -> dict[tuple[int, int, int], _Worked]:
    """Sum up the outcomes of each life, those too that do not count any more."""
    found: dict[tuple[int, int, int], _Worked] = {}
    for frame in outcomes.frames:
        worked = found.setdefault(frame.origin[:3], _Worked())
        worked.seconds += _sum(frame.columns["seconds"])
        worked.cpu += _sum(frame.columns["cpu"])
        # A worker's rows follow each other.
        starts, seconds = frame.columns["start"], frame.columns["seconds"]
        worked.first = _earlier(worked.first, starts[0])
        worked.last = _later(worked.last, starts[-1] + seconds[-1])
    return found


def _sum(cells: Sequence[float]) -> float:
    return cells.cell * len(cells) if isinstance(cells, Same) else sum(cells)


def _earlier(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def _later(one: float | None, other: float) -> float:
    return other if one is None else max(one, other)


class _TasksOfRun:
    """The tasks of one run.

    Parameters
    ----------
    disk, follower, run
        The folder, what is known of it, the run.
    worked
        What the outcomes of each life say.
    is_over
        Nothing of the run can still run.
    """

    def __init__(
        self,
        disk: FolderDisk,
        follower: Follower,
        run: RunView,
        worked: Mapping[tuple[int, int, int], _Worked],
        *,
        is_over: bool,
    ) -> None:
        self._follower = follower
        self._run = run
        self._worked = worked
        self._is_over = is_over
        self._submitted = submission_time(disk, run.number) if run.submission else None
        self._lives: dict[int, list[LifeView]] = {}
        for view in run.lives:
            self._lives.setdefault(view.life.task, []).append(view)

    def __iter__(self) -> Iterator[TaskUse]:
        submission = self._run.submission
        if submission is not None and submission.kind == "slurm":
            tasks: Iterable[int] = {*range(self._run.asked["tasks"]), *self._lives}
        else:
            tasks = self._lives
        for task in sorted(tasks):
            yield self._use(task, sorted(self._lives.get(task, ()), key=lambda v: v.life.life))

    def _use(self, task: int, lives: list[LifeView]) -> TaskUse:
        started = [view for view in lives if view.started is not None]
        on_slurm = self._run.submission is not None and self._run.submission.kind == "slurm"
        use = TaskUse(
            self._run.number,
            task,
            cpus=self._run.asked.get("cpus_per_node") if on_slurm else None,
            memory_mb=_asked_memory(self._run.asked) if on_slurm else None,
            queued=self._queued(started),
        )
        if not started:
            return use
        worked = [self._worked.get((use.run, task, view.life.life), _Worked()) for view in lives]
        ends = [view.end or {} for view in lives]
        latest = lives[-1]
        first = started[-1].started or {}
        return use._replace(
            hosts=", ".join(dict.fromkeys(_host(view) for view in started)),
            workers=_count(first.get("workers")),
            elapsed=sum(self._elapsed(view) for view in started),
            begun=self._begun(started[-1]),
            busy=sum(each.seconds for each in worked) + sum(map(self._unsettled, lives)),
            cpu=sum(each.cpu for each in worked),
            cpu_all=_total([_number(end.get("cpu_seconds")) for end in ends]),
            peak_mb=max(filter(None, (_number(end.get("peak_mb")) for end in ends)), default=None),
            memory_mb=_number(ends[-1].get("memory_mb")) or use.memory_mb,
            limit=_number(first.get("limit")) if on_slurm else None,
            ended=str((latest.end or {}).get("reason", "")) or ("killed" if self._is_over else ""),
        )

    def _queued(self, started: Sequence[LifeView]) -> float | None:
        """Give how long the first life waited; the clocks of two machines may differ a little."""
        if self._submitted is None:
            return None
        if not started:
            return None if self._is_over else max(0.0, time.time() - self._submitted)
        first = started[0]
        since = (first.started or {})["time"] - self._submitted
        return max(0.0, since) if first.life.life == 0 else None

    def _is_alive(self, view: LifeView) -> bool:
        return not self._is_over and view.end is None and view in self._run.latest

    def _elapsed(self, view: LifeView) -> float:
        """Give how long a life took; of one that was killed, as long as there is a sign of it."""
        begin: float = (view.started or {})["time"]
        if view.end is not None:
            end: float = view.end["time"]
        elif self._is_alive(view):
            end = time.time()
        else:
            signs = [begin, self._work_of(view).last or begin]
            signs += [_number(record.get("start")) or begin for record in view.running.values()]
            signs += [
                (_number(record.get("start")) or begin) + float(record["seconds"])
                for record in view.interrupted
            ]
            end = max(signs)
        return max(0.0, end - begin)

    def _work_of(self, view: LifeView) -> _Worked:
        return self._worked.get((self._run.number, view.life.task, view.life.life), _Worked())

    def _begun(self, view: LifeView) -> float | None:
        first = self._work_of(view).first
        return None if first is None else max(0.0, first - (view.started or {})["time"])

    def _unsettled(self, view: LifeView) -> float:
        """Give the seconds of attempts without an outcome: those that still run, and others."""
        seconds = sum(float(record["seconds"]) for record in view.interrupted)
        if self._is_alive(view):
            now, running = time.time(), self._follower.running_rows()
            begun = (_number(view.running[row].get("start")) for row in running & set(view.running))
            seconds += sum(max(0.0, now - start) for start in begun if start is not None)
        return seconds


def _completed(
    tasks: Sequence[TaskUse], follower: Follower, runs: Sequence[RunView]
) -> Iterator[TaskUse]:
    """Fill in from the accounts what the folder does not say of tasks that have ended."""
    submissions = {
        run.number: run.submission
        for run in runs
        if run.submission is not None and run.submission.kind == "slurm"
    }
    lacking = {use.run for use in tasks if use.run in submissions and _lacks(use)}
    accounts = follower.accounting.of([submissions[run] for run in sorted(lacking)])
    for use in tasks:
        submission = submissions.get(use.run)
        key = (submission.job_id if submission else "", use.task)
        yield _with_account(use, accounts[key]) if key in accounts else use


def _lacks(use: TaskUse) -> bool:
    return bool(use.ended) and None in (use.queued, use.peak_mb, use.memory_mb)


def _with_account(use: TaskUse, account: Account) -> TaskUse:
    queued = use.queued
    if queued is None and account.submitted is not None and account.started is not None:
        queued = account.started - account.submitted
    return use._replace(
        queued=queued,
        peak_mb=account.peak_mb if use.peak_mb is None else use.peak_mb,
        memory_mb=account.memory_mb if use.memory_mb is None else use.memory_mb,
    )


def _asked_memory(asked: Mapping[str, Any]) -> float | None:
    """Give the MiB that a run asked for each of its tasks; None where it left that to the site."""
    with contextlib.suppress(InvalidArgumentError):
        plain = parse_memory(asked["resources"].get("mem"))
        return float(plain[:-1]) * _MEGABYTES[plain[-1]]
    return None


def _host(view: LifeView) -> str:
    started = view.started or {}
    return str(started["node"] or started["host"])


def _total(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _number(value: Any) -> float | None:
    """Take a number of a record; a folder may come from elsewhere."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
