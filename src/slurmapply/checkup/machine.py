"""What can be seen without any Slurm: the Python, its packages, the settings, the folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import time
from typing import TYPE_CHECKING

from slurmapply.checkup.diagnosis import in_words
from slurmapply.disk import check_owner
from slurmapply.schedulers.local import file_system, unshared_file_system
from slurmapply.settings import load_defaults, sources

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slurmapply.checkup.diagnosis import Findings

_PACKAGES = ("cloudpickle", "pandas", "narwhals")
#: A job folder of many rows is some megabytes; results are as large as they are.
_LITTLE_SPACE, _NO_SPACE = 2**30, 2**24
_FEW_FILES = 1000
#: Clocks of machines that ask a time server differ by less.
CLOCKS_DIFFER = 5.0


def check_python(findings: Findings) -> None:
    """Look at the interpreter, and say what surrounds it."""
    version = ".".join(map(str, sys.version_info[:3]))
    findings.ok("python", f"{version}, {sys.executable}{_surroundings()}")


def _surroundings() -> str:
    found = []
    if os.environ.get("CONDA_PREFIX"):
        found.append(f"conda environment {os.environ['CONDA_PREFIX']}")
    if sys.prefix != sys.base_prefix:
        found.append(f"virtual environment {sys.prefix}")
    modules = os.environ.get("LOADEDMODULES", "").replace(":", " ").split()
    if modules:
        found.append(f"modules {', '.join(modules)}")
    return f" ({'; '.join(found)})" if found else ""


def check_packages(findings: Findings, packages: Iterable[str]) -> None:
    """Look for what a session needs, and for what the user named."""
    missing = [name for name in _PACKAGES if _version(name) is None]
    if missing:
        findings.fail(
            "packages", f"{', '.join(missing)} not found: python -m pip install {' '.join(missing)}"
        )
    else:
        findings.ok("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    absent = [name for name in packages if not _is_importable(name)]
    if absent:
        findings.warn(
            "your packages",
            f"{', '.join(absent)} cannot be found here. The nodes may have what this machine has"
            " not; is the name the one that is imported?",
        )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # its parent cannot be imported; no name of a module
        return False


def check_settings(findings: Findings) -> None:
    """Read the files of defaults, as a call would."""
    with findings.watch("settings"):
        defaults = load_defaults()
        files = [source for source, _ in sources() if os.path.isabs(source)]  # noqa: PTH117
        said = f"{len(defaults)} defaults from {', '.join(files)}" if files else "no file"
        findings.ok("settings", f"{said}; get_defaults() shows what holds")


def check_folder(findings: Findings, folder: Path) -> bool:
    """Look at the file system of the folder that job folders are made in; False: it is none."""
    kind = file_system(folder.resolve()) or "unknown"
    if not folder.is_dir():
        findings.fail("folder", f"{folder} is no folder: make it, or name another")
        return False
    alone = unshared_file_system(folder.resolve())
    what = f"{kind}, on a disk of this machine" if alone else f"{kind}, may be shared"
    findings.ok("folder", f"{folder} ({what})")
    return True


def check_space(findings: Findings, folder: Path) -> None:
    """Look how much may still be written."""
    with findings.watch("space"):
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        said = f"{in_words(free)} free in {folder}"
        if free < _NO_SPACE:
            findings.fail("space", f"{said}: make room, or name another folder with jobs_folder=")
        elif free < _LITTLE_SPACE:
            findings.warn("space", f"{said}: enough for small results only")
        elif found.f_files and found.f_favail < _FEW_FILES:
            findings.warn("space", f"{said}, but room for {found.f_favail} more files only")
        else:
            findings.ok("space", f"{said} (a quota of yours is not seen from here)")


def check_writing(findings: Findings, place: Path) -> None:
    """Look whether a new folder is the user's alone, and whether files can have two names.

    Parameters
    ----------
    findings
        Takes what is found.
    place
        A new folder, made with mode 0700.
    """
    with findings.watch("permissions"):
        check_owner(place.stat(), place, trust=False)
        findings.ok("permissions", "new folders can be written to by you alone")
    first = place / "first"
    first.write_bytes(b"")
    with findings.watch("clock"):
        _check_disk_clock(findings, first)
    try:
        os.link(first, place / "second")
    except OSError as error:
        findings.warn(
            "links",
            f"this file system has no hard links ({error.strerror}): soft ones are used, which is"
            " as safe and a little slower",
        )
    else:
        findings.ok("links", "hard links work")


def _check_disk_clock(findings: Findings, file: Path) -> None:
    ahead = file.stat().st_mtime - time.time()
    if abs(ahead) > CLOCKS_DIFFER:
        findings.warn("clock", f"the folder's disk is {clock_words(ahead)}. {CLOCKS_ADVICE}")
    else:
        findings.ok("clock", "the folder's disk has the time that this machine has")


CLOCKS_ADVICE = "Nothing of a job compares clocks, but times that are shown will not fit"


def clock_words(ahead: float) -> str:
    """Say how far another clock is off.

    Examples
    --------
    >>> clock_words(-61.2)
    '61 s behind this machine'
    """
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
