"""``worker.pyz``: the node's program, this whole package and the session's cloudpickle, zipped.

What the node loads is compiled (each task would otherwise compile it anew) and stands in one entry,
so that one read brings it all (see `worker.bundle`). All sources stand beside: a user's module
which imports this package works there, and a Python of another minor version can still read enough
to say what is wrong.
"""

from __future__ import annotations

import functools
import io
import marshal
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAIN = """\
import os, sys
wanted = {version!r}
if sys.version_info[:2] != wanted:
    sys.exit("slurmapply: this job was made with Python %d.%d, and this node's %s is Python %d.%d. "
             "Pickles of functions need the same minor version: name one with python=..., or load "
             "its module with setup=[...]." % (wanted + (sys.executable,) + sys.version_info[:2]))
# The workers leave this folder; what they import later must still be found.
sys.path[0] = os.path.abspath(sys.path[0])
import gc, marshal
gc.disable()  # it would look through all modules time and again while they are loaded
modules = marshal.loads(__loader__.get_data({modules!r}))
names = {{"__name__": {bundle!r}}}
exec(marshal.loads(modules[{bundle!r}][1]), names)
names["Bundle"](sys.path[0], modules).install()
from slurmapply.worker.__main__ import main
status = main(sys.argv[1:])
# No code of the user's ran in this process: nothing waits for the interpreter to be taken apart.
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""

#: What every node loads; a test holds that it is all of it.
_ON_NODES = (
    "__init__", "call", "choice", "chunks", "disk", "errors", "jobfolder", "order", "outcome",
    "pickles", "records", "rows", "seeds", "states", "survey", "worker/",
)  # fmt: skip


#: The entry with all compiled modules, and the module that imports from it.
_MODULES = "modules.bin"
_BUNDLE = "slurmapply.worker.bundle"


@functools.cache
def pack_worker() -> bytes:
    """Make the content of ``worker.pyz`` for this Python."""
    archive_of_ours = Path(__file__).parents[1]
    if archive_of_ours.is_file():  # a row submits a job: this is the program of its node
        return archive_of_ours.read_bytes()
    import cloudpickle  # noqa: PLC0415  # only who submits needs it

    packages = (Path(__file__).parent, _ON_NODES), (Path(cloudpickle.__file__).parent, ("",))
    main = _MAIN.format(version=sys.version_info[:2], modules=_MODULES, bundle=_BUNDLE)
    compiled: dict[str, tuple[bool, bytes]] = {}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("__main__.py", main)
        for package, on_nodes in packages:
            for name, source in _sources(package):
                archive.write(source, f"{package.name}/{name}", zipfile.ZIP_DEFLATED, 6)
                if name.startswith(on_nodes):
                    module = _module_name(f"{package.name}/{name}")
                    compiled[module] = (source.name == "__init__.py", _compiled(source))
        archive.writestr(_MODULES, marshal.dumps(compiled))
    return stream.getvalue()


def _sources(package: Path) -> Iterator[tuple[str, Path]]:
    for source in sorted(package.rglob("*.py")):
        yield source.relative_to(package).as_posix(), source


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _compiled(source: Path) -> bytes:
    loader = SourceFileLoader(source.stem, str(source))  # takes the session's own .pyc if it can
    return marshal.dumps(loader.get_code(source.stem))
