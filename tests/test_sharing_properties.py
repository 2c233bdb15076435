"""How rows are shared out: the rules hold whatever the interleaving, the kills and the damage.

Each simulation runs the package's own code on a simulated disk (`tests.simulated_disk`), which
judges every claim and every beginning of a row as it happens; the tests here judge the end.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import pickle
import random
import re
import tempfile
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurmapply import jobfolder
from slurmapply.choice import Outcomes
from slurmapply.chunks import cost_plan, dynamic_plan, static_plan, tasks_for
from slurmapply.disk import FolderDisk, write_all
from slurmapply.errors import FormatError
from slurmapply.jobfolder import parse_record
from slurmapply.order import OrderedRows, decode_order, encode_order
from slurmapply.outcome import (
    HEADER_SIZE,
    KIND_BOOL,
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    Failure,
    FrameBuilder,
    Measures,
)
from slurmapply.rows import BLOCK_ROWS, RowNumbers
from slurmapply.states import FAILED, OK_CODE, STATUS_OF_CODE, RowStatus
from slurmapply.survey import Survey
from slurmapply.worker.claims import Claim, ranges
from slurmapply.worker.history import Past
from slurmapply.worker.pool import Pool
from tests.simulated_disk import (
    FOREVER,
    KILLS,
    OWNER,
    SECOND,
    UUID,
    Fate,
    Fault,
    Scenario,
    SimulatedDisk,
    SimulatedSystem,
    Simulation,
    answer,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from slurmapply.chunks import ChunkPlan
    from slurmapply.outcome_file import Frame

# The same examples each time: a failure in CI is a failure here.
many = settings(max_examples=300, derandomize=True, deadline=None)
some = settings(many, max_examples=120)

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
        wanted = range(simulation.scenario.tasks)
        return {a.life.task for a in done} >= set(wanted)
    others_end = max((a.ended_at for a in latest.values() if a.result != "done"), default=-1)
    return any(a.last_look > others_end for a in done)


def check_no_row_ran_twice_in_vain(simulation: Simulation) -> None:
    """Let a row run again only when the life that ran it ended before it wrote."""
    in_vain = {"killed", "stopped", "gave up"} if simulation.scenario.abandon else {"killed"}
    ends = {(a.run, a.life): a.result for a in simulation.actors}
    evaluations: dict[tuple[int, int], list[str]] = {}
    for run, row, life in simulation.evaluations:
        evaluations.setdefault((run, row), []).append(ends[run, life])
    for (_, row), results in evaluations.items():
        assert set(results[:-1]) <= in_vain, f"row {row} was run by lives that {results}"


# -- scenarios -----------------------------------------------------------------------------


def scenarios(*fates: Fate, lives: int = 3, **fixed: Any) -> st.SearchStrategy[Scenario]:
    faults = st.builds(
        Fault,
        at=st.integers(1, 80),
        fate=st.sampled_from(fates),
        pause=st.integers(0, 200),
        then=st.sampled_from([None, *(fate for fate in fates if fate in KILLS)]),
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
        "slow": st.sampled_from([0, 30, 100, FOREVER]),
        "abandon": st.booleans(),
        "cached": st.booleans(),
        "links": st.sampled_from(["hard", "soft"]),
        "costs": st.sampled_from([(), (3.0, 1.0, 0.0, 1.0, 8.0), (0.0,), (1.0, 2.0)]),
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


@some
@given(scenarios(*KILLS, Fate.STOPPED, static=True), st.none() | st.integers(0, 250))
def test_a_claim_always_has_something_to_do(scenario: Scenario, retry_at: int | None) -> None:
    assert not simulate(replace(scenario, retry_at=retry_at)).empty_claims


@many
@given(scenarios(Fate.STOPPED, Fate.REPLY_LOST, links="none"))
def test_a_disk_without_any_links_holds_the_same_rules(scenario: Scenario) -> None:
    simulation = simulate(scenario)
    check_end(simulation)
    check_no_row_ran_twice_in_vain(simulation)


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
    scenario = Scenario(rows=5, tasks=2, workers=2, order=TURNS, slow=FOREVER)
    for at in range(1, calls_of(scenario, 0) + 1):
        for late in (False, True):
            faults = {
                (0, 0): Fault(at, Fate.STOPPED),
                (1, 0): Fault(at + 20, second),
            }
            simulation = simulate(replace(scenario, faults=faults, late=late))
            check_end(simulation)


@pytest.mark.parametrize("stop", [1, 30])
def test_a_task_that_stops_in_its_second_life_gives_up_what_its_first_life_held(stop: int) -> None:
    scenario = Scenario(rows=5, tasks=2, order=TURNS)
    for at in range(1, calls_of(scenario, 0) + 1):
        faults = {(0, 0): Fault(at, Fate.KILLED_AFTER), (0, 1): Fault(stop, Fate.STOPPED)}
        check_end(simulate(replace(scenario, faults=faults)))


# -- tasks that stop early -----------------------------------------------------------------


@many
@given(scenarios(Fate.STOPPED, static=False, slow=FOREVER, requeue=False))
def test_rows_outside_the_workers_of_a_stopping_task_are_taken_at_once(scenario: Scenario) -> None:
    for still in simulate(scenario).standstills:
        if still.looked_at > still.stopped_at:
            assert still.left <= still.kept


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("then", [None, *KILLS])
def test_rows_in_the_workers_of_a_stopping_task_wait_for_its_end_or_its_next_life(
    then: Fate | None, *, cached: bool
) -> None:
    waited = 0
    scenario = Scenario(rows=8, tasks=2, workers=2, slow=FOREVER, order=TURNS, cached=cached)
    for at in range(1, calls_of(scenario, 0) + 1):
        faults = {(0, 0): Fault(at, Fate.STOPPED, then=then)}
        simulation = simulate(replace(scenario, faults=faults))
        check_end(simulation)
        check_no_row_ran_twice_in_vain(simulation)
        waited += any(still.left & still.kept for still in simulation.standstills)
    assert waited


@pytest.mark.parametrize("abandon", [False, True])
def test_a_row_that_ends_while_others_look_for_it_is_neither_lost_nor_run_twice(
    *, abandon: bool
) -> None:
    # The stopping task is the faster one: its last calls fall between two calls of the other.
    for pace in (bytes([0, 1]), bytes([16, 1]), bytes([24, 1])):
        scenario = Scenario(rows=2, tasks=2, abandon=abandon, order=pace * 150)
        for slow in range(100):
            faults = {(0, 0): Fault(19, Fate.STOPPED)}
            simulation = simulate(replace(scenario, faults=faults, slow=slow))
            check_end(simulation)
            counts = Counter(row for _, row, _ in simulation.evaluations)
            assert abandon or set(counts.values()) == {1}


# -- the disk ------------------------------------------------------------------------------

NAMES = ("run_0/a", "run_0/b", "run_0/c", "run_0/d")
FOLDERS = ("run_0", "run_0/claims", "run_7")
calls = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(NAMES), st.binary(max_size=3)),
        st.tuples(st.just("append"), st.sampled_from(NAMES), st.binary(max_size=3)),
        st.tuples(st.just("link"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("read"), st.sampled_from(NAMES)),
        st.tuples(st.just("names"), st.sampled_from(FOLDERS)),
        st.tuples(st.just("lose a reply")),
    ),
    max_size=12,
)


@some
@given(script=calls, links=st.sampled_from(["hard", "soft", "none"]))
def test_the_simulated_disk_does_what_a_real_folder_does(
    script: list[tuple[Any, ...]], links: str
) -> None:
    system = SimulatedSystem(links=links)
    with system.patched():
        simulated = play(SimulatedDisk(), script, lambda: setattr(system, "lose_reply", True))
    with tempfile.TemporaryDirectory() as folder, unreliable_links(links) as lose_reply:
        real = play(FolderDisk(Path(folder)), script, lose_reply)
    assert simulated == real


def play(
    disk: FolderDisk, script: Iterable[tuple[Any, ...]], lose_reply: Callable[[], None]
) -> list[Any]:
    disk.make_folder("run_0")
    answers: list[Any] = []
    for call, *arguments in script:
        if call == "lose a reply":
            lose_reply()
        elif call != "link" or disk.read(arguments[0]) is not None:
            answers.append(getattr(disk, call)(*arguments))
    answers += [disk.read(name) for name in NAMES]
    answers.append(disk.names("run_0"))
    return [sorted(map(without_random, a)) if isinstance(a, list) else a for a in answers]


def without_random(name: str) -> str:
    return re.sub(r"[0-9a-f]{8}", "*", name)


@contextlib.contextmanager
def unreliable_links(links: str) -> Iterator[Callable[[], None]]:
    """Make link(2) and symlink(2) fail where there are none, or lose a reply when told so."""
    lost: list[bool] = []

    def unreliable(call: Callable[..., None], *, works: bool) -> Callable[..., None]:
        def link(*arguments: Any, **keywords: Any) -> None:
            if not works:
                raise PermissionError(errno.EPERM, "no links here")
            call(*arguments, **keywords)
            if lost:
                lost.clear()
                raise OSError(errno.EIO, "reply lost")

        return link

    hard = unreliable(os.link, works=links == "hard")
    soft = unreliable(os.symlink, works=links != "none")
    with mock.patch.object(os, "link", hard), mock.patch.object(os, "symlink", soft):
        yield lambda: lost.append(True)


@given(st.binary(min_size=1, max_size=50), st.lists(st.integers(1, 9), max_size=40))
@some
def test_a_write_that_is_cut_short_goes_on_where_it_stopped(data: bytes, cuts: list[int]) -> None:
    written = bytearray()

    def short(_descriptor: int, view: memoryview) -> int:
        size = cuts.pop() if cuts else len(view)
        written.extend(view[:size])
        return len(view[:size])

    with mock.patch.object(os, "write", short):
        write_all(1, data)
    assert written == data


# -- damaged outcomes ----------------------------------------------------------------------

OUTCOMES = "run_0/outcomes_0_0_0_abcd.rec"
VALUES: dict[int, Any] = {
    0: 1.5, 1: 2.5, 2: True, 3: None, 4: "four", 5: -5, 6: [6], 7: Failure("ValueError", "row 7"),
    8: 8, 9: 9,
}  # fmt: skip
GROUPS = ((0, 1), (2, 3, 4, 5, 6, 7), (9, 8))
KINDS = {bool: KIND_BOOL, int: KIND_INT, float: KIND_FLOAT, type(None): KIND_NONE}


def frame_of(rows: Sequence[int], uuid: str = UUID) -> bytes:
    frame = FrameBuilder(bytes.fromhex(uuid))
    for row in rows:
        value = VALUES[row]
        if isinstance(value, Failure):
            frame.add_failure(row, 1, RowStatus.ERROR, value, Measures())
        else:
            kind = KINDS.get(type(value), KIND_PICKLE)
            stored = pickle.dumps(value) if kind == KIND_PICKLE else value
            frame.add(row, 1, kind, stored, Measures(start=row))
    return frame.take()


FRAMES = tuple(frame_of(rows) for rows in GROUPS)
CONTENT = b"".join(FRAMES)
ENDS = tuple(itertools.accumulate(map(len, FRAMES)))


def read_outcomes(content: bytes) -> tuple[dict[int, Any], list[str]]:
    """Read an outcomes file with this content: the value of each settled row, and the damage."""
    system = SimulatedSystem()
    with system.patched():
        disk = SimulatedDisk()
        disk.make_folder("run_0")
        disk.append(OUTCOMES, content)
        survey = Survey(disk, UUID, len(VALUES), second_look=0.0)
        survey.update([0])
        return values_of(survey)


def values_of(survey: Survey) -> tuple[dict[int, Any], list[str]]:
    found: dict[int, Any] = {}
    damage = list(survey.damage)
    for frame in tuple(survey.outcomes.frames):
        with note_damage(damage):
            values = survey.values(frame)
            for index, row in enumerate(frame.columns["row"]):
                ok = frame.columns["status"][index] == OK_CODE
                found[row] = values.value(index) if ok else values.failure(index)
    settled = {row for row in range(len(VALUES)) if survey.outcomes.status_code(row)}
    assert settled == found.keys()
    return found, damage


@contextlib.contextmanager
def note_damage(damage: list[str]) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        damage.append(str(error))


def is_true(values: dict[int, Any]) -> bool:
    return all(
        value == VALUES[row] and type(value) is type(VALUES[row]) for row, value in values.items()
    )


def test_a_file_cut_at_any_byte_gives_all_rows_that_are_complete_and_no_other() -> None:
    for size in range(len(CONTENT) + 1):
        values, damage = read_outcomes(CONTENT[:size])
        complete = [
            row for rows, end in zip(GROUPS, ENDS, strict=True) if end <= size for row in rows
        ]
        assert sorted(values) == sorted(complete)
        assert is_true(values)
        assert not damage, "an end that is still being written is no damage"


def test_a_file_that_grows_byte_by_byte_is_read_as_one_that_is_complete() -> None:
    system = SimulatedSystem()
    with system.patched():
        disk = SimulatedDisk()
        disk.make_folder("run_0")
        survey = Survey(disk, UUID, len(VALUES))
        new = 0
        for byte in CONTENT:
            disk.append(OUTCOMES, bytes([byte]))
            new += survey.update([0])
        assert new == len(GROUPS)
        values, damage = values_of(survey)
    assert sorted(values) == sorted(VALUES)
    assert not damage


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_reported_and_costs_its_frame_or_what_follows_its_header(
    bit: int,
) -> None:
    for place in range(len(CONTENT)):
        content = bytearray(CONTENT)
        content[place] ^= 1 << bit
        values, damage = read_outcomes(bytes(content))
        assert is_true(values)
        assert damage
        assert all(OUTCOMES in text for text in damage)
        hit = bisect_right(ENDS, place)
        in_header = place - (ENDS[hit - 1] if hit else 0) < HEADER_SIZE
        lost = GROUPS[hit:] if in_header else GROUPS[hit : hit + 1]
        assert sorted(values) == sorted(VALUES.keys() - {row for rows in lost for row in rows})


@many
@given(st.integers(0, len(CONTENT)), st.integers(0, 200), st.binary(max_size=200))
def test_garbage_in_the_middle_of_a_file_never_gives_a_wrong_value(
    start: int, length: int, garbage: bytes
) -> None:
    content = CONTENT[:start] + garbage + CONTENT[start + length :]
    values, _ = read_outcomes(content)
    assert is_true(values)
    before = [row for rows, end in zip(GROUPS, ENDS, strict=True) if end <= start for row in rows]
    assert values.keys() >= set(before)


def test_frames_of_another_job_are_not_read() -> None:
    values, damage = read_outcomes(frame_of((0, 1)) + frame_of((2, 3), UUID[::-1]))
    assert sorted(values) == [0, 1]
    assert damage


# -- which outcome counts ------------------------------------------------------------------

outcome_lists = st.lists(
    st.tuples(
        st.integers(0, 1),  # run
        st.integers(0, 1),  # task
        st.integers(0, 2),  # life
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(1, 2), st.booleans()), min_size=1, max_size=4
        ),
    ),
    max_size=8,
)


@some
@given(outcome_lists, st.randoms(use_true_random=False))
def test_which_outcome_counts_does_not_depend_on_the_order_of_reading(
    files: list[tuple[int, int, int, list[tuple[int, int, bool]]]], shuffle: random.Random
) -> None:
    frames = frames_in(files)
    expected = choices(frames, 4)
    shuffle.shuffle(frames)
    assert choices(frames, 4) == expected
    for row in range(4):
        candidates = [
            (frame, index)
            for frame in frames
            for index, number in enumerate(frame.columns["row"])
            if number == row
        ]
        found = expected[1 + row]
        if candidates:
            frame, index = min(candidates, key=lambda pair: preference(*pair))
            assert found == (frame.origin, frame.offset, index)
        else:
            assert found is None


def preference(frame: Frame, index: int) -> tuple[Any, ...]:
    """Rank outcomes as design says it: the least is the one that counts."""
    run, _, life, file = frame.origin
    attempt = frame.columns["attempt"][index]
    if frame.columns["status"][index] == OK_CODE:
        return (0, -run, life, attempt, file, frame.offset, index)
    latest = [-ord(letter) for letter in file]
    return (1, -run, -life, -attempt, latest, -frame.offset, -index)


def frames_in(files: Iterable[tuple[int, int, int, list[tuple[int, int, bool]]]]) -> list[Frame]:
    system = SimulatedSystem()
    with system.patched():
        disk = SimulatedDisk()
        for run in range(2):
            disk.make_folder(f"run_{run}")
        for number, (run, task, life, rows) in enumerate(files):
            # A row stands once in a frame: each row gets a frame of its own.
            for row, attempt, ok in rows:
                frame = FrameBuilder(bytes.fromhex(UUID))
                if ok:
                    frame.add(row, attempt, KIND_INT, number, Measures())
                else:
                    failure = Failure(f"cause {number}", "")
                    frame.add_failure(row, attempt, RowStatus.ERROR, failure, Measures())
                disk.append(f"run_{run}/outcomes_{task}_{life}_0_{number:04x}.rec", frame.take())
        survey = Survey(disk, UUID, 4)
        survey.update(range(2))
        return list(survey.outcomes.frames)


# -- plans ---------------------------------------------------------------------------------

row_counts = st.one_of(st.integers(0, 60), st.integers(0, 100_000))


@some
@given(row_counts, st.integers(1, 300), st.none() | st.integers(1, 50))
def test_a_dynamic_plan_holds_every_position_once_in_chunks_that_never_grow(
    rows: int, tasks: int, chunksize: int | None
) -> None:
    plan = dynamic_plan(rows, tasks, chunksize)
    check_plan(plan, rows)
    assert all(first >= second for first, second in pairwise(plan.sizes))
    assert all(plan.sizes)
    if chunksize is not None:
        assert len(plan) == math.ceil(rows / chunksize)


def check_plan(plan: ChunkPlan, rows: int) -> None:
    positions = [p for chunk in range(len(plan)) for p in plan.positions(chunk)]
    assert positions == list(range(rows))
    assert len(plan.sizes) == len(plan)
    for chunk in range(len(plan)):
        for position in {*plan.positions(chunk)[:1], *plan.positions(chunk)[-1:]}:
            assert plan.chunk_at(position) == chunk


@some
@given(row_counts, st.integers(1, 300))
def test_a_dynamic_plan_needs_few_claims_and_leaves_no_long_last_chunk(
    rows: int, tasks: int
) -> None:
    plan = dynamic_plan(rows, tasks)
    # While more than 2T rows are left, T claims halve them; T claims more take T rows each time.
    halvings = math.ceil(math.log2(rows / (2 * tasks))) if rows > 2 * tasks else 0
    assert len(plan) <= tasks * (halvings + 2)
    if rows > 4 * tasks:
        assert len(plan) <= 2 * tasks * math.log2(rows / (2 * tasks)) + 2 * tasks
    assert plan.sizes[-1:] in ((), (1,))
    # No task gets more than half of its fair share at once.
    assert max(plan.sizes, default=0) <= max(1, math.ceil(rows / (2 * tasks)))


@some
@given(row_counts, st.integers(1, 300), st.integers(1, 64))
def test_a_static_plan_is_rslurms(rows: int, nodes: int, cpus: int) -> None:
    tasks = tasks_for(rows, nodes, cpus)
    plan = static_plan(rows, tasks, cpus)
    check_plan(plan, rows)
    if not rows:
        assert tasks == 0
        return
    # slurm_apply.R of rslurm: nchunk, then the number of nodes that are needed.
    nchunk = math.ceil(rows / nodes)
    if rows < cpus * nodes:
        nchunk = cpus
    assert tasks == math.ceil(rows / nchunk)
    assert plan.sizes == tuple(min(nchunk, rows - nchunk * task) for task in range(tasks))


@some
@given(st.sets(st.integers(0, 60)))
def test_row_numbers_are_the_set_that_they_were_made_from(numbers: set[int]) -> None:
    made = RowNumbers.of(numbers)
    assert list(made) == sorted(numbers)
    assert len(made) == len(numbers)
    assert RowNumbers(json.loads(json.dumps(made.ranges))) == made
    assert [made[position] for position in range(len(made))] == sorted(numbers)
    assert all(made.position(made[position]) == position for position in range(len(made)))
    assert {number for number in range(-1, 62) if number in made} == numbers
    assert all(first[1] < second[0] for first, second in pairwise(made.ranges))
    with pytest.raises(IndexError):
        made[len(made)]
    with pytest.raises(IndexError):
        made[-1]


# -- the pool ------------------------------------------------------------------------------

moves = st.lists(
    st.tuples(st.sampled_from(["claim", "hand out", "report", "measure"]), st.integers(0, 99)),
    max_size=60,
)


class Bookkeeper:
    """Plays a pool through moves, and keeps its own books of every position."""

    def __init__(self, rows: int, workers: int, *, static: bool, attempts: dict[int, int]) -> None:
        self.plan = dynamic_plan(rows, 2)
        self.attempts = attempts
        history = {position: Past(number) for position, number in attempts.items()}
        self.pool = Pool(self.plan, workers, static=static, history=history)
        self.unclaimed = list(range(len(self.plan)))
        self.later: list[tuple[int, list[int]]] = []
        self.claimed: set[int] = set()
        self.settled: set[int] = set()
        self.out: list[range] = []

    def claim(self, number: int) -> None:
        """Claim a chunk, all of it or some positions now and the others another time."""
        if self.later and number % 2:
            chunk, positions = self.later.pop()
        elif self.unclaimed:
            chunk = self.unclaimed.pop(number % len(self.unclaimed))
            positions = list(self.plan.positions(chunk))
            if number % 3 == 0 and positions[1:]:
                self.later.append((chunk, positions[1::2]))
                positions = positions[::2]
        else:
            return
        self.claimed.update(positions)
        self.pool.add(Claim(chunk, number, tuple(ranges(positions))))
        assert self.pool.held[chunk] == number

    def hand_out(self, _number: int) -> None:
        group = self.pool.next_group()
        left = self.claimed - self.settled - {p for handed in self.out for p in handed}
        assert (group is None) == (not left)
        if group is None:
            return
        positions, past = group
        assert positions
        assert set(positions) <= left
        assert {self.attempts.get(p, 0) for p in positions} == {past.attempts}
        self.out.append(positions)

    def report(self, number: int) -> None:
        if not self.out:
            return
        positions = self.out.pop(number % len(self.out))
        reached = positions.start + number % (len(positions) + 1)
        self.pool.settle(range(positions.start, reached))
        self.settled.update(range(positions.start, reached))
        self.pool.give_back(range(reached, positions.stop))

    def measure(self, number: int) -> None:
        self.pool.measured(number % 3, number / 1000)

    def check(self) -> None:
        out = sum(map(len, self.out))
        assert len(self.pool) + out + len(self.settled) == len(self.claimed)
        open_chunks = {self.plan.chunk_at(p) for p in self.claimed - self.settled}
        assert self.pool.held.keys() == open_chunks


@many
@given(
    rows=st.integers(0, 40),
    workers=st.integers(1, 3),
    static=st.booleans(),
    attempts=st.dictionaries(st.integers(0, 39), st.integers(1, 2)),
    script=moves,
)
def test_a_pool_accounts_for_every_position_and_mixes_no_attempts(
    *,
    rows: int,
    workers: int,
    static: bool,
    attempts: dict[int, int],
    script: list[tuple[str, int]],
) -> None:
    keeper = Bookkeeper(rows, workers, static=static, attempts=attempts)
    for move, number in script:
        getattr(keeper, move.replace(" ", "_"))(number)
        keeper.check()
    keeper.pool.clear()
    assert keeper.pool.next_group() is None
    assert not len(keeper.pool)


# -- expected costs ------------------------------------------------------------------------

expected_costs = st.lists(
    st.one_of(st.integers(0, 3).map(float), st.floats(0, 1e300)), min_size=1, max_size=200
)


def ordered(costs: Sequence[float], members: RowNumbers | None = None) -> OrderedRows:
    if members is None:
        members = RowNumbers.first(len(costs))
    return decode_order(encode_order(costs), members, len(costs))


@many
@given(expected_costs)
def test_rows_start_by_descending_cost_and_alike_ones_in_their_order(costs: list[float]) -> None:
    rows = ordered(costs)
    assert [*rows] == sorted(range(len(costs)), key=lambda row: -costs[row] / (max(costs) or 1))
    assert [rows[position] for position in range(len(rows))] == [*rows]
    assert all(rows.position(rows[position]) == position for position in range(len(rows)))
    assert rows.ranges == ((0, len(costs)),)
    expanded = [cost for cost, count in rows.costs for _ in range(count)]
    assert expanded == pytest.approx([costs[row] / (max(costs) or 1) for row in rows])
    for outside in (-1, len(rows)):
        with pytest.raises(IndexError):
            rows[outside]


@many
@given(expected_costs, st.sets(st.integers(0, 199)))
def test_some_of_the_rows_keep_the_order_of_all(costs: list[float], some: set[int]) -> None:
    members = RowNumbers.of(row for row in some if row < len(costs))
    rows = ordered(costs, members)
    assert [*rows] == [row for row in ordered(costs) if row in members]
    assert {row for row in range(len(costs)) if row in rows} == set(members)
    assert sum(count for _, count in rows.costs) == len(rows)
    whole = ordered(costs)
    cost_of = dict(zip(whole, (c for c, n in whole.costs for _ in range(n)), strict=True))
    assert [cost_of[row] for row in rows] == [c for c, n in rows.costs for _ in range(n)]


def test_in_a_large_job_costs_that_hardly_differ_leave_rows_in_their_order() -> None:
    rows = BLOCK_ROWS + 1
    costs = [random.Random(row % 1000).lognormvariate(0, 2) for row in range(rows)]
    order = ordered(costs)
    assert sorted(order) == list(range(rows))
    assert len(order.costs) < rows / 10
    for before, after in pairwise(order):
        assert costs[after] <= costs[before] * 1.05
    numbers = iter(order)
    for _, count in order.costs:
        alike = [*itertools.islice(numbers, count)]
        assert alike == sorted(alike)


@pytest.mark.parametrize("harm", ["cut", "flipped", "another job", "no order", "no counts"])
def test_a_damaged_order_is_refused(harm: str) -> None:
    data = encode_order([3.0, 1.0, 2.0])
    harmed = {
        "cut": data[:-1],
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "another job": encode_order([3.0, 1.0]),
        "no order": b"",
        "no counts": data.replace(b"[1.0, 1]", b"[1.0, 2]"),
    }[harm]
    with pytest.raises(FormatError, match=r"rows\.order"):
        decode_order(harmed, RowNumbers.first(3), 3)


classes_of_cost = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), st.integers(1, 400)),
    max_size=12,
    unique_by=lambda pair: pair[0],
).map(lambda pairs: tuple(sorted(pairs, reverse=True)))


@many
@given(classes_of_cost, st.integers(1, 100), st.integers(1, 64))
def test_a_plan_by_cost_shares_out_what_is_left_and_needs_few_claims(
    costs: tuple[tuple[float, int], ...], tasks: int, workers: int
) -> None:
    plan = cost_plan(costs, tasks, workers)
    rows = sum(count for _, count in costs)
    check_plan(plan, rows)
    assert all(plan.sizes)
    prices = [cost for cost, count in costs for _ in range(count)]
    spent = [*itertools.accumulate(prices, initial=0.0)]
    left = [spent[-1] - spent[bound] for bound in plan.bounds]
    for chunk in range(len(plan)):
        positions = plan.positions(chunk)
        share = left[chunk - chunk % tasks] / (2 * tasks)
        within = left[chunk] - left[chunk + 1] <= share + 1e-9 * spent[-1]
        is_long = prices[positions.start] > spent[-1] / (10 * tasks * workers) * (1 + 1e-9)
        assert len(positions) == 1 or (within and not (is_long and len(positions) > workers))
    halvings = math.log2(max(1, rows / (2 * tasks)))
    least = min((cost for cost in prices if cost), default=1.0)
    octaves = math.log2(max(1.0, spent[-1] / least))
    assert len(plan) <= tasks * (2.5 * octaves + halvings + 4 + 10)
    assert cost_plan(costs, tasks, workers).bounds == plan.bounds


@some
@given(row_counts, st.integers(1, 300))
def test_rows_of_equal_cost_are_shared_out_as_rows_of_unknown_cost(rows: int, tasks: int) -> None:
    unknown = dynamic_plan(rows, tasks)
    for cost in (0.0, 1.0):
        plan = cost_plan(((cost, rows),) if rows else (), tasks, workers=10**6)
        assert len(unknown) <= len(plan) <= len(unknown) + 2 * tasks
        assert all(abs(a - b) <= 1 for a, b in zip(plan.sizes, unknown.sizes, strict=False))


@pytest.mark.parametrize(("rows", "tasks"), [(200, 4), (10_000, 4), (10_000, 50), (100_000, 4)])
def test_rows_of_uneven_cost_need_few_claims_too(rows: int, tasks: int) -> None:
    draw = random.Random(rows)
    costs = sorted((draw.lognormvariate(0, 1.2) for _ in range(rows)), reverse=True)
    plan = cost_plan([(cost, 1) for cost in costs], tasks, workers=8)
    assert len(plan) <= 2 * tasks * math.log2(rows / (2 * tasks)) + 10 * tasks


def test_the_longest_rows_are_dealt_out_singly_and_the_short_ones_together() -> None:
    plan = cost_plan(((100.0, 4), (1.0, 400)), tasks=2, workers=2)
    assert plan.sizes[:2] == (2, 2)
    assert cost_plan(((8.0, 1), (1.0, 8)), tasks=1, workers=4).sizes[:2] == (1, 4)
    assert max(cost_plan(((1.0, 100_000),), tasks=2, workers=2).sizes) == 25_000
