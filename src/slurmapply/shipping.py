"""What goes to the nodes with the function, and which part of it cannot go."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

from slurmapply.buffers import Counter, DataFileError, in_units
from slurmapply.call import payload
from slurmapply.errors import InvalidArgumentError, NotPicklableError
from slurmapply.pickling import ObjectWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from slurmapply.pickles import Stored

#: Captured objects above this size are named at submission: few people know that they send them.
WORTH_SAYING = 100 * 1024 * 1024

#: Of a global; the second is that of a class inside a function. Attributes are loaded otherwise.
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")


def ship(
    function: Callable[..., Any],
    more_args: Mapping[str, Any],
    global_objects: Mapping[str, Any],
    initializer: Callable[[], Any] | None,
    writer: ObjectWriter,
) -> Stored:
    """Pickle the function with all that it needs.

    Raises
    ------
    NotPicklableError
        Something of it cannot be sent; the variable is named.
    DataFileError
        There is no room for it; what is large is named.
    """
    content = payload(function, more_args, global_objects, initializer)
    try:
        return writer.dump(content)
    except DataFileError as error:
        named = ", ".join(f"{name} ({in_units(size)})" for name, size in _large(content))
        said = f"{error.strerror}: {named}" if named else error.strerror
        raise DataFileError(error.errno, said) from error
    except Exception as error:
        raise _blame(content, error) from error


def _blame(content: Mapping[str, Any], error: Exception) -> NotPicklableError:
    for owner, name, value in _parts(content):
        found = _refusal(value)
        if found is not None:
            kind = type(value)
            return NotPicklableError(
                f"{owner} `{name}` ({kind.__module__}.{kind.__qualname__}), which cannot be sent "
                f"to another process ({found}). Make it inside the function, or in initializer=.",
                variable=name,
            )
    return NotPicklableError(
        f"the function cannot be sent to another process ({type(error).__name__}: {error}). "
        "Objects such as locks, open files and connections must be made inside the function.",
        argument="f",
    )


def _refusal(value: Any) -> str | None:
    try:
        ObjectWriter(Counter()).dump(value)
    except Exception as error:  # noqa: BLE001  # any way of failing is a refusal
        return f"{type(error).__name__}: {error}"
    return None


def _parts(content: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in content["more_args"].items():
        yield "more_args holds", name, value
    for name, value in content["globals"].items():
        yield "global_objects holds", name, value
    yield from _used("f uses", content["function"])
    if content["initializer"] is not None:
        yield from _used("initializer uses", content["initializer"])


def _used(owner: str, function: Any) -> Iterator[tuple[str, str, Any]]:
    """Name what a function refers to: bound arguments, closure, defaults, globals."""
    if isinstance(function, functools.partial):
        bound = {f"argument {i} of the partial": v for i, v in enumerate(function.args)}
        for name, value in (bound | function.keywords).items():
            yield owner, name, value
        yield from _used(owner, function.func)
        return
    if getattr(function, "__self__", None) is not None:
        yield owner, "self", function.__self__
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        yield owner, type(function).__name__, function
        return
    used = inspect.getclosurevars(function)
    for name, value in (dict(used.nonlocals) | _globals_in(code, function)).items():
        yield owner, name, value
    for value in function.__defaults__ or ():
        yield owner, "a default argument", value


def _globals_in(code: Any, function: Any) -> dict[str, Any]:
    """Give the globals that a function's code names, also in the functions inside it."""
    space = function.__globals__
    return {
        name: space[name] for name in names_in(code) & space.keys() if space[name] is not function
    }


def names_in(code: CodeType) -> set[str]:
    """Give the global names that a function's code uses, also in the functions inside it."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    used = {step.argval for step in dis.get_instructions(code) if step.opname in _LOADS}
    return used.union(*map(names_in, inner))


def large_parts(
    function: Any, more_args: Mapping[str, Any], above: int = WORTH_SAYING
) -> list[tuple[str, int]]:
    """Give name and size in bytes of the objects above some bytes that go along.

    Each is pickled once more to be measured: ask only when all together are that large.
    """
    return _large(payload(function, more_args, {}, None), above)


def _large(content: Mapping[str, Any], above: int = WORTH_SAYING) -> list[tuple[str, int]]:
    sizes = ((name, _size(value)) for _, name, value in _parts(content))
    return [(name, size) for name, size in sizes if size > above]


def _size(value: Any) -> int:
    buffers = Counter()
    return len(ObjectWriter(buffers).dump(value).data) + buffers.size


def find_globals(names: Any, function: Any, caller: FrameType | None) -> dict[str, Any]:
    """Look up `global_objects`: a mapping as it is, names where f was defined, then in the caller.

    Raises
    ------
    InvalidArgumentError
        A name is nowhere.
    """
    if names is None:
        return {}
    if hasattr(names, "keys"):
        return {str(name): names[name] for name in names}
    wanted = [names] if isinstance(names, str) else list(names)
    places: list[Mapping[str, Any]] = [getattr(function, "__globals__", {})]
    if caller is not None:
        places += [caller.f_locals, caller.f_globals]
    return {name: _find(name, places) for name in wanted}


def _find(name: Any, places: list[Mapping[str, Any]]) -> Any:
    for place in places:
        if name in place:
            return place[name]
    raise InvalidArgumentError(
        f"global_objects: there is no {name!r} where the function was defined, nor where "
        "slurm_apply was called. Give a mapping of name to object instead.",
        argument="global_objects",
    )


def caller_outside() -> FrameType | None:
    """Give the frame of the user's code that called into this package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the documented way to one's caller
    package = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == package:
        frame = frame.f_back
    return frame
