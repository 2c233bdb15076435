"""Running rows again: which ones, with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError
from slurmapply.preparing import RunPlan
from slurmapply.resources import check_resources
from slurmapply.rows import ITEM, RowNumbers
from slurmapply.signature import check_call
from slurmapply.states import FAILED, JobState
from slurmapply.submitting import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurmapply.collecting import Collector
    from slurmapply.following import Follower
    from slurmapply.parameters import Parameters

_FAILED = frozenset(status.value for status in FAILED)


def plan_retry(
    follower: Follower,
    collector: Collector,
    state: JobState,
    rows: Any,
    changed: Mapping[str, Any],
) -> RunPlan | None:
    """Plan a further run of a job, None when there is nothing to run again.

    Parameters
    ----------
    follower, collector, state
        What is known of the job.
    rows
        As in ``job.retry``.
    changed
        Keywords that differ from the run before.
    """
    outcomes = follower.outcomes
    count = len(outcomes)
    chosen = choose_rows(rows, count, lambda: collector.statuses(state))
    follower.survey.verify()
    size = len(outcomes.left() if chosen is None else chosen)
    if not size:
        return None
    before = plan_of(follower.run.asked, size)
    return RunPlan(
        number=before.number + 1,
        rule="left" if chosen is None else chosen.ranges,
        rows=size,
        resources=check_resources(changed, before.resources),
        backend=before.backend,
        function_of_run=before.function_of_run,
    )


def changed_function(
    stored: Mapping[str, Any],
    parameters: Parameters,
    f: Callable[..., Any] | None,
    more_args: Mapping[str, Any] | None,
) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Give the function of a retry, and what goes along with it.

    Parameters
    ----------
    stored
        What the run before has.
    parameters
        The job's, which the function must take.
    f, more_args
        What is new; None for what stays.

    Raises
    ------
    InvalidArgumentError
        The function does not take the parameters.
    """
    function = stored["function"] if f is None else f
    arguments = stored["more_args"] if more_args is None else more_args
    names = parameters.column_names()
    on_items = names == [ITEM]
    check_call(function, [] if on_items else names, more_args=arguments, positional=int(on_items))
    return function, {**stored, "more_args": dict(arguments)}


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
