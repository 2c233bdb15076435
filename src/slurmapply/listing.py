"""Finding jobs: by name, by folder, and all of one's own.

A list of paths in the user's state folder helps to find a job from anywhere. It is never needed
and never believed: what counts is the folder at the end of the path.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import write_all
from slurmapply.errors import InvalidArgumentError, JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable


def _list_file() -> Path:
    import platformdirs  # noqa: PLC0415  # seldom needed, and not on a node

    return Path(platformdirs.user_state_dir("slurmapply", appauthor=False)) / "jobs"


def remember(folder: Path) -> None:
    """Add a folder to the user's list; a list that cannot be written is no misfortune."""
    path = _list_file()
    with contextlib.suppress(OSError):
        if path.exists() and os.fsencode(str(folder.absolute())) in path.read_bytes().splitlines():
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(path, flags, 0o600)
        try:
            write_all(descriptor, os.fsencode(str(folder.absolute())) + b"\n")
        finally:
            os.close(descriptor)


def remembered() -> list[Path]:
    """Give the folders of the user's list that are job folders still, the newest last."""
    try:
        lines = _list_file().read_bytes().splitlines()
    except OSError:
        return []
    folders = dict.fromkeys(Path(os.fsdecode(line)) for line in lines)
    return [folder for folder in folders if is_job(folder)]


def is_job(folder: Path) -> bool:
    """Whether there is a job folder at a path."""
    try:
        return (folder / jobfolder.JOB).is_file()
    except OSError:
        return False


def folder_of(name: str, jobs_folder: Path) -> Path:
    """Give the path that a job of this name has."""
    return jobs_folder / f"{jobfolder.PREFIX}{name}"


def new_folder(name: str, jobs_folder: Any) -> Path:
    """Give the absolute path that a new job of this name will have.

    Raises
    ------
    InvalidArgumentError
        It is no path, or holds a control character: Slurm reads paths in lines, and so do people.
    """
    try:
        folder = folder_of(name, Path(jobs_folder).expanduser()).absolute()
    except (TypeError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"jobs_folder: the path of a folder is needed, not {jobs_folder!r} ({error}).",
            argument="jobs_folder",
        ) from error
    if any(unicodedata.category(letter) == "Cc" for letter in str(folder)):
        raise InvalidArgumentError(
            f"jobs_folder: the path {str(folder.parent)!r} holds a newline or another control "
            "character, with which Slurm cannot start a job: choose another place.",
            argument="jobs_folder",
        )
    return folder


def jobs_in(folder: Path) -> list[Path]:
    """Give the job folders in a folder, by name."""
    with contextlib.suppress(OSError):
        found = folder.glob(f"{jobfolder.PREFIX}*")
        return sorted(path for path in found if is_job(path))
    return []


def find(name_or_folder: str | os.PathLike[str], jobs_folder: Path) -> Path:
    """Find a job's folder by its path or its name.

    Raises
    ------
    JobNotFoundError
        There is none, or several of this name.
    """
    path = Path(name_or_folder).expanduser()
    if path.is_dir():
        return path
    name = os.fspath(name_or_folder)
    for place in (jobs_folder, Path()):
        folder = folder_of(name, place)
        if os.sep not in name and is_job(folder):
            return folder
    known = remembered()
    found = [folder for folder in known if folder.name == f"{jobfolder.PREFIX}{name}"]
    if len(found) == 1:
        return found[0]
    raise _not_found(name, found, [*jobs_in(Path()), *known])


def _not_found(name: str, found: list[Path], known: Iterable[Path]) -> JobNotFoundError:
    if found:
        places = ", ".join(str(folder) for folder in found)
        return JobNotFoundError(
            f"there are several jobs named {name!r}: {places}. Open one by its folder.",
            path=found[0],
        )
    names = {folder.name.removeprefix(jobfolder.PREFIX) for folder in known}
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return JobNotFoundError(
        f"there is no job {name!r} in {Path.cwd()} or in your list of jobs.{hint} list_jobs() "
        "shows all; SlurmJob.open takes the path of a job folder too.",
        path=Path(name),
    )
