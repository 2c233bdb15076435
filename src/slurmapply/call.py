"""A row's call: the function with its fixed arguments, and what it can ask about its row."""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.rows import ITEM
from slurmapply.seeds import Seed, row_rng, row_seed, seed_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.random import Generator

    from slurmapply.rows import RowReader

    #: Positional and named arguments of a call.
    Bound = tuple[tuple[Any, ...], Mapping[str, Any]]


class Call(NamedTuple):
    """The user's function as it is called for each row.

    Parameters
    ----------
    function
        The user's.
    more_args
        Keyword arguments that are the same for every row.
    initializer
        Called once in each process before its first row, or None.
    """

    function: Callable[..., Any]
    more_args: Mapping[str, Any]
    initializer: Callable[[], Any] | None = None

    def __call__(self, arguments: dict[str, Any]) -> Any:
        """Call the function with a row's arguments; the item of slurm_map goes first."""
        positional, named = self._bound(arguments)
        return self.function(*positional, **named)

    def _bound(self, arguments: dict[str, Any]) -> Bound:
        positional = (arguments.pop(ITEM),) if ITEM in arguments else ()
        return positional, {**arguments, **self.more_args}

    def over(self, rows: RowReader, numbers: Iterable[range]) -> Iterator[Bound]:
        """Give positional and named arguments for one row after another.

        What goes wrong with a row's is raised when they are asked for, and is the iterator's end.

        Parameters
        ----------
        rows
            Where the arguments come from.
        numbers
            The rows.
        """
        for block, here in rows.blocks(numbers):
            order = self._by_position(block.names)
            if block.is_plain and order:
                yield from zip(block.cells(order, here), itertools.repeat(self.more_args))
                continue
            for number in here:
                yield self._bound(block.arguments(number))

    def _by_position(self, names: list[str]) -> Sequence[str]:
        """Give the order in which columns may go by position, empty when they may not.

        A plain function cannot tell, and a call by position takes half a microsecond less.
        """
        if names == [ITEM]:
            return names
        if type(self.function) is not FunctionType:
            return ()
        code = self.function.__code__
        first = code.co_varnames[: code.co_argcount][: len(names)]
        return () if code.co_posonlyargcount or {*first} != {*names} else first


def payload(
    function: Callable[..., Any],
    more_args: Mapping[str, Any],
    global_objects: Mapping[str, Any],
    initializer: Callable[[], Any] | None,
) -> dict[str, Any]:
    """Put what a call needs into the plain containers that are stored in ``function.pkl``."""
    return {
        "function": function,
        "more_args": dict(more_args),
        "globals": dict(global_objects),
        "initializer": initializer,
    }


def call_of(content: Mapping[str, Any]) -> Call:
    """Make a call from what `payload` put together, its global objects in their place."""
    function = content["function"]
    if content["globals"]:
        _globals_of(function).update(content["globals"])
    return Call(function, content["more_args"], content["initializer"])


def _globals_of(function: Any) -> dict[str, Any]:
    for _ in range(32):  # a partial of a bound method of a callable: never deep, but no loop
        if hasattr(function, "__globals__"):
            found: dict[str, Any] = function.__globals__
            return found
        inner = getattr(function, "func", None) or getattr(function, "__func__", None)
        function = inner or type(function).__call__
    return {}


class CurrentRow(NamedTuple):
    """What the function can ask about the row that it is called for.

    Attributes
    ----------
    number : int or None
        Number of the row, from 0; None outside a job.
    attempt : int
        1 at the first attempt, 2 when it is tried again.
    """

    number: int | None = None
    attempt: int = 1
    job_folder: str | None = None
    job_seed: int = 0

    @property
    def seed(self) -> int:
        """An int from 0 to 2**32 - 1, for ``random_state=`` and the like; needs no NumPy.

        It follows from the job's seed and the row's number, so that it is the same at each
        attempt, and no two rows of a job have the same. Outside a job it is drawn at random, anew
        each time.
        """
        if self.number is None:
            return int.from_bytes(os.urandom(4), "big")
        return row_seed(self.job_seed, self.number)

    def rng(self) -> Generator:
        """Give a NumPy generator of the row's own; each call begins its stream anew.

        It is that of ``SeedSequence(job.seed).spawn(n)[number]``: the same at each attempt, and
        independent of the other rows'. Outside a job it is a fresh one.
        """
        if self.number is None:
            from numpy.random import default_rng  # noqa: PLC0415  # nodes may lack it

            return default_rng()
        generator: Generator = row_rng(self.job_seed, self.number)
        return generator

    @property
    def folder(self) -> Path:
        """A folder of the row's own, made on first use and kept across attempts.

        Outside a job it is the working folder.
        """
        from pathlib import Path  # noqa: PLC0415  # it would cost each task's start 5 ms

        if self.job_folder is None:
            return Path.cwd()
        folder = Path(self.job_folder) / "rows_" / str(self.number)
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103  # Path.mkdir's parents ignore the mode
        return folder


#: Number, attempt, job folder, job's seed; made into a CurrentRow only for who asks.
_current: ContextVar[tuple[int | None, int, str | None, int]] = ContextVar(
    "slurmapply_current_row", default=(None, 1, None, 0)
)


def current_row() -> CurrentRow:
    """Give the row that the calling function runs for; harmless outside a job.

    Returns
    -------
    CurrentRow
        ``.number``, ``.attempt`` (from 1), ``.seed``, ``.rng()``, ``.folder``.

    Examples
    --------
    >>> current_row().number is None
    True
    """
    return CurrentRow(*_current.get())


def enter_row(number: int, attempt: int, job_folder: str, seed: Seed) -> None:
    """Say which row the calls that follow are made for, and set its random state if asked to."""
    entrance(attempt, job_folder, seed)(number)


def entrance(attempt: int, job_folder: str, seed: Seed) -> Callable[[int], None]:
    """Give what enters rows by their number: `enter_row` with all that is the same for many."""
    job_seed, set_current = seed.number, _current.set

    def enter(number: int) -> None:
        set_current((number, attempt, job_folder, job_seed))

    def enter_seeded(number: int) -> None:
        enter(number)
        seed_row(job_seed, number)

    return enter_seeded if seed.given else enter


def leave_rows() -> None:
    """Say that no row is being run any more."""
    _current.set((None, 1, None, 0))
