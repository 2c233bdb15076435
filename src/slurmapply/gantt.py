"""A timeline as so many lines and pieces as a picture can show: a Gantt chart without the drawing.

Pure, and by arrays: a million rows become some thousand pieces. Few rows are drawn each as it is.
Of many, those that share a place become one piece that shows the worst of them. Where there are
more workers than lines, a line stands for a task or several, and its height for how many of their
workers were at work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.palette import exact
from slurmapply.states import OK_CODE
from slurmapply.timeline import RUNNING, SHOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.timeline import Bars, Lane, RunTimes, Timeline

#: Up to so many attempts each has its own piece, as long as each worker has its own line.
_MOST_SINGLE = 2500
#: Where more was waited than worked, the waiting takes this part of the time at work beside it.
_WAIT_SHARE = 0.35
#: Where a worker's first row comes later than this part of the time at work, people ask why.
_LONG_LOADING = 0.1
#: Seconds that nobody asks about.
_SHORT_LOADING = 0.5
#: Height of a line that stands for several workers: so many steps, of which the least is seen.
_STEPS = 8
_LEAST_SHARE = 0.2
_WORST = {code: place for place, code in enumerate(SHOWN, 1)}
_CODE_OF = dict(enumerate(SHOWN, 1))
#: What says nothing of a fault: a piece of these and of one worse is called mixed.
_FINE = (OK_CODE, RUNNING)


class Line(NamedTuple):
    """A line of the chart: tasks `first` to `last` of a run, how many workers; `worker` if one."""

    run: int
    first: int
    last: int
    worker: int | None
    workers: int


class Pieces(NamedTuple):
    """What is drawn on the lines, as NumPy's arrays of one length.

    `share` is the height, 1 being all of the line; `mixed` pieces hold rows that are ok, too.
    """

    line: Any
    begin: Any
    end: Any
    code: Any
    share: Any
    mixed: Any


class Queued(NamedTuple):
    """A time in the queue, drawn over lines `first` to `last`."""

    first: int
    last: int
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Gantt:
    """What is to be drawn.

    Attributes
    ----------
    lines, pieces, queued
        From top to bottom; on them; behind them.
    left, right, since
        The part of the time axis that is shown, in seconds, and since what they are.
    cut
        Longest time in the queue, in seconds, where the axis does not show all of it; else 0.
    merged
        Whether a piece may stand for several rows.
    left_out
        How many of the first runs are not shown.
    loading
        Seconds from a task's begin to its workers' first rows, the median.
    """

    lines: Sequence[Line]
    pieces: Pieces
    queued: Sequence[Queued]
    left: float
    right: float
    since: str
    cut: float
    merged: bool
    left_out: int
    loading: float


def gantt(timeline: Timeline, *, most_lines: int, bins: int) -> Gantt:
    """Choose what is drawn of a timeline.

    Parameters
    ----------
    timeline
        What ran when and where.
    most_lines
        How many lines there is room for.
    bins
        Into how many places the width is divided where rows are many.
    """
    numbers = sorted({lane.run for lane in timeline.lanes})
    left_out = max(0, len(numbers) - most_lines)
    shown = set(numbers[left_out:])
    lines, line_of = _lines([lane for lane in timeline.lanes if lane.run in shown], most_lines)
    bars, on_line = _on_lines(timeline, line_of)
    queued = _queued(timeline, lines)
    left, right, cut = _window(bars, queued)
    single = len(bars.code) <= _MOST_SINGLE and all(line.worker is not None for line in lines)
    if single:
        pieces = _singly(bars, on_line, (right - left) / bins)
    else:
        pieces = _binned(bars, on_line, lines, (left, right), bins)
    since = _since([run for run in timeline.runs if run.number in shown])
    loading = _loading(pieces, queued, len(lines))
    return Gantt(lines, pieces, queued, left, right, since, cut, not single, left_out, loading)


def _since(runs: Sequence[RunTimes]) -> str:
    """Say what time is counted from."""
    if not any(run.started for run in runs):
        return "since it was submitted"
    whose = "each run's" if len(runs) > 1 else "the"
    return f"since {whose} first task began"


def notes_on(chart: Gantt) -> list[str]:
    """Say what a reader of the chart has to know."""
    together = any(line.worker is None for line in chart.lines)
    several = any(line.last > line.first for line in chart.lines)
    line = "some tasks, as high as many of their" if several else "a task, as high as many of its"
    notes = [f"a line is {line} workers are at work" if together else "a line is a worker"]
    notes.append("a bar is as bad as the worst of its rows" if chart.merged else "a bar is a row")
    if chart.loading > max(_SHORT_LOADING, _LONG_LOADING * chart.right):
        notes.append(f"before its first row a worker spent {exact(chart.loading)} on loading")
    if chart.cut:
        notes.append(f"the longest wait, {exact(chart.cut)}, is cut off on the left")
    if chart.left_out:
        notes.append(f"the first {chart.left_out} runs are left out")
    return notes


def _lines(lanes: Sequence[Lane], most: int) -> tuple[list[Line], dict[Lane, int]]:
    """Give the lines, and on which each lane is."""
    if len(lanes) <= most:
        lines = [Line(lane.run, lane.task, lane.task, lane.worker, 1) for lane in lanes]
        return lines, {lane: place for place, lane in enumerate(lanes)}
    tasks = sorted({lane[:2] for lane in lanes})
    runs = sorted({run for run, _ in tasks})
    together = -(-len(tasks) // max(1, most - len(runs) + 1)) if len(tasks) > most else 1
    of_task: dict[tuple[int, int], int] = {}
    groups: list[list[tuple[int, int]]] = []
    for run in runs:
        mine = [task for task in tasks if task[0] == run]
        groups += [mine[start : start + together] for start in range(0, len(mine), together)]
    of_task = {task: place for place, group in enumerate(groups) for task in group}
    line_of = {lane: of_task[lane[:2]] for lane in lanes}
    workers = [0] * len(groups)
    for place in line_of.values():
        workers[place] += 1
    lines = [
        Line(group[0][0], group[0][1], group[-1][1], None, count)
        for group, count in zip(groups, workers, strict=True)
    ]
    return lines, line_of


def _on_lines(timeline: Timeline, line_of: Mapping[Lane, int]) -> tuple[Bars, Any]:
    """Give the bars of the lanes that are shown, and their lines."""
    import numpy as np  # noqa: PLC0415

    place = np.array([line_of.get(lane, -1) for lane in timeline.lanes], np.int64)
    on_line = place[timeline.bars.lane]
    keep = on_line >= 0
    if keep.all():
        return timeline.bars, on_line
    return type(timeline.bars)(*(column[keep] for column in timeline.bars)), on_line[keep]


def _queued(timeline: Timeline, lines: Sequence[Line]) -> list[Queued]:
    """Give what was waited, over the lines of its task; of several tasks on a line the longest."""
    places: dict[tuple[int, int], tuple[int, int]] = {}
    for place, line in enumerate(lines):
        for task in range(line.first, line.last + 1):
            first = places.get((line.run, task), (place, place))[0]
            places[line.run, task] = (first, place)
    longest: dict[tuple[int, int, float], float] = {}
    for wait in timeline.waits:
        if (wait.run, wait.task) in places:
            key = (*places[wait.run, wait.task], wait.begin)
            longest[key] = max(wait.end, longest.get(key, wait.end))
    return [Queued(first, last, begin, end) for (first, last, begin), end in longest.items()]


def _loading(pieces: Pieces, queued: Sequence[Queued], lines: int) -> float:
    """Give the time in which workers load Python and the function: until their first rows."""
    import numpy as np  # noqa: PLC0415

    first = np.full(lines, np.inf)
    np.minimum.at(first, pieces.line, pieces.begin)
    begun = np.zeros(lines)
    for wait in sorted(queued, key=lambda wait: wait.end, reverse=True):
        begun[wait.first : wait.last + 1] = wait.end
    gaps = (first - begun)[np.isfinite(first)]
    return float(np.median(gaps)) if len(gaps) else 0.0


def _window(bars: Bars, queued: Sequence[Queued]) -> tuple[float, float, float]:
    """Give the ends of the time axis, and the longest wait where it is cut."""
    worked = float(bars.end.max()) if len(bars.end) else 0.0
    right = max([worked, *(wait.end for wait in queued)])
    first = min([0.0, *(wait.begin for wait in queued)])
    if right <= 0:
        return (first, 0.0, 0.0) if first < 0 else (0.0, 1.0, 0.0)
    left = first if -first <= right else -_WAIT_SHARE * right
    return left, right, -first if left > first else 0.0


def _singly(bars: Bars, on_line: Any, least: float) -> Pieces:
    """Give each attempt a piece, wide enough to be seen, and apart from the next one."""
    import numpy as np  # noqa: PLC0415

    wide = np.maximum(bars.end - bars.begin, least)
    end = bars.begin + wide - np.minimum(0.12 * wide, least)
    order = np.argsort([*map(_WORST.__getitem__, bars.code.tolist())], kind="stable")
    ones = np.ones(len(order))
    line, begin, end, code = (each[order] for each in (on_line, bars.begin, end, bars.code))
    return Pieces(line, begin, end, code, ones, ones == 0)


def _binned(
    bars: Bars, on_line: Any, lines: Sequence[Line], window: tuple[float, float], bins: int
) -> Pieces:
    """Give what is to be seen in each of so many places of each line, like neighbours joined."""
    import numpy as np  # noqa: PLC0415

    left, right = window
    width = (right - left) / bins
    begin = np.clip((bars.begin - left) / width, 0, bins - 1e-9)
    end = np.clip((bars.end - left) / width, begin, bins - 1e-9)
    seen = np.zeros((len(lines), bins), np.int64)
    fine, bad = np.zeros_like(seen, bool), np.zeros_like(seen, bool)
    shape = (len(lines), bins)
    for code, rank in _WORST.items():  # the worst comes last, and stays
        mine = bars.code == code
        if mine.any():
            there = _covered(shape, on_line[mine], begin[mine], end[mine])
            seen[there] = rank
            (fine if code in _FINE else bad)[there] = True
    steps = _STEPS * _share(shape, on_line, begin, end, [line.workers for line in lines])
    key = (seen * 2 + (fine & bad)) * (_STEPS + 1) + np.ceil(np.clip(steps, 1e-9, _STEPS))
    return _joined(np.where(seen > 0, key, 0).astype(np.int64), window)


def _covered(shape: tuple[int, int], line: Any, begin: Any, end: Any) -> Any:
    """Tell which places bars touch, from where they begin and end alone."""
    return _sums(shape, line, begin, end, shifted=1) > 0.5  # noqa: PLR2004  # counts


def _sums(shape: tuple[int, int], line: Any, begin: Any, end: Any, *, shifted: int) -> Any:
    """Count in each place the bars that have begun and not ended, `shifted` places later."""
    import numpy as np  # noqa: PLC0415

    lines, bins = shape
    size = lines * (bins + 1)
    first = line * (bins + 1) + begin.astype(np.int64)
    last = line * (bins + 1) + end.astype(np.int64) + shifted
    steps = np.bincount(first, minlength=size) - np.bincount(last, minlength=size)
    return steps.reshape(lines, bins + 1).cumsum(axis=1)[:, :bins]


def _share(shape: tuple[int, int], line: Any, begin: Any, end: Any, workers: Sequence[int]) -> Any:
    """Give which part of a place's workers were at work; all of it where a line is one worker."""
    import numpy as np  # noqa: PLC0415

    count = np.array(workers, float)[:, None]
    first, last = np.floor(begin), np.floor(end)
    whole = _sums(shape, line, first, last, shifted=0)
    # Of its first place a bar lacks what lies before it, of its last it has what lies inside.
    lines, bins = shape
    at_first, at_last = (line * bins + each.astype(np.int64) for each in (first, last))
    parts = np.bincount(at_last, end - last, lines * bins)
    parts -= np.bincount(at_first, begin - first, lines * bins)
    share = (whole + parts.reshape(shape)) / count
    return np.where(count == 1, 1.0, np.clip(share, 0, 1))


def _joined(keys: Any, window: tuple[float, float]) -> Pieces:
    import numpy as np  # noqa: PLC0415

    bins = keys.shape[1]
    left, right = window
    flat = np.pad(keys, ((0, 0), (0, 1))).ravel()
    first = np.flatnonzero((flat != np.roll(flat, 1)) & (flat > 0))
    last = np.flatnonzero((flat != np.roll(flat, -1)) & (flat > 0)) + 1
    key, width = flat[first], (right - left) / bins
    what, step = key // (_STEPS + 1), key % (_STEPS + 1)
    code = np.array([0, *_CODE_OF.values()], np.uint8)[what // 2]
    share = _LEAST_SHARE + (1 - _LEAST_SHARE) * step / _STEPS
    place = first % (bins + 1)
    begin = left + place * width
    return Pieces(
        first // (bins + 1), begin, begin + (last - first) * width, code, share, what % 2 == 1
    )
