"""Following a job: what the folder shows, and the batch system asked as seldom as possible."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.records import read_lives
from slurmapply.rows import RowNumbers
from slurmapply.runview import RunView, read_submission
from slurmapply.schedulers.base import Answer, Phase, Scheduler, Submission
from slurmapply.schedulers.local import is_here
from slurmapply.states import (
    OK_CODE,
    OVER,
    STATUS_OF_CODE,
    Evidence,
    JobState,
    Presence,
    RowStatus,
    job_state,
)
from slurmapply.status import JobStatus, sorted_queue
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.choice import Outcomes
    from slurmapply.disk import FolderDisk

#: Until a shared disk surely shows what tasks wrote last: twice the longest default of NFS's
#: directory attribute cache (acdirmax, 60 s); on a disk of this machine only the writers' time.
_SHARED_GRACE = 120.0
_LOCAL_GRACE = 2.0
#: The same where tasks are processes of this machine: its workers die with a supervisor.
_PROCESS_GRACE = 0.2

_FIRST_QUESTION_AFTER = 2.0
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class Questions:
    """When the batch system may be asked, and what it last said.

    Nothing is asked while the folder answers; else after two seconds, then less and less often,
    whatever the caller's loop does. A look after two quiet seconds always asks.
    """

    answer: Answer | None = None
    answered_at: float = 0.0
    _pause: float = _FIRST_QUESTION_AFTER
    _next: float = 0.0
    _last_look: float | None = None
    absent_since: float | None = None

    def note_look(self, now: float, *, news: bool, waiting: bool) -> None:
        """Note a look at the job.

        Parameters
        ----------
        now
            The time, in seconds of a clock that only goes on.
        news
            The folder showed something new, so that nothing needs to be asked.
        waiting
            The look is one of many; a lone one after two quiet seconds asks at once.
        """
        first = self._last_look is None
        quiet = first or now - (self._last_look or now) > _FIRST_QUESTION_AFTER
        self._last_look = now
        if news or (waiting and first):
            self._pause = _FIRST_QUESTION_AFTER
            self._next = now + self._pause
        elif quiet and not waiting:
            self._next = now

    def ask_next(self) -> None:
        """Ask at the next look, and then often at first."""
        self._pause = _FIRST_QUESTION_AFTER
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return now >= self._next

    def note(self, answer: Answer, now: float) -> None:
        """Keep an answer, and ask later next time."""
        self._next = now + self._pause
        self._pause = min(_LONGEST_PAUSE, self._pause * 1.5)
        if answer.known:
            self.answer, self.answered_at = answer, now
            alive = any(state.alive for state in answer.tasks)
            self.absent_since = None if alive else self.absent_since or now
        else:
            known = self.answer.tasks if self.answer else ()
            self.answer = Answer(known=False, tasks=known, error=answer.error)


class Follower:
    """What a session knows of a job, kept up to date.

    Parameters
    ----------
    disk, job
        The folder and its ``job.json``.
    scheduler
        Gives the batch system for a kind of submission.
    """

    def __init__(
        self, disk: FolderDisk, job: Mapping[str, Any], scheduler: Callable[[str], Scheduler]
    ) -> None:
        self._disk = disk
        self._job = job
        self._scheduler = scheduler
        self._questions = Questions()
        self._asked_of_run = -1
        self._ended_since: float | None = None
        self.survey = Survey(disk, job["uuid"], job["rows"])
        self.run = self._view_run(0)

    @property
    def outcomes(self) -> Outcomes:
        """The outcomes that count."""
        return self.survey.outcomes

    def look(self, *, ask: bool = True, waiting: bool = False) -> JobState:
        """Look at the folder, ask the batch system if need be and allowed, and judge.

        Parameters
        ----------
        ask
            False: never ask.
        waiting
            The caller looks again and again until the job's end.
        """
        now = time.monotonic()
        news = self._read()
        if ask:
            self._questions.note_look(now, news=news, waiting=waiting)
        state = self._judge(now)
        if ask and state not in OVER and self.run.submission and self._questions.due(now):
            self._ask(self.run.submission, now)
            self._read()
            state = self._judge(now)
        return state

    def _read(self) -> bool:
        """Read the folder; tells whether there were new outcomes.

        Records before outcomes: a task that has written its ``end`` has written its outcomes, so
        that what is read after the ``end`` is complete.
        """
        latest = self._latest_run()
        if latest != self._asked_of_run:
            self._questions = Questions()
            self._asked_of_run = latest
            self.survey.update(range(latest + 1))
        self.run = self._view_run(latest)
        return bool(self.survey.update(range(latest + 1)))

    def _latest_run(self) -> int:
        numbers = map(jobfolder.parse_run, self._disk.names("."))
        return max((number for number in numbers if number is not None), default=0)

    def _view_run(self, number: int) -> RunView:
        asked = jobfolder.read_run(self._disk, number)
        return RunView(
            number,
            asked,
            read_submission(self._disk, number),
            self._rows_of(number, asked["rule"]),
            self._disk.read(jobfolder.cancelled(number)) is not None,
            read_lives(self._disk, number),
        )

    def _rows_of(self, number: int, rule: Any) -> RowNumbers:
        fixed = self._disk.read(jobfolder.run_rows(number))
        if fixed is not None:
            return RowNumbers(jobfolder.decode_json(fixed, self._disk.path)["ranges"])
        if rule == "all":
            return RowNumbers.first(self._job["rows"])
        if rule != "left":
            return RowNumbers(rule)
        rows = range(self._job["rows"])
        return RowNumbers.of(r for r in rows if self.outcomes.status_code(r) != OK_CODE)

    def _ask(self, submission: Submission, now: float) -> None:
        answer = self._scheduler(submission.kind).states([submission])
        self._questions.note(answer, now)

    def _judge(self, now: float) -> JobState:
        run, presence = self.run, self._presence()
        complete = self._all_read()
        if run.ended and self._ended_since is None and run.may_come_back:
            self._questions.ask_next()
        self._ended_since = (self._ended_since or now) if run.ended else None
        for_good = presence is Presence.ABSENT or not run.may_come_back
        return job_state(
            Evidence(
                submitted=bool(run.submission or run.lives or not self._job["rows"]),
                settled=self.outcomes.settled_in(run.number) >= len(run.rows),
                cancelled=run.cancelled,
                started=run.started,
                ended=run.ended
                and for_good
                and (complete or not self._within_grace(self._ended_since, now)),
                presence=presence,
                files_may_come=self._within_grace(self._questions.absent_since, now)
                or (run.ended and not complete),
            )
        )

    def _presence(self) -> Presence:
        answer = self._questions.answer
        if answer is None:
            return Presence.NOT_ASKED
        if not answer.known:
            return Presence.NO_ANSWER
        phases = {state.phase for state in answer.tasks}
        if phases & {Phase.RUNNING, Phase.ENDING}:
            return Presence.RUNNING
        if phases & {Phase.WAITING, Phase.UNKNOWN}:
            return Presence.WAITING
        return Presence.ABSENT

    def _all_read(self) -> bool:
        """Whether all outcomes files that tasks named at their end are here and read."""
        folder = jobfolder.run_folder(self.run.number)
        return all(
            self.survey.has_read(f"{folder}/{name}", size)
            for view in self.run.latest
            if view.end is not None
            for name, size in view.end["files"].items()
        )

    def _within_grace(self, since: float | None, now: float) -> bool:
        """Whether the disk may still show files of tasks that have ended since."""
        if since is None:
            return False
        submission = self.run.submission
        if submission is not None and submission.kind != "slurm":
            return now - since < _PROCESS_GRACE
        here = is_here(self._disk.path.absolute())
        return now - since < (_LOCAL_GRACE if here else _SHARED_GRACE)

    def tasks_have_ended(self) -> bool:
        """Whether every task has written its ``end``; rows are settled a moment before that."""
        self._read()
        return self.run.submission is None or self.run.ended

    def tasks_are_known(self) -> bool:
        """Ask the batch system whether any task may be there still."""
        submission = self.run.submission
        if submission is None:
            return False
        answer = self._scheduler(submission.kind).states([submission])
        return not answer.known or any(state.alive for state in answer.tasks)

    def expect_change(self) -> None:
        """Ask at the next look: something was done that changes the answer."""
        self._questions.ask_next()

    # -- rows ------------------------------------------------------------------------------

    def row_status(self, row: int, state: JobState) -> RowStatus:
        """Say what is the case with one row."""
        code = self.outcomes.status_code(row)
        due = row in self.run.rows and self.outcomes.last_run(row) < self.run.number
        if state not in OVER and (due or not code):
            return RowStatus.RUNNING if row in self.running_rows() else RowStatus.PENDING
        if code:
            return STATUS_OF_CODE[code]
        if state is JobState.PREPARED:
            return RowStatus.PENDING
        return RowStatus.CANCELLED if self.run.cancelled else RowStatus.UNFINISHED

    def running_rows(self) -> set[int]:
        """Rows that a live task has named as running, and that have no outcome yet."""
        return {
            row
            for view in self.run.latest
            if view.end is None
            for row in view.running
            if self.outcomes.last_run(row) < self.run.number
        }

    def count(self, state: JobState) -> tuple[Counter[str], Counter[str]]:
        """Count rows by status, and failed rows by cause."""
        counts: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        for (code, cause), number in self.outcomes.tally.items():
            counts[STATUS_OF_CODE[code].value] += number
            if cause:
                causes[cause] += number
        over = state in OVER
        for row in self._due_again() if not over else ():
            counts[STATUS_OF_CODE[self.outcomes.status_code(row)].value] -= 1
            causes[self._cause(row)] -= 1
        missing = self._job["rows"] - counts.total()
        running = 0 if over else len(self.running_rows())
        counts[RowStatus.RUNNING.value] += min(running, missing)
        counts[self._missing_word(state).value] += missing - min(running, missing)
        return +counts, +causes

    def _due_again(self) -> list[int]:
        """Rows of a later run that are to run again."""
        if not self.run.number:
            return []
        return [
            row
            for row in self.run.rows
            if self.outcomes.status_code(row) and self.outcomes.last_run(row) < self.run.number
        ]

    def _cause(self, row: int) -> str:
        found = self.outcomes.find(row)
        return found[0].cause(found[1]) if found else ""

    def _missing_word(self, state: JobState) -> RowStatus:
        if state not in OVER or state is JobState.PREPARED:
            return RowStatus.PENDING
        return RowStatus.CANCELLED if self.run.cancelled else RowStatus.UNFINISHED

    def status(self, state: JobState, read_log: Callable[[], dict[int, str]]) -> JobStatus:
        """Put together what there is to say."""
        counts, causes = self.count(state)
        answer = self._questions.answer
        asked = answer is not None and state not in OVER
        return JobStatus(
            self._job["name"],
            state,
            {status.value: counts[status] for status in RowStatus if counts[status]},
            dict(causes.most_common()),
            sorted_queue(answer.tasks) if answer and asked else [],
            time.monotonic() - self._questions.answered_at if asked else 0.0,
            self._seconds_left(state),
            self._note(answer if asked else None),
            read_log,
        )

    def _seconds_left(self, state: JobState) -> float | None:
        settled: int = self.outcomes.settled_in(self.run.number)
        starts = [float(view.started["time"]) for view in self.run.lives if view.started]
        if state is not JobState.RUNNING or not settled or not starts:
            return None
        elapsed = max(0.0, time.time() - min(starts))
        left = len(self.run.rows) - settled
        return elapsed / float(settled) * left

    def _note(self, answer: Answer | None) -> str:
        notes = [f"not everything could be read: {text}" for text in self.survey.damage]
        if answer is not None and answer.error:
            notes.append(answer.error)
        return "\n".join(notes)
