"""Whether two jobs are the same: digests of a function's code, of parameters, of arguments."""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
from array import array
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from slurmapply.cells import MANY
from slurmapply.pickling import ObjectWriter
from slurmapply.shipping import names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurmapply.pickles import BufferPlace

#: Of a class: where it stands, what Python adds to it, and what says nothing of what it does.
_NOT_ITS_CODE = {
    "__annotate__",
    "__annotate_func__",
    "__classcell__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}
#: Py_TPFLAGS_HEAPTYPE: a class that a program made; others are part of Python.
_HEAP_TYPE = 1 << 9
#: Cheap to digest, also where they belong to a module that the nodes import themselves.
_CONSTANTS = (bool, bytes, complex, float, frozenset, int, str, tuple, type(None))


def of_work(
    function: Any,
    columns: Mapping[str, Sequence[Any]],
    more_args: Mapping[str, Any],
    global_objects: Mapping[str, Any],
) -> dict[str, str]:
    """Digest the three things by which two jobs are the same.

    Functions and classes of the session, and of the module that f is from, are digested by their
    code and by what it uses. File names and line numbers do not count: the same cell of a
    notebook, run again, is the same. Other modules count by their names.
    """
    home = getattr(function, "__module__", None)
    columns_told = {name: _told(cells) for name, cells in columns.items()}
    return {
        "function": _Digester(home).of(function),
        "parameters": _Digester(home).of(columns_told),
        "arguments": _Digester(home).of([dict(more_args), dict(global_objects)]),
    }


def of_value(value: Any) -> str:
    """Digest one object alone."""
    return _Digester(None).of(value)


class _Digester:
    """Digests objects by their pickles, in which code stands for functions and classes.

    Parameters
    ----------
    home
        The module of the job's function.
    """

    def __init__(self, home: str | None) -> None:
        self._home = home
        # With the objects, so that no other comes to have the id of one.
        self._seen: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> str:
        """Digest an object; "unknown" for one that cannot be pickled."""
        digest = hashlib.sha256()
        if isinstance(value, (set, frozenset)):  # their order changes with the session
            digest.update("".join(sorted(map(self.of, value))).encode())
            return digest.hexdigest()
        try:
            digest.update(ObjectWriter(_Into(digest), self._reduce).dump(value).data)
        except Exception:  # noqa: BLE001  # what cannot be sent is found, and named, a step later
            return "unknown"
        return digest.hexdigest()

    def _reduce(self, thing: Any) -> Any:
        """Put a digest of the code in the place of a function or class."""
        if isinstance(thing, (FunctionType, type)) and self._counts(thing):
            return str, (self._of_code(thing),)
        return NotImplemented

    def _counts(self, thing: FunctionType | type) -> bool:
        if isinstance(thing, type) and not thing.__flags__ & _HEAP_TYPE:
            return False
        return thing.__module__ == self._home or not _importable(thing)

    def _of_code(self, thing: FunctionType | type) -> str:
        known = len(self._seen)
        number, _ = self._seen.setdefault(id(thing), (known, thing))
        if number < known:  # it calls itself, say
            return f"number {number}"
        digest = hashlib.sha256(thing.__qualname__.encode())
        if isinstance(thing, FunctionType):
            digest.update(_told_code(thing.__code__).encode())
        for name, value in _used_by(thing):
            digest.update(f"{name}={self.of(value)};".encode())
        return digest.hexdigest()


def _importable(thing: FunctionType | type) -> bool:
    """Whether a node finds it by its name, and so it does not go along."""
    place: Any = sys.modules.get(thing.__module__) if thing.__module__ != "__main__" else None
    for name in thing.__qualname__.split("."):
        place = getattr(place, name, None)
    return place is thing


def _told_code(code: CodeType) -> str:
    """Tell what code does, not where it stands: since Python 3.13 classes note their first line."""
    takes = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_varnames)
    steps = list(dis.get_instructions(code))
    told = [
        f"{step.opname} {_told_const(step.argval)}"
        for step, then in zip(steps, [*steps[1:], steps[-1]], strict=True)
        if then.argval != "__firstlineno__"
    ]
    return f"{takes!r}{''.join(told)}"


def _told_const(const: Any) -> str:
    if isinstance(const, CodeType):
        return _told_code(const)
    if isinstance(const, tuple):
        return "".join(["(", *map(_told_const, const), ")"])
    if isinstance(const, frozenset):  # of a membership test; its order changes with the session
        return "".join(["{", *sorted(map(_told_const, const)), "}"])
    return f"{const!r},"


def _used_by(thing: FunctionType | type) -> Iterable[tuple[str, Any]]:
    return _used_by_function(thing) if isinstance(thing, FunctionType) else _held_by_class(thing)


def _used_by_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    yield "defaults", (function.__defaults__, function.__kwdefaults__)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    yield from ((name, cell.cell_contents) for name, cell in cells if _is_set(cell))
    space = function.__globals__
    stays = _importable(function)
    for name in sorted(names_in(function.__code__) & space.keys()):
        value = space[name]
        if isinstance(value, ModuleType):
            continue
        # What a module has read or made at its import is made anew on the nodes.
        made_there = stays and not isinstance(value, (FunctionType, type, *_CONSTANTS))
        yield name, type(value) if made_there else value


def _is_set(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # asking is the only way
    except ValueError:
        return False
    return True


def _held_by_class(kind: type) -> Iterator[tuple[str, Any]]:
    yield "bases", kind.__bases__
    for name, value in sorted(vars(kind).items()):
        if name in _NOT_ITS_CODE or isinstance(value, (GetSetDescriptorType, MemberDescriptorType)):
            continue
        yield name, value.func if isinstance(value, functools.cached_property) else value


class _Into:
    """Takes large buffers into a digest, without a copy."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def add(self, raws: Sequence[memoryview]) -> list[BufferPlace]:
        """Take all of them."""
        for raw in raws:
            # Of changes, not of attacks: SHA-1 takes half of SHA-256's time (0.3 s for 500 MB).
            self._digest.update(hashlib.sha1(raw, usedforsecurity=False).digest())
        return []


def _told(cells: Sequence[Any]) -> Any:
    """Give what stands for a column: its cells, or a digest of many numbers."""
    numbers = _as_array(cells)
    if numbers is None:
        return list(cells)
    return numbers.typecode, hashlib.sha256(numbers).hexdigest()


def _as_array(cells: Sequence[Any]) -> array[Any] | None:
    if isinstance(cells, array):
        return cells
    kinds = set(map(type, cells)) if len(cells) >= MANY else set()
    try:
        if kinds == {int}:
            return array("q", cells)
        return array("d", cells) if kinds == {float} else None
    except OverflowError:
        return None
