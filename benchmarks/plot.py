"""The plot: total time over the number of rows, by peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.case import CHUNKS, ROW
from benchmarks.lines import OURS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figures import Figures

#: Okabe and Ito's colours, which are told apart with any kind of sight (Wong, Nature Methods 8,
#: 441, 2011).
_COLOURS = {
    OURS: "#000000",
    "submitit": "#0072B2",
    "executorlib": "#D55E00",
    "clusterfutures": "#009E73",
    "dask-jobqueue": "#E69F00",
    "Parsl": "#CC79A7",
    "rslurm": "#56B4E9",
    "local pool": "#999999",
}
_STYLES: dict[str, dict[str, Any]] = {
    CHUNKS: {"linestyle": "-", "linewidth": 1.2, "marker": "o", "markersize": 3},
    ROW: {"linestyle": (0, (2, 2)), "linewidth": 1.2, "marker": "s", "markersize": 3},
}
#: Labels are at least so far from each other, as a factor on the logarithmic axis.
_APART = 1.32


def draw(figures: Figures, path: Path, note: str) -> None:
    """Draw it into a file, whose suffix tells the format."""
    import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "slurmapply"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of backend

    canvas, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    ends = [_curve(axes, who, figures) for who in figures.contestants("rows")]
    _label(axes, [end for end in ends if end])
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(0.8, 4e7)  # room for the names
    axes.set_xticks([10**power for power in range(7)], [f"{10**power:,}" for power in range(7)])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    seconds = [0.1, 0.3, 1, 3, 10, 30, 100]
    axes.set_yticks(seconds, [f"{each:g}" for each in seconds])
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_xlabel("rows", loc="left")
    axes.set_title("Seconds from the call to the table, a + b for every row", loc="left")
    canvas.supxlabel(note, fontsize=7, color="#555555", x=0.01, ha="left")
    canvas.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(canvas)


def _curve(axes: Any, who: str, figures: Figures) -> tuple[str, float, float] | None:
    """Draw a contestant's curve; gives its name and where it ends."""
    peer, _, style = who.partition(", ")
    points = [
        (rows, median)
        for rows in figures.sizes("rows", who)
        if (median := figures.median("rows", who, rows)) is not None
    ]
    if not points:
        return None
    look = dict(_STYLES.get(style, _STYLES[CHUNKS]))
    if peer == OURS:
        look |= {"linewidth": 2.6, "markersize": 5, "zorder": 3}
    axes.plot(*zip(*points, strict=True), color=_COLOURS[peer], **look)
    return who, *points[-1]


def _label(axes: Any, ends: list[tuple[str, float, float]]) -> None:
    """Write each curve's name at its end; names that would overlap are moved apart."""
    lowest: dict[float, float] = {}
    for who, rows, seconds in sorted(ends, key=lambda end: end[2]):
        height = max(seconds, lowest.get(rows, 0) * _APART)
        lowest[rows] = height
        axes.annotate(
            who, (rows, height), xytext=(7, 0), textcoords="offset points", va="center",
            fontsize=8, color=_COLOURS[who.partition(", ")[0]],
            fontweight="bold" if who == OURS else "normal", zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
