"""What the batch system says of tasks that have ended: asked once, and only who wants causes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from slurmapply.schedulers.base import Answer, Scheduler, Submission, TaskState

    #: The last word about each task, by its number; None is said of all tasks.
    Words: TypeAlias = Mapping[int | None, TaskState]

#: A task has written its last record, and Slurm is still ending it: it has no word until then.
_ENDING = 1.0
#: Before it is asked again about what it did not know.
_PAUSE = 60.0


@dataclass(slots=True)
class LastWords:
    """Slurm's words about submissions that are over.

    Attributes
    ----------
    scheduler
        Gives the batch system for a kind of submission.
    """

    scheduler: Callable[[str], Scheduler]
    _answers: dict[str, Answer] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)

    def of(self, submission: Submission | None, heard: Answer | None = None) -> Words:
        """Give the last word about each task.

        Parameters
        ----------
        submission
            Nothing of it runs any more.
        heard
            The newest answer, which may be from before the end.
        """
        if submission is None or submission.kind != "slurm":
            return {}
        job_id = submission.job_id
        if heard is not None and _is_last(heard):
            self._answers[job_id] = heard
        answer = self._answers.get(job_id)
        if not (answer and _is_last(answer)) and time.monotonic() >= self._next.get(job_id, 0.0):
            answer = self._answers[job_id] = self._ask(submission)
            self._next[job_id] = time.monotonic() + _PAUSE
        return _by_task(answer, job_id) if answer else {}

    def _ask(self, submission: Submission) -> Answer:
        scheduler = self.scheduler(submission.kind)
        answer = scheduler.states([submission])
        if answer.known and any(state.alive for state in answer.tasks):
            time.sleep(_ENDING)
            answer = scheduler.states([submission])
        return answer


def _is_last(answer: Answer) -> bool:
    return answer.known and bool(answer.tasks) and not any(state.alive for state in answer.tasks)


def _by_task(answer: Answer, job_id: str) -> Words:
    return {
        state.task: state for state in answer.tasks if state.job_id == job_id and not state.alive
    }
