"""Call a Python function for every row of a table on a Slurm cluster, and get a table back.

Importing this package loads nothing: each name is loaded when it is first used. The nodes run the
same package, and a user's module that imports it at its top costs them nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurmapply.api import default_template as default_template
    from slurmapply.api import slurm_apply as slurm_apply
    from slurmapply.api import slurm_call as slurm_call
    from slurmapply.api import slurm_map as slurm_map
    from slurmapply.call import CurrentRow as CurrentRow
    from slurmapply.call import current_row as current_row
    from slurmapply.checkup.diagnosis import Check as Check
    from slurmapply.checkup.diagnosis import Diagnosis as Diagnosis
    from slurmapply.checkup.doctor import doctor as doctor
    from slurmapply.collecting import RowReport as RowReport
    from slurmapply.defaults import Default as Default
    from slurmapply.defaults import Defaults as Defaults
    from slurmapply.defaults import get_defaults as get_defaults
    from slurmapply.errors import FormatError as FormatError
    from slurmapply.errors import InvalidArgumentError as InvalidArgumentError
    from slurmapply.errors import JobAliveError as JobAliveError
    from slurmapply.errors import JobExistsError as JobExistsError
    from slurmapply.errors import JobFolderError as JobFolderError
    from slurmapply.errors import JobNotFoundError as JobNotFoundError
    from slurmapply.errors import NotPicklableError as NotPicklableError
    from slurmapply.errors import RowError as RowError
    from slurmapply.errors import RowsFailedError as RowsFailedError
    from slurmapply.errors import SchedulerError as SchedulerError
    from slurmapply.errors import SchedulerNotFoundError as SchedulerNotFoundError
    from slurmapply.errors import SlurmApplyError as SlurmApplyError
    from slurmapply.errors import SubmissionError as SubmissionError
    from slurmapply.errors import SubmissionUnknownError as SubmissionUnknownError
    from slurmapply.errors import UntrustedFolderError as UntrustedFolderError
    from slurmapply.errors import WaitTimeoutError as WaitTimeoutError
    from slurmapply.estimating import Estimate as Estimate
    from slurmapply.estimating import estimate as estimate
    from slurmapply.grid import expand_grid as expand_grid
    from slurmapply.job import SlurmJob as SlurmJob
    from slurmapply.joblist import list_jobs as list_jobs
    from slurmapply.rslurm import cancel_slurm as cancel_slurm
    from slurmapply.rslurm import cleanup_files as cleanup_files
    from slurmapply.rslurm import get_job_status as get_job_status
    from slurmapply.rslurm import get_slurm_out as get_slurm_out
    from slurmapply.rslurm import local_slurm_array as local_slurm_array
    from slurmapply.rslurm import print_job_status as print_job_status
    from slurmapply.rslurm import slurm_job as slurm_job
    from slurmapply.settings import set_defaults as set_defaults
    from slurmapply.states import JobState as JobState
    from slurmapply.states import RowStatus as RowStatus
    from slurmapply.status import JobStatus as JobStatus
    from slurmapply.usage import Usage as Usage

_HOME = {
    "api": ("default_template", "slurm_apply", "slurm_call", "slurm_map"),
    "call": ("CurrentRow", "current_row"),
    "checkup.diagnosis": ("Check", "Diagnosis"),
    "checkup.doctor": ("doctor",),
    "collecting": ("RowReport",),
    "defaults": ("Default", "Defaults", "get_defaults"),
    "errors": (
        "FormatError", "InvalidArgumentError", "JobAliveError", "JobExistsError",
        "JobFolderError", "JobNotFoundError", "NotPicklableError", "RowError", "RowsFailedError",
        "SchedulerError", "SchedulerNotFoundError", "SlurmApplyError", "SubmissionError",
        "SubmissionUnknownError",
        "UntrustedFolderError", "WaitTimeoutError",
    ),
    "estimating": ("Estimate", "estimate"),
    "grid": ("expand_grid",),
    "job": ("SlurmJob",),
    "joblist": ("list_jobs",),
    "rslurm": (
        "cancel_slurm", "cleanup_files", "get_job_status", "get_slurm_out", "local_slurm_array",
        "print_job_status", "slurm_job",
    ),
    "settings": ("set_defaults",),
    "states": ("JobState", "RowStatus"),
    "status": ("JobStatus",),
    "usage": ("Usage",),
}  # fmt: skip

_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605  # one list, above


def __getattr__(name: str) -> object:
    if name == "__version__":
        from slurmapply.version import VERSION  # noqa: PLC0415

        return VERSION
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
