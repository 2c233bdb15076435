"""Which batch system a job goes to: chosen once, here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmapply.errors import InvalidArgumentError, SchedulerNotFoundError
from slurmapply.schedulers.inline import InlineScheduler
from slurmapply.schedulers.local import LocalScheduler
from slurmapply.schedulers.slurm import SlurmScheduler, is_available, traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.schedulers.base import Account, Scheduler, Submission

BACKENDS = ("auto", "slurm", "local", "inline")


def choose_backend(backend: str, *, submit: bool = True) -> str:
    """Give "slurm", "local" or "inline" for what the user asked.

    Parameters
    ----------
    backend
        One of `BACKENDS`; "auto" is Slurm where there is an sbatch, and this machine only where
        there is no trace of a Slurm: a login node is not for computing.
    submit
        False: the folder is only written, so nothing is missed on this machine.

    Raises
    ------
    InvalidArgumentError
        There is no such backend.
    SchedulerNotFoundError
        There should be a Slurm, but its commands are not here.
    """
    if backend not in BACKENDS:
        raise InvalidArgumentError(
            f"backend: one of {', '.join(map(repr, BACKENDS))}, not {backend!r}.",
            argument="backend",
        )
    if backend in ("local", "inline"):
        return backend
    if is_available() or not submit:
        return "slurm"
    found = traces()
    if backend == "auto" and not found:
        return "local"
    hint = f" This machine shows traces of a Slurm ({found})." if found else ""
    raise SchedulerNotFoundError(
        f"there is no sbatch on PATH, so nothing can be submitted to Slurm.{hint} Load Slurm's "
        'commands (often: module load slurm) and try again, or say backend="local" to run on this '
        "very machine, or submit=False to write the job folder only.",
        command=("sbatch",),
    )


def scheduler_for(kind: str) -> Scheduler:
    """Give the batch system for a kind of submission."""
    if kind == "local":
        return LocalScheduler()
    if kind == "inline":
        from slurmapply.worker.inline import run_inline  # noqa: PLC0415  # the node's whole loop

        return InlineScheduler(run_inline)
    return SlurmScheduler()


def slurm_accounts(submissions: Sequence[Submission]) -> Mapping[tuple[str, int], Account]:
    """Give what Slurm's accounts say of the tasks of some submissions.

    Raises
    ------
    SchedulerError
        They do not answer.
    """
    return SlurmScheduler().accounts(submissions)
