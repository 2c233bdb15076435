"""What all pictures of a job have in common: colours, labels of lines, units of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.gantt import Line

#: By Okabe and Ito: told apart with any kind of sight (Wong, Nature Methods 8, 441, 2011), and
#: visible on white as on black.
COLOURS = {
    "ok": "#009E73",
    "running": "#56B4E9",
    "interrupted": "#8C8C8C",
    "row_timeout": "#E69F00",
    "error": "#D55E00",
    "out_of_memory": "#3D7DCA",
    "crashed": "#CC79A7",
}
#: Of a piece that holds rows that are ok and others, the others take this part of the height.
MIXED_HEIGHT = 0.5
#: Labels that can stand below each other.
_MOST_LABELS = 24


def task_labels(
    lines: Sequence[Line], hosts: Mapping[tuple[int, int], str]
) -> list[tuple[float, str]]:
    """Say what the lines are: one label for each task, in the middle of its lines.

    Parameters
    ----------
    lines
        From top to bottom.
    hosts
        Where a task ran, by run and task.
    """
    with_run = len({line.run for line in lines}) > 1
    groups: dict[tuple[int, int, int], list[int]] = {}
    for place, line in enumerate(lines):
        groups.setdefault(line[:3], []).append(place)
    labels = []
    for (run, first, last), places in groups.items():
        run_word = f"run {run}, " * with_run
        host = hosts.get((run, first), "") if first == last else ""
        tasks = f"task {first}" if first == last else f"tasks {first}-{last}"
        on_host = f" ({host})" * bool(host)
        labels.append((sum(places) / len(places), f"{run_word}{tasks}{on_host}"))
    every = -(-len(labels) // _MOST_LABELS)
    return labels[::every]


def time_unit(seconds: float) -> tuple[float, str]:
    """Give the unit that suits a span of time: its seconds and its name.

    Examples
    --------
    >>> time_unit(0.02), time_unit(90), time_unit(5000)
    ((0.001, 'ms'), (1.0, 's'), (60.0, 'min'))
    """
    units = ((0.2, 0.001, "ms"), (180.0, 1.0, "s"), (3 * 3600.0, 60.0, "min"))
    found = ((unit, name) for longest, unit, name in units if seconds < longest)
    return next(found, (3600.0, "h"))


def exact(seconds: float) -> str:
    """Write a measured time with three digits, in the unit that suits it.

    Examples
    --------
    >>> exact(0.00212), exact(1.5), exact(754.0)
    ('2.12 ms', '1.5 s', '12.6 min')
    """
    if not seconds:
        return "0 s"
    units = ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (6000.0, 60.0, "min"))
    found = ((unit, name) for below, unit, name in units if seconds < below)
    unit, name = next(found, (3600.0, "h"))
    return f"{seconds / unit:.3g} {name}"


def counted(rows: int) -> str:
    """Write a number of rows.

    Examples
    --------
    >>> counted(1), counted(1200)
    ('1 row', '1,200 rows')
    """
    return "1 row" if rows == 1 else f"{rows:,} rows"
