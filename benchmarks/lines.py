"""The lines of the table: who is measured at what, and what we want to reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.case import BLOCK, CHUNKS, COST, PLAIN, ROW, SCATTERED, Case
from benchmarks.work import ARRAY_BYTES, UNEVEN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Figures

OURS = "slurmapply"
FLOOR = "sbatch"
POOL = "local pool"
FRESH_POOL = "pool of fresh processes"
FUTURES = ("submitit", "executorlib", "clusterfutures", "dask-jobqueue", "Parsl")
SIZES: tuple[int, ...] = (1, 100, 10_000, 100_000, 1_000_000)
#: From which on chunks cut by hand differ in more than how they start.
MANY = SIZES[2]
#: Of the tasks whose files are counted, where each row is one.
FILES_ROWS = 20
#: Seconds of patience with those who copy it for every worker.
_LONG = 300.0
#: Styles of reading the array, and of waiting.
FILE, HELD, FLOWING = "from a file", "held", "while results come"


@dataclass(frozen=True)
class Goal:
    """Something to reach: a figure of ours and what it may be at most."""

    text: str
    value: float | None
    limit: float | None

    @property
    def met(self) -> bool | None:
        """Tell whether it is; None where something was not measured."""
        if self.value is None or self.limit is None:
            return None
        return self.value <= self.limit


@dataclass(frozen=True)
class Measure:
    """A column of a line's table: a figure of the measurements, and how it is shown."""

    name: str
    heading: str
    divisor: float = 1.0
    digits: int = 2


