"""How a node imports this package: all modules come in one read, with the start of the program.

Python's own import from an archive opens it twice for each module. On a shared disk each opening
is a question to the server, and a task needs some fifty modules before its first row.
"""

from __future__ import annotations

import marshal
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType


class Bundle:
    """Finds and loads the compiled modules of ``worker.pyz`` (PEP 451).

    Parameters
    ----------
    archive
        Path of ``worker.pyz``, which holds the sources too.
    modules
        By name: whether it is a package, and its marshalled code.
    """

    def __init__(self, archive: str, modules: Mapping[str, tuple[bool, bytes]]) -> None:
        self._archive = archive
        self._modules = modules

    def install(self) -> None:
        """Let imports look here first."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where a module comes from, None for one that is not here."""
        if name not in self._modules:
            return None
        place = f"{self._archive}/{name.replace('.', '/')}"
        is_package = self._modules[name][0]
        file = f"{place}/__init__.py" if is_package else f"{place}.py"
        # A loader by what it does: deriving from importlib.abc.Loader would import that.
        spec = ModuleSpec(name, self, origin=file, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            # What nodes seldom need is imported from its source, by Python itself.
            spec.submodule_search_locations.append(place)
        return spec

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        """Leave it to Python to make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        code = marshal.loads(self._modules[module.__name__][1])  # noqa: S302  # our own program
        exec(code, module.__dict__)  # noqa: S102  # what importing is

    def get_source(self, name: str) -> str | None:
        """Give a module's source, for tracebacks."""
        from zipimport import zipimporter  # noqa: PLC0415  # seldom needed

        return zipimporter(self._archive).get_source(name.replace(".", "/"))
