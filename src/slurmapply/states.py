"""The words for what can be the case with a row and with a job, and what proves them.

A row's status is one of `RowStatus`. Only *settled* statuses are ever written to disk; the others
say what is known of a row that nothing was written about.

A job's state follows from evidence, by this table; the first line that holds decides:

=========== =====================================================================================
state       evidence
=========== =====================================================================================
unknown     the latest run has neither a submission nor a task record, but an intent whose end
            nobody knows: a session was cut short while it submitted
prepared    the latest run has neither a submission nor a task record
finished    every row of the latest run is settled in that run (nothing is asked of anybody)
cancelled   the run's ``cancelled`` mark, and nothing of it can still run
finished    nothing of it can still run: each task wrote its last ``end``, or the batch system
            answered without naming it and the disk had its time to show the last files
stopping    the ``cancelled`` mark, or nothing runs any more but the last files may still be on
            their way: tasks say in ``end`` which there are
unknown     the batch system was asked and did not answer
running     a task of the run wrote ``started`` and no ``end``, or the batch system says so
queued      otherwise: submitted, and nothing has started
=========== =====================================================================================

An answer that failed, is empty or holds an unknown word never makes a job finished.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class RowStatus(str, enum.Enum):
    """What is the case with one row."""

    OK = "ok"
    ERROR = "error"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    ROW_TIMEOUT = "row_timeout"
    PENDING = "pending"
    RUNNING = "running"
    UNFINISHED = "unfinished"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


FAILED = frozenset(
    {RowStatus.ERROR, RowStatus.CRASHED, RowStatus.OUT_OF_MEMORY, RowStatus.ROW_TIMEOUT}
)
SETTLED = FAILED | {RowStatus.OK}
#: Failed, or nothing is left that could run it: what ``retry()`` takes.
NOT_OK = FAILED | {RowStatus.UNFINISHED, RowStatus.CANCELLED}

#: What an outcome file holds for a settled status; part of the folder's format.
STATUS_CODES = {
    RowStatus.OK: 1,
    RowStatus.ERROR: 2,
    RowStatus.CRASHED: 3,
    RowStatus.OUT_OF_MEMORY: 4,
    RowStatus.ROW_TIMEOUT: 5,
}
STATUS_OF_CODE = {code: status for status, code in STATUS_CODES.items()}
OK_CODE = STATUS_CODES[RowStatus.OK]


class JobState(str, enum.Enum):
    """What is the case with a job as a whole."""

    PREPARED = "prepared"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


#: States in which nothing of the job can still run.
OVER = frozenset({JobState.PREPARED, JobState.FINISHED, JobState.CANCELLED})


class Presence(enum.Enum):
    """What the batch system said of a run's tasks, taken together."""

    NOT_ASKED = "not asked"
    NO_ANSWER = "no answer"
    WAITING = "waiting"
    RUNNING = "running"
    ABSENT = "absent"  # a good answer that names none of them, or only ended ones


class Evidence(NamedTuple):
    """All that a job's state is judged by; see the table at the head of this module.

    Attributes
    ----------
    submitted
        The run has a submission or a task record.
    settled
        Every row of the run is settled in this run.
    cancelled
        The ``cancelled`` mark is there.
    started, ended
        A task wrote ``started`` (and no ``end``); every task wrote its last ``end``, and the files
        that it names are read.
    presence
        The batch system's newest answer.
    files_may_come
        The tasks have ended, and too little time has passed for a shared disk to show their files.
    doubtful
        The run was about to be submitted, and nobody has found out whether it was.
    """

    submitted: bool
    settled: bool
    cancelled: bool
    started: bool
    ended: bool
    presence: Presence
    files_may_come: bool
    doubtful: bool = False


def job_state(evidence: Evidence) -> JobState:
    """Judge a job's state by the table at the head of this module.

    Examples
    --------
    >>> job_state(Evidence(True, False, False, False, False, Presence.NO_ANSWER, False)).value
    'unknown'
    """
    over = evidence.ended or (evidence.presence is Presence.ABSENT and not evidence.files_may_come)
    if not evidence.submitted:
        return _unsubmitted(evidence)
    if evidence.settled:
        return JobState.FINISHED
    if over:
        return JobState.CANCELLED if evidence.cancelled else JobState.FINISHED
    if evidence.cancelled or evidence.files_may_come or evidence.presence is Presence.ABSENT:
        return JobState.STOPPING
    if evidence.presence is Presence.NO_ANSWER:
        return JobState.UNKNOWN
    if evidence.started or evidence.presence is Presence.RUNNING:
        return JobState.RUNNING
    return JobState.QUEUED


def _unsubmitted(evidence: Evidence) -> JobState:
    if evidence.doubtful:
        return JobState.UNKNOWN
    # The mark stays in the run: its tasks would end at once.
    return JobState.CANCELLED if evidence.cancelled else JobState.PREPARED
