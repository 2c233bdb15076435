"""A look at a job as lines of a given width: what `watch` draws. Pure: no terminal, no clock."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, TypeAlias

from slurmapply.cli.tables import cells_wide, cut
from slurmapply.progressbar import ASCII, Style, segments
from slurmapply.states import JobState, RowStatus
from slurmapply.wording import duration, harmless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.status import JobStatus

#: A text and how it is meant: "name", "good", "bad", "doubt", or nothing special.
Piece: TypeAlias = tuple[str, str]
Line: TypeAlias = list[Piece]

_GAP = "  "
_LONGEST_BAR = 40
_SHORTEST_BAR = 5
_SHOWN_CAUSES = 5
_SHOWN_TASKS = 5
_STATE_STYLE = {
    JobState.FINISHED: "good",
    JobState.CANCELLED: "doubt",
    JobState.STOPPING: "doubt",
    JobState.UNKNOWN: "doubt",
}
#: Of the parts of the bar: rows that are ok, not ok, running, still to come.
_BAR_STYLES = ("good", "bad", "", "")
_THOUSAND = 1000


def picture(status: JobStatus, width: int, height: int = 24, *, unicode: bool = True) -> list[Line]:
    """Show a job's status.

    Parameters
    ----------
    status
        What is known.
    width, height
        Columns and lines there are; no line is wider.
    unicode
        Whether blocks can be shown; else the bar is of ASCII.

    Returns
    -------
    list of list of (text, style)
        The head with the bar, the line of counts (`counts_line`), then causes, tasks and notes as
        far as there is room.
    """
    lines = [_head(status, width, unicode=unicode), counts_line(status, width)]
    room = max(0, height - len(lines) - 1)
    causes = list(status.causes.items())
    lines += [_cause(each, width) for each in causes[: min(room, _SHOWN_CAUSES)]]
    lines += [_task(entry, width) for entry in status.queue[:_SHOWN_TASKS]]
    for note in status.note.splitlines():
        wrapped = textwrap.wrap(harmless(note), max(10, width)) if width else []
        lines += [[(cut(text, width), "doubt")] for text in wrapped]
    return lines[: max(2, height - 1)]


def counts_line(status: JobStatus, width: int) -> Line:
    """Give failed, ok of all, and time left, in this order and whatever the width; then the rest.

    Examples
    --------
    >>> from slurmapply.status import JobStatus
    >>> status = JobStatus("fit", JobState.RUNNING, {"ok": 5, "error": 1, "running": 3})
    >>> "".join(text for text, _ in counts_line(status, 40))
    '1 failed  5/9 ok  3 running'
    """
    for write in (str, _rounded):
        pieces = _first_counts(status, write)
        if _wide(pieces) <= width:
            return _joined(pieces + _further_counts(status, width - _wide(pieces)))
    return _cut(_joined(_first_counts(status, _rounded)), width)


def _first_counts(status: JobStatus, write: Any) -> list[Piece]:
    failed, ok = status.failed, status.counts.get(RowStatus.OK, 0)
    pieces = [
        (f"{write(failed)} failed", "bad" if failed else ""),
        (f"{write(ok)}/{write(status.rows)} ok", "good" if status.ok else ""),
    ]
    if status.seconds_left:
        pieces.append((f"{duration(status.seconds_left)} left", ""))
    return pieces


def _further_counts(status: JobStatus, room: int) -> list[Piece]:
    others = (RowStatus.RUNNING, RowStatus.PENDING, RowStatus.UNFINISHED, RowStatus.CANCELLED)
    pieces: list[Piece] = []
    for word in others:
        number = status.counts.get(word, 0)
        style = "bad" if word in (RowStatus.UNFINISHED, RowStatus.CANCELLED) else ""
        piece = (f"{number} {word}", style)
        room -= len(_GAP) + len(piece[0])
        if number and room >= 0:
            pieces.append(piece)
        elif number:
            break
        else:
            room += len(_GAP) + len(piece[0])
    return pieces


def _rounded(number: int) -> str:
    """Write a number in four letters at most."""
    for unit in ("", "k", "M"):
        if number < _THOUSAND:
            return f"{number}{unit}"
        number //= _THOUSAND
    return f"{number}G"


def _head(status: JobStatus, width: int, *, unicode: bool) -> Line:
    state, name = str(status.state), _one_line(status.name)
    percent = f"{_percent(status)}%"
    bar = min(_LONGEST_BAR, width - cells_wide(name) - len(state) - len(percent) - 3 * len(_GAP))
    pieces: list[Piece] = [(name, "name"), (state, _STATE_STYLE.get(status.state, ""))]
    if bar < _SHORTEST_BAR:
        rest = len(state) + len(_GAP)
        pieces[0] = (cut(name, max(1, width - rest)), "name")
        return _cut(_joined(pieces), width)
    line = _joined(pieces)
    return [*line, (_GAP, ""), *_bar(status, bar, unicode=unicode), (_GAP, ""), (percent, "")]


def _percent(status: JobStatus) -> int:
    """Give how many rows of a hundred have ended; 100 only when all have."""
    ended = status.counts.get(RowStatus.OK, 0) + status.not_ok
    return 100 * ended // status.rows if status.rows else 100


def _bar(status: JobStatus, size: int, *, unicode: bool) -> Line:
    marks = Style().marks if unicode else ASCII
    parts = zip(marks, segments(status, size), _BAR_STYLES, strict=True)
    return [(mark * length, style) for mark, length, style in parts if length]


def _cause(cause: tuple[str, int], width: int) -> Line:
    name, number = cause
    return [(cut(f"  {number} x {_one_line(name)}", width), "bad")]


def _task(entry: Mapping[str, Any], width: int) -> Line:
    task = "" if entry["task"] is None else f" task {entry['task']}"
    host = f" on {entry['host']}" if entry["host"] else ""
    reason = f" ({entry['reason']})" if entry["reason"] else ""
    words = f": {entry['explanation']}" if entry["explanation"] else ""
    text = f"{entry['job_id']}{task} {entry['state']}{host}{reason}{words}"
    return [(cut(f"  {_one_line(text)}", width), "")]


def _one_line(text: str) -> str:
    return " ".join(harmless(text).split())


def _joined(pieces: Sequence[Piece]) -> Line:
    line: Line = []
    for piece in pieces:
        line += [(_GAP, ""), piece] if line else [piece]
    return line


def _wide(pieces: Sequence[Piece]) -> int:
    return sum(cells_wide(text) for text, _ in pieces) + len(_GAP) * max(0, len(pieces) - 1)


def _cut(line: Line, width: int) -> Line:
    kept: Line = []
    for text, style in line:
        used = sum(cells_wide(each) for each, _ in kept)
        if used + cells_wide(text) > width:
            return [*kept, (cut(text, max(0, width - used)), style)]
        kept.append((text, style))
    return kept
