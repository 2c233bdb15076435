"""How a job is doing, on one line that fits: the words and the bar. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurmapply.states import JobState, RowStatus
from slurmapply.wording import duration

if TYPE_CHECKING:
    from slurmapply.status import JobStatus

_SHORTEST_BAR = 10
_LONGEST_BAR = 50
#: In steps, so that what stands behind it does not move with each digit.
_STEP_OF_BAR = 5
#: What is nice to know is not shown where the bar would get shorter than this.
_GOOD_BAR = 20
_QUICK_ROW = 10.0
_LONGEST_NAME = 40


class Style(NamedTuple):
    """How a bar is drawn.

    Attributes
    ----------
    marks
        One letter each for rows that are ok, not ok, running, and not begun.
    colours
        Their colours and that of a number of failures, as SGR numbers (ECMA-48); none when empty.
    """

    marks: str = "█x▒░"
    colours: tuple[int, ...] = (32, 31, 36, 2)


#: Marks for terminals without UTF-8.
ASCII = "#x=."


def words(status: JobStatus) -> list[str]:
    """Give what is never left out: failures, rows that are ok, the time that is left.

    Parameters
    ----------
    status
        Of the job.
    """
    done = f"{status.counts.get(RowStatus.OK, 0)}/{status.rows} ok"
    return [f"{status.failed} failed", done, _time_left(status)]


def more_words(status: JobStatus) -> list[str]:
    """Give how many rows are running, waiting, and left for good."""
    others = (RowStatus.RUNNING, RowStatus.PENDING, RowStatus.UNFINISHED, RowStatus.CANCELLED)
    return [f"{status.counts[each]} {each}" for each in others if status.counts.get(each)]


def rate(status: JobStatus) -> str:
    """Give how fast rows end, empty where nobody can say.

    Examples
    --------
    >>> from slurmapply import JobState, JobStatus
    >>> rate(JobStatus("a", JobState.RUNNING, {"ok": 5, "pending": 64}, seconds_left=20.0))
    '3.2 rows/s'
    >>> rate(JobStatus("a", JobState.RUNNING, {"ok": 5, "pending": 10}, seconds_left=300.0))
    '30 s/row'
    """
    left = status.counts.get(RowStatus.PENDING, 0) + status.counts.get(RowStatus.RUNNING, 0)
    if not left or not status.seconds_left:
        return ""
    each = status.seconds_left / left
    if each <= 1:
        return f"{1 / each:.1f} rows/s" if each > 1 / _QUICK_ROW else f"{1 / each:.0f} rows/s"
    return f"{each:.1f} s/row" if each < _QUICK_ROW else f"{duration(each)}/row"


def ending(status: JobStatus, seconds: float | None) -> str:
    """Say in one line how a job ended.

    Parameters
    ----------
    status
        Of the job that is over.
    seconds
        From the start of its first task, where one is known.

    Examples
    --------
    >>> from slurmapply import JobState, JobStatus
    >>> ending(JobStatus("tuning", JobState.FINISHED, {"ok": 9}), 12.0)
    'tuning: 9 rows ok in 12 s'
    >>> ending(JobStatus("tuning", JobState.CANCELLED, {"ok": 7, "cancelled": 2}), 12.0)
    'tuning: 0 failed, 7/9 ok, 2 cancelled after 12 s'
    """
    ended_well = status.ok and bool(status.rows)
    took = "" if seconds is None else f" {'in' if ended_well else 'after'} {duration(seconds)}"
    if ended_well:
        rows = "1 row" if status.rows == 1 else f"{status.rows} rows"
        return f"{shown_name(status)}: {rows} ok{took}"
    said = ", ".join(words(status)[:2] + more_words(status))
    return f"{shown_name(status)}: {said}{took}"


def draw(status: JobStatus, waited: float, width: int, style: Style) -> str:
    """Draw how a job is doing on one line that no terminal of this width wraps.

    What there is no room for is left out, the least important first: the time waited so far, the
    rate, the bar, the numbers of rows that wait and run, the job's name. Failures, rows that are
    ok and the time left always stand there, in this order.

    Parameters
    ----------
    status
        Of the job.
    waited
        Seconds of waiting so far.
    width
        Columns of the terminal.
    style
        How to draw.

    Examples
    --------
    >>> from slurmapply import JobState, JobStatus
    >>> counts = {"ok": 45, "error": 2, "running": 8, "pending": 45}
    >>> status = JobStatus("tuning", JobState.RUNNING, counts, seconds_left=17.0)
    >>> print(draw(status, 14.0, 40, Style(ASCII, ())))
    tuning 2 failed, 45/100 ok, 17 s left
    >>> print(draw(status, 14.0, 80, Style(ASCII, ())))
    tuning |######x=.......| 2 failed, 45/100 ok, 17 s left, 8 running, 45 pending
    """
    room = max(1, width - 1)  # terminals differ in when they wrap a line that is full
    first = words(status)
    text = ", ".join(first)
    if len(text) > room:
        return " ".join(word.replace(" left", "") for word in first)[:room]
    lead = f"{shown_name(status)} "
    if len(lead) + len(text) > room:
        lead = ""
    room -= len(lead)
    for word in more_words(status):
        text = _with(text, word, room)
    for word in (rate(status), f"{duration(waited)} so far"):
        text = _with(text, word, room - _GOOD_BAR)
    size = min(_LONGEST_BAR, room - len(text) - 3) // _STEP_OF_BAR * _STEP_OF_BAR
    bar = f"|{_bar(status, size, style)}| " if size >= _SHORTEST_BAR else ""
    failed = text.partition(",")[0]
    painted = _paint(failed, 1, style) if status.failed else failed
    return f"{lead}{bar}{painted}{text[len(failed) :]}"


def segments(status: JobStatus, size: int) -> list[int]:
    """Share a bar's length out: rows that are ok, not ok, running, and the others.

    Parameters
    ----------
    status
        Of the job.
    size
        Length of the bar. Rows that are not ok or that run have a part of it however few they are.

    Examples
    --------
    >>> from slurmapply import JobState, JobStatus
    >>> segments(JobStatus("a", JobState.RUNNING, {"ok": 5000, "error": 1, "pending": 5000}), 20)
    [9, 1, 0, 10]
    """
    counts = [
        status.counts.get(RowStatus.OK, 0),
        status.not_ok,
        status.counts.get(RowStatus.RUNNING, 0),
    ]
    rows = max(1, status.rows)
    sums = [round(size * sum(counts[:end]) / rows) for end in range(4)]
    parts = [end - begin for begin, end in zip(sums, [*sums[1:], size], strict=True)]
    for place in (1, 2):
        largest = parts.index(max(parts))
        if counts[place] and not parts[place] and parts[largest] > 1:
            parts[place] += 1
            parts[largest] -= 1
    return parts


def _bar(status: JobStatus, size: int, style: Style) -> str:
    parts = zip(style.marks, segments(status, size), strict=True)
    return "".join(
        _paint(mark * length, place, style) if length else ""
        for place, (mark, length) in enumerate(parts)
    )


def _paint(text: str, place: int, style: Style) -> str:
    return f"\x1b[{style.colours[place]}m{text}\x1b[0m" if style.colours else text


def _with(text: str, word: str, room: int) -> str:
    longer = f"{text}, {word}"
    return longer if word and len(longer) <= room else text


def _time_left(status: JobStatus) -> str:
    if status.seconds_left is not None:
        return f"{duration(status.seconds_left)} left"
    return "? left" if status.state is JobState.RUNNING else str(status.state)


def shown_name(status: JobStatus) -> str:
    """Give a job's name, cut short and in letters of one column each."""
    # Ours are ASCII; the name in a folder from elsewhere may be anything.
    name = ascii(status.name)[1:-1]
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
