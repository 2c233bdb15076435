"""Random numbers: each row has a stream of its own, whatever runs it and however often."""

from __future__ import annotations

import functools
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmapply import (
    JobExistsError,
    SlurmJob,
    current_row,
    slurm_apply,
    slurm_call,
    slurm_map,
)
from slurmapply.seeds import row_seed
from tests.requeueing import requeue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = range(12)
SEED = 20241122
#: Written down once: what they are does not matter, but that they stay.
FROZEN = (
    [1951482068, 993546987, 1403938661, 3479722199],
    [1789859347, 1340889642, 1098742179, 3147266981],
)


def draw(item: int) -> tuple[int, float, float, int, float]:
    row = current_row()
    drawn = row.rng().random()
    return item, random.random(), float(np.random.rand()), row.seed, drawn  # noqa: NPY002


def draws(**how: Any) -> list[Any]:
    return list(slurm_map(draw, ROWS, **({"seed": SEED} | how)).results())


@functools.cache
def reference() -> list[Any]:
    return draws(backend="inline", nodes=1, job_name="reference")


# -- the same, whatever runs the row -----------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"backend": "inline", "nodes": 5, "schedule": "static"},
        {"backend": "local", "nodes": 1, "cpus_per_node": 1},
        {"backend": "local", "nodes": 3, "chunksize": 1},
        {"backend": "local", "nodes": 2, "schedule": "static"},
        pytest.param({"backend": "slurm", "nodes": 1}, marks=pytest.mark.slurm),
        pytest.param(
            {"backend": "slurm", "nodes": 3, "schedule": "static"}, marks=pytest.mark.slurm
        ),
    ],
    ids=str,
)
def test_the_same_on_any_nodes_chunks_schedule_and_backend(how: dict[str, Any]) -> None:
    assert draws(**how) == reference()


def test_rows_and_seeds_differ_in_all_that_they_draw() -> None:
    columns = list(zip(*[*reference(), *draws(backend="inline", seed=SEED + 1)], strict=True))[1:]
    assert [len(set(column)) for column in columns] == [2 * len(ROWS)] * 4


def test_the_same_when_rows_are_run_again() -> None:
    def fails_at_first(item: int) -> Any:
        drawn = draw(item)
        if current_row().attempt == 1 and item % 2:
            raise ValueError(item)
        return drawn

    job = slurm_map(fails_at_first, ROWS, seed=SEED, backend="local").wait()
    assert job.status().counts["error"] == 6
    assert job.retry().results() == reference()
    assert job.retry([3, 4]).results() == reference()


@pytest.mark.slurm
def test_the_same_when_slurm_starts_a_task_again() -> None:
    def waits_at_first(item: int) -> Any:
        drawn = draw(item)
        with (current_row().folder / "drawn").open("a") as file:
            print(json.dumps(drawn), file=file)
        while current_row().attempt == 1 and item == 1:
            time.sleep(0.05)
        return drawn

    job = slurm_map(waits_at_first, ROWS, seed=SEED, nodes=1, cpus_per_node=1, job_name="again")
    requeue(job, when=(job.folder / "rows_" / "1" / "drawn").exists)
    assert job.results() == reference()
    written = (job.folder / "rows_" / "1" / "drawn").read_text().splitlines()
    assert [json.loads(line) for line in written] == [list(reference()[1])] * 2


def test_a_row_alone_draws_what_it_drew_in_the_job() -> None:
    job = slurm_map(draw, ROWS, seed=SEED, backend="local")
    assert [job.run_row(row) for row in (11, 3, 3)] == [reference()[row] for row in (11, 3, 3)]


def test_tables_and_single_calls_take_a_seed_too() -> None:
    table = slurm_apply(draw, {"item": list(ROWS)}, seed=SEED, backend="inline")
    assert table.results() == reference()
    call = slurm_call(draw, {"item": 0}, seed=SEED, backend="inline")
    assert call.result() == reference()[0]


# -- NumPy -------------------------------------------------------------------------------------


def test_numpy_that_is_imported_inside_the_first_row_is_seeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module of its own, since this one loads NumPy.
    source = "def late(item):\n    import numpy\n    return item, numpy.random.rand()\n"
    source += "def loaded(item):\n    import sys\n    return 'numpy' in sys.modules\n"
    (tmp_path / "late_import.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import late_import  # type: ignore[import-not-found]

    expected = [(item, drawn) for item, _, drawn, *_ in reference()]
    assert slurm_map(late_import.late, ROWS, seed=SEED, backend="local").results() == expected
    # Without a seed a worker does not pay for an import that nobody asked for.
    assert slurm_map(late_import.loaded, [1], backend="local").results() == [False]


def without_numpy() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "numpy"]:
        del sys.modules[name]
    sys.modules["numpy"] = None  # type: ignore[assignment]  # imports of it fail now


