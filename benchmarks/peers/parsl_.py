"""Parsl: `HighThroughputExecutor` over `SlurmProvider`, a block per node, all asked for at once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from parsl.concurrent import ParslPoolExecutor
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over the workers of blocks that are started for it."""
    provider = SlurmProvider(
        nodes_per_block=1,
        init_blocks=place.nodes,
        max_blocks=place.nodes,
        cores_per_node=place.workers,
        scheduler_options=f"#SBATCH --mem={place.memory * place.workers}",
        exclusive=False,
        walltime="00:30:00",
    )
    htex = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=place.workers, provider=provider
    )
    config = Config(executors=[htex], run_dir=str(place.folder / "parsl"), strategy="none")
    with ParslPoolExecutor(config) as executor:

        def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(executor.map(function, items))

        yield call_each
