"""A long row that goes on where it was, when Slurm starts it again.

Run it on this machine, or where there is a Slurm on its nodes::

    python examples/checkpoint.py
    python examples/checkpoint.py --backend slurm

While it runs on Slurm, send a task back to the queue and see that it loses nothing::

    scontrol requeue <job>_0
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING, Any

from slurmapply import current_row, slurm_apply

if TYPE_CHECKING:
    from pathlib import Path


# 1. The function. Its state is all that it needs to go on: here the step, the position, and where
#    the row's random stream is, so that the result does not depend on interruptions either.


def walk(steps: int, pause: float) -> dict[str, Any]:
    """Walk at random, one step after another, and give where that leads."""
    row = current_row()
    rng = row.rng()
    saved = row.folder / "state.json"
    state: dict[str, Any] = {"step": 0, "position": 0.0, "rng": rng.bit_generator.state}
    if saved.exists():
        state = json.loads(saved.read_text())
        rng.bit_generator.state = state["rng"]
    begins_at = state["step"]
    print(f"attempt {row.attempt} begins at step {begins_at}", flush=True)

    while state["step"] < steps:
        time.sleep(pause)  # what takes long
        state["position"] += rng.normal()
        state["step"] += 1
        state["rng"] = rng.bit_generator.state
        save(saved, state)  # a real one about once a minute
    return {"position": state["position"], "attempt": row.attempt, "began_at": begins_at}


# 2. A state is written beside and renamed: a process may be killed at any moment, and half a
#    state would be worse than none.


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace a file as a whole."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def main() -> None:
    """Run the job and print what came of it."""
    options = parse_options()
    job = slurm_apply(
        walk,
        {"steps": [options.steps] * 2, "pause": [options.pause] * 2},
        seed=1,
        nodes=1,
        job_name="checkpoint",
        if_exists="replace",
        backend=options.backend,
    )
    print(job.table())
    job.cleanup()


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A long row with a checkpoint of its own.")
    parser.add_argument("--backend", choices=["local", "slurm", "inline"], default="local")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds for each step")
    return parser.parse_args()


if __name__ == "__main__":
    main()
