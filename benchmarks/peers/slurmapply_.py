"""slurmapply itself: a table in, a table out, nothing cut by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.case import COST
from slurmapply import slurm_apply

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.case import Place
    from benchmarks.work import Work


def table(work: Work, params: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Give parameters and results as one table."""
    job = slurm_apply(
        work.function,
        params,
        more_args=work.fixed(),
        nodes=place.nodes,
        cpus_per_node=place.workers,
        mem=f"{place.memory * place.workers}M",
        job_name="bench",
        jobs_folder=place.folder,
        cost=work.cost if place.style == COST else None,
    )
    found: pd.DataFrame = job.table()
    return found
