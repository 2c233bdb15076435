"""One `slurm_call` from submission to result, beside a plain sbatch that touches a file.

Slurm's scheduler ticks once a second, so a single figure says little: both are run in turn, each
after a pause of random length (else the one would always meet the tick that the other left), and
medians are compared. Needs a Slurm: ``make cluster`` gives one.

    python benchmarks/round_trip.py --times 10
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from slurmapply import slurm_call

_LOOK_EVERY = 0.05  # 20 Hz


def plain(folder: Path, number: int) -> float:
    """Time sbatch of a script that touches a file, until the file is seen."""
    wanted = folder / f"touched_{number}"
    script = folder / "touch.sh"
    script.write_text(f"#!/bin/bash\ntouch {wanted}\n")
    time.sleep(random.random())  # noqa: S311  # a phase of Slurm's clock, not a secret
    begin = time.perf_counter()
    subprocess.run(  # noqa: S603
        ["sbatch", "--output=/dev/null", str(script)],  # noqa: S607
        check=True,
        capture_output=True,
    )
    while not wanted.exists():
        time.sleep(_LOOK_EVERY)
    return time.perf_counter() - begin


def ours(folder: Path, number: int) -> float:
    """Time a slurm_call until its result is here."""
    time.sleep(random.random())  # noqa: S311
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        job = slurm_call(
            pow, {"base": 2, "exp": number}, job_name=f"power_{number}", jobs_folder=folder
        )
    if job.result() != 2**number:
        raise SystemExit("a wrong result")
    seconds = time.perf_counter() - begin
    job.wait().cleanup()
    return seconds


def main() -> None:
    """Run both in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours(folder, 0)
        pairs = [(plain(folder, n), ours(folder, n)) for n in range(1, times + 1)]
    floor, call = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"plain sbatch {floor:.2f} s, slurm_call {call:.2f} s, difference {call - floor:.2f} s")
    print(f"(medians of {times}, run in turn)")


if __name__ == "__main__":
    main()
