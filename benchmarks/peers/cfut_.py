"""clusterfutures: `SlurmExecutor.map`, a Slurm job per item."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import cfut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over Slurm jobs."""
    options = ("#SBATCH --cpus-per-task=1", f"#SBATCH --mem={place.memory}")
    with cfut.SlurmExecutor(additional_setup_lines=options) as executor:

        def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            return list(executor.map(function, items))

        yield call_each
