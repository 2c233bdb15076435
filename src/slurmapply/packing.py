"""``worker.pyz``: the node's program, this whole package and the session's cloudpickle, zipped.

Modules are compiled (a node would otherwise compile them in each task) and their source stands
beside, so that a Python of another minor version can still read enough to say what is wrong.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import sys
import zipfile
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


def pack_worker() -> bytes:
    """Make the content of ``worker.pyz`` for this Python."""
    import cloudpickle  # noqa: PLC0415  # only who submits needs it

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("__main__.py", _MAIN.format(version=sys.version_info[:2]))
        for package in (Path(__file__).parent, Path(cloudpickle.__file__).parent):
            for name, source in _modules(package):
                text = source.read_bytes()
                archive.writestr(name, text)
                archive.writestr(name + "c", _compile(text, name))
    return stream.getvalue()


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for source in sorted(package.rglob("*.py")):
        yield f"{package.name}/{source.relative_to(package).as_posix()}", source


def _compile(text: bytes, name: str) -> bytes:
    """Compile to the content of a .pyc that is never checked against its source (PEP 552)."""
    code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    unchecked_hash = (0b01).to_bytes(4, "little")
    digest = importlib.util.source_hash(text)
    return importlib.util.MAGIC_NUMBER + unchecked_hash + digest + marshal.dumps(code)
