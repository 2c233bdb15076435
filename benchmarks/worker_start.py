"""The start of a worker: from the interpreter to the first row, without Slurm.

The program that a task runs is started on prepared jobs, beside `python -c pass` with the same
interpreter, in turn. What the first row gives back is the moment at which it began and the packages
that were imported by then.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from slurmapply import SlurmJob, slurm_apply

_TIMES, _TOY_TIMES = 20, 2


def _first(number: int) -> dict[str, Any]:
    import sys  # noqa: PLC0415 - travels to the node
    import time  # noqa: PLC0415

    began = time.time()
    third_party = {
        name.partition(".")[0]
        for name, module in list(sys.modules.items())
        if "site-packages" in (getattr(module, "__file__", None) or "")
        or "worker.pyz/cloudpickle" in (getattr(module, "__file__", None) or "")
    }
    return {"number": number, "began": began, "third_party": sorted(third_party)}


def started(job: SlurmJob) -> dict[str, Any]:
    """Run a prepared job's program here; gives seconds to its first row, and what it imported."""
    line = (job.folder / "submit.sh").read_text().rstrip().splitlines()[-1]
    arguments = shlex.split(line.partition("$slurmapply_python")[2].lstrip('"'))
    begin = time.time()
    subprocess.run(  # noqa: S603
        [sys.executable, *arguments], cwd=job.folder, check=True, capture_output=True
    )
    value: dict[str, Any] = job.results()[0]
    return {"seconds": value["began"] - begin, "third_party": value["third_party"]}


def bare() -> float:
    """Give the seconds of an interpreter that does nothing."""
    begin = time.time()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.time() - begin


def measure(times: int) -> dict[str, Any]:
    """Start both in turn; gives medians, and what is imported besides cloudpickle."""
    pairs = []
    for number in range(times):
        job = slurm_apply(
            _first, {"number": [number]}, nodes=1, cpus_per_node=1,
            job_name=f"start_{number}", backend="local", submit=False,
        )  # fmt: skip
        pairs.append((bare(), started(job)))
    # What a `.pth` file of the environment loads is there before anything of ours runs.
    asked = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    before = set(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split())  # noqa: S603
    nothing = statistics.median(seconds for seconds, _ in pairs)
    imported = sorted({name for _, found in pairs for name in found["third_party"]} - before)
    return {
        "bare": nothing,
        "seconds": statistics.median(found["seconds"] for _, found in pairs) - nothing,
        "imported": imported,
        "third_party": len(set(imported) - {"cloudpickle"}),
    }


def main() -> None:
    """Measure, and write the figures where the command line says."""
    case = Case.from_json(sys.argv[1])
    _first.__module__ = "__main__"
    Path(sys.argv[2]).write_text(json.dumps(measure(_TOY_TIMES if case.toy else _TIMES)))


if __name__ == "__main__":
    main()
