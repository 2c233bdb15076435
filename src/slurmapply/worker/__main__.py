"""The node's program: ``python worker.pyz --uuid U --run K --tag T``, started by submit.sh."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import FolderDisk, random_hex
from slurmapply.errors import SlurmApplyError
from slurmapply.jobfolder import Life
from slurmapply.order import order_rows
from slurmapply.records import TaskRecord
from slurmapply.seeds import seed_of
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claims
from slurmapply.worker.clerk import Desk
from slurmapply.worker.kernel import boot_id, start_time
from slurmapply.worker.run import (
    NotOursError,
    Run,
    adopt,
    fix_rows,
    history_before,
    plan_run,
    refuse_if_over,
)
from slurmapply.worker.supervisor import Supervisor
from slurmapply.worker.timelimit import TaskTime, kill_wait, limit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurmapply.worker.history import Past
    from slurmapply.worker.process import Assignment

#: So much of a pickled function is looked at for how it was pickled.
_BEGINNING = 4096


def main(arguments: list[str]) -> int:
    """Run one task; gives the exit status."""
    try:
        return _run_task(*_parse(arguments))
    except NotOursError as reason:
        sys.stderr.write(f"slurmapply: {reason}\n")
        return 0
    except SlurmApplyError as error:
        sys.stderr.write(f"slurmapply: {error}\n")
        return 1


def _parse(arguments: list[str]) -> tuple[str, int, str]:
    # argparse would cost 10 ms of each task's start.
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    try:
        return given["--uuid"], int(given["--run"]), given["--tag"]
    except (KeyError, ValueError):
        raise SlurmApplyError(
            "this program is started by submit.sh: cd into the job folder and `sbatch submit.sh`"
        ) from None


def _run_task(uuid: str, number: int, tag: str) -> int:
    disk = FolderDisk(os.getcwd())
    job = jobfolder.read_job(disk)
    asked = jobfolder.read_run(disk, number)
    if job["uuid"] != uuid or asked["tag"] != tag:
        raise NotOursError(
            f"the job in {disk.path} is not the one that this script was written for (it was "
            "replaced or submitted anew since); this task ends here and changes nothing."
        )
    refuse_if_over(disk, number)
    mine = _identity()
    adopt(disk, number, mine)
    life = Life(
        _file_safe(mine["job_id"]), _number("SLURM_ARRAY_TASK_ID"), _number("SLURM_RESTART_COUNT")
    )
    rows = fix_rows(disk, uuid, job["rows"], number, asked["rule"])
    run = plan_run(number, uuid, order_rows(disk, job, asked, rows), asked)
    return _supervise(disk, job, asked, run, life, everything=mine["kind"] == "local")


def _identity() -> dict[str, Any]:
    """Say which submission this task belongs to, as the session would."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
        return {"kind": "slurm", "job_id": array, "cluster": cluster}
    host, boot, start = os.uname().nodename, boot_id(), start_time()
    job_id = os.environ.get("SLURMAPPLY_SUBMISSION") or f"local-{random_hex()}"
    return {
        "kind": "local", "job_id": job_id, "host": host, "boot_id": boot, "pid": os.getpid(),
        "start_time": start,
    }  # fmt: skip


def _file_safe(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z.@-]", "-", name)


def _number(variable: str) -> int:
    # SLURM_RESTART_COUNT is set only when it is above 0 (Slurm 22.05, env.c).
    return int(os.environ.get(variable) or 0)


def _supervise(
    disk: FolderDisk,
    job: dict[str, Any],
    asked: dict[str, Any],
    run: Run,
    life: Life,
    *,
    everything: bool,
) -> int:
    def desk() -> Desk:
        survey = Survey(disk, run.uuid, job["rows"])
        claims = Claims(disk, run, life, survey, everything=everything)
        return Desk(disk, run, claims, TaskRecord(disk, run.number, life))

    workers = _workers(asked, everything=everything)
    supervisor = Supervisor(
        run,
        desk,
        _assignments(disk, job, asked, run, life=life, workers=workers),
        prepare=_preparation(disk, asked),
        workers=workers,
        history=_history(disk, job, run) if run.number or life.life else {},
        task_time=_task_time(asked, everything=everything),
    )
    return supervisor.run(os.environ.get("SLURMAPPLY_STOP", ""))


def _assignments(
    disk: FolderDisk,
    job: dict[str, Any],
    asked: dict[str, Any],
    run: Run,
    *,
    life: Life,
    workers: int,
) -> Callable[[int], Assignment]:
    def assignment(worker: int) -> Assignment:
        from slurmapply.worker.process import Assignment, Session  # noqa: PLC0415  # loaded by then

        session = Session(
            job["session"]["folder"],
            (*job["session"]["sys_path"], *asked["sys_path"]),
            tuple(asked["packages"]),
            seed_of(job),
            # A lone worker has them all: nobody is there to share them with.
            asked["gpus_per_node"] if workers > 1 else None,
        )
        outcomes = life.outcomes(run.number, str(worker))
        function = jobfolder.function_files(asked)
        return Assignment(disk, run.uuid, run.rows, function, outcomes, session, worker)

    return assignment


def _preparation(disk: FolderDisk, asked: dict[str, Any]) -> Callable[[], None]:
    """Make what loads the workers' modules before they are forked, once for all of them."""
    by_value = _is_by_value(disk, jobfolder.function_files(asked)[0])

    def prepare() -> None:
        import slurmapply.worker.process  # noqa: F401, PLC0415

        if by_value:
            import cloudpickle  # noqa: F401, PLC0415
        # What is loaded by now stays: a collector that looks at it in each worker would copy the
        # pages that they share (gc.freeze in Python's documentation).
        gc.freeze()
        gc.enable()

    return prepare


def _is_by_value(disk: FolderDisk, function: str) -> bool:
    """Whether a function needs cloudpickle: one that was pickled by value names it at once."""
    # What is wrong with the file, the worker that loads it will say.
    with contextlib.suppress(OSError):
        file = disk.open(function)
        if file is not None:
            with file:
                return b"cloudpickle" in file.read(_BEGINNING)
    return False


def _history(disk: FolderDisk, job: dict[str, Any], run: Run) -> dict[int, Past]:
    return history_before(disk, run, Survey(disk, run.uuid, job["rows"]))


def _task_time(asked: dict[str, Any], *, everything: bool) -> TaskTime:
    """Say when the task must end; without a Slurm nobody ends it."""
    if everything:
        return TaskTime(None, None)
    return TaskTime(limit_of(asked, os.environ), kill_wait(os.environ))


def _workers(asked: dict[str, Any], *, everything: bool) -> int:
    processes: int = asked["processes_per_node"]
    if not everything:
        return processes
    tasks: int = asked["tasks"]
    return max(1, min(tasks * processes, len(os.sched_getaffinity(0))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
