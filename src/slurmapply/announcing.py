"""The two lines at a submission: what was started, and where its results will be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply.schedulers.local import unshared_file_system
from slurmapply.schedulers.slurm_site import nodes_elsewhere

if TYPE_CHECKING:
    from slurmapply.preparing import RunPlan


def announcement(name: str, folder: Path, plan: RunPlan, described: str) -> str:
    """Say how many rows run at a time, on what, and how to find them again."""
    rows = _counted(plan.rows, "row", "rows")
    return (
        f"{name}: {rows}, {_at_a_time(plan)}, {described}{_gpus(plan)}{_not_enforced(plan)}\n"
        f'results: {with_home(folder)}    later, anywhere: SlurmJob.open("{name}")'
    )


def _at_a_time(plan: RunPlan) -> str:
    if plan.backend == "inline":
        return "one after another"
    workers = f"{min(plan.rows, plan.workers)} at a time"
    if plan.backend == "local":
        return workers
    nodes = _counted(plan.tasks, "node", "nodes")
    return f"{workers} ({nodes} x {_counted(plan.resources.processes, 'process', 'processes')})"


def _gpus(plan: RunPlan) -> str:
    """Say which of the GPUs are shared, and which are for nobody."""
    gpus = plan.resources.gpus
    # Without a Slurm all processes are on this one machine.
    processes = plan.workers if plan.backend == "local" else plan.resources.processes
    if gpus is None or plan.backend == "inline" or processes in (1, gpus):
        return ""
    if processes < gpus:
        idle = gpus - processes
        stay = "stays" if idle == 1 else "stay"
        return f"; {idle} of {gpus} GPUs {stay} idle, with {processes} processes"
    each = f"{processes // gpus}" if processes % gpus == 0 else f"up to {-(-processes // gpus)}"
    return f"; {each} processes share {'each' if gpus > 1 else 'the'} GPU"


def _not_enforced(plan: RunPlan) -> str:
    """Say what of the limits that were asked for nobody watches in the session's own process."""
    limited = plan.backend == "inline" and plan.resources.row_timeout is not None
    return "; row_timeout not enforced" if limited else ""


def _counted(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number} {many}"


def with_home(path: Path) -> str:
    """Write a path with ~ for the user's home."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def disk_warning(folder: Path, kind: str) -> str:
    """Say that the nodes cannot see the job folder, where that is plain; empty otherwise."""
    file_system = unshared_file_system(folder) if kind == "slurm" else ""
    elsewhere = nodes_elsewhere() if file_system else []
    if not elsewhere:
        return ""
    nodes = f"node {elsewhere[0]} is" if len(elsewhere) == 1 else f"{len(elsewhere)} nodes are"
    return (
        f"warning: the job folder is on a disk of this machine alone ({file_system}), and {nodes} "
        "elsewhere: tasks there will not find it. If it is so, job.cancel(), and jobs_folder= with "
        "a folder that all nodes see, often one in your home"
    )
