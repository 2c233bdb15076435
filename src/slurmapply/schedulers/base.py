"""The narrow seam between a job and whatever starts its tasks.

A batch system can do four things for us: take a submission, find one whose answer was lost, say
what it thinks of it, end it. A fifth, ``describe``, is for people. Nothing above this package
knows more, and what a batch system says is never the truth about rows: that is in the job folder.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slurmapply.schedulers.options import Options


class Phase(enum.Enum):
    """Where a task is in its life, as the batch system sees it.

    ``UNKNOWN`` is a word that we do not know. It is never read as an end.
    """

    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the batch system says about one task of a submission.

    Attributes
    ----------
    job_id
        The submission that the task belongs to.
    task
        Number of the array task; None for something that is not an array.
    phase
        The batch system's word, read by us.
    word
        The batch system's own word for its state, ``"PENDING"``.
    reason
        Its own word for why, ``"Priority"``; empty when it gave none.
    explanation
        The same in plain words with what to do, empty when there is nothing to say.
    host
        Where it runs or ran.
    exit_code
        Slurm's ``"exit:signal"`` of a task that ended, where it is known.
    name
        The name that it was submitted under: ids are given anew after a controller lost its
        state.
    expected_start
        When a waiting task will start, in the batch system's own estimate: seconds since 1970.
        None where it has none.
    """

    job_id: str
    task: int | None
    phase: Phase
    word: str
    reason: str = ""
    explanation: str = ""
    host: str = ""
    exit_code: str = ""
    name: str = ""
    expected_start: float | None = None

    @property
    def alive(self) -> bool:
        """Whether processes of the task may still run, now or later."""
        return self.phase is not Phase.ENDED


@dataclass(frozen=True, slots=True)
class Account:
    """What the accounts say of one task that has ended; None for what they do not.

    Attributes
    ----------
    submitted, started, ended
        Seconds since 1970.
    memory_mb
        What it was given, in MiB.
    peak_mb
        The most that its processes used together at a time when they were looked at.
    """

    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    memory_mb: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to "what do you think of these submissions?".

    Attributes
    ----------
    known
        False: the question could not be answered, and nothing follows from `tasks` being empty.
    tasks
        One entry per task that the batch system knows. A submission without an entry in an
        answer that is `known` is not known to the batch system any more: nothing of it is alive.
    error
        Why the question was not answered; with `known` a note about what could not be asked.
    """

    known: bool
    tasks: tuple[TaskState, ...] = ()
    error: str = ""

    def of(self, job_id: str) -> tuple[TaskState, ...]:
        """Tasks of one submission."""
        return tuple(state for state in self.tasks if state.job_id == job_id)


@dataclass(frozen=True, slots=True)
class Request:
    """A run that is ready on disk, to be submitted.

    Attributes
    ----------
    folder
        The job folder, absolute: the working folder of the script.
    script
        The script, relative to the folder: ``"submit.sh"`` or ``"run_1/submit.sh"``.
    slurm_name
        The job's name, ``_`` and the tag: by it a submission is found again.
    options
        What is asked of sbatch.
    tasks
        How many array tasks.
    console
        The console of the first task, relative to the folder.
    uuid, run, tag
        Which job and which run of it, and the six hex digits that only this submission has.
    """

    folder: Path
    script: str
    slurm_name: str
    options: Options
    tasks: int
    console: str
    uuid: str
    run: int
    tag: str


@dataclass(frozen=True, slots=True)
class Submission:
    """What a batch system took.

    Attributes
    ----------
    kind
        ``"slurm"``, ``"local"`` or ``"inline"``.
    job_id
        The batch system's name for it.
    details
        What else is needed to find it again: plain values that can be written as JSON.
    """

    kind: str
    job_id: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Scheduler(Protocol):
    """A batch system: five methods, and none of them looks into the job folder."""

    def submit(self, request: Request) -> Submission:
        """Hand over a run.

        Raises
        ------
        SubmissionError
            It was refused, and nothing of it exists.
        SubmissionUnknownError
            It may have been taken.
        """
        ...

    def recover(self, request: Request) -> Submission | None:
        """Find what became of a request whose submission was cut short; None: nothing did.

        Raises
        ------
        SchedulerError
            Nobody can say.
        """
        ...

    def states(self, submissions: Sequence[Submission]) -> Answer:
        """Say what is known of these submissions, with as few questions as possible."""
        ...

    def cancel(self, submission: Submission) -> None:
        """End what is alive of a submission. One that is over already is no error.

        Raises
        ------
        SchedulerError
            The batch system could not be told.
        """
        ...

    def describe(self, submission: Submission) -> str:
        """Say in half a line what was taken, as ``"Slurm job 4711, partition main"``."""
        ...
