"""One measurement, in a process of its own: `python -m benchmarks.measurement CASE RESULT`.

The clock runs from the call, with what the peer offers imported and the parameters at hand, until
all results are: a pool that has to be started is started in that time, its end comes after. Whether
the values are right is looked at afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.case import CHUNKS, Case, place_of
from benchmarks.contestants import POOLS
from benchmarks.work import WORKS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from benchmarks.case import Map, Place
    from benchmarks.work import Work


class Clock:
    """Measures one stretch of time, and by how much memory rose over it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.memory = 0

    def __enter__(self) -> Clock:  # noqa: PYI034 - Self is not in Python 3.10
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (man 5 proc)
        self._memory = status_bytes("VmRSS")
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        self.memory = status_bytes("VmHWM") - self._memory


def status_bytes(name: str) -> int:
    """Read an amount of memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


def as_in_a_notebook(work: Work) -> None:
    """Let the function be one of `__main__`, as users' functions are: it travels by value."""
    work.function.__module__ = "__main__"
    setattr(sys.modules["__main__"], work.function.__name__, work.function)


def solve_by_map(call_each: Map, case: Case, work: Work, params: pd.DataFrame) -> pd.DataFrame:
    """Have a map compute the rows, cut by hand or not; gives parameters and results."""
    function, fixed = work.function, work.fixed()
    if case.style.startswith(CHUNKS):
        chunks = cut(params, case.nodes * case.workers)
        parts = call_each(_calls_of(function, fixed), chunks)
        values = [value for part in parts for value in part]
    else:
        values = call_each(_call_of(function, fixed), params.to_dict("records"))
    table: pd.DataFrame = params.assign(result=values)
    return table


def cut(params: pd.DataFrame, count: int) -> list[dict[str, list[Any]]]:
    """Cut a table into that many parts of equal size, or fewer where there are not enough rows."""
    edges = sorted({len(params) * part // count for part in range(count + 1)})
    columns = {str(name): params[name].tolist() for name in params}
    return [
        {name: column[begin:end] for name, column in columns.items()}
        for begin, end in itertools.pairwise(edges)
    ]


def _call_of(function: Callable[..., Any], fixed: dict[str, Any]) -> Callable[[Any], Any]:
    def call(row: dict[str, Any]) -> Any:
        return function(**row, **fixed)

    return _of_main(call)


def _calls_of(function: Callable[..., Any], fixed: dict[str, Any]) -> Callable[[Any], Any]:
    def call_all(columns: dict[str, list[Any]]) -> list[Any]:
        names = list(columns)
        rows = zip(*columns.values(), strict=True)
        return [function(**dict(zip(names, row, strict=True)), **fixed) for row in rows]

    return _of_main(call_all)


def _of_main(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    function.__module__, function.__qualname__ = "__main__", function.__name__
    setattr(sys.modules["__main__"], function.__name__, function)
    return function


def values_of(table: pd.DataFrame, params: pd.DataFrame) -> list[Any]:
    """Give the rows' values out of a table of parameters and results."""
    found = table.drop(columns=list(params))
    if list(found) == ["result"]:
        return list(found["result"])
    records: list[Any] = found.to_dict("records")
    return records


def measure(case: Case, place: Place) -> dict[str, Any]:
    """Run the rows once; gives the figures."""
    clock = Clock()
    with contextlib.ExitStack() as stack:
        if case.peer == "slurmapply":
            own = importlib.import_module("benchmarks.peers.slurmapply_")
            work, params = prepare(case)
            with clock:
                table = own.table(work, params, place)
        else:
            module, _, name = POOLS[case.peer].partition(":")
            pool = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
            work, params = prepare(case)
            with clock:
                call_each = stack.enter_context(pool(place))
                table = solve_by_map(call_each, case, work, params)
        # While pools are open, and their files there.
        if not work.right(values_of(table, params)):
            raise SystemExit(f"wrong values: {table}")
        return {"seconds": round(clock.seconds, 4), "session_bytes": clock.memory}


def prepare(case: Case) -> tuple[Work, pd.DataFrame]:
    """Make the work and its table of parameters."""
    import pandas as pd  # noqa: PLC0415 - a pool's fresh processes import this module without need

    work = WORKS[case.work](case.rows, toy=case.toy)
    as_in_a_notebook(work)
    return work, pd.DataFrame(work.columns)


def main() -> None:
    """Measure what the command line says, and write the figures where it says."""
    case = Case.from_json(sys.argv[1])
    figures = measure(case, place_of(case, Path.cwd()))
    Path(sys.argv[2]).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
