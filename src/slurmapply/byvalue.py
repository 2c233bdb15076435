"""Modules of the user's own that go to the nodes with the function (`by_value=`)."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import sys
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the node's program brings along itself, and cannot be loaded from a pickle.
_GOES_ALONG = ("slurmapply", "cloudpickle")


def check_modules(value: Any, name: str) -> tuple[str, ...]:
    """Check `by_value`; gives the modules' names, each of which can be imported here.

    Raises
    ------
    InvalidArgumentError
        There is no such module, or it is not one whose functions can be sent.
    """
    if value is None:
        return ()
    alone = isinstance(value, (str, ModuleType)) or not isinstance(value, Iterable)
    return tuple(dict.fromkeys(_checked(each, name) for each in ([value] if alone else value)))


def _checked(module: Any, argument: str) -> str:
    name = module.__name__ if isinstance(module, ModuleType) else module
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"{argument}: modules or their names are needed, not {module!r}.", argument=argument
        )
    if name.partition(".")[0] in _GOES_ALONG:
        raise InvalidArgumentError(
            f"{argument}: {name} is on the nodes in any case; leave it out.", argument=argument
        )
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise InvalidArgumentError(
            f"{argument}: {name} is part of Python, and so on the nodes; leave it out. What is "
            "defined in your script or notebook itself goes along by itself.",
            argument=argument,
        )
    if not _is_python(_imported(name, argument)):
        raise InvalidArgumentError(
            f"{argument}: {name} is not written in Python, and only Python can be sent. Install "
            "it where the nodes' Python finds it.",
            argument=argument,
        )
    return name


def _imported(name: str, argument: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:
        near = difflib.get_close_matches(name, sys.modules, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidArgumentError(
            f"{argument}: {name!r} cannot be imported here ({type(error).__name__}: {error})."
            f"{hint}",
            argument=argument,
        ) from error


def _is_python(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or file.endswith((".py", ".pyc"))  # a namespace package has no file


@contextlib.contextmanager
def sent_by_value(names: Iterable[str]) -> Iterator[None]:
    """Have cloudpickle send what is defined in these modules, and in those inside them."""
    import cloudpickle  # noqa: PLC0415  # only who submits needs it

    known = cloudpickle.list_registry_pickle_by_value()
    modules = [import_module(name) for name in names if name not in known]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def sources_of(names: Iterable[str]) -> list[str]:
    """Give the source of these modules and of those inside them, as far as they are loaded."""
    loaded = (
        module
        for each, module in sorted(sys.modules.items())
        if any(each == name or each.startswith(f"{name}.") for name in names)
    )
    return [_source(module) for module in loaded]


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # empty, or a namespace package
        return ""
