"""Running rows again: which ones, with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmapply.preparing import RunPlan
from slurmapply.resources import check_resources
from slurmapply.rows import ITEM
from slurmapply.selecting import choose_rows
from slurmapply.signature import check_call
from slurmapply.submitting import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.collecting import Collector
    from slurmapply.following import Follower
    from slurmapply.parameters import Parameters
    from slurmapply.states import JobState


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
