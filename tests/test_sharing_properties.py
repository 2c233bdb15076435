"""How rows are shared out: the rules hold whatever the interleaving, the kills and the damage.

Each simulation runs the package's own code on a simulated disk (`tests.simulated_disk`), which
judges every claim and every beginning of a row as it happens; the tests here judge the end.
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurmapply import jobfolder
from slurmapply.choice import Outcomes
from slurmapply.chunks import dynamic_plan, static_plan, tasks_for
from slurmapply.errors import FormatError
from slurmapply.jobfolder import FolderDisk, parse_outcomes, parse_record
from slurmapply.outcome import (
    KIND_BOOL,
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    Failure,
    FrameBuilder,
    Measures,
)
from slurmapply.outcome_file import HEADER_SIZE
from slurmapply.rows import RowNumbers
from slurmapply.states import FAILED, OK_CODE, STATUS_OF_CODE, RowStatus
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claim
from slurmapply.worker.pool import Pool
from tests.simulated_disk import (
    KILLS,
    OWNER,
    SECOND,
    UUID,
    Actor,
    Fate,
    Fault,
    Scenario,
    SimulatedDisk,
    SimulatedSystem,
    Simulation,
    answer,
    fails,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from slurmapply.outcome_file import Frame

# The same examples each time: a failure in CI is a failure here.
_COMMON = {"derandomize": True, "deadline": None, "database": None}
many = settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
    **_COMMON,  # type: ignore[arg-type]
)
some = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    **_COMMON,  # type: ignore[arg-type]
)

#: Lets tasks take turns of one to six system calls.
TURNS = bytes([24, 25, 16, 17, 32, 33, 0, 1]) * 10


# -- how a simulation must end -------------------------------------------------------------


def check_end(simulation: Simulation) -> None:
    survey = simulation.survey()
    check_rows_have_one_status(simulation, survey)
    check_values(simulation, survey)
    check_choice_needs_no_order(survey)
    check_one_list_of_rows(simulation)
    for run in (0, 1) if simulation.retried else (0,):
        if must_be_complete(simulation, run):
            rows = [row for number, rows in simulation.row_lists if number == run for row in rows]
            unsettled = [row for row in rows if survey.outcomes.last_run(row) < run]
            assert not unsettled, f"rows {unsettled} of run {run} were left"


def check_rows_have_one_status(simulation: Simulation, survey: Survey) -> None:
    outcomes = survey.outcomes
    counted: Counter[str] = Counter()
    for row in range(simulation.scenario.rows):
        on_disk = simulation.on_disk(row)
        status = STATUS_OF_CODE.get(outcomes.status_code(row))
        if any(ok for _, ok in on_disk):
            assert status is RowStatus.OK
        elif on_disk:
            assert status in FAILED
        else:
            assert status is None
        counted[status or "unfinished"] += 1
    assert sum(counted.values()) == simulation.scenario.rows
    tally = Counter[str]()
    for (code, _), count in outcomes.tally.items():
        tally[STATUS_OF_CODE[code]] += count
    assert +tally == Counter({s: n for s, n in counted.items() if s != "unfinished"})
    assert not survey.damage


def check_values(simulation: Simulation, survey: Survey) -> None:
    with simulation.system.patched():
        values = {id(frame): survey.values(frame) for frame in survey.outcomes.frames}
    for row in range(simulation.scenario.rows):
        found = survey.outcomes.find(row)
        if found is None:
            continue
        frame, index = found
        assert frame.columns["row"][index] == row
        if survey.outcomes.status_code(row) == OK_CODE:
            value = values[id(frame)].value(index)
            assert (value, type(value)) == (answer(row), type(answer(row)))
        else:
            assert values[id(frame)].failure(index).message == f"row {row}"


def check_choice_needs_no_order(survey: Survey) -> None:
    chosen = choices(survey.outcomes.frames, len(survey.outcomes))
    assert choices([*reversed(survey.outcomes.frames)], len(survey.outcomes)) == chosen
    shuffled = random.Random(len(chosen)).sample(
        survey.outcomes.frames, len(survey.outcomes.frames)
    )
    assert choices(shuffled, len(survey.outcomes)) == chosen


def choices(frames: Iterable[Frame], rows: int) -> list[Any]:
    outcomes = Outcomes(rows)
    for frame in frames:
        outcomes.add(frame)
    chosen: list[Any] = [+outcomes.tally]
    for row in range(rows):
        found = outcomes.find(row)
        chosen.append(found and (found[0].origin, found[0].offset, found[1]))
    return chosen


def check_one_list_of_rows(simulation: Simulation) -> None:
    for run, rows in simulation.row_lists:
        published = json.loads(simulation.system.content(jobfolder.run_rows(run)) or b"")
        assert rows == RowNumbers(published["ranges"])


def must_be_complete(simulation: Simulation, run: int) -> bool:
    """Whether enough of the run's tasks came to their natural end for all rows to be settled."""
    actors = [a for a in simulation.actors if a.run == run and not a.result.startswith("refused")]
    if not actors or simulation.cancelled_at is not None or (simulation.retried and not run):
        return False
    latest = {a.life[:2]: a for a in sorted(actors, key=lambda a: a.life)}
    done = [a for a in latest.values() if a.result == "done"]
    if any(a.zombie and a.result != "done" for a in actors):
        return False
    if simulation.scenario.static:
        return len(done) == simulation.scenario.tasks
    others_end = max((a.ended_at for a in latest.values() if a.result != "done"), default=-1)
    return any(a.last_look > others_end for a in done)


