"""Whether two jobs are the same: digests of a function's code, of parameters, of arguments."""

from __future__ import annotations

import hashlib
import types
from array import array
from typing import TYPE_CHECKING, Any

from slurmapply.cells import MANY
from slurmapply.pickling import ObjectWriter
from slurmapply.shipping import names_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.pickles import BufferPlace


def of_function(function: Any) -> str:
    """Digest what a function does: its code and that of the functions beside it that it calls.

    File names and line numbers do not count: the same notebook cell, run again, is the same.
    """
    digest = hashlib.sha256()
    _add_function(digest, function, set())
    return digest.hexdigest()


def _add_function(digest: Any, function: Any, seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    for part in ("func", "args", "keywords", "__func__"):  # partials and bound methods
        if hasattr(function, part):
            _add_value(digest, getattr(function, part), seen)
    code = getattr(function, "__code__", None)
    if code is None:
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
        digest.update(name.encode())
        return
    _add_code(digest, code)
    cells = (cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
    for value in (*(function.__defaults__ or ()), *cells):
        _add_value(digest, value, seen)
    for name in sorted(names_in(code) & function.__globals__.keys()):
        value = function.__globals__[name]
        if getattr(value, "__module__", None) == function.__module__:
            digest.update(name.encode())
            _add_value(digest, value, seen)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # asking is the only way
    except ValueError:
        return False
    return True


def _add_code(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            _add_code(digest, const)
        else:
            digest.update(repr(const).encode())


def _add_value(digest: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, (types.FunctionType, types.MethodType)):
        _add_function(digest, value, seen)
    else:
        digest.update(of_value(value).encode())


def of_value(value: Any) -> str:
    """Digest any object by its pickle."""
    digest = hashlib.sha256()
    try:
        digest.update(ObjectWriter(_Into(digest)).dump(value).data)
    except Exception:  # noqa: BLE001  # what cannot be sent is found, and named, a step later
        return "unknown"
    return digest.hexdigest()


class _Into:
    """Takes large buffers into a digest, without a copy."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def add(self, raws: Sequence[memoryview]) -> list[BufferPlace]:
        """Take all of them."""
        for raw in raws:
            self._digest.update(raw)
        return []


def of_work(
    function: Any,
    columns: Mapping[str, Sequence[Any]],
    more_args: Mapping[str, Any],
    global_objects: Mapping[str, Any],
) -> dict[str, str]:
    """Digest the three things by which two jobs are the same."""
    return {
        "function": of_function(function),
        "parameters": of_value({name: _told(cells) for name, cells in columns.items()}),
        "arguments": of_value([dict(more_args), dict(global_objects)]),
    }


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
