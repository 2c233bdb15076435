"""Which rows the user means: by number, by what befell them, or by a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError
from slurmapply.rows import RowNumbers
from slurmapply.states import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FAILED = frozenset(status.value for status in FAILED)


def check_row(row: Any, count: int, name: str) -> int:
    """Check a row's number.

    Parameters
    ----------
    row
        As the user gave it; NumPy's integers are integers, too.
    count, name
        Number of rows of the job, and its name.

    Raises
    ------
    InvalidArgumentError
        It is no number, or there is no such row.
    """
    number = _whole_number(row, "row")
    if not 0 <= number < count:
        raise InvalidArgumentError(
            f"row: there is no row {number}; {name} has rows 0 to {count - 1}.", argument="row"
        )
    return number


def check_output(
    row: Any, task: Any, rows: int, tasks: int, name: str
) -> tuple[int | None, int | None]:
    """Check whose output is asked for: a row's, a task's, or all when both are None.

    Parameters
    ----------
    row, task
        As the user gave them.
    rows, tasks, name
        Numbers of rows and of tasks of the job, and its name.

    Raises
    ------
    InvalidArgumentError
        There is no such row or task, or both are given.
    """
    if row is not None and task is not None:
        raise InvalidArgumentError(
            f"row and task: one of the two is needed, not both (row={row!r}, task={task!r}). A "
            "row's output is the same whichever task it ran in.",
            argument="task",
        )
    if task is None:
        return (None if row is None else check_row(row, rows, name)), None
    number = _whole_number(task, "task")
    if not 0 <= number < tasks:
        has = f"has tasks 0 to {tasks - 1}" if tasks else "has no rows, and no tasks"
        raise InvalidArgumentError(
            f"task: there is no task {number}; {name} {has}.", argument="task"
        )
    return None, number


def _whole_number(given: Any, what: str) -> int:
    number = given.item() if hasattr(given, "item") else given
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidArgumentError(
            f"{what}: a {what}'s number is needed, not {given!r}.", argument=what
        )
    return int(number)


def only_row(count: int, name: str) -> int:
    """Give the number of the only row of a job.

    Raises
    ------
    InvalidArgumentError
        It has several, or none.
    """
    if count != 1:
        raise InvalidArgumentError(
            f"row: {name} has {count} rows; say which, as job.result(0), or take all with "
            "job.results().",
            argument="row",
        )
    return 0


def choose_rows(
    rows: Any, count: int, statuses: Callable[[], Sequence[tuple[str, str]]]
) -> RowNumbers | None:
    """Read ``retry(rows=...)``: None for all that is not ok, else the numbers.

    Parameters
    ----------
    rows
        None, a status or cause, "failed", numbers, or a mask.
    count
        Number of rows of the job.
    statuses
        Gives status and cause of each row; called only when words need them.

    Raises
    ------
    InvalidArgumentError
        There are no such rows.
    """
    if rows is None:
        return None
    if isinstance(rows, str):
        return _rows_by_word(rows, statuses())
    if isinstance(rows, int) and not isinstance(rows, bool):
        rows = [rows]
    chosen = [value.item() if hasattr(value, "item") else value for value in rows]
    if chosen and all(isinstance(value, bool) for value in chosen):
        return _rows_by_mask(chosen, count)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in chosen):
        raise _bad_rows(f"row numbers, a mask, a status or a cause are needed, not {rows!r}")
    outside = [value for value in chosen if not 0 <= value < count]
    if outside:
        raise _bad_rows(f"there is no row {outside[0]}; the job has rows 0 to {count - 1}")
    return RowNumbers.of(chosen)


def _rows_by_mask(mask: list[bool], count: int) -> RowNumbers:
    if len(mask) != count:
        raise _bad_rows(f"the mask has {len(mask)} values, the job {count} rows")
    return RowNumbers.of(row for row, wanted in enumerate(mask) if wanted)


def _rows_by_word(word: str, statuses: Sequence[tuple[str, str]]) -> RowNumbers:
    chosen = [
        row
        for row, (status, cause) in enumerate(statuses)
        if word in (status, cause) or (word == "failed" and status in _FAILED)
    ]
    if not chosen:
        words = sorted({word for pair in statuses for word in pair if word})
        raise _bad_rows(f"no row has the status or cause {word!r}; there are: {', '.join(words)}")
    return RowNumbers.of(chosen)


def _bad_rows(message: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"rows: {message}.", argument="rows")
