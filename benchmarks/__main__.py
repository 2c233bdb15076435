"""``python -m benchmarks``: run the table against the peers that are installed (`make bench`).

Each measurement is a process of its own on a Slurm that is otherwise empty: the test cluster, which
is started unless one is named. What was measured goes into a file of JSON; the page and the plot
are written from it, and can be written again with ``--write-only``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import HOW_TO_INSTALL, PEERS, versions
from benchmarks.figures import Figures
from benchmarks.lines import LINES, toy
from benchmarks.page import filled, headline
from benchmarks.running import Arena
from tests.slurm_cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.case import Case
    from benchmarks.figures import Measurement

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "benchmarks.md"
PICTURE = REPOSITORY / "docs" / "benchmarks.svg"
RESULTS = REPOSITORY / "benchmarks" / "results.json"


def main() -> int:
    """Measure, and write what came of it."""
    asked = parse_options()
    if not asked.write_only:
        run(asked)
    found = json.loads(asked.json.read_text())
    figures = Figures(found["measurements"])
    print("\n".join(headline(figures)))
    if not asked.no_page:
        write_page(figures, found["about"])
    return 1 if any(each["peer"] == "slurmapply" for each in figures.failures()) else 0


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lines", type=lambda text: text.split(","), default=list(LINES),
        help=f"which, with commas between them: {', '.join(LINES)}",
    )  # fmt: skip
    parser.add_argument("--repeat", type=int, help="of each peer; ours and floors as ever")
    parser.add_argument(
        "--peers", type=lambda text: text.split(","), help="only these, ours and floors"
    )
    parser.add_argument("--toy", action="store_true", help="tiny, once: to see that it works")
    parser.add_argument("--cluster", type=Path, help="folder of a test cluster that runs already")
    parser.add_argument("--json", type=Path, default=RESULTS, help="what was measured")
    parser.add_argument("--no-page", action="store_true", help="write no page and no plot")
    parser.add_argument("--write-only", action="store_true", help="measure nothing")
    parser.add_argument(
        "--keep-others", action="store_true", help="keep the other lines' earlier measurements"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.lines if name not in LINES]:
        parser.error(f"no line {', '.join(unknown)}; there are {', '.join(LINES)}")
    return asked


def run(asked: argparse.Namespace) -> None:
    """Measure the lines that were asked for; what was measured is written after each."""
    begin = time.monotonic()
    installed = versions()
    missing = [peer for peer in PEERS if peer not in installed]
    for peer in missing:
        say(f"*** {peer} IS NOT INSTALLED AND LEFT OUT ({HOW_TO_INSTALL[peer]}) ***")
    keep = asked.keep_others and asked.json.exists()
    earlier = json.loads(asked.json.read_text())["measurements"] if keep else []
    measurements: list[Measurement] = []
    with cluster_of(asked.cluster) as cluster:
        about = about_this_run(cluster, installed, missing)
        about["several_runs"] = bool(earlier)
        arena = Arena(cluster, say, pause=0.0 if asked.toy else 1.0)
        for name in asked.lines:
            cases = chosen(LINES[name].cases(), asked, missing)
            measurements += arena.run_all(cases, at_once=LINES[name].at_once)
            about["minutes"] = round((time.monotonic() - begin) / 60, 1)
            asked.json.write_text(as_text(about, merged(earlier, measurements)))


def chosen(cases: list[Case], asked: argparse.Namespace, missing: list[str]) -> list[Case]:
    """Leave out what is not installed or was not asked for."""
    left = [case for case in cases if case.peer not in missing]
    if asked.peers is not None:
        left = [case for case in left if case.peer in asked.peers or case.peer not in PEERS]
    if asked.repeat is not None:
        left = [replace(case, rounds=_rounds(case, asked.repeat)) for case in left]
    return toy(left) if asked.toy else left


def _rounds(case: Case, repeat: int) -> int:
    """Measure ourselves and the floors no less often than by default: goals are about them."""
    return repeat if case.peer in PEERS else max(repeat, case.rounds)


def as_text(about: dict[str, Any], measurements: list[Measurement]) -> str:
    """Give it as JSON, a measurement on each line."""
    lines = ",\n".join(json.dumps(each) for each in measurements)
    return f'{{"about": {json.dumps(about, indent=1)},\n"measurements": [\n{lines}\n]}}\n'


def merged(earlier: list[Measurement], found: list[Measurement]) -> list[Measurement]:
    """Give what was found now, and earlier for lines that were not measured now."""
    now = {each["line"] for each in found}
    return [*found, *(each for each in earlier if each["line"] not in now)]


@contextlib.contextmanager
def cluster_of(folder: Path | None) -> Iterator[Cluster]:
    """Give the cluster in a folder, or one that lives as long as this."""
    if folder is not None:
        yield Cluster(folder)
        return
    name = tempfile.mkdtemp(prefix="slurm-")
    try:
        with Cluster(name) as cluster:
            yield cluster
    finally:
        shutil.rmtree(name, ignore_errors=True)


def about_this_run(
    cluster: Cluster, installed: dict[str, str], missing: list[str]
) -> dict[str, Any]:
    """Say when, where and with what."""
    return {
        "date": f"{dt.datetime.now(tz=dt.timezone.utc):%Y-%m-%d}",
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "slurm": cluster.run(["sbatch", "--version"]).strip().capitalize(),
        "peers": installed,
        "missing": missing,
    }


def machine() -> str:
    """Describe this machine: processors, memory, system."""
    text = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    processors = f"{os.cpu_count()} processors ({models[0] if models else platform.machine()})"
    return f"{processors}, {memory:.0f} GB of memory, {platform.system()} {platform.release()}"


def write_page(figures: Figures, about: dict[str, Any]) -> None:
    """Write the page's tables and the plot."""
    from benchmarks.plot import draw  # noqa: PLC0415 - needs matplotlib

    PAGE.write_text(filled(PAGE.read_text(), figures, about))
    draw(figures, PICTURE, f"medians; {about['machine']}; {about['date']}")
    say(f"written: {PAGE}, {PICTURE}")


def say(text: str) -> None:
    """Print at once, since a run is long."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