_SECONDS = Measure("seconds", "seconds")


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes
    ----------
    title
        What it is about.
    cases
        Who is measured, and how often.
    goals
        What we want to reach, from the figures.
    measures
        Its columns; contestants are compared by the last.
    at_once
        Whether all may be measured at the same time, since they only wait.
    """

    title: str
    cases: Callable[[], list[Case]]
    goals: Callable[[Figures], list[Goal]]
    measures: tuple[Measure, ...] = (_SECONDS,)
    at_once: bool = False

    @property
    def main(self) -> Measure:
        """Give the measure that contestants are compared by."""
        return self.measures[-1]


# -- one call --------------------------------------------------------------------------------------


def _one_call() -> list[Case]:
    rounds = {OURS: 10, FLOOR: 10, "dask-jobqueue": 3, "Parsl": 2}
    styles = {FLOOR: PLAIN, OURS: PLAIN, "rslurm": PLAIN, **dict.fromkeys(FUTURES, ROW)}
    return [
        Case("one call", peer, style, "add", 1, nodes=1, workers=1, rounds=rounds.get(peer, 5))
        for peer, style in styles.items()
    ]


def _one_call_goals(figures: Figures) -> list[Goal]:
    ours = figures.median("one call", OURS, 1)
    fastest = figures.fastest("one call", 1, apart_from=(OURS, FLOOR))
    floor = figures.median("one call", FLOOR, 1)
    return [
        Goal("at most 0.6 times the fastest peer", ours, _times(0.6, fastest)),
        Goal("at most the floor + 0.35 s", ours, _plus(0.35, floor)),
    ]


# -- rows ------------------------------------------------------------------------------------------


def _rows() -> list[Case]:
    sizes = {(peer, CHUNKS): SIZES for peer in FUTURES}
    sizes |= {(peer, ROW): SIZES[1:2] for peer in FUTURES[:3]}
    sizes |= {(peer, ROW): SIZES[1:3] for peer in FUTURES[3:]}
    sizes |= {(OURS, PLAIN): SIZES, ("rslurm", PLAIN): SIZES, (POOL, CHUNKS): SIZES[::2]}
    return [
        Case("rows", peer, style, "add", rows, rounds=_rounds(peer, style, rows))
        for (peer, style), several in sizes.items()
        for rows in several
    ]


def _rounds(peer: str, style: str, rows: int) -> int:
    if peer in {OURS, POOL}:
        return 5
    quick = style == CHUNKS and peer in FUTURES[:3]
    return 2 if quick and rows >= MANY else 1


def _rows_goals(figures: Figures) -> list[Goal]:
    goals = []
    for rows in SIZES[2:4]:
        chunked = figures.fastest("rows", rows, style=CHUNKS, apart_from=(POOL,))
        ours = figures.median("rows", OURS, rows)
        goals.append(Goal(f"{rows:,} rows: at most the fastest by hand", ours, chunked))
    most = SIZES[-1]
    ours = figures.median("rows", OURS, most)
    rslurm = figures.median("rows", "rslurm", most)
    submitit = figures.median("rows", f"submitit, {CHUNKS}", most)
    memory = figures.median("rows", OURS, most, "session_bytes")
    return [
        *goals,
        Goal(f"{most:,} rows: at most 0.25 times rslurm", ours, _times(0.25, rslurm)),
        Goal(f"{most:,} rows: at most submitit by hand", ours, submitit),
        Goal("memory of the session: at most 250 bytes a row", _times(1 / most, memory), 250.0),
    ]


# -- uneven rows -----------------------------------------------------------------------------------


def _uneven() -> list[Case]:
    styles = [(OURS, PLAIN, 5), (OURS, COST, 5), (POOL, ROW, 5), ("rslurm", "unscheduled", 1)]
    styles += [(peer, ROW, 1) for peer in FUTURES]
    styles += [(peer, CHUNKS, 1) for peer in FUTURES[:3]]
    return [
        Case("uneven", peer, style, "uneven", 200, workers=8, rounds=rounds)
        for peer, style, rounds in styles
    ]


def _uneven_goals(figures: Figures) -> list[Goal]:
    plain = figures.median("uneven", OURS, 200)
    told = figures.median("uneven", f"{OURS}, {COST}", 200)
    return [
        Goal("at most 1.4 times what is possible", _times(1 / UNEVEN_SECONDS, plain), 1.4),
        Goal("with cost=, at most 1.15 times", _times(1 / UNEVEN_SECONDS, told), 1.15),
    ]


# -- boosting --------------------------------------------------------------------------------------


def _boosting() -> list[Case]:
    often = {OURS, POOL, FRESH_POOL}
    styles = [("loop", ROW), (POOL, ROW), (FRESH_POOL, ROW), (OURS, PLAIN)]
    styles += [(peer, ROW) for peer in FUTURES]
    styles += [(peer, CHUNKS) for peer in FUTURES[:3]]
    return [
        Case(
            "boosting", peer, style, "boosting", 9,
            nodes=1, workers=2, rounds=5 if peer in often else 1,
        )
        for peer, style in styles
    ]  # fmt: skip


def _boosting_goals(figures: Figures) -> list[Goal]:
    ours = figures.median("boosting", OURS, 9)
    pool = figures.median("boosting", f"{POOL}, {ROW}", 9)
    fresh = figures.median("boosting", f"{FRESH_POOL}, {ROW}", 9)
    return [
        Goal("at most the local pool + 0.9 s", ours, _plus(0.9, pool)),
        Goal("at most the pool of fresh processes + 0.9 s", ours, _plus(0.9, fresh)),
    ]


# -- a large array ---------------------------------------------------------------------------------


def _array() -> list[Case]:
    ours = Case("array", OURS, PLAIN, "array", 64, workers=4, memory=950, timeout=_LONG, rounds=5)
    slow = replace(ours, rounds=1, watched=True)
    # More than the array, and less: its pages are then read again and again.
    little = [replace(ours, style=f"mem={4 * each}M", memory=each, rounds=1) for each in (150, 50)]
    # As many at once as have memory for the array and what unpickles it: with 950 MB dask's workers
    # were killed.
    plain = [
        replace(slow, peer="submitit", style=CHUNKS, memory=1900),
        replace(slow, peer="dask-jobqueue", style=SCATTERED, workers=2, memory=1900),
        replace(slow, peer="rslurm"),
    ]
    by_file = [
        replace(ours, peer=peer, style=f"{CHUNKS}, {FILE}", work="file")
        for peer in ("submitit", "dask-jobqueue")
    ]
    held = [
        replace(case, style=f"{case.style}, {HELD}".lstrip(", "), work=f"{case.work}, held",
                rounds=5 if case is ours else 1, watched=True)
        for case in (ours, *by_file)
    ]  # fmt: skip
    return [ours, *held, *little, *plain, *(replace(case, rounds=1) for case in by_file)]


def _array_goals(figures: Figures) -> list[Goal]:
    seconds = figures.median("array", OURS, 64)
    held = f"{OURS}, {HELD}"
    disk = figures.median("array", held, 64, "disk_bytes")
    memory = figures.median("array", held, 64, "workers_bytes")
    return [
        Goal("seconds, at most", seconds, 4.0),
        Goal("on disk, times the array, at most", _times(1 / ARRAY_BYTES, disk), 1.02),
        Goal("memory of all workers, times it, at most", _times(1 / ARRAY_BYTES, memory), 1.2),
    ]


# -- files -----------------------------------------------------------------------------------------


def _files() -> list[Case]:
    cases = [Case("files", OURS, PLAIN, "add", 10_000, rounds=1)]
    cases += [Case("files", "rslurm", PLAIN, "add", 10_000, rounds=1)]
    return cases + [Case("files", peer, ROW, "add", FILES_ROWS, rounds=1) for peer in FUTURES[:3]]


def _files_goals(figures: Figures) -> list[Goal]:
    files = figures.median("files", OURS, 10_000, "files")
    claims = figures.median("files", OURS, 10_000, "claims")
    workers = 8
    return [
        Goal("at most 6 + 3 for each worker + claims", files, _plus(6 + 3 * workers, claims)),
    ]


# -- waiting, starting -----------------------------------------------------------------------------


def _waiting() -> list[Case]:
    styles = {OURS: PLAIN, "rslurm": PLAIN, **dict.fromkeys(FUTURES, ROW)}
    one = Case("waiting", OURS, PLAIN, "waiting", 1, nodes=1, workers=1, rounds=1, memory=300)
    others = [*styles.items(), ("executorlib", BLOCK)]
    flowing = replace(one, style=FLOWING, work="flowing", rows=300)
    return [*(replace(one, peer=peer, style=style) for peer, style in others), flowing]


def _waiting_goals(figures: Figures) -> list[Goal]:
    flowing = f"{OURS}, {FLOWING}"
    rows = max(figures.sizes("waiting", flowing), default=0)
    return [
        Goal("calls a minute, at most", figures.median("waiting", OURS, 1, "calls"), 2.0),
        Goal("and while results come", figures.median("waiting", flowing, rows, "calls"), 0.0),
    ]


def _start() -> list[Case]:
    return [Case("start", OURS, PLAIN, "start", 1, nodes=1, workers=1, rounds=3)]


def _start_goals(figures: Figures) -> list[Goal]:
    above = figures.median("start", OURS, 1)
    modules = figures.median("start", OURS, 1, "third_party")
    return [
        Goal("above bare python, at most 0.08 s", above, 0.08),
        Goal("third-party packages imported, cloudpickle apart", modules, 0.0),
    ]


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _plus(more: float, value: float | None) -> float | None:
    return None if value is None else more + value


LINES: dict[str, Line] = {
    "one call": Line("One call, from submission to result", _one_call, _one_call_goals),
    "rows": Line("Rows that do nothing", _rows, _rows_goals),
    "uneven": Line(
        "200 very uneven rows",
        _uneven,
        _uneven_goals,
        (Measure("seconds", "times 6 s", UNEVEN_SECONDS), _SECONDS),
    ),
    "boosting": Line("Tuning a model", _boosting, _boosting_goals),
    "array": Line(
        "A large array that all calls read",
        _array,
        _array_goals,
        (
            Measure("disk_bytes", "MB on disk", 1e6, 0),
            Measure("workers_bytes", "MB of memory", 1e6, 0),
            _SECONDS,
        ),
    ),
    "files": Line("Files left", _files, _files_goals, (Measure("files", "files", digits=0),)),
    "waiting": Line(
        "Calls of Slurm's commands while a session waits",
        _waiting,
        _waiting_goals,
        (Measure("calls", "calls a minute", digits=0),),
        at_once=True,
    ),
    "start": Line(
        "Start of a worker",
        _start,
        _start_goals,
        (
            Measure("bare", "bare python, ms", 1e-3, 0),
            Measure("seconds", "to the first row, above that, ms", 1e-3, 0),
        ),
    ),
}
_TOY_ROWS, _TOY_ROWS_ELSE = {"boosting": 2, "array": 4, "uneven": 12}, 20


def toy(cases: list[Case]) -> list[Case]:
    """Make everything small, once each: to see that it works."""
    small = [replace(case, rows=_toy_rows(case), rounds=1, timeout=60, toy=True) for case in cases]
    return list({case.key: case for case in small}.values())


def _toy_rows(case: Case) -> int:
    return 1 if case.rows == 1 else _TOY_ROWS.get(case.line, _TOY_ROWS_ELSE)
