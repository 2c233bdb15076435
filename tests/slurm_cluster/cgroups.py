"""Control groups (version 1): whether they can be made here, and the removal of forgotten ones."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm_cluster.layout import JOB_IDS_EACH
from tests.slurm_cluster.processes import send

if TYPE_CHECKING:
    from tests.slurm_cluster.layout import Facts

CGROUPS = Path("/sys/fs/cgroup")
# What proctrack/cgroup and task/cgroup use.
CONTROLLERS = ("freezer", "memory")


def can_limit_memory() -> bool:
    """Tell whether this account may make cgroups of the kind that Slurm is told to use."""
    for controller in CONTROLLERS:
        trial = CGROUPS / controller / f"slurmapply_trial_{os.getpid()}"
        try:
            trial.mkdir()
            is_cgroup = (trial / "cgroup.procs").exists()
            trial.rmdir()
        except OSError:
            return False
        if not is_cgroup:
            return False
    return True


def sweep(facts: Facts) -> None:
    """Kill what is left in the cgroups of a cluster's jobs, and remove those cgroups.

    Slurm does it by itself unless its daemons were killed. The folders above belong to all
    clusters of this machine and stay.
    """
    for controller in CONTROLLERS:
        for job in (CGROUPS / controller).glob("slurm_node*/uid_*/job_*"):
            job_id = int(job.name.removeprefix("job_"))
            if 0 <= job_id - facts.first_job_id < JOB_IDS_EACH:
                _remove(job)


def _remove(job: Path) -> None:
    inner_first = sorted([job, *(path for path in job.rglob("*") if path.is_dir())], reverse=True)
    for cgroup in inner_first:
        with contextlib.suppress(OSError):  # gone meanwhile, or a process in it is just dying
            send(
                [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()], signal.SIGKILL
            )
            cgroup.rmdir()
