"""What to ask for next time, from what was asked for and used: each sentence with its arithmetic.

Pure functions. A rule that has too little to go by says nothing; what is to be known and is not is
said by `missing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurmapply.sizing import (
    megabytes_in_words,
    memory_of,
    memory_option,
    time_of,
    time_option,
)
from slurmapply.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurmapply.taskuse import TaskUse

#: Of memory, on top of what was used: the same rows differ a little from run to run.
_SPARE_MEMORY = 1.25
#: Of time: nodes differ in speed, and a shared disk has bad days.
_SPARE_TIME = 1.5
#: An amount is worth changing when it can be brought to this part of what was asked for.
_WORTH_IT = 0.6
#: From this part of a limit on, the next run may exceed it.
_NEAR = 0.85
#: Rows must have worked for so many seconds before their CPU seconds say something.
_ENOUGH_WORK = 5.0
#: A row that uses less than this part of a CPU waits for something else; one that uses so much more
#: than its share has threads.
_WAITS, _CROWDED = 0.5, 1.3
#: Workers that are idle for more than this part of their time.
_MUCH_IDLE = 0.3
#: Seconds below which a whole task is hardly worth its start and its turn in the queue.
_SHORT_TASK = 60.0
#: Shorter limits are no hindrance in a queue.
_SMALL_LIMIT = 1800.0


class Asked(NamedTuple):
    """What the latest run asked for.

    Attributes
    ----------
    kind
        "slurm", "local" or "inline".
    nodes, cpus, processes
        Tasks; CPUs and workers of each.
    memory
        Whether ``mem=`` was given, so that the figure is the user's own.
    """

    kind: str
    nodes: int
    cpus: int
    processes: int
    memory: bool = False


class RowsUse(NamedTuple):
    """What the rows used; of each row the attempt that counts.

    Attributes
    ----------
    rows, ended
        How many there are, and have an outcome.
    seconds, cpu
        Of all together.
    longest, largest
        Number and seconds of the longest row, number and MiB of the largest; None: not known.
    peaks
        How many rows' peak is known.
    out_of_memory
        How many ran out of it.
    """

    rows: int
    ended: int
    seconds: float = 0.0
    cpu: float = 0.0
    longest: tuple[int, float] | None = None
    largest: tuple[int, float] | None = None
    peaks: int = 0
    out_of_memory: int = 0


def advise(asked: Asked, tasks: Sequence[TaskUse], rows: RowsUse) -> list[str]:
    """Say what to ask for next time.

    Parameters
    ----------
    asked
        By the latest run.
    tasks
        Of all runs.
    rows
        What the rows used.
    """
    latest = [use for use in tasks if use.run == max(use.run for use in tasks)] if tasks else []
    said = [*_on_idleness(asked, latest, rows)]
    if asked.kind == "slurm":
        said = [
            *_on_memory(asked, tasks, rows),
            *_on_time(latest, rows),
            *_on_processors(asked, latest, rows),
            *said,
        ]
    return said


def missing(asked: Asked, tasks: Sequence[TaskUse], rows: RowsUse) -> list[str]:
    """Say what is not known, and why, where advice would need it."""
    if not rows.ended:
        return ["no row has ended yet"]
    said = []
    if 2 * rows.peaks < rows.ended:
        known = f"only {rows.peaks}" if rows.peaks else "none"
        said.append(
            f"of {rows.ended} rows, the peak memory of {known} is known: rows under 10 ms are not "
            "looked at one by one"
        )
    unknown = all(use.peak_mb is None for use in tasks)
    if asked.kind == "slurm" and unknown and any(use.ended for use in tasks):
        said.append(
            "the memory of whole tasks is not known: neither the nodes' control groups nor the "
            "accounts say it"
        )
    return said


# -- memory ----------------------------------------------------------------------------------


def _on_memory(asked: Asked, tasks: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    limit = next((use.memory_mb for use in reversed(tasks) if use.memory_mb), None)
    if limit is None:
        return
    had = f"{'you asked for' if asked.memory else 'there was'} {megabytes_in_words(limit)} per node"
    if rows.out_of_memory:
        count = "1 row" if rows.out_of_memory == 1 else f"{rows.out_of_memory} rows"
        yield (
            f"{had}, and {count} of {asked.processes} at a time ran out of it: "
            f'job.retry("out_of_memory", mem="{memory_option(2 * limit)}")'
        )
        return
    need, arithmetic = _memory_needed(asked, tasks, rows, limit)
    if need is None:
        return
    proposed = memory_option(need * _SPARE_MEMORY)
    so_far = "" if rows.ended == rows.rows else f" ({rows.ended} of {rows.rows} rows so far)"
    if memory_of(proposed) <= _WORTH_IT * limit:
        enough = f"{proposed[:-1]} {proposed[-1]}B are enough"
        yield f'{had}; {arithmetic}{so_far}: {enough} (mem="{proposed}")'
    elif need >= _NEAR * limit:
        yield f'{had}; {arithmetic}{so_far}, which is close to it: ask for mem="{proposed}"'


def _memory_needed(
    asked: Asked, tasks: Sequence[TaskUse], rows: RowsUse, limit: float
) -> tuple[float | None, str]:
    """Give how much memory a task needs at most, and how that was found; None: nobody knows."""
    peaks = [use.peak_mb for use in tasks if use.peak_mb is not None]
    by_rows = None
    if rows.largest is not None and 2 * rows.peaks >= rows.ended:
        by_rows = asked.processes * rows.largest[1]
    # A task's peak counts the files that the kernel kept for it, as long as there was room.
    if peaks and (max(peaks) < _NEAR * limit or by_rows is None):
        if max(peaks) >= _NEAR * limit:
            return None, ""
        largest = f", a row {megabytes_in_words(rows.largest[1])}" if rows.largest else ""
        return max(peaks), f"no task used more than {megabytes_in_words(max(peaks))}{largest}"
    if by_rows is None or rows.largest is None:
        return None, ""
    row, size = rows.largest
    workers = "1 worker" if asked.processes == 1 else f"{asked.processes} workers"
    total = "" if asked.processes == 1 else f", make {megabytes_in_words(by_rows)}"
    return by_rows, (
        f"{workers}, of which the largest row ({row}) used {megabytes_in_words(size)}{total}"
    )


# -- time ------------------------------------------------------------------------------------


def _on_time(latest: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    limit = next((use.limit for use in latest if use.limit), None)
    elapsed = [use.elapsed for use in latest if use.elapsed and use.ended]
    if limit is None or not elapsed:
        return
    longest, cut = max(elapsed), [use for use in latest if use.ended == "time_limit"]
    if cut and 0 < rows.ended < rows.rows and not latest[0].run:
        need = longest * rows.rows / rows.ended
        yield (
            f"{len(cut)} of {len(latest)} tasks came to their time limit of {duration(limit)}, with"
            f" {rows.ended} of {rows.rows} rows done; all of them take about {duration(need)}: "
            f'job.retry(time="{time_option(need * _SPARE_TIME)}") or more nodes'
        )
        return
    if cut or any(use.ended != "done" for use in latest) or len(elapsed) < len(latest):
        return
    proposed = time_option(longest * _SPARE_TIME)
    if longest >= _NEAR * limit:
        yield (
            f"the longest task took {duration(longest)} of its time limit of {duration(limit)}, "
            f'which is close: ask for time="{proposed}"'
        )
    elif limit > _SMALL_LIMIT and time_of(proposed) <= _WORTH_IT * limit:
        yield (
            f"the time limit was {duration(limit)}, and the longest task took {duration(longest)}: "
            f'with time="{proposed}" Slurm finds a place for it sooner'
        )


# -- processors ------------------------------------------------------------------------------


def _on_processors(asked: Asked, latest: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    if rows.seconds < _ENOUGH_WORK:
        return
    share = asked.cpus / asked.processes
    used = rows.cpu / rows.seconds
    if used > _CROWDED * share:
        yield (
            f"a row used {used:.1f} CPUs, and each of {asked.processes} workers has "
            f"{share:.2g} of {_counted(asked.cpus, 'CPU')}: rows that have threads need "
            f"processes_per_node={max(1, int(asked.cpus / used))}, or fewer threads"
        )
        return
    whole = _whole_use(latest)
    if whole is None:  # programs that rows start are counted when a task has ended
        return
    if share > 1 and whole <= _WORTH_IT * share:
        fitting = max(asked.processes + 1, int(asked.cpus / max(whole, 1.0)))
        yield (
            f"each of {asked.processes} workers had {share:.2g} CPUs and used {whole:.2f}: "
            f"processes_per_node={fitting} uses them, or "
            f"cpus_per_node={max(1, round(asked.processes * max(whole, 1.0)))} asks for fewer"
        )
    elif whole < _WAITS:
        # Twice as many at a time: what they wait for may not bear more.
        more = min(2 * asked.processes, int(asked.cpus / max(whole, 0.01)))
        if more > asked.processes:
            yield (
                f"rows used {whole:.2f} CPUs on average, programs that they started included: they "
                f"wait most of the time (for a disk, the network?). processes_per_node={more} on "
                f"the same {_counted(asked.cpus, 'CPU')} may do more at a time"
            )


def _whole_use(latest: Sequence[TaskUse]) -> float | None:
    """Give the CPUs that a worker in a row used, programs that the row started included."""
    known = [use for use in latest if use.cpu_all is not None and use.ended]
    busy = sum(use.busy for use in known)
    if busy < _ENOUGH_WORK:
        return None
    return sum(use.cpu_all or 0.0 for use in known) / busy


# -- idleness --------------------------------------------------------------------------------


def _on_idleness(asked: Asked, latest: Sequence[TaskUse], rows: RowsUse) -> Iterator[str]:
    ended = [use for use in latest if use.ended == "done" and use.elapsed and use.workers]
    if not ended or len(ended) < len([use for use in latest if use.hosts]):
        return
    workers = sum(use.workers or 0 for use in ended)
    capacity = sum((use.elapsed or 0.0) * (use.workers or 0) for use in ended)
    busy = sum(use.busy for use in ended)
    if busy >= (1 - _MUCH_IDLE) * capacity:
        return
    idle = f"workers were idle for {1 - busy / capacity:.0%} of their time"
    longest = max(use.elapsed or 0.0 for use in ended)
    if len(ended) > 1 and busy < _SHORT_TASK:
        yield (
            f"{idle}: all rows together took {duration(busy)}, and starting a task takes about "
            f"{duration(_start_up(ended))}: nodes=1 does as well"
        )
    elif rows.ended < workers:
        yield f"{idle}: there are {rows.ended} rows for {workers} workers: {_fewer(asked, rows)}"
    elif rows.longest is not None and workers > 1 and rows.longest[1] >= longest / 2:
        row, seconds = rows.longest
        if seconds >= _ENOUGH_WORK:
            yield (
                f"{idle}: row {row} took {duration(seconds)} of the {duration(longest)} of its "
                "task, while others waited: with cost= long rows start first, and fewer nodes "
                "wait for less"
            )


def _start_up(ended: Sequence[TaskUse]) -> float:
    return max((use.begun for use in ended if use.begun is not None), default=1.0)


def _fewer(asked: Asked, rows: RowsUse) -> str:
    nodes = max(1, -(-rows.ended // asked.processes))
    if nodes < asked.nodes:
        return f"nodes={nodes} is enough"
    return f"cpus_per_node={max(1, -(-rows.ended // asked.nodes))} is enough"


def _counted(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number} {word}s"
