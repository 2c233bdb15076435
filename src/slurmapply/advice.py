"""What to do next about rows that are not ok, by what befell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmapply.states import RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEND = "mend the function and job.retry(f=...), or job.retry() as it is"
_BY_CAUSE = {
    "SIGKILL": 'a process killed from outside has often run out of memory: job.retry(mem="8G")',
    "load_failed": (
        "make what is missing available with setup=, python= or sys_path= and job.retry(setup=...)"
    ),
    "never_started": "see its console with job.logs(), then job.retry(setup=...)",
    "write_failed": "make room on that disk, then job.retry()",
}
_REST = "job.retry() runs what is left"


def next_steps(befell: Iterable[tuple[RowStatus, str]]) -> str:
    """Name the ways on, most telling first.

    Parameters
    ----------
    befell
        Status and cause of each row that is not ok.

    Examples
    --------
    >>> next_steps([(RowStatus.CANCELLED, "cancelled")])
    'job.retry() runs what is left'
    """
    steps = dict.fromkeys(_step(status, cause) for status, cause in befell)
    return "; ".join(sorted(steps, key=[_MEND, *_BY_CAUSE.values(), _REST].index))


def _step(status: RowStatus, cause: str) -> str:
    if status is RowStatus.ERROR:
        return _MEND
    return _BY_CAUSE.get(cause, _MEND if status is RowStatus.CRASHED else _REST)
