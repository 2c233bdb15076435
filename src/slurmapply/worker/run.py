"""A run as its tasks see it: whose it is, which rows it has, how they are cut into chunks."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply import jobfolder
from slurmapply.chunks import ChunkPlan, cost_plan, dynamic_plan, static_plan
from slurmapply.errors import FormatError, SlurmApplyError
from slurmapply.order import OrderedRows
from slurmapply.records import read_lives
from slurmapply.rows import RowNumbers
from slurmapply.states import OK_CODE
from slurmapply.survey import Survey
from slurmapply.worker.history import NEW, Past, histories

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.disk import Disk


#: How often, and how far apart in seconds, to look at a file that another task may be writing.
_LOOKS = 50
_LOOK_EVERY = 0.1


class NotOursError(SlurmApplyError):
    """A task that has no business in this run; nothing is wrong, it ends with one line."""


class Run(NamedTuple):
    """The fixed facts of a run, the same for all of its tasks.

    Attributes
    ----------
    number, uuid
        Of the run; of the job.
    rows
        The run's rows, in the order in which they start; a *position* is an index into them.
    plan
        How positions are cut into chunks.
    static
        Chunk t is task t's alone.
    processes, cpus
        Workers and CPUs of each task.
    retries, row_timeout, max_failures
        As in `slurm_apply`; seconds.
    tasks
        How many tasks share the rows.
    """

    number: int
    uuid: str
    rows: RowNumbers
    plan: ChunkPlan
    static: bool
    processes: int
    cpus: int
    retries: int = 0
    row_timeout: float | None = None
    max_failures: Any = None
    tasks: int = 1


def adopt(disk: Disk, run: int, mine: Mapping[str, Any]) -> None:
    """Make the run this submission's own, or find out that it is another's.

    The first task of whichever submission starts first links ``run_<k>/submission``. What the
    session wrote there after its own submission is the same.

    Raises
    ------
    NotOursError
        The run belongs to another submission.
    """
    name = jobfolder.submission(run)
    content = disk.read(name)
    if content is None:
        disk.publish(name, jobfolder.encode_json(mine))
    owner = _published(disk, name)
    if owner["job_id"] != mine["job_id"]:
        raise NotOursError(
            f"run {run} of this job belongs to {owner['kind']} job {owner['job_id']}; this is "
            f"{mine['job_id']}, which ends here and changes nothing. To run rows again: "
            "SlurmJob.open(folder).retry()."
        )


def refuse_if_over(disk: Disk, run: int) -> None:
    """End a task whose run was cancelled or followed by a later one.

    Raises
    ------
    NotOursError
        Nothing of this run may be started any more.
    """
    if disk.read(jobfolder.cancelled(run)) is not None:
        raise NotOursError(f"run {run} of this job was cancelled before this task started.")
    if is_sealed(disk, run):
        raise NotOursError(f"run {run} of this job was followed by a later one.")


def is_sealed(disk: Disk, run: int) -> bool:
    """Whether a later run has fixed its rows: then this one takes no more chunks."""
    later = run + 1
    while disk.read(jobfolder.run_json(later)) is not None:
        if disk.read(jobfolder.run_rows(later)) is not None:
            return True
        later += 1
    return False


def fix_rows(disk: Disk, uuid: str, rows: int, run: int, rule: Any) -> RowNumbers:
    """Give the run's fixed list of rows; the first task of the run makes it.

    Everybody plans over what was published, never over what they computed themselves: two tasks
    that look at different moments see different rows left.
    """
    name = jobfolder.run_rows(run)
    content = disk.read(name)
    if content is None:
        numbers = _apply_rule(disk, uuid, rows, run, rule)
        made = {"uuid": uuid, "run": run, "ranges": numbers.ranges}
        disk.publish(name, jobfolder.encode_json(made))
    return RowNumbers(_published(disk, name)["ranges"])


def _published(disk: Disk, name: str) -> dict[str, Any]:
    """Read a file that some task has published.

    On a disk with neither hard nor soft links it may be half written for a moment.
    """
    for _ in range(_LOOKS - 1):
        with contextlib.suppress(FormatError):
            return jobfolder.decode_json(disk.read(name) or b"", name)
        time.sleep(_LOOK_EVERY)
    return jobfolder.decode_json(disk.read(name) or b"", name)


def _apply_rule(disk: Disk, uuid: str, rows: int, run: int, rule: Any) -> RowNumbers:
    if rule == "all":
        return RowNumbers.first(rows)
    if rule != "left":
        return RowNumbers(rule)
    survey = Survey(disk, uuid, rows)
    survey.update(range(run))
    survey.verify()
    return RowNumbers.of(row for row in range(rows) if survey.outcomes.status_code(row) != OK_CODE)


def plan_run(number: int, uuid: str, rows: RowNumbers, asked: Mapping[str, Any]) -> Run:
    """Make a run from its ``run.json`` and its fixed rows, in the order in which they start."""
    return Run(
        number, uuid, rows, _plan(rows, asked), asked["schedule"] == "static",
        asked["processes_per_node"], asked["cpus_per_node"], asked["retries"],
        asked["row_timeout"], asked["max_failures"], max(1, asked["tasks"]),
    )  # fmt: skip


def _plan(rows: RowNumbers, asked: Mapping[str, Any]) -> ChunkPlan:
    tasks, processes = max(1, asked["tasks"]), asked["processes_per_node"]
    if asked["schedule"] == "static":
        return static_plan(len(rows), asked["tasks"], processes)
    if isinstance(rows, OrderedRows) and asked["chunksize"] is None:
        return cost_plan(rows.costs, tasks, processes)
    return dynamic_plan(len(rows), tasks, asked["chunksize"])


def history_before(disk: Disk, run: Run, survey: Survey) -> dict[int, Past]:
    """Give the earlier attempts of the run's rows, by position; rows without are left out.

    Outcomes tell of attempts that ended, records of those that were interrupted. Failures count
    within a run only.
    """
    survey.update(range(run.number + 1))
    before: dict[int, int] = {}
    for number in range(run.number):
        for row, past in histories(read_lives(disk, number)).items():
            before[row] = max(before.get(row, 0), past.attempts)
    here = histories(read_lives(disk, run.number))
    found: dict[int, Past] = {}
    for position, row in enumerate(run.rows):
        past = here.get(row, NEW)
        attempts = max(past.attempts, before.get(row, 0), _settled_attempts(survey, row))
        if attempts:
            found[position] = past._replace(attempts=attempts)
    return found


def _settled_attempts(survey: Survey, row: int) -> int:
    outcome = survey.outcomes.find(row)
    return outcome[0].columns["attempt"][outcome[1]] if outcome else 0
