"""The page docs/benchmarks.md: what stands between its markers is written from the measurements.

A marker is a comment, ``<!-- figures: NAME -->`` before and ``<!-- end -->`` after; NAME is a line
of the table, or ``about``, ``goals``, ``failures``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.lines import LINES, OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Figures
    from benchmarks.lines import Goal, Measure

_MARKED = re.compile(r"(<!-- figures: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_NOTHING = "-"
#: Load of the machine up to which its figures mean something.
_QUIET = 1.0


def filled(page: str, figures: Figures, about: dict[str, Any]) -> str:
    """Give the page with what stands between its markers written anew."""

    def fill(found: re.Match[str]) -> str:
        begin, name, _, end = found.groups()
        return f"{begin}\n{text_of(name, figures, about)}\n\n{end}"

    return _MARKED.sub(fill, page)


def text_of(name: str, figures: Figures, about: dict[str, Any]) -> str:
    """Give the text for a marker."""
    if name == "about":
        return about_text(about)
    if name == "goals":
        return goals_table(figures)
    if name == "failures":
        return failures_text(figures)
    if name == "rows":
        return f"{rows_table(figures)}\n\n{memory_table(figures)}"
    return line_table(name, figures)


def about_text(about: dict[str, Any]) -> str:
    """Say when, where and with what it was measured."""
    peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
    missing = ", ".join(about["missing"])
    text = (
        f"Measured on {about['date']} in {about['minutes']:.0f} minutes: {about['machine']}; "
        f"Python {about['python']}, {about['slurm']}. Peers: {peers}."
    )
    if about["several_runs"]:
        text += " Lines were measured in several runs."
    if about["load"] > _QUIET:
        text += (
            f" **The machine was not quiet (load {about['load']:g} at the beginning): these figures"
            " show what is measured, not how fast it is.**"
        )
    return f"{text} Not installed, and so left out: {missing}." if missing else text


# -- tables ----------------------------------------------------------------------------------------


def line_table(name: str, figures: Figures) -> str:
    """Give a line's table: a contestant each, with medians and how they compare to ours."""
    line = LINES[name]
    heads = ["", *(measure.heading for measure in line.measures), "range", f"x {OURS}", "times"]
    return table(heads, (_contestant(name, who, figures) for who in _order(name, figures)))


def _order(name: str, figures: Figures) -> list[str]:
    """Name those of whom there is a figure: ours first, then who has least."""
    main = LINES[name].main.name
    found = {
        who: median
        for who in figures.contestants(name)
        if (median := _of_most_rows(name, who, figures, main)) is not None
    }
    return sorted(found, key=lambda who: (not who.startswith(OURS), found[who]))


def _of_most_rows(name: str, who: str, figures: Figures, figure: str) -> float | None:
    return figures.median(name, who, figures.sizes(name, who)[-1], figure)


def _contestant(name: str, who: str, figures: Figures) -> list[str]:
    line, rows = LINES[name], figures.sizes(name, who)[-1]
    main = line.main
    values = figures.values(name, who, rows, main.name)
    shown = [_shown(figures.median(name, who, rows, each.name), each) for each in line.measures]
    span = f"{_shown(min(values), main)} to {_shown(max(values), main)}"
    own = figures.median(name, OURS, rows, main.name)
    label = f"{who} ({rows:,} rows)" if len(figures.sizes(name)) > 1 else who
    ratio = _ratio(figures.median(name, who, rows, main.name), own)
    return [label, *shown, span, ratio, str(len(values))]


def rows_table(figures: Figures) -> str:
    """Give medians of the seconds, a column for each number of rows."""
    sizes = figures.sizes("rows")
    heads = ["seconds", *(f"{size:,}" for size in sizes)]
    # Whoever was given fewest rows comes last: it was not bearable with more.
    order = sorted(
        _order("rows", figures),
        key=lambda who: (who != OURS, -figures.sizes("rows", who)[-1]),
    )
    body = (
        [who, *(_seconds(figures.median("rows", who, size)) for size in sizes)] for who in order
    )
    return table(heads, body)


def memory_table(figures: Figures) -> str:
    """Give how much memory the session took, at its peak above its start."""
    most = max(figures.sizes("rows"), default=1)
    found = {
        who: figures.median("rows", who, most, "session_bytes") for who in _order("rows", figures)
    }
    body = (
        [who, f"{value / 1e6:.0f}", f"{value / most:.0f}"]
        for who, value in found.items()
        if value is not None
    )
    return table([f"memory of the session, {most:,} rows", "MB", "bytes a row"], body)


def goals_table(figures: Figures) -> str:
    """Give every goal with what was reached."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    body = (
        [LINES[name].title, goal.text, *_compared(goal), words[goal.met]]
        for name in LINES
        for goal in LINES[name].goals(figures)
    )
    return table(["", "goal", "reached", "at most", "met"], body)


def _compared(goal: Goal) -> list[str]:
    return [_seconds(goal.value), _seconds(goal.limit)]


def failures_text(figures: Figures) -> str:
    """Name the measurements that failed, each with the last that it said."""
    failed = {
        (each["line"], each["contestant"], each["rows"]): each["error"]
        for each in figures.failures()
    }
    lines = [
        f"- {line}: {who}, {rows:,} rows: `{said}`" for (line, who, rows), said in failed.items()
    ]
    return "\n".join(lines) if lines else "No measurement failed."


def table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Give a table of Markdown; all columns but the first are numbers."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rule, *body])


def _shown(value: float | None, measure: Measure) -> str:
    if value is None:
        return _NOTHING
    return f"{value / measure.divisor:,.{measure.digits}f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004 - digits that matter


def _ratio(value: float | None, own: float | None) -> str:
    if value is None or not own:
        return _NOTHING
    return f"{value / own:.2f}"


def headline(figures: Figures) -> list[str]:
    """Give the goals as lines for a terminal."""
    return [
        f"{'?' if goal.met is None else '+' if goal.met else '-'} {LINES[name].title}: "
        f"{goal.text}: {_seconds(goal.value)} (at most {_seconds(goal.limit)})"
        for name in LINES
        for goal in LINES[name].goals(figures)
    ]
