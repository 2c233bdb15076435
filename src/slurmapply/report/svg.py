"""The report's pictures: inline SVG, coloured by the page's own style sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from slurmapply.gantt import gantt, notes_on
from slurmapply.palette import MIXED_HEIGHT, exact, task_labels, time_unit
from slurmapply.report.text import cut
from slurmapply.timeline import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurmapply.durations import Durations
    from slurmapply.gantt import Gantt
    from slurmapply.timeline import Timeline

_MOST_LINES = 60
_BINS = 600
_WIDTH = 960
_TOP, _BOTTOM = 6, 38
#: Characters of a line's label, and pixels for each of them.
_LONGEST_LABEL, _LETTER = 26, 6.6
_TICKS = 10
_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT = 640, 200


def timeline_picture(timeline: Timeline) -> dict[str, Any]:
    """Draw what ran when and where.

    Returns
    -------
    dict
        ``svg``, empty when nothing was submitted; ``shown``, what the colours mean; ``queued``,
        whether there is a time in the queue; ``notes``.
    """
    chart = gantt(timeline, most_lines=_MOST_LINES, bins=_BINS)
    if not chart.lines:
        return {"svg": "", "shown": [], "queued": False, "notes": []}
    canvas = _Canvas(chart, timeline)
    parts = [*canvas.axis(), *canvas.labels(), *canvas.queued(), *canvas.pieces()]
    codes = {*chart.pieces.code.tolist()} | ({1} if chart.pieces.mixed.any() else set())
    return {
        "svg": _picture(_WIDTH, canvas.height, parts, "timeline"),
        "shown": [word for code, word in SHOWN.items() if code in codes],
        "queued": bool(chart.queued),
        "notes": notes_on(chart),
    }


class _Canvas:
    """Where on the picture of a chart things are."""

    def __init__(self, chart: Gantt, timeline: Timeline) -> None:
        self._chart = chart
        self._labels = [
            (place, cut(text, _LONGEST_LABEL))
            for place, text in task_labels(chart.lines, timeline.hosts)
        ]
        longest = max(len(text) for _, text in self._labels)
        self._left = 12 + _LETTER * longest
        count = len(chart.lines)
        self._line = 24.0 if count <= 8 else 16.0 if count <= 20 else 9.0  # noqa: PLR2004  # pixels
        self._bottom = _TOP + self._line * count
        self.height = self._bottom + _BOTTOM
        self._scale = (_WIDTH - self._left - 12) / (chart.right - chart.left)

    def _x(self, seconds: float) -> float:
        return self._left + (seconds - self._chart.left) * self._scale

    def axis(self) -> Iterator[str]:
        """Draw the axis of time."""
        unit, name = time_unit(self._chart.right - self._chart.left)
        for tick in _ticks(self._chart.left / unit, self._chart.right / unit):
            x = self._x(tick * unit)
            yield f'<path class="grid" d="M{x:.1f} {_TOP}V{self._bottom + 4:.1f}"/>'
            y = self._bottom + 17
            yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{tick:g}</text>'
        x, y = (self._left + _WIDTH - 12) / 2, self._bottom + 34
        yield (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">'
            f"time {self._chart.since} ({name})</text>"
        )

    def labels(self) -> Iterator[str]:
        """Write what the lines are, and part the tasks."""
        x = self._left - 8
        for place, text in self._labels:
            y = _TOP + (place + 0.5) * self._line + 4
            yield Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
                x, y, text
            )
        lines = self._chart.lines
        for place in range(1, len(lines)):
            if lines[place][:2] != lines[place - 1][:2]:
                kind = "run" if lines[place].run != lines[place - 1].run else "grid"
                y = _TOP + place * self._line
                yield f'<path class="{kind}" d="M{self._left:.1f} {y:.1f}H{_WIDTH - 12}"/>'

    def queued(self) -> Iterator[str]:
        """Draw the times in the queue."""
        yield (
            '<defs><pattern id="queue-hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><path class="grid hatch" d="M0 0V5"/></pattern></defs>'
        )
        for wait in self._chart.queued:
            left, right = self._x(max(wait.begin, self._chart.left)), self._x(wait.end)
            top = _TOP + wait.first * self._line + 1
            height = (wait.last - wait.first + 1) * self._line - 2
            yield (
                f'<rect class="queued" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                f'height="{height:.1f}"/>'
            )

    def pieces(self) -> Iterator[str]:
        """Draw what ran, one path for each status."""
        pieces = self._chart.pieces
        full = self._line - 2
        bottom = _TOP + (pieces.line + 1) * self._line - 1
        left = self._left + (pieces.begin - self._chart.left) * self._scale
        width = (pieces.end - pieces.begin) * self._scale
        for code, word in SHOWN.items():
            fine = word == "ok"
            mine = (pieces.code == code) | (pieces.mixed if fine else False)
            if mine.any():
                low = MIXED_HEIGHT * pieces.mixed + 1 - pieces.mixed
                height = full * pieces.share * (1 if fine else low)
                columns = (column[mine].tolist() for column in (left, bottom, width, height))
                yield f'<path class="s-{word}" d="{_boxes(zip(*columns, strict=True))}"/>'


def _boxes(boxes: Any) -> str:
    return "".join(
        f"M{_short(x)} {_short(y)}h{_short(max(w, 0.3))}v{_short(-h)}h{_short(-max(w, 0.3))}z"
        for x, y, w, h in boxes
    )


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _ticks(left: float, right: float) -> list[float]:
    """Give round numbers between two."""
    raw = (right - left) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw)
    first, last = math.ceil(left / step), math.floor(right / step)
    return [round(place * step, 12) for place in range(first, last + 1)]


def durations_picture(durations: Durations) -> dict[str, Any]:
    """Draw how long rows took.

    Returns
    -------
    dict
        ``svg``, empty when no row has ended; ``median``, ``longest``, ``longest_row``,
        ``logarithmic``; ``shown``, what the colours mean.
    """
    if not durations.counts:
        return {"svg": "", "shown": []}
    return {
        "svg": _picture(_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT, [*_histogram(durations)], "durations"),
        "shown": [word for code, word in SHOWN.items() if code in durations.counts],
        "median": exact(durations.median),
        "longest": exact(durations.longest),
        "longest_row": durations.longest_row,
        "logarithmic": durations.logarithmic,
    }


def _histogram(durations: Durations) -> Iterator[str]:
    bottom, left, right = _HISTOGRAM_HEIGHT - _BOTTOM, 56.0, _HISTOGRAM_WIDTH - 32.0
    edges = durations.edges.tolist()
    place = math.log10 if durations.logarithmic else float
    scale = (right - left) / (place(edges[-1]) - place(edges[0]))
    x = [left + (place(edge) - place(edges[0])) * scale for edge in edges]
    stack = [0] * (len(edges) - 1)
    highest = int(sum(durations.counts.values()).max())
    up = (bottom - 16) / highest
    yield f'<path class="grid" d="M{left} 16H{right}M{left} {bottom}H{right}"/>'
    yield f'<text x="{left - 6}" y="20" text-anchor="end">{highest:,}</text>'
    yield f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>'
    for code in (code for code in SHOWN if code in durations.counts):
        counts = durations.counts[code].tolist()
        boxes = [
            (x[n], bottom - stack[n] * up, x[n + 1] - x[n], max(count * up, 1.5))
            for n, count in enumerate(counts)
            if count
        ]
        stack = [below + count for below, count in zip(stack, counts, strict=True)]
        yield f'<path class="s-{SHOWN[code]}" d="{_boxes(boxes)}"/>'
    for seconds in _time_ticks(durations):
        at = left + (place(seconds) - place(edges[0])) * scale
        yield f'<path class="run" d="M{at:.1f} {bottom}v4"/>'
        yield f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{exact(seconds)}</text>'
    middle = left + (place(max(durations.median, edges[0])) - place(edges[0])) * scale
    yield f'<path class="median" d="M{middle:.1f} 10V{bottom}"/>'
    kind = ", logarithmic" if durations.logarithmic else ""
    yield (
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 34}" text-anchor="middle">'
        f"time of a row{kind}; the dashed line is the median</text>"
    )


def _time_ticks(durations: Durations) -> list[float]:
    shortest, longest = float(durations.edges[0]), float(durations.edges[-1])
    if not durations.logarithmic:
        unit, _ = time_unit(longest)
        return [tick * unit for tick in _ticks(0.0, longest / unit)]
    powers = range(math.floor(math.log10(shortest)), math.ceil(math.log10(longest)) + 1)
    few = len(powers) <= 4  # noqa: PLR2004  # decades: there is room for more labels
    ticks = [each * 10.0**power for power in powers for each in ((1, 2, 5) if few else (1,))]
    return [tick for tick in ticks if shortest <= tick <= longest]


def _picture(width: float, height: float, parts: Sequence[str], name: str) -> Markup:
    """Put a picture together; its parts are numbers, our own words, and what was escaped."""
    words = {"timeline": "What ran when and where", "durations": "How long rows took"}
    return Markup(  # noqa: S704  # see above
        f'<svg class="{name}" viewBox="0 0 {width:g} {height:.0f}" role="img" '
        f'aria-labelledby="{name}-title"><title id="{name}-title">{words[name]}</title>'
        f"{''.join(map(str, parts))}</svg>"
    )
