"""What became of a row that is not ok, in one sentence with the way on. Pure functions."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.amounts import parse_memory, parse_time, time_seconds
from slurmapply.states import RowStatus
from slurmapply.wording import first_line, harmless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurmapply.outcome import Failure

MEND = "mend the function and job.retry(f=...), or job.retry() as it is"
_BY_CAUSE = {
    "load_failed": (
        "make what is missing available with setup=, python= or sys_path= and job.retry(setup=...)"
    ),
    "never_started": "see its console with job.logs(), then job.retry(setup=...) or job.retry()",
    "write_failed": "make room on that disk, then job.retry()",
    "no_workers": "ask for fewer with job.retry(processes_per_node=...)",
}
_LIMIT_OF_MEMORY = re.compile(r"limit (\d[\d.]*\s*[KMGT]i?B?)\b")
_LIMIT_OF_TIME = re.compile(r"limit [a-z ]*([\d.]+ (?:s|min|h))\b")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def sentence(
    row: int, status: RowStatus, failure: Failure, asked: Mapping[str, Any], *, shown: str = ""
) -> str:
    """Say what became of a row and what to do, on one line.

    Parameters
    ----------
    row, status, failure
        Which row, and what is known of it.
    asked
        The ``run.json`` of its run.
    shown
        Its parameters, to be named too.

    Examples
    --------
    >>> from slurmapply.outcome import Failure
    >>> boom = Failure("ValueError", "boom")
    >>> sentence(5, RowStatus.ERROR, boom, {}).partition(" and job")[0]
    'row 5 raised ValueError: boom: mend the function'
    """
    name = f"row {row} ({shown})" if shown else f"row {row}"
    return harmless(f"{name} {_befell(status, failure)}: {fix(status, failure, asked)}")


def raised(status: RowStatus, failure: Failure) -> bool:
    """Whether a row's function raised an exception, which we can read."""
    return status is RowStatus.ERROR and failure.cause != "damaged"


def _befell(status: RowStatus, failure: Failure) -> str:
    said = first_line(failure.message).rstrip(".")
    if raised(status, failure):
        return f"raised {failure.cause}: {said}" if said else f"raised {failure.cause}"
    if status is RowStatus.CRASHED and failure.cause != "damaged":
        detail = f" ({said})" if said else ""
        return said if said.startswith("crashed") else f"crashed: {failure.cause}{detail}"
    return said or f"is {status}"


def fix(status: RowStatus, failure: Failure, asked: Mapping[str, Any]) -> str:
    """Name the way on for one row, as a call that can be typed.

    Parameters
    ----------
    status, failure
        What befell it.
    asked
        The ``run.json`` of its run: what is asked for next is twice as much.
    """
    cause = failure.cause
    if cause == "damaged":
        return "job.retry()"
    if status is RowStatus.PENDING:
        return failure.place
    if status is RowStatus.ERROR or failure.place == "max_failures":
        return MEND
    if status is RowStatus.CRASHED:
        again = 'job.retry(rows="crashed")'
        return again if cause == "SIGKILL" else f"mend the function, then {again}"
    if status is RowStatus.OUT_OF_MEMORY:
        return _retry('rows="out_of_memory"', _more_memory(failure, asked))
    if status is RowStatus.ROW_TIMEOUT:
        return _retry('rows="row_timeout"', _more_row_time(asked))
    if cause == "out_of_memory":
        return _retry(_more_memory(failure, asked))
    if cause == "time_limit":
        return _retry(_more_time(failure, asked))
    return _BY_CAUSE.get(cause, "job.retry()")


def _retry(*keywords: str) -> str:
    return f"job.retry({', '.join(keywords)})"


def _more_memory(failure: Failure, asked: Mapping[str, Any]) -> str:
    if asked.get("backend") == "local":  # nothing limits it there but the machine
        return "processes_per_node=1"
    named = _LIMIT_OF_MEMORY.search(failure.message)
    for amount in (_resource(asked, "mem"), named and named[1]):
        with contextlib.suppress(InvalidArgumentError):
            return f'mem="{_doubled(parse_memory(amount))}"'
    return "mem=..."


def _doubled(memory: str) -> str:
    return parse_memory(f"{2 * int(memory[:-1])}{memory[-1]}")


def _more_time(failure: Failure, asked: Mapping[str, Any]) -> str:
    named = _LIMIT_OF_TIME.search(failure.message)
    seconds = (
        asked.get("time_seconds")
        or time_seconds(_resource(asked, "time"))
        or (time_seconds(parse_time(named[1])) if named else None)
    )
    return f'time="{_as_written(2 * int(seconds))}"' if seconds else "time=..."


def _as_written(seconds: int) -> str:
    """Write a time limit as users do: ``20m``, ``2h``."""
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _more_row_time(asked: Mapping[str, Any]) -> str:
    seconds = asked.get("row_timeout")
    return f"row_timeout={2 * seconds:g}" if seconds else "row_timeout=..."


def _resource(asked: Mapping[str, Any], name: str) -> Any:
    return asked.get("resources", {}).get(name)
