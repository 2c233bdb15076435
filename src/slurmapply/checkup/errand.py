"""What the test job does on a node: looks, writes down what it found, and waits for a word.

Standard library only: it runs on whatever Python the node has.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from slurmapply.worker.memory import TaskMemory

#: In the folder of the trial: what the session wrote, what the node did, when the node may go.
FROM_HERE, FROM_NODE, LINKED, GO = "from_here", "from_node", "linked", "go"
_PAUSE = 0.05


def look_around(folder: str, packages: list[str], patience: float) -> dict[str, Any]:
    """Look at the node that this runs on.

    Parameters
    ----------
    folder
        The folder of the trial, as the session names it.
    packages
        Modules to import.
    patience
        Seconds to wait for each of: what the session wrote, and its word to go.

    Returns
    -------
    dict
        Plain values; texts that begin with an exception's type where something failed.
    """
    found: dict[str, Any] = {
        "time": time.time(),
        "host": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "cpus": len(os.sched_getaffinity(0)),
        "memory": TaskMemory().limit(),
        "seen": _seen(Path(folder, FROM_HERE), patience),
        "temporary": _temporary(),
        "packages": {name: _imported(name) for name in packages},
    }
    found["linked"] = _linked(Path(folder))
    _wait_for(Path(folder, GO), patience)
    return found


def _seen(path: Path, patience: float) -> str:
    _wait_for(path, patience)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def _wait_for(path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not is_there(path) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def is_there(path: Path) -> bool:
    """Look by a listing, which an NFS client asks its server for sooner than for one name."""
    return path in path.parent.iterdir()


def _linked(folder: Path) -> str:
    """Write a file and give it a second name; "" when both worked."""
    written = folder / FROM_NODE
    try:
        with written.open("w", encoding="utf-8") as file:
            file.write("from the node")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"cannot write: {type(error).__name__}: {error}"
    try:
        os.link(written, folder / LINKED)
    except OSError as error:
        return f"cannot link: {type(error).__name__}: {error}"
    return ""


def _temporary() -> dict[str, Any]:
    try:
        folder = tempfile.gettempdir()
        found = os.statvfs(folder)
    except OSError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"folder": folder, "free": found.f_bavail * found.f_frsize}


def _imported(name: str) -> str:
    """Import a module; "" when that worked."""
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  # a module may raise anything when it is imported
        return f"{type(error).__name__}: {error}"
    return ""
