"""dask-jobqueue: a `SLURMCluster` of a job per node, scaled up at once, and `Client.map`."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from dask_jobqueue import SLURMCluster
from distributed import Client

from benchmarks.case import SCATTERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over the workers of a cluster that is started for it."""
    with (
        SLURMCluster(
            cores=place.workers,
            processes=place.workers,
            memory=f"{place.memory * place.workers}MB",
            job_mem=f"{place.memory * place.workers}M",  # else rounded up to whole gigabytes
            local_directory=str(place.folder / "dask"),
            log_directory=str(place.folder / "dask_logs"),
            # Several may run at once on this machine.
            scheduler_options={"dashboard_address": ":0"},
            worker_extra_args=["--no-dashboard"],
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(jobs=place.nodes)

        def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            # Not pure: else equal calls would be one.
            if place.style.startswith(SCATTERED):
                # With the array that it refers to: workers have it from each other.
                there = client.scatter(function, hash=False)
                futures = client.map(lambda item, call: call(item), items, call=there, pure=False)
            else:
                futures = client.map(function, items, pure=False)
            values: list[Any] = client.gather(futures)
            return values

        yield call_each
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # workers are ended by Slurm
