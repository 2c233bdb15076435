"""``worker.pyz``: the node's program, this whole package and the session's cloudpickle, zipped.

What the node loads is compiled (each task would otherwise compile it anew); all sources stand
beside, so that a user's module which imports this package works there, and a Python of another
minor version can still read enough to say what is wrong.
"""

from __future__ import annotations

import functools
import importlib.util
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
from slurmapply.worker.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

#: What every node loads; a test holds that it is all of it.
_ON_NODES = (
    "__init__", "call", "choice", "chunks", "disk", "errors", "jobfolder", "order", "outcome",
    "pickles", "records", "rows", "seeds", "states", "survey", "worker/",
)  # fmt: skip


@functools.cache
def pack_worker() -> bytes:
    """Make the content of ``worker.pyz`` for this Python."""
    import cloudpickle  # noqa: PLC0415  # only who submits needs it

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("__main__.py", _MAIN.format(version=sys.version_info[:2]))
        _add(archive, Path(__file__).parent, _ON_NODES)
        _add(archive, Path(cloudpickle.__file__).parent, ("",))
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, package: Path, compiled: tuple[str, ...]) -> None:
    for name, source in _modules(package):
        archive.write(source, f"{package.name}/{name}", zipfile.ZIP_DEFLATED, 1)
        if name.startswith(compiled):
            archive.writestr(f"{package.name}/{name}c", _compiled(source))


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for source in sorted(package.rglob("*.py")):
        yield source.relative_to(package).as_posix(), source


def _compiled(source: Path) -> bytes:
    """Give the content of a .pyc that is never checked against its source (PEP 552)."""
    loader = SourceFileLoader(source.stem, str(source))  # takes the session's own .pyc if it can
    code = marshal.dumps(loader.get_code(source.stem))
    unchecked_hash = (0b01).to_bytes(4, "little")
    digest = importlib.util.source_hash(source.read_bytes())
    return importlib.util.MAGIC_NUMBER + unchecked_hash + digest + code
