"""Will the call work? What a function takes, held against what it will be given."""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError
from slurmapply.wording import described

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_call(
    f: Any,
    names: Collection[str],
    *,
    sometimes_absent: Collection[str] = frozenset(),
    more_args: Mapping[str, Any] | None = None,
    positional: int = 0,
    what: str = "params",
) -> None:
    """Refuse a call that cannot work, before anything is written.

    Parameters
    ----------
    f
        The function.
    names
        The columns, each of which becomes a keyword argument.
    sometimes_absent
        The columns that some rows lack, so that f's default must stand in.
    more_args
        The arguments that are the same for every row.
    positional
        How many arguments are given by position: one for an item of `slurm_map`.
    what
        What the user calls the source of `names`, for the messages.

    Raises
    ------
    InvalidArgumentError
        When f is no plain function, does not take these arguments, or needs others.
    """
    _check_is_function(f)
    fixed = _checked_more_args(more_args, names, what)
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # many functions written in C do not tell theirs
        return
    takes = _Takes(f, parameters, positional)
    takes.check_positions()
    takes.refuse("more_args", takes.unknown(fixed, "more_args"))
    unknown = takes.unknown(names, what)
    takes.refuse(what, [*unknown, *takes.missing({*names, *fixed}, set(sometimes_absent))])


def function_name(f: Callable[..., Any]) -> str:
    """Give a name that a person would recognise.

    Examples
    --------
    >>> function_name(functools.partial(len)), function_name(lambda x: x), function_name([].append)
    ('len', 'lambda', 'append')
    """
    f = _innermost(f)
    name = getattr(f, "__name__", None)
    if not isinstance(name, str):
        return type(f).__name__
    return name.strip("<>")


def check_count(value: Any, argument: str, *, minimum: int = 1) -> int:
    """Give a whole number as an int, and refuse all else.

    Parameters
    ----------
    value
        What the user gave: an int, or a NumPy integer.
    argument
        The name of the argument, for the message.
    minimum
        The smallest number that makes sense.

    Raises
    ------
    InvalidArgumentError
        When it is not a whole number, or too small.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < minimum:
        raise InvalidArgumentError(
            f"{argument} must be a whole number, {minimum} or more, not {described(value)}.",
            argument=argument,
        )
    return int(value)


def _innermost(f: Any) -> Any:
    while isinstance(f, functools.partial):
        f = f.func
    return f


def _check_is_function(f: Any) -> None:
    if not callable(f):
        raise _refusal(f"f is {described(f)}, not a function. {_meant(f)}", "f")
    inner = _innermost(f)
    # The type's __call__: that of a class itself would be the one of its instances.
    for code in (inner, type(inner).__call__):
        kind = _kind_of_unfinished(code)
        if kind:
            raise _refusal(
                f"f ({function_name(f)}) is {kind}: calling it computes nothing yet. Give a plain "
                "function that computes and returns its value, such as one that says "
                f"{'asyncio.run(f(...))' if 'async' in kind else 'list(f(...))'}.",
                "f",
            )


def _kind_of_unfinished(code: Any) -> str | None:
    if inspect.isasyncgenfunction(code):
        return "an async generator function"
    if inspect.iscoroutinefunction(code):
        return "an async function"
    return "a generator function" if inspect.isgeneratorfunction(code) else None


def _meant(f: Any) -> str:
    if isinstance(f, str):
        return "Pass the function itself, without quotes."
    if isinstance(f, (Mapping, list, tuple, range)) or hasattr(f, "__array__"):
        return "Were the arguments swapped? The function comes first: slurm_apply(f, params)."
    return "Pass the function itself, without calling it: f, not f(...)."


def _checked_more_args(more_args: Any, names: Collection[str], what: str) -> Mapping[str, Any]:
    fixed = {} if more_args is None else more_args
    if not isinstance(fixed, Mapping) or not all(isinstance(name, str) for name in fixed):
        raise _refusal(
            f"more_args is {described(fixed)}, not a mapping of arguments such as "
            '{"data": data}.',
            "more_args",
        )
    clashes = [name for name in fixed if name in names]
    if clashes:
        raise _refusal(
            f"{_quoted(clashes)} stand both in {what} and in more_args. An argument is either a "
            "column or the same for every row: leave it out of one of them.",
            "more_args",
        )
    return fixed


class _Takes:
    """What a function takes, and the sentences about what does not fit."""

    def __init__(self, f: Any, parameters: list[inspect.Parameter], positional: int) -> None:
        self._f = f
        self._positional = positional
        ordered = [p for p in parameters if p.kind in _POSITIONAL]
        self._filled = ordered[:positional]
        self._open = [p for p in parameters if p not in self._filled and p.kind not in _VARIABLE]
        kinds = {p.kind for p in parameters}
        self._any_position = _VARIABLE[0] in kinds
        self._any_keyword = _VARIABLE[1] in kinds
        self._keywords = [p.name for p in self._open if p.kind is not _POSITIONAL[0]]

    def check_positions(self) -> None:
        """Refuse a function that has no place for the item."""
        if len(self._filled) < self._positional and not self._any_position:
            raise _refusal(
                f"{function_name(self._f)} takes no argument by position, and each item goes to "
                f"the first one. {self._listed()} Use slurm_apply with a column of that name, or "
                "wrap it: lambda item: f(name=item).",
                "f",
            )

    def unknown(self, names: Iterable[str], source: str) -> list[str]:
        """Say of each name that the function cannot be given why not."""
        filled = {p.name for p in self._filled if p.kind is not _POSITIONAL[0]}
        return [
            self._why_not(name, source, filled)
            for name in names
            if name in filled or (name not in self._keywords and not self._any_keyword)
        ]

    def missing(self, given: set[str], sometimes_absent: set[str]) -> list[str]:
        """Say of each argument without a default that (some) rows lack it."""
        required = [p for p in self._open if p.default is inspect.Parameter.empty]
        by_position = [p.name for p in required if p.kind is _POSITIONAL[0]]
        never = [p.name for p in required if p.name not in {*given, *by_position}]
        at_times = [p.name for p in required if p.name in sometimes_absent]
        name = function_name(self._f)
        sentences = {
            f"{name} needs {_quoted(never)}, which nothing gives.": never,
            f"{name} needs {_quoted(at_times)}, which some rows lack: give these rows a value, or "
            "the argument a default.": at_times,
            f"{name} takes {_quoted(by_position)} by position only, which no column can fill: wrap "
            "it, lambda x: f(x).": by_position,
        }
        return [sentence for sentence, names in sentences.items() if names]

    def refuse(self, argument: str, sentences: list[str]) -> None:
        """Raise, if there is anything to say."""
        if not sentences:
            return
        if hasattr(_innermost(self._f), "__wrapped__"):
            sentences = [*sentences, "(Where a decorator changes the arguments, wrap the call.)"]
        raise _refusal(" ".join([*sentences, self._listed()]), argument)

    def _why_not(self, name: str, source: str, filled: set[str]) -> str:
        if name in filled:
            return f"{source} names {name!r}, the argument that each item goes to."
        nearest = difflib.get_close_matches(name, self._keywords, n=1)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        return f"{function_name(self._f)} has no argument {name!r}{hint}, which {source} gives it."

    def _listed(self) -> str:
        shown = [
            p.name if p.default is inspect.Parameter.empty else f"{p.name}=..."
            for p in self._open
            if p.name in self._keywords
        ]
        return f"It takes: {', '.join(shown) or 'no keyword arguments'}."


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _refusal(message: str, argument: str) -> InvalidArgumentError:
    return InvalidArgumentError(message, argument=argument)
