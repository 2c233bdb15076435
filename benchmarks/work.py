"""What is computed: functions, their rows, and what has to come out.

The functions import what they need themselves, and know nothing of this module: they travel to the
nodes as functions of a notebook do, by value.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Of the sleeping rows: in this order a pool of 32 that takes one after another needs 1.34 times
#: what is possible.
_UNEVEN_SEED = 15
#: What the sleeping rows take at best: the longest of them.
UNEVEN_SECONDS = 6.0
#: Of the array that all calls read.
ARRAY_BYTES = 500_000_000
_WAIT_SECONDS, _FLOW_SECONDS = 75.0, 0.25
_EXAMPLE = Path(__file__).parents[1] / "examples" / "tune_boosting.py"


@dataclass(frozen=True)
class Work:
    """A function and the rows that it is called for.

    Attributes
    ----------
    function
        Called once for each row with keyword arguments.
    columns
        The rows' arguments, by name.
    fixed
        Makes the arguments that are the same for all rows; part of what is timed, because a file
        that is made by hand takes time as well.
    right
        Tells whether the rows' values are right.
    cost
        The column that tells how long a row takes.
    """

    function: Callable[..., Any]
    columns: Mapping[str, Sequence[Any]]
    right: Callable[[Sequence[Any]], bool]
    fixed: Callable[[], dict[str, Any]] = field(default=dict)
    cost: str | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Give the arguments of each row."""
        return [
            dict(zip(self.columns, values, strict=True))
            for values in zip(*self.columns.values(), strict=True)
        ]


def _add(a: int, b: int) -> int:
    return a + b


def add(rows: int, *, toy: bool) -> Work:
    """Add two numbers: next to nothing, so that all that is measured is bookkeeping."""
    del toy
    columns = {"a": list(range(rows)), "b": list(range(rows, 2 * rows))}
    return Work(_add, columns, lambda values: list(values) == list(range(rows, 3 * rows, 2)))


def _sleep(number: int, seconds: float) -> int:
    import time  # noqa: PLC0415 - travels to the nodes

    time.sleep(seconds)
    return number


def uneven_seconds(rows: int, workers: int) -> list[float]:
    """Give very uneven lengths, of which the sum over workers or the longest is six seconds."""
    chance = random.Random(_UNEVEN_SEED)  # noqa: S311 - no secret
    drawn = [min(UNEVEN_SECONDS, chance.lognormvariate(math.log(0.3), 1.2)) for _ in range(rows)]
    bound = max(sum(drawn) / workers, *drawn)
    return [seconds * UNEVEN_SECONDS / bound for seconds in drawn]


def uneven(rows: int, *, toy: bool) -> Work:
    """Sleep for very uneven times."""
    seconds = uneven_seconds(rows, 32)
    if toy:
        seconds = [each / 20 for each in seconds]
    columns: dict[str, list[Any]] = {"number": list(range(rows)), "seconds": seconds}
    return Work(_sleep, columns, lambda values: list(values) == list(range(rows)), cost="seconds")


def boosting(rows: int, *, toy: bool) -> Work:
    """Tune a model, as the example does."""
    del toy
    spec = importlib.util.spec_from_file_location("tune_boosting", _EXAMPLE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"cannot load {_EXAMPLE}")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    grid = list(itertools.product([1, 2, 3], [50, 100, 150]))[:rows]
    depths, sizes = (list(column) for column in zip(*grid, strict=True))
    return Work(
        example.cv_score,
        {"max_depth": depths, "n_estimators": sizes},
        lambda values: all(50 < value["rmse"] < 70 for value in values),  # noqa: PLR2004
    )


def _read(number: int, array: Any, hold: float) -> float:
    import time  # noqa: PLC0415 - travels to the nodes

    total = float(array.sum())
    time.sleep(hold)
    return total + number


def _read_file(number: int, path: str, hold: float) -> float:
    import time  # noqa: PLC0415 - travels to the nodes

    import numpy as np  # noqa: PLC0415

    total = float(np.load(path, mmap_mode="r").sum())
    time.sleep(hold)
    return total + number


def array(rows: int, *, toy: bool, hold: float = 0.0) -> Work:
    """Read all of a large array in each call."""
    import numpy as np  # noqa: PLC0415 - no other work needs it

    data = np.arange((ARRAY_BYTES // 500 if toy else ARRAY_BYTES) // 8, dtype=float)
    wanted = [float(data.sum()) + number for number in range(rows)]
    return Work(
        _read,
        {"number": list(range(rows))},
        lambda values: list(values) == wanted,
        lambda: {"array": data, "hold": hold},
    )


def array_held(rows: int, *, toy: bool) -> Work:
    """Read it, and keep it for a while, so that all workers are seen with it at once."""
    return array(rows, toy=toy, hold=0.5)


def array_file(rows: int, *, toy: bool, hold: float = 0.0) -> Work:
    """Read it from a file that was made for the purpose by hand."""
    import numpy as np  # noqa: PLC0415

    plain = array(rows, toy=toy)
    path = Path.cwd() / "by_hand.npy"

    def save() -> dict[str, Any]:
        np.save(path, plain.fixed()["array"])
        return {"path": str(path), "hold": hold}

    return Work(_read_file, plain.columns, plain.right, save)


def array_file_held(rows: int, *, toy: bool) -> Work:
    """Read it from a file made by hand, and keep it for a while."""
    return array_file(rows, toy=toy, hold=0.5)


def _wait(marker: str, seconds: float) -> None:
    import pathlib  # noqa: PLC0415 - travels to the nodes
    import time  # noqa: PLC0415

    pathlib.Path(marker).touch()
    time.sleep(seconds)


def waiting(rows: int, *, toy: bool) -> Work:
    """Sleep, so that the session has to wait; a file tells when that begins."""
    marker = str(Path.cwd() / "began")
    seconds = 4.0 if toy else _WAIT_SECONDS
    columns: dict[str, list[Any]] = {"marker": [marker] * rows, "seconds": [seconds] * rows}
    return Work(_wait, columns, lambda values: list(values) == [None] * rows)


def _flow(number: int, marker: str, seconds: float) -> int:
    import pathlib  # noqa: PLC0415 - travels to the nodes
    import time  # noqa: PLC0415

    if number == 0:
        pathlib.Path(marker).touch()
    time.sleep(seconds)
    return number


def flowing(rows: int, *, toy: bool) -> Work:
    """Sleep for a moment in each row, so that results come all the while."""
    del toy
    marker = str(Path.cwd() / "began")
    columns: dict[str, list[Any]] = {"number": list(range(rows)), "marker": [marker] * rows}
    return Work(
        _flow,
        columns,
        lambda values: list(values) == list(range(rows)),
        lambda: {"seconds": _FLOW_SECONDS},
    )


WORKS: dict[str, Callable[..., Work]] = {
    "add": add,
    "uneven": uneven,
    "boosting": boosting,
    "array": array,
    "array, held": array_held,
    "file": array_file,
    "file, held": array_file_held,
    "waiting": waiting,
    "flowing": flowing,
}
