"""Why rows of a job are left: whose they were, from claims and records; Slurm's last word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.endings import (
    TaskEnd,
    most_telling,
    tells_all,
    too_long,
    waits_for,
    was_cancelled,
    why,
)
from slurmapply.order import order_rows
from slurmapply.outcome import Failure
from slurmapply.records import never_fits
from slurmapply.worker.run import plan_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.lastwords import Words
    from slurmapply.runview import RunView
    from slurmapply.states import JobState

_LONGEST_LINE = 300


class Leftovers:
    """Finds out why rows are left, once for each state of the folder.

    Parameters
    ----------
    disk, job, follower
        The folder, its ``job.json``, what is known of it.
    """

    def __init__(self, disk: FolderDisk, job: Mapping[str, Any], follower: Follower) -> None:
        self._disk = disk
        self._job = job
        self._follower = follower
        self._latest: RunView | None = None
        self._runs: dict[int, RunLeftovers] = {}

    def why(self, row: int) -> Failure:
        """Say why a row without an outcome is left, though nothing can run it any more."""
        return self.run_of(row).why(row)

    def waiting(self, state: JobState) -> Failure:
        """Say what pending rows wait for in vain; nothing of those that just wait."""
        tasks = self._follower.waiting_in_vain(state)
        return waits_for(tasks[0]) if tasks else Failure("", "")

    def asked(self, row: int) -> Mapping[str, Any]:
        """Give the ``run.json`` of the run that a row's outcome is of, or was to be of."""
        found = self._follower.outcomes.find(row)
        run = self._run(found[0].origin.run) if found else self.run_of(row)
        return run.view.asked

    def run_of(self, row: int) -> RunLeftovers:
        """Give the latest run that was to run a row."""
        latest = self._follower.run.number
        found = (self._run(number) for number in range(latest, -1, -1))
        return next((run for run in found if row in run.view.rows), self._run(latest))

    def _run(self, number: int) -> RunLeftovers:
        if self._follower.run is not self._latest:  # the folder was read anew
            self._latest, self._runs = self._follower.run, {}
        if number not in self._runs:
            view = self._follower.view_run(number)
            self._runs[number] = RunLeftovers(
                self._disk, self._job, view, lambda: self._follower.last_words(view)
            )
        return self._runs[number]


class RunLeftovers:
    """Rows of one run that are left.

    Parameters
    ----------
    disk, job, view
        The folder, its ``job.json``, the run.
    ask
        Gives the batch system's last words, by task; called only where no record says enough.
    """

    def __init__(
        self,
        disk: FolderDisk,
        job: Mapping[str, Any],
        view: RunView,
        ask: Callable[[], Words],
    ) -> None:
        self.view = view
        self._disk = disk
        self._ask = ask
        rows = order_rows(disk, job, view.asked, view.rows)
        self._run = plan_run(view.number, job["uuid"], rows, view.asked)
        self._lives = {life.life.task: life for life in view.latest}
        self._records: dict[int, list[Mapping[str, Any]]] = {}
        for life in view.lives:
            for record in (*life.running.values(), *life.interrupted):
                self._records.setdefault(record["row"], []).append(record)
        self._claims: dict[int, int] | None = None
        self._owners: dict[int, int | None] = {}
        self._failures: dict[int | None, Failure] = {}

    def why(self, row: int) -> Failure:
        """Say why a row is left."""
        records = self._records.get(row, ())
        if self.view.cancelled:
            return was_cancelled(ran=bool(records))
        hopeless = next((record for record in records if never_fits(record)), None)
        if hopeless is not None:
            return too_long(hopeless)
        owner = self._owner(row)
        if owner not in self._failures:
            end = most_telling(self._all_ends()) if owner is None else self._end(owner)
            self._failures[owner] = why(end)
        return self._failures[owner]

    @property
    def _on_slurm(self) -> bool:
        submission = self.view.submission
        return submission is None or submission.kind == "slurm"

    def _owner(self, row: int) -> int | None:
        """Give the task that claimed a row last, or None; a static share is claimed from birth."""
        if row not in self.view.rows:
            return None
        chunk = self._run.plan.chunk_at(self._run.rows.position(row))
        if chunk not in self._owners:
            self._owners[chunk] = self._claimer(chunk)
            if self._owners[chunk] is None and self._run.static and self._on_slurm:
                self._owners[chunk] = chunk
        return self._owners[chunk]

    def _claimer(self, chunk: int) -> int | None:
        number = self.view.number
        if self._claims is None:
            names = self._disk.names(jobfolder.claims(number))
            claims = filter(None, map(jobfolder.parse_claim, names))
            self._claims = dict(sorted(claims))  # the latest generation comes last
        if chunk not in self._claims:
            return None
        data = self._disk.read(jobfolder.claim(number, chunk, self._claims[chunk]))
        try:
            return int(json.loads(data or b"")["life"][1])
        except (ValueError, KeyError, IndexError, TypeError):
            return None  # half written on a disk without links, or damaged

    def _all_ends(self) -> list[TaskEnd]:
        tasks = range(self.view.asked["tasks"]) if self._on_slurm else sorted(self._lives)
        return [self._end(task) for task in tasks] or [self._end(0)]

    def _end(self, task: int) -> TaskEnd:
        life = self._lives.get(task)
        words = {} if tells_all(life) else self._ask()
        started = life is not None and life.started is not None
        return TaskEnd(
            task,
            life,
            words.get(task) or words.get(None),
            last_line="" if started else self._last_line(task),
            limit=self._limit(),
            folder=str(self._disk.path),
        )

    def _limit(self) -> float | None:
        """Give the time limit, which all tasks of a run have in common."""
        starts = (life.started for life in self.view.lives if life.started)
        noted = (start["limit"] for start in starts if start.get("limit"))
        limit: float | None = next(noted, self.view.asked.get("time_seconds"))
        return limit

    def _last_line(self, task: int) -> str:
        """Quote the last line of a task's console: the shell's or Slurm's reason."""
        text = self._disk.read(jobfolder.task_console(self.view.number, task)) or b""
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:_LONGEST_LINE] if lines else ""
