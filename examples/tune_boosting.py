"""Tune a model over a table of settings: a whole job from the function to the best row.

Run it on this machine, or where there is a Slurm on its nodes::

    python examples/tune_boosting.py
    python examples/tune_boosting.py --backend slurm --nodes 3

The data come with scikit-learn; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_score

from slurmapply import expand_grid, slurm_apply

if TYPE_CHECKING:
    import pandas as pd

    from slurmapply import SlurmJob


# 1. The function. It is called once for each row of the table; the columns are its arguments.


def cv_score(max_depth: int, n_estimators: int) -> dict[str, float]:
    """Give the error of one setting in a 10-fold cross-validation, and how it varies by fold."""
    features, target = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(
        max_depth=max_depth, n_estimators=n_estimators, random_state=1
    )
    folds = KFold(10, shuffle=True, random_state=1)
    errors = -cross_val_score(
        model, features, target, cv=folds, scoring="neg_root_mean_squared_error"
    )
    return {"rmse": float(errors.mean()), "sd": float(errors.std(ddof=1))}


def main() -> None:
    """Run the job and print what came of it."""
    options = parse_options()

    # 2. The parameters: every combination, the last column fastest.
    params = expand_grid(max_depth=[1, 2, 3], n_estimators=[50, 100, 150])

    # 3. Submit. The rows run on the nodes, or in the background on this machine.
    job = slurm_apply(
        cv_score,
        params,
        nodes=options.nodes,
        cpus_per_node=2,
        mem="1G",
        job_name="tune_boosting",
        if_exists="replace",
        backend=options.backend,
    )

    # 4. Look at it while it runs. This needs no session: SlurmJob.open("tune_boosting") in
    #    another Python sees the same.
    watch(job)

    # 5. Parameters and results as one table, one line per row, in the order of the parameters.
    scores = job.table()
    print(f"\n{scores.to_string()}")

    best = scores.loc[scores["rmse"].idxmin()]
    print(
        f"\nBest: max_depth={best['max_depth']:.0f}, n_estimators={best['n_estimators']:.0f} "
        f"with rmse {best['rmse']:.2f} (sd {best['sd']:.2f})"
    )

    if options.check:
        check(params, scores)

    # 6. Delete the job folder; the table stays with us.
    job.cleanup()


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Tune a model over a table of settings.")
    parser.add_argument(
        "--backend",
        choices=["local", "slurm", "inline"],
        default="local",
        help="where the rows run: this machine, Slurm's nodes, this very process",
    )
    parser.add_argument("--nodes", type=int, default=3, help="pieces of the job at most")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compute everything again with a plain loop, and compare to the last digit",
    )
    return parser.parse_args()


def watch(job: SlurmJob) -> None:
    """Print how the rows are doing, once a second, until nothing of the job can still run."""
    status = job.status()
    while not status.completed:
        print(f"{status.state}: {status.summary()}")
        time.sleep(1)
        status = job.status()
    print(f"{status.state}: {status.summary()}")


def check(params: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Compare with a plain loop over the same rows."""
    expected = [cv_score(*row) for row in params.itertuples(index=False)]
    found = scores[["rmse", "sd"]].to_dict("records")
    if found != expected:
        raise SystemExit("The plain loop gives other numbers.")
    print("A plain loop gives the same numbers, to the last digit.")


if __name__ == "__main__":
    main()