def check_no_row_ran_twice_in_vain(simulation: Simulation) -> None:
    """A row runs again only because the life that ran it was killed before it wrote."""
    ends = {(a.run, a.life): a.result for a in simulation.actors}
    evaluations: dict[tuple[int, int], list[str]] = {}
    for run, row, life in simulation.evaluations:
        evaluations.setdefault((run, row), []).append(ends[run, life])
    for (_, row), results in evaluations.items():
        assert set(results[:-1]) <= {"killed"}, f"row {row} was run by lives that {results}"


# -- scenarios -----------------------------------------------------------------------------


def scenarios(*fates: Fate, lives: int = 3, **fixed: Any) -> st.SearchStrategy[Scenario]:
    faults = st.builds(
        Fault, at=st.integers(1, 80), fate=st.sampled_from(fates), pause=st.integers(0, 200)
    )
    places = st.tuples(st.integers(0, lives - 1), st.integers(0, 1))
    varied: dict[str, Any] = {
        "rows": st.integers(0, 14),
        "tasks": st.integers(1, 3),
        "workers": st.integers(1, 2),
        "static": st.booleans(),
        "chunksize": st.sampled_from([None, None, 1, 3]),
        "batch": st.integers(1, 3),
        "faults": st.dictionaries(places, faults, min_size=1, max_size=4),
        "order": st.binary(min_size=16, max_size=80),
        "late": st.booleans(),
        "requeue": st.booleans(),
        "slow": st.booleans(),
        "cached": st.booleans(),
    }
    return st.builds(Scenario, **(varied | {k: st.just(v) for k, v in fixed.items()}))


@many
@given(scenarios(*KILLS, Fate.REPLY_LOST))
def test_whatever_is_killed_all_rows_are_settled_and_none_runs_twice(scenario: Scenario) -> None:
    simulation = simulate(scenario)
    check_end(simulation)
    check_no_row_ran_twice_in_vain(simulation)
    outcomes = simulation.survey().outcomes
    assert all(outcomes.status_code(row) for row in range(scenario.rows))


@many
@given(scenarios(*KILLS, Fate.STOPPED, Fate.STOPPED, Fate.STOPPED, Fate.REPLY_LOST))
def test_tasks_that_stop_early_lose_no_row_and_repeat_none(scenario: Scenario) -> None:
    simulation = simulate(scenario)
    check_end(simulation)
    check_no_row_ran_twice_in_vain(simulation)


@many
@given(scenarios(*KILLS, Fate.STOPPED, Fate.ZOMBIE, Fate.ZOMBIE, Fate.ZOMBIE))
def test_copies_of_a_task_taken_for_dead_change_no_result(scenario: Scenario) -> None:
    check_end(simulate(scenario))


@some
@given(
    scenarios(*KILLS, Fate.STOPPED, tasks=3, static=False), st.sets(st.integers(0, 2), max_size=2)
)
def test_tasks_that_never_start_hold_nobody_up(scenario: Scenario, absent: set[int]) -> None:
    simulation = simulate(replace(scenario, absent=frozenset(absent)))
    check_end(simulation)
    check_no_row_ran_twice_in_vain(simulation)


