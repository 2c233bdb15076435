"""``FILE.py:FUNCTION``: the user's file, run as Python would, and a function of it."""

from __future__ import annotations

import ast
import difflib
import sys
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply.cli.saying import InputError
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Callable


def load_function(given: str) -> Callable[..., Any]:
    """Give the function that is meant; it travels to the nodes by value.

    Parameters
    ----------
    given
        ``path/to/file.py:function``, or ``file.py:Class.method``.

    Raises
    ------
    InputError
        There is no such file or function, or the file raises; its own traceback is shown.
    """
    name, colon, function = given.rpartition(":")
    path = Path(name if colon else given).expanduser()
    source = _source(path)
    if not colon or not function:
        raise InputError(f"{given}: say which function of it, {path}:NAME.{_holds(source, path)}")
    module = _run(path, source)
    found: Any = module
    for part in function.split("."):
        if not hasattr(found, part):
            raise InputError(f"there is no {function!r} in {path}.{_holds(source, path, function)}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{function} of {path} is no function: it is a {type(found).__name__}.")
    return found  # type: ignore[no-any-return]


def _source(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file of Python and a function of it are needed.")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(_missing(path)) from None


def _missing(path: Path) -> str:
    try:
        beside = [each.name for each in path.parent.iterdir() if each.is_file()]
    except OSError:
        return f"there is no file {path}: its folder cannot be read."
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f"there is no file {path}." + (
        f" Did you mean {path.with_name(near[0])}?" if near else ""
    )


def _run(path: Path, source: bytes) -> types.ModuleType:
    """Run a file as a module of its own.

    Its name is one that cannot be imported: nodes then have no choice but to take functions and
    classes by value, and never run the file a second time.
    """
    import cloudpickle

    given, path = path, path.absolute()
    module = types.ModuleType(f"<{path.stem}>")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent))  # as `python FILE.py` does
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102  # what it is for
    except SystemExit as error:
        raise InputError(
            f"{given} ended the program when it was read (exit code {error.code}). Put what only a "
            'script does under: if __name__ == "__main__":'
        ) from error
    except Exception as error:  # whatever the user's file raises is shown
        raise InputError(f"{given} cannot be read by Python:\n{_shortened(error, path)}") from error
    cloudpickle.register_pickle_by_value(module)
    return module


def _shortened(error: Exception, path: Path) -> str:
    """Give the traceback from the user's file on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return harmless("".join(lines).rstrip())


def _holds(source: bytes, path: Path, wanted: str = "") -> str:
    """Say which functions a file holds, the nearest first."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    if not names:
        return f" {path.name} holds no functions."
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{hint} {path.name} holds: {', '.join(names)}."
