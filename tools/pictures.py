"""Make the pictures of the documentation: a report, both plots, `watch`, of a job on a real Slurm.

    PYTHONPATH=src:. .venv/bin/python tools/pictures.py

It starts the test suite's own Slurm, needs a browser, and writes into docs/images.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image
from rich.console import Console
from rich.text import Text

from slurmapply import SlurmJob, expand_grid, slurm_apply
from slurmapply.cli.screen import picture
from tests.browser import Browser, advice, find
from tests.slurm_cluster import Cluster

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: Enough for text and flat colours, and a third of the bytes.
_COLOURS = 96
_WATCH_WIDTH = 72
_STYLES = {"name": "bold", "good": "green", "bad": "red", "doubt": "yellow"}


def relax(temperature: float, size: int) -> dict[str, Any]:
    """Stand for a simulation whose time depends on its parameters."""
    import random  # noqa: PLC0415  # it goes to the node with the function
    import time  # noqa: PLC0415

    time.sleep(random.Random(f"{temperature} {size}").expovariate(1.6) * size / 32 + 0.1)  # noqa: S311
    if temperature > 2.3 and size == 64:  # noqa: PLR2004
        raise FloatingPointError(f"energy is not finite after {int(97 * temperature)} sweeps")
    return {"energy": round(-2.0 / temperature, 4), "sweeps": int(40 * size / temperature)}


def run_job() -> SlurmJob:
    """Run the job that the pictures show."""
    params = expand_grid(
        temperature=[1.6 + 0.1 * step for step in range(9)],
        size=[16, 32, 64],
    )
    return slurm_apply(
        relax,
        params,
        nodes=3,
        cpus_per_node=2,
        job_name="ising",
        time="0:10:00",
        mem="500M",
        seed=7,
    )


def draw_watch(job: SlurmJob, path: Path) -> None:
    """Draw what `slurmapply watch` shows of a job that has its first failure."""
    while not (status := job.status()).failed and not status.completed:
        time.sleep(0.1)
    console = Console(record=True, file=io.StringIO(), width=_WATCH_WIDTH)
    console.print(Text(f"$ slurmapply watch {job.name}"))
    for line in picture(status, _WATCH_WIDTH):
        console.print(Text.assemble(*((text, _STYLES.get(style, "")) for text, style in line)))
    svg = console.export_svg(title=f"slurmapply watch {job.name}")
    # The font would come from a server; the reader's own will do.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def shrink(path: Path) -> None:
    """Write a picture with fewer colours, and so in fewer bytes."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def draw(folder: Path) -> None:
    """Make all pictures, working in a folder."""
    command = find()
    if command is None:
        sys.exit(advice())
    job = run_job()
    draw_watch(job, IMAGES / "watch.svg")
    page = job.wait().report(folder / "report.html")
    target = IMAGES / "report.png"
    Browser(command, folder).picture(page, target, width=1120, height=1250)
    for name, axes in (("timeline", job.plot_timeline()), ("durations", job.plot_durations())):
        axes.figure.savefig(IMAGES / f"{name}.png", dpi=100)
    for name in ("report", "timeline", "durations"):
        shrink(IMAGES / f"{name}.png")


def main() -> None:
    """Start a Slurm, draw, and end it."""
    mpl.use("Agg")
    IMAGES.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    cluster = Cluster(folder / "slurm", owner=os.getpid())
    (folder / "slurm").mkdir()
    project = folder / "project"
    project.mkdir()
    try:
        cluster.start()
        os.environ.update(cluster.environment)
        os.chdir(project)
        draw(folder)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
