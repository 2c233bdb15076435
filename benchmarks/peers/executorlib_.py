"""executorlib: `SlurmClusterExecutor`, a Slurm job per call, or its blocks of workers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from executorlib import SlurmClusterExecutor

from benchmarks.case import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.case import Map, Place

#: Its own template asks for a partition, for memory in whole gigabytes, of which too few jobs would
#: fit on a node, and for a login shell's environment, which takes time.
_TEMPLATE = """\
#!/bin/bash
#SBATCH --output=time.out
#SBATCH --job-name={{job_name}}
#SBATCH --chdir={{working_directory}}
#SBATCH --mem=MEMORY
#SBATCH --ntasks={{cores}}

{{command}}
"""


@contextlib.contextmanager
def pool(place: Place) -> Iterator[Map]:
    """Give a map over Slurm jobs."""
    template = _TEMPLATE.replace("MEMORY", str(place.memory))
    block = place.style == BLOCK
    with SlurmClusterExecutor(
        max_workers=place.all_workers if block else None,
        cache_directory=str(place.folder / "executorlib"),
        resource_dict={"cores": 1, "submission_template": template},
        block_allocation=block,
    ) as executor:

        def call_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
            futures = [executor.submit(function, item) for item in items]
            return [future.result() for future in futures]

        yield call_each