def test_a_node_without_numpy_has_seeds() -> None:
    def drawn(item: int) -> Any:
        try:
            import numpy.random  # noqa: F401
        except ImportError:
            return item, random.random(), current_row().seed
        raise AssertionError

    job = slurm_map(drawn, ROWS, seed=SEED, initializer=without_numpy, backend="local")
    assert job.results() == [(item, plain, seed) for item, plain, _, seed, _ in reference()]


@given(st.integers(0, 2**128 - 1), st.integers(0, 40))
def test_streams_are_those_that_numpy_spawns(seed: int, row: int) -> None:
    from slurmapply.seeds import row_rng

    spawned = np.random.SeedSequence(seed).spawn(41)[row]
    assert (
        row_rng(seed, row).random(3).tolist() == np.random.default_rng(spawned).random(3).tolist()
    )


def test_each_generator_of_a_row_begins_anew() -> None:
    def twice(item: int) -> Any:
        return [current_row().rng().random(), current_row().rng().random(), item]

    first, second, _ = slurm_map(twice, [0], backend="inline").result()
    assert first == second


def test_a_seed_fits_scikit_learn() -> None:
    def fitted(item: int) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        x = np.linspace(0, 1, 40).reshape(-1, 1)
        model = RandomForestRegressor(3, random_state=current_row().seed)
        return item, *model.fit(x, x.ravel() ** 2).predict(x[::5])

    here = slurm_map(fitted, range(3), seed=5, backend="inline").results()
    assert slurm_map(fitted, range(3), seed=5, backend="local").results() == here
    assert len({values[1:] for values in here}) == 3


# -- without a seed ----------------------------------------------------------------------------


@pytest.mark.slurm
def test_without_a_seed_one_is_drawn_once_and_recorded() -> None:
    job = slurm_map(draw, ROWS, backend="inline")
    again = SlurmJob(job.folder)
    assert job.seed == again.seed
    assert 0 <= job.seed < 2**64
    assert job.seed != slurm_map(draw, ROWS, backend="inline").seed
    before = job.results()
    after = job.retry(list(ROWS)).results()
    assert [row[3:] for row in after] == [row[3:] for row in before]
    assert [row[1:3] for row in after] != [row[1:3] for row in before]


def test_a_drawn_seed_can_be_given_to_the_next_job() -> None:
    job = slurm_map(draw, ROWS, backend="inline")
    other = slurm_map(draw, ROWS, seed=job.seed, backend="inline")
    assert [row[3:] for row in other.results()] == [row[3:] for row in job.results()]


def test_a_folder_from_before_there_were_seeds_has_one() -> None:
    job = slurm_map(draw, ROWS, backend="inline")
    content = json.loads((job.folder / "job.json").read_text())
    del content["seed"], content["seeded"]
    (job.folder / "job.json").write_text(json.dumps(content))
    old = SlurmJob(job.folder)
    assert old.seed == int(content["uuid"][:16], 16)
    assert old.run_row(2)[3] == row_seed(old.seed, 2)


# -- the session -------------------------------------------------------------------------------


def states() -> tuple[Any, str]:
    return random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True])
def test_the_sessions_own_state_is_put_back(fails: bool) -> None:  # noqa: FBT001
    def drawn(item: int) -> Any:
        if fails:
            raise ValueError(item)
        return draw(item)

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = states()
    job = slurm_map(drawn, ROWS, seed=SEED, backend="inline")
    assert states() == before
    try:
        job.run_row(0)
    except ValueError:
        assert fails
    assert states() == before


def test_without_a_seed_rows_in_this_process_draw_on() -> None:
    random.seed(1)
    first = slurm_map(draw, [0], backend="inline").result()
    assert slurm_map(draw, [0], backend="inline").result()[1] != first[1]


def test_outside_a_job_each_answer_is_another() -> None:
    seeds = {current_row().seed for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert current_row().rng().random() != current_row().rng().random()


def test_a_job_is_opened_for_the_same_seed_only() -> None:
    ask: Callable[..., SlurmJob] = functools.partial(
        slurm_map, draw, ROWS, job_name="seeded", backend="inline", if_exists="open"
    )
    job = ask(seed=SEED)
    assert ask(seed=SEED).folder == job.folder
    assert ask().folder == job.folder
    with pytest.raises(JobExistsError, match="its seed differ"):
        ask(seed=SEED + 1)


# -- row_seed ----------------------------------------------------------------------------------


def test_seeds_never_change() -> None:
    # Over versions of Python, platforms and releases: results that were published rest on them.
    assert [row_seed(0, row) for row in (0, 1, 65536, 2**32 - 1)] == FROZEN[0]
    assert [row_seed(2**128 - 1, row) for row in (0, 1, 65536, 2**32 - 1)] == FROZEN[1]


@given(st.integers(0, 2**128 - 1), st.sets(st.integers(0, 2**32 - 1), min_size=2))
def test_no_two_rows_have_the_same_seed(seed: int, rows: set[int]) -> None:
    found = {row_seed(seed, row) for row in rows}
    assert len(found) == len(rows)
    assert all(0 <= number < 2**32 for number in found)
