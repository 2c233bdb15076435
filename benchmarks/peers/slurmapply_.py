"""slurmapply itself: a table in, a table out, nothing cut by hand."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from benchmarks.case import COST
from slurmapply import slurm_apply

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.case import Place
    from benchmarks.work import Work


def has_cost() -> bool:
    """Tell whether expected costs of rows can be told."""
    return "cost" in inspect.signature(slurm_apply).parameters


def table(work: Work, params: pd.DataFrame, place: Place) -> pd.DataFrame:
    """Give parameters and results as one table."""
    told: dict[str, Any] = {"cost": work.cost} if place.style == COST else {}
    job = slurm_apply(
        work.function,
        params,
        more_args=work.fixed(),
        nodes=place.nodes,
        cpus_per_node=place.workers,
        mem=f"{place.memory * place.workers}M",
        job_name="bench",
        jobs_folder=place.folder,
        **told,
    )
    found: pd.DataFrame = job.table()
    return found
