"""The floors: pools of processes on this machine, a loop, and a bare sbatch."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import subprocess
import time
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place

_LOOK_EVERY = 0.01


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over forks of this process: what it has imported they need not import."""

    def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        # Forked where the function is known already: this pool pickles functions by name.
        with multiprocessing.get_context("fork").Pool(place.all_workers) as processes:
            return processes.map(function, items, chunksize=1)

    yield call_each


@contextlib.contextmanager
def fresh_pool(place: Place) -> Iterator[Map]:
    """Give a map over new interpreters, which import all that they need, as those of nodes do."""

    def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        calls = [cloudpickle.dumps((function, item)) for item in items]
        with multiprocessing.get_context("spawn").Pool(place.all_workers) as processes:
            return processes.map(_called, calls, chunksize=1)

    yield call_each


def _called(call: bytes) -> Any:
    function, item = pickle.loads(call)
    return function(item)


@contextlib.contextmanager
def loop(place: Place) -> Iterator[Map]:
    """Give a map that calls one after another."""
    del place

    def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]

    yield call_each


@contextlib.contextmanager
def sbatch(place: Place) -> Iterator[Map]:
    """Give a map whose job touches a file; the values are computed here, for nothing.

    The file is looked for a hundred times a second: this is what no scheme of files can beat.
    """

    def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        touched = place.folder / "touched"
        script = place.folder / "touch.sh"
        script.write_text(f"#!/bin/bash\ntouch {touched}\n")
        subprocess.run(  # noqa: S603
            ["sbatch", "--output=/dev/null", str(script)],  # noqa: S607
            check=True,
            capture_output=True,
        )
        while not touched.exists():
            time.sleep(_LOOK_EVERY)
        return [function(item) for item in items]

    yield call_each
