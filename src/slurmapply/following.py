"""Following a job: what the folder shows, and the batch system asked as seldom as possible."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.accounting import Accounting
from slurmapply.backends import slurm_accounts
from slurmapply.lastwords import LastWords
from slurmapply.questions import Questions
from slurmapply.runview import RunReader, RunView, ended_files
from slurmapply.schedulers.base import Answer, Phase, Scheduler
from slurmapply.schedulers.local import is_here
from slurmapply.schedulers.slurm_words import waits_in_vain
from slurmapply.states import (
    OVER,
    Evidence,
    JobState,
    Presence,
    RowStatus,
    job_state,
)
from slurmapply.status import JobStatus, in_vain, sorted_queue
from slurmapply.statuses import Statuses
from slurmapply.submitting import look_for_submission
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterable, Mapping

    from slurmapply.choice import Outcomes
    from slurmapply.disk import FolderDisk
    from slurmapply.intents import Intent
    from slurmapply.lastwords import Words
    from slurmapply.records import LifeView
    from slurmapply.schedulers.base import TaskState

#: Until a shared disk surely shows what tasks wrote last: twice the longest default of NFS's
#: directory attribute cache (acdirmax, 60 s); on a disk of this machine only the writers' time.
_SHARED_GRACE = 120.0
_LOCAL_GRACE = 2.0
#: The same where tasks are processes of this machine: its workers die with a supervisor.
_PROCESS_GRACE = 0.2


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
        self._scheduler = functools.cache(scheduler)  # one remembers what it cannot be asked
        self._questions = Questions()
        self._last_words = LastWords(scheduler)
        self.accounting = Accounting(slurm_accounts)
        self._asked_of_run = -1
        self._ended_since: float | None = None
        self._settled: tuple[Intent, ...] = ()
        second_look = {"second_look": 0.0} if is_here(disk.path.absolute()) else {}
        self.survey = Survey(disk, job["uuid"], job["rows"], **second_look)
        self._statuses = Statuses(self.survey.outcomes)
        self._reader = RunReader(disk, job["rows"])
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
        if ask and state not in OVER and self._questions.due(now):
            self._ask(now)
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
            for run in range(latest):
                self._note_ended(run, self._reader.lives(run))
            self.survey.update(range(latest + 1))
            self._statuses.note_earlier(map(self._view_run, range(latest)))
        self.run = self._view_run(latest)
        self._note_ended(latest, self.run.lives)
        return bool(self.survey.update(range(latest + 1)))

    def _note_ended(self, run: int, lives: Iterable[LifeView]) -> None:
        """Note the files of tasks that have ended well; those of others may still grow."""
        for view in lives:
            if view.end is not None and view.end["reason"] == "done":
                self.survey.ended |= ended_files(run, view)

    def _latest_run(self) -> int:
        numbers = set(map(jobfolder.parse_run, self._disk.names(".")))
        # One after the other: what lies there beyond a gap is no run of ours.
        return next(number for number in itertools.count() if number + 1 not in numbers)

    def _view_run(self, number: int) -> RunView:
        return self._reader.view(number, self.outcomes.left)

    def _ask(self, now: float) -> None:
        if self.doubtful:
            self._look_for_submission(now)
        submission = self.run.submission
        if submission is not None:
            answer = self._scheduler(submission.kind).states([submission])
            self._questions.note(answer, now)

    @property
    def doubtful(self) -> bool:
        """Whether the latest run may have been submitted, and nobody has found out."""
        run = self.run
        return bool(run.intents and not run.lives) and run.intents != self._settled

    def _look_for_submission(self, now: float) -> None:
        unanswered = look_for_submission(self._disk, self._job, self.run, self._scheduler)
        if unanswered:
            self._questions.note(Answer(known=False, error=unanswered), now)
            return
        self._settled = self.run.intents
        self._read()

    def _judge(self, now: float) -> JobState:
        run, presence = self.run, self._presence()
        if run.ended and self._ended_since is None and run.may_come_back:
            self._questions.ask_next()
        self._ended_since = (self._ended_since or now) if run.ended else None
        complete = self._all_read(now)
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
                doubtful=self.doubtful,
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

    def _all_read(self, now: float) -> bool:
        """Whether all outcomes files that tasks named at their end are here and read."""
        files: dict[str, int] = {}
        for view in self.run.latest:
            files |= ended_files(self.run.number, view)
        if any(map(self.survey.damaged_at, files)) and self._may_heal(now):
            return False
        return all(self.survey.has_read(path, size) for path, size in files.items())

    def _may_heal(self, now: float) -> bool:
        """Whether what looks damaged may still be on its way; tasks sync before they end."""
        since = self._ended_since
        return self._within_grace(since, now) and now - (since or now) < _LOCAL_GRACE

    def _within_grace(self, since: float | None, now: float) -> bool:
        """Whether the disk may still show files of tasks that have ended since."""
        if since is None:
            return False
        submission = self.run.submission
        if submission is not None and submission.kind != "slurm":
            return now - since < _PROCESS_GRACE
        here = is_here(self._disk.path.absolute())
        return now - since < (_LOCAL_GRACE if here else _SHARED_GRACE)

    def view_run(self, number: int) -> RunView:
        """Give a run as the folder shows it, an earlier one too."""
        return self.run if number == self.run.number else self._view_run(number)

    def last_words(self, run: RunView) -> Words:
        """Give what the batch system says of the tasks of a run that is over, by their number.

        It is asked for this once, unless it was asked since the end.
        """
        heard = self._questions.answer if run.number == self.run.number else None
        return self._last_words.of(run.submission, heard)

    def waiting_in_vain(self, state: JobState) -> list[TaskState]:
        """Give the tasks that are held or will never start, when no other is left."""
        answer = self._questions.answer
        if answer is None or state in OVER:
            return []
        alive = [task for task in answer.tasks if task.alive]
        return alive if all(waits_in_vain(task.word, task.reason) for task in alive) else []

    def note_in_vain(self, state: JobState) -> str:
        """Say that a job waits for nothing, and what to do; empty for one that goes on."""
        return in_vain(self._job["name"], self.waiting_in_vain(state))

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
        return self._statuses.of_row(row, self.run, state)

    def status_codes(self, state: JobState) -> bytes:
        """Give a code for the status of each row, by `slurmapply.statuses.WORDS`."""
        return self._statuses.codes(self.run, state)

    def rows_that_are(self, wanted: Collection[RowStatus], state: JobState) -> list[int]:
        """Give the rows that have one of these statuses, in order."""
        return self._statuses.rows(wanted, self.run, state)

    def running_rows(self) -> set[int]:
        """Rows that a live task has named as running, and that have no outcome yet."""
        return self._statuses.running(self.run)

    def count(self, state: JobState) -> tuple[Counter[str], Counter[str]]:
        """Count rows by status, and failed rows by cause."""
        return self._statuses.count(self.run, state)

    def status(
        self,
        state: JobState,
        read_log: Callable[[], dict[int, str]],
        read_reasons: Callable[[], list[str]] = list,
    ) -> JobStatus:
        """Put together what there is to say."""
        counts, causes = self.count(state)
        answer = self._questions.answer
        asked = answer is not None and state not in OVER
        return JobStatus(
            self._job["name"],
            state,
            {status.value: counts[status] for status in RowStatus if counts[status]},
            dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
            sorted_queue(self._still_so(answer.tasks)) if answer and asked else [],
            time.monotonic() - self._questions.answered_at
            if asked and self._questions.answered_at
            else 0.0,
            self._seconds_left(state),
            self._note(state, answer if asked else None),
            self.outcomes.duplicates,
            read_log,
            read_reasons,
        )

    def _still_so(self, tasks: Iterable[TaskState]) -> list[TaskState]:
        """Leave out what Slurm said of tasks that have begun or ended since it was asked."""
        asked_at = time.time() - (time.monotonic() - self._questions.answered_at)
        submission = self.run.submission
        job_id = submission.job_id if submission else None
        since = {view.life.task for view in self.run.latest if _last_sign(view) > asked_at}
        return [each for each in tasks if each.job_id != job_id or each.task not in since]

    def _seconds_left(self, state: JobState) -> float | None:
        settled: int = self.outcomes.settled_in(self.run.number)
        starts = [float(view.started["time"]) for view in self.run.lives if view.started]
        if state is not JobState.RUNNING or not settled or not starts:
            return None
        elapsed = max(0.0, time.time() - min(starts))
        left = len(self.run.rows) - settled
        return elapsed / float(settled) * left

    def _note(self, state: JobState, answer: Answer | None) -> str:
        notes = [f"not everything could be read: {text}" for text in self.survey.damage]
        if answer is not None:
            notes += filter(None, (answer.error, self.note_in_vain(state)))
        return "\n".join(notes)


def _last_sign(view: LifeView) -> float:
    """Give when a task began or ended, by its node's clock."""
    return max([0.0, *(float(record["time"]) for record in (view.started, view.end) if record)])
