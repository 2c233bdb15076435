"""What to ask for, from a few rows that were measured: each figure with its arithmetic.

Pure functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.chunks import tasks_for
from slurmapply.sizing import megabytes_in_words, memory_option, seconds_in_words, time_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: A task should run about half an hour: much shorter ones spend their time on their start and in
#: the queue, much longer ones find a place later and lose more when they are stopped.
_TARGET = 1800.0
#: CPUs that any node of a cluster has to spare.
_CPUS = 4
#: More tasks at a time are for the user to ask for: others wait in the same queue.
_MOST_NODES = 32
#: A few rows say little about the others.
_SPARE = 1.5
#: MiB of the processes of a task that are no workers.
_SUPERVISOR_MB = 64
#: So many seconds of work must there be before CPU seconds say how many threads a row has.
_ENOUGH_WORK = 1.0
_THREADED = 1.3
_UNEVEN = 3.0
#: Seconds below which a row is mostly its first call: imports, caches, the first page of memory.
_WARMING_UP = 0.01


class MeasuredRow(NamedTuple):
    """How one row ran; its peak in MiB is None where it is not known."""

    number: int
    seconds: float
    cpu: float
    peak_mb: float | None


class Measured(NamedTuple):
    """What was measured.

    Attributes
    ----------
    total
        How many rows there are.
    rows
        Those that ran.
    begun
        Seconds from the start of the task to its first row.
    task_peak_mb
        The most memory that the task used, with its one worker; None: not known.
    shared_mb
        MiB of the function's large objects, of which the processes of a node share one copy.
    in_session
        They ran in the session's own process.
    """

    total: int
    rows: Sequence[MeasuredRow]
    begun: float = 0.0
    task_peak_mb: float | None = None
    shared_mb: float = 0.0
    in_session: bool = False

    @property
    def mean(self) -> float:
        """Seconds of a row, on average."""
        return sum(row.seconds for row in self.rows) / len(self.rows)

    @property
    def longest(self) -> float:
        """Seconds of the longest row."""
        return max(row.seconds for row in self.rows)


class Wish(NamedTuple):
    """What the user has decided; None for what is to be proposed."""

    nodes: int | None = None
    cpus: int | None = None
    processes: int | None = None


def propose(measured: Measured, wish: Wish) -> tuple[dict[str, Any], list[str]]:
    """Give keywords of `slurm_apply`, and lines that say how they were found.

    Parameters
    ----------
    measured
        At least one row.
    wish
        What is decided already.

    Examples
    --------
    >>> rows = [MeasuredRow(0, 60.0, 60.0, 200.0)]
    >>> propose(Measured(100, rows, 2.0), Wish())[0]
    {'nodes': 1, 'cpus_per_node': 4, 'mem': '2G', 'time': '45min'}
    """
    threads = _threads(measured)
    work = measured.mean * measured.total
    wanted = max(1, min(measured.total, math.ceil(work / _TARGET)))
    cpus = wish.cpus or threads * min(_CPUS, wanted)
    processes = wish.processes or max(1, cpus // threads)
    nodes = wish.nodes or min(_MOST_NODES, math.ceil(wanted / processes))
    nodes = tasks_for(measured.total, nodes, processes) if wish.nodes is None else nodes
    workers = min(measured.total, nodes * processes)
    mean, total = seconds_in_words(measured.mean), measured.total
    lines = [
        *_about_threads(threads, measured),
        f"work: {total} rows x {mean} = {seconds_in_words(work)} for one process",
    ]
    wall = measured.longest if total <= workers else work / workers + measured.longest
    lines.append(_about_size(nodes, cpus, processes, wish, work=work, workers=workers))
    keywords: dict[str, Any] = {"nodes": nodes, "cpus_per_node": cpus}
    if processes != cpus:
        keywords["processes_per_node"] = processes
    mem, said = _memory(measured, min(processes, total))
    if mem:
        keywords["mem"] = mem
    keywords["time"] = time_option(_SPARE * (wall + measured.begun))
    lines += [said, _about_time(keywords["time"], measured, work=work, workers=workers)]
    lines += _about_spread(measured)
    return keywords, lines


def _threads(measured: Measured) -> int:
    seconds = sum(row.seconds for row in measured.rows)
    used = sum(row.cpu for row in measured.rows) / seconds if seconds else 0.0
    return math.ceil(used - _THREADED + 1) if seconds >= _ENOUGH_WORK and used > _THREADED else 1


def _about_threads(threads: int, measured: Measured) -> Iterator[str]:
    if threads > 1:
        used = sum(row.cpu for row in measured.rows) / sum(row.seconds for row in measured.rows)
        yield f"threads: a row used {used:.1f} CPUs, so that each process gets {threads}"


def _about_size(
    nodes: int, cpus: int, processes: int, wish: Wish, *, work: float, workers: int
) -> str:
    given = [
        name
        for name, value in (("nodes", wish.nodes), ("cpus_per_node", wish.cpus))
        if value is not None
    ]
    kept = f" ({' and '.join(given)} as given)" if given else ""
    each = "" if processes == cpus else f", processes_per_node={processes}"
    why = f"{seconds_in_words(work)} / {_processes(workers)} = {seconds_in_words(work / workers)}"
    return f"size: nodes={nodes}, cpus_per_node={cpus}{each}{kept}: {why}"


def _memory(measured: Measured, processes: int) -> tuple[str, str]:
    """Give what to ask for, "" where nobody knows, and how that was found."""
    peaks = [row.peak_mb for row in measured.rows if row.peak_mb is not None]
    largest = max(peaks, default=measured.task_peak_mb)
    if largest is None or measured.in_session:
        short = "rows under 10 ms are not looked at one by one"
        session = "the rows ran in this session's process"
        why = session if measured.in_session else short
        return "", f"memory: not known, since {why}; mem= is left to the site"
    fixed = _SUPERVISOR_MB + (measured.shared_mb if peaks else 0.0)
    mem = memory_option(_SPARE * processes * largest + fixed)
    shared = f" + {megabytes_in_words(measured.shared_mb)} that they share"
    what = "the largest row's" if peaks else "a whole task's"
    return mem, (
        f'memory: mem="{mem}": {_processes(processes)} x {megabytes_in_words(largest)} ({what} '
        f"peak) x {_SPARE}, for others may be larger"
        f"{shared if fixed - _SUPERVISOR_MB >= 1 else ''} + "
        f"{_SUPERVISOR_MB} MB for the task itself"
    )


def _about_time(time: str, measured: Measured, *, work: float, workers: int) -> str:
    begun = f"{seconds_in_words(measured.begun)} until the first row begins"
    longest = f"{seconds_in_words(measured.longest)} for a long row"
    if measured.total <= workers:
        return f'time: time="{time}": ({longest} + {begun}) x {_SPARE}, rounded up'
    share = seconds_in_words(work / workers)
    return f'time: time="{time}": ({share} + {longest} at the end + {begun}) x {_SPARE}, rounded up'


def _about_spread(measured: Measured) -> Iterator[str]:
    if measured.longest < _WARMING_UP:
        yield "note: rows as short as these take less when many follow each other"
    times = [row.seconds for row in measured.rows]
    if len(times) < measured.total and max(times) > _UNEVEN * min(times) and max(times) > 1:
        more = min(measured.total, 4 * len(times))
        yield (
            f"note: rows differ much, from {seconds_in_words(min(times))} to "
            f"{seconds_in_words(max(times))}: rows={more} measures more of them, and cost= in "
            "slurm_apply lets long ones start first"
        )


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
