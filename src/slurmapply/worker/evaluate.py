"""One row: the user's function is called, and what came of it becomes bytes or a failure.

This is the only place of the package that catches what a user's code raises. A failed row is a
value like any other; it never ends the loop that it runs in.
"""

from __future__ import annotations

import os
import pickle
import traceback
from typing import TYPE_CHECKING, Any

from slurmapply.outcome import (
    KIND_BOOL,
    KIND_FAILURE,
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    Failure,
)
from slurmapply.pickles import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurmapply.call import Bound

#: Exact types only: a subclass (numpy.float64, an IntEnum) must come back as what it was.
_KINDS = {type(None): KIND_NONE, bool: KIND_BOOL, int: KIND_INT, float: KIND_FLOAT}
_INT64_LEAST, _INT64_MOST = -(2**63), 2**63 - 1


def evaluate(
    function: Callable[..., Any],
    arguments: Iterator[Bound],
    *,
    interruptible: bool = False,
) -> tuple[int, Any]:
    """Call the function for the next row.

    Parameters
    ----------
    function
        The user's.
    arguments
        Gives the row's arguments; unpickling them runs the user's code too.
    interruptible
        Let a KeyboardInterrupt through: somebody sits at this process's keyboard.

    Returns
    -------
    tuple of int and value
        A kind of `slurmapply.outcome` and the value itself, its pickle, or a `Failure`.
    """
    try:
        positional, named = next(arguments)
        value = function(*positional, **named)
    except BaseException as error:
        if interruptible and isinstance(error, KeyboardInterrupt):
            raise
        return KIND_FAILURE, failure_of(error)
    kind = _KINDS.get(type(value), KIND_PICKLE)
    if kind == KIND_PICKLE or (kind == KIND_INT and not _INT64_LEAST <= value <= _INT64_MOST):
        return _pickled(value, interruptible=interruptible)
    return kind, value


def _pickled(value: Any, *, interruptible: bool) -> tuple[int, Any]:
    try:
        return KIND_PICKLE, pickle_value(value)
    except BaseException as error:
        if interruptible and isinstance(error, KeyboardInterrupt):
            raise
        kind = type(value).__name__
        article = "an" if kind[:1].lower() in "aeiou" else "a"
        message = (
            f"the function returned {article} {kind}, which cannot be saved "
            f"({type(error).__name__}: {_text(error)}). Return plain data: numbers, text, arrays, "
            "lists, dictionaries or frames"
        )
        return KIND_FAILURE, Failure(type(error).__name__, message, _traceback(error))


def pickle_value(value: Any) -> bytes:
    """Pickle a value; what pickle finds by no name (classes of a notebook) goes by value."""
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception:
        import cloudpickle  # noqa: PLC0415  # most jobs never need it on the node

        data: bytes = cloudpickle.dumps(value, PROTOCOL)
        return data


def failure_of(error: BaseException) -> Failure:
    """Describe an exception, as text and, where it survives the round trip, as itself."""
    frames = traceback.extract_tb(_below_package(error))
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return Failure(
        cause=type(error).__name__,
        message=_text(error),
        traceback=_traceback(error),
        place=place,
        exception=_round_trip(error),
    )


def _text(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the function called sys.exit({error.code!r})"
    try:
        return str(error)
    except BaseException:
        return "(its message cannot be shown: __str__ raises)"


def _below_package(error: BaseException) -> Any:
    """Give the traceback without this package's own frames at its head."""
    # The code's own file name: inside worker.pyz it is not the module's __file__.
    package = os.path.dirname(os.path.dirname(evaluate.__code__.co_filename)) + os.sep
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(package):
        trace = trace.tb_next
    return trace


def _traceback(error: BaseException) -> str:
    try:
        trace = _below_package(error)
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        return f"{type(error).__name__} (its traceback cannot be shown)"


def _round_trip(error: BaseException) -> bytes:
    # An exception with two required arguments pickles well and fails to unpickle: only the
    # attempt tells, and it is made here, where it can harm nobody.
    try:
        data = pickle_value(error)
        pickle.loads(data)
    except BaseException:
        return b""
    return data
