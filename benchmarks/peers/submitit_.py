"""submitit: one element of a job array per item, as its documentation has it (`map_array`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import submitit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over a job array."""
    executor = submitit.AutoExecutor(folder=place.folder / "submitit", cluster="slurm")
    executor.update_parameters(
        timeout_min=30,
        mem_gb=place.memory / 1000,
        cpus_per_task=1,
        slurm_array_parallelism=place.all_workers,
    )

    def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [job.result() for job in executor.map_array(function, items)]

    yield call_each
