"""How often Slurm is asked while a loop asks for a job's status without pause.

One row sleeps, and nothing that the job folder shows changes. The commands that are run are counted
by programs of their names that come first on PATH and run the real ones. Needs a Slurm:
``make cluster`` gives one.

    python benchmarks/polling.py --minutes 10
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import shutil
import tempfile
import time
from pathlib import Path

from slurmapply import slurm_call

COMMANDS = ("squeue", "sacct", "scontrol", "sinfo")


def count_commands(folder: Path) -> Path:
    """Put counting programs first on PATH; gives the file to which each call adds a line."""
    calls = folder / "calls"
    calls.touch()
    for name in COMMANDS:
        real = shutil.which(name)
        if real is None:
            raise SystemExit(f"there is no {name} on PATH: `make cluster` starts a Slurm")
        script = folder / name
        script.write_text(
            f'#!/bin/sh\necho {name} >> {shlex.quote(str(calls))}\nexec {shlex.quote(real)} "$@"\n'
        )
        script.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return calls


def ask_without_pause(folder: Path, seconds: float) -> tuple[int, int]:
    """Ask for the status of a sleeping job all the time; gives the questions and the calls."""

    def sleep() -> None:
        time.sleep(2 * seconds)

    with contextlib.redirect_stdout(io.StringIO()):
        job = slurm_call(sleep, jobs_folder=folder, job_name="sleeping")
        while job.status().state != "running":
            time.sleep(0.1)
        calls = count_commands(folder)
        questions, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            job.status()
            questions += 1
        counted = len(calls.read_text().splitlines())
        job.cancel()
        job.wait()
        job.cleanup()
    return questions, counted


def main() -> None:
    """Run the loop and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        questions, calls = ask_without_pause(Path(name), 60 * minutes)
    print(f"{minutes:g} minutes, {questions} times status(): {calls} calls of Slurm's commands")


if __name__ == "__main__":
    main()
