"""Plots of a job, on matplotlib's axes; matplotlib is needed when one is drawn, and no sooner."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from slurmapply.errors import SlurmApplyError
from slurmapply.gantt import gantt, notes_on
from slurmapply.palette import COLOURS, MIXED_HEIGHT, counted, exact, task_labels, time_unit
from slurmapply.states import STATUS_OF_CODE
from slurmapply.timeline import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurmapply.durations import Durations
    from slurmapply.gantt import Gantt
    from slurmapply.timeline import Timeline

_MOST_LINES = 128
_BINS = 500
#: Letters of a line below the axis.
_NOTE_WIDTH = 90
#: Inches for a line of the timeline, and the least and the most for all of them.
_LINE_HEIGHT, _LEAST_HEIGHT, _MOST_HEIGHT = 0.16, 1.6, 9.0


def plot_timeline(timeline: Timeline, title: str, ax: Any = None) -> Any:
    """Draw what ran when and where.

    Parameters
    ----------
    timeline, title
        What is drawn; what stands above it.
    ax
        Axes to draw on; a figure of its own when None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.
    """
    chart = gantt(timeline, most_lines=_MOST_LINES, bins=_BINS)
    height = min(_MOST_HEIGHT, max(_LEAST_HEIGHT, _LINE_HEIGHT * len(chart.lines)) + 1.2)
    ax = _axes(ax, (9.0, height))
    ax.set_title(title, loc="left")
    if not chart.lines:
        return _say_nothing_ran(ax)
    unit, name = time_unit(chart.right - chart.left)
    _draw_groups(ax, chart)
    _draw_queued(ax, chart, unit)
    _draw_pieces(ax, chart, unit)
    ax.set_xlim(chart.left / unit, (chart.right + 0.01 * (chart.right - chart.left)) / unit)
    ax.set_ylim(len(chart.lines) - 0.4, -0.6)
    axis = f"time {chart.since} ({name})"
    notes = textwrap.fill("; ".join(notes_on(chart)), _NOTE_WIDTH)
    ax.set_xlabel(f"{axis}\n{notes}")
    labels = task_labels(chart.lines, timeline.hosts)
    ax.set_yticks([place for place, _ in labels], [text for _, text in labels])
    ax.tick_params(axis="y", length=0)
    _put_legend(ax)
    return ax


def plot_durations(durations: Durations, title: str, ax: Any = None) -> Any:
    """Draw how long rows took, as a histogram by status.

    Parameters
    ----------
    durations, title
        What is drawn; what stands above it.
    ax
        Axes to draw on; a figure of its own when None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.
    """
    import numpy as np  # noqa: PLC0415

    ax = _axes(ax, (7.0, 3.6))
    ax.set_title(title, loc="left")
    if not durations.counts:
        return _say_nothing_ran(ax)
    unit, name = (1.0, "") if durations.logarithmic else time_unit(durations.longest)
    edges = durations.edges / unit
    below = np.zeros(len(edges) - 1)
    for code in (code for code in SHOWN if code in durations.counts):
        counts = durations.counts[code]
        ax.bar(
            edges[:-1], counts, np.diff(edges), bottom=below, align="edge",
            color=COLOURS[SHOWN[code]], linewidth=0,
            label=f"{STATUS_OF_CODE[code]}: {counted(int(counts.sum()))}",
        )  # fmt: skip
        below = below + counts
    if durations.logarithmic:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda seconds, _: exact(seconds))
    line = {"color": _ink(ax), "linewidth": 1.2}
    median, longest = durations.median, durations.longest
    ax.axvline(median / unit, linestyle="--", label=f"median: {exact(median)}", **line)
    label = f"longest: {exact(longest)} (row {durations.longest_row})"
    ax.axvline(longest / unit, linestyle=":", label=label, **line)
    ax.set_xlabel(f"time of a row ({name or 'logarithmic'})")
    ax.set_ylabel("rows")
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.margins(x=0.02)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def _axes(ax: Any, size: tuple[float, float]) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError as error:
        raise SlurmApplyError(
            f"plots need matplotlib, which this Python does not have ({error}). Install it: "
            'pip install "slurmapply[plots]". A report needs none: job.report().'
        ) from error
    _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def _ink(ax: Any) -> Any:
    """Give the colour that the style in use writes with."""
    return ax.xaxis.label.get_color()


def _say_nothing_ran(ax: Any) -> Any:
    ax.text(0.5, 0.5, "nothing has run yet", ha="center", va="center", transform=ax.transAxes)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _draw_groups(ax: Any, chart: Gantt) -> None:
    """Shade every other task, and part the runs by a line."""
    for number, (first, last) in enumerate(_groups(chart)):
        if number % 2:
            ax.axhspan(first - 0.5, last + 0.5, color=_ink(ax), alpha=0.06, linewidth=0, zorder=0)
        run_before = chart.lines[first - 1].run if first else chart.lines[0].run
        if chart.lines[first].run != run_before:
            ax.axhline(first - 0.5, color=_ink(ax), linewidth=0.8, zorder=1)


def _groups(chart: Gantt) -> Iterator[tuple[int, int]]:
    """Give first and last line of each task, or of each group of tasks."""
    begin = 0
    for place in range(1, len(chart.lines) + 1):
        ends = place == len(chart.lines) or chart.lines[place][:2] != chart.lines[begin][:2]
        if ends:
            yield begin, place - 1
            begin = place


def _draw_queued(ax: Any, chart: Gantt, unit: float) -> None:
    from matplotlib.collections import PolyCollection  # noqa: PLC0415

    boxes = [
        _box(wait.begin / unit, wait.end / unit, wait.first - 0.4, wait.last + 0.4)
        for wait in chart.queued
    ]
    if boxes:
        ax.add_collection(PolyCollection(
            boxes, facecolors="none", edgecolors=_ink(ax), alpha=0.3, hatch="////",
            linewidth=0.0, label="waiting to begin", zorder=2,
        ))  # fmt: skip


def _box(left: float, right: float, top: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _draw_pieces(ax: Any, chart: Gantt, unit: float) -> None:
    import numpy as np  # noqa: PLC0415
    from matplotlib.collections import PolyCollection  # noqa: PLC0415

    pieces = chart.pieces
    bottom = pieces.line + 0.4
    top = bottom - 0.8 * pieces.share
    low = bottom - 0.8 * pieces.share * MIXED_HEIGHT
    left, right = pieces.begin / unit, pieces.end / unit
    for code, word in SHOWN.items():
        mine = pieces.code == code
        there = mine | pieces.mixed if word == "ok" else mine
        if there.any():
            tops = top if word == "ok" else np.where(pieces.mixed, low, top)
            corners = ((left, tops), (right, tops), (right, bottom), (left, bottom))
            boxes: Any = np.stack([np.stack(corner, axis=1)[there] for corner in corners], axis=1)
            ax.add_collection(PolyCollection(
                boxes, facecolors=COLOURS[word], linewidths=0, label=word, zorder=3,
                antialiaseds=False,
            ))  # fmt: skip


def _put_legend(ax: Any) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.2)