@some
@given(
    scenarios(*KILLS, Fate.STOPPED, second=2),
    st.integers(0, 20),
)
def test_a_second_submission_runs_nothing_and_names_the_owner(
    scenario: Scenario, first: int
) -> None:
    order = bytes([first]) + scenario.order
    simulation = simulate(replace(scenario, order=order))
    check_end(simulation)
    content = json.loads(simulation.system.content(jobfolder.submission(0)) or b"")
    owner = content["job_id"]
    assert owner in (OWNER, SECOND)
    assert {life.submission for _, _, life in simulation.evaluations} <= {owner}
    for actor in simulation.actors:
        if actor.life.submission != owner and actor.result != "killed":
            assert actor.result.startswith("refused:")
            assert f"belongs to slurm job {owner}" in actor.result
            assert actor.life.submission in actor.result
    assert not [name for name in simulation.system.files if foreign(name, owner)]


def foreign(name: str, owner: str) -> bool:
    """Whether a file was written by a task of another submission."""
    last = name.rpartition("/")[2]
    life = parse_record(last)
    of_other = life is not None and life.submission != owner
    return of_other or (last.startswith("token_") and not last.startswith(f"token_{owner}_"))


@some
@given(scenarios(*KILLS, Fate.STOPPED), st.integers(0, 150))
def test_a_task_that_starts_after_the_cancellation_does_nothing(
    scenario: Scenario, cancel_at: int
) -> None:
    simulation = simulate(replace(scenario, cancel_at=cancel_at))
    check_end(simulation)
    check_no_row_ran_twice_in_vain(simulation)
    for actor in simulation.actors:
        if simulation.cancelled_at is not None and actor.began_at > simulation.cancelled_at:
            assert actor.result.startswith("refused:") or actor.result == "killed"
            assert actor.loop is None


@many
@given(scenarios(*KILLS, Fate.STOPPED, lives=6), st.integers(0, 250))
def test_a_retry_seals_the_run_before_and_completes_it(scenario: Scenario, retry_at: int) -> None:
    simulation = simulate(replace(scenario, retry_at=retry_at))
    check_end(simulation)
    if must_be_complete(simulation, 1):
        outcomes = simulation.survey().outcomes
        assert all(outcomes.status_code(row) == OK_CODE for row in range(scenario.rows))


# -- every kill, one after the other -------------------------------------------------------

SMALL = (
    Scenario(rows=5, tasks=2, order=TURNS),
    Scenario(rows=6, tasks=2, workers=2, static=True, order=TURNS, batch=2),
    Scenario(rows=5, tasks=2, order=TURNS, cached=True, batch=2, late=True),
)


def calls_of(scenario: Scenario, task: int) -> int:
    return next(a for a in simulate(scenario).actors if a.life.task == task).calls


@pytest.mark.parametrize("scenario", SMALL)
@pytest.mark.parametrize("fate", KILLS)
def test_a_kill_at_each_step_costs_nothing(scenario: Scenario, fate: Fate) -> None:
    for at in range(1, calls_of(scenario, 0) + 1):
        simulation = simulate(replace(scenario, faults={(0, 0): Fault(at, fate)}))
        check_end(simulation)
        check_no_row_ran_twice_in_vain(simulation)
        assert simulation.survey().outcomes.settled_in(0) == scenario.rows, at


@pytest.mark.parametrize("second", [Fate.KILLED_AFTER, Fate.STOPPED, Fate.ZOMBIE])
def test_a_stop_at_each_step_loses_nothing_when_something_else_happens_too(second: Fate) -> None:
    scenario = Scenario(rows=5, tasks=2, workers=2, order=TURNS, slow=True)
    for at in range(1, calls_of(scenario, 0) + 1):
        for late in (False, True):
            faults = {
                (0, 0): Fault(at, Fate.STOPPED),
                (1, 0): Fault(at + 20, second),
            }
            simulation = simulate(replace(scenario, faults=faults, late=late))
            check_end(simulation)


# -- tasks that stop early -----------------------------------------------------------------


@many
@given(scenarios(Fate.STOPPED, static=False, slow=True, requeue=False))
def test_rows_outside_the_workers_of_a_stopping_task_are_taken_at_once(scenario: Scenario) -> None:
    for still in simulate(scenario).standstills:
        if still.looked_at > still.stopped_at:
            assert still.left <= still.kept


def test_rows_in_the_workers_of_a_stopping_task_wait_for_its_end_or_its_next_life() -> None:
    waited = 0
    scenario = Scenario(rows=6, tasks=2, workers=2, slow=True, order=TURNS)
    for at in range(1, calls_of(scenario, 0) + 1):
        for later in (Fate.KILLED_AFTER, None):
            faults = {(0, 0): Fault(at, Fate.STOPPED, then=later)}
            simulation = simulate(replace(scenario, faults=faults))
            check_end(simulation)
            waited += any(still.left & still.kept for still in simulation.standstills)
    assert waited
