"""Deleting job folders: renamed away first, so that nobody sees half of one."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.errors import JobFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def move_away(folder: Path, word: str) -> Path:
    """Rename a folder to a hidden name beside it; gives the new path."""
    target = folder.with_name(f".{folder.name}.{word}_{secrets.token_hex(4)}")
    try:
        folder.rename(target)
    except OSError as error:
        raise JobFolderError(
            f"the job folder {folder} cannot be removed: {error.strerror}. Nothing of it was "
            "deleted.",
            path=folder,
        ) from error
    return target


@contextlib.contextmanager
def out_of_the_way(folder: Path) -> Iterator[None]:
    """Delete a folder once another has taken its name; without that it comes back."""
    away = move_away(folder, "replaced")
    try:
        yield
    except BaseException:
        away.rename(folder)
        raise
    shutil.rmtree(away, ignore_errors=True)


def remove(folder: Path) -> list[Path]:
    """Delete a folder; gives what is left of it.

    A file that some process still has open leaves a ``.nfsXXXX`` on NFS, which cannot be deleted
    before that process ends.
    """
    trash = move_away(folder, "removed")
    shutil.rmtree(trash, ignore_errors=True)
    return sorted(trash.rglob("*")) if trash.exists() else []


def keep_results(folder: Path) -> None:
    """Delete what only a run needs: the program, consoles, claims; tables can still be read."""
    for name in (jobfolder.WORKER, jobfolder.SCRIPT):
        (folder / name).unlink(missing_ok=True)
    for run in folder.iterdir():
        if jobfolder.parse_run(run.name) is None:
            continue
        shutil.rmtree(run / jobfolder.CLAIMS, ignore_errors=True)
        for path in run.iterdir():
            if jobfolder.parse_console(path.name) is not None or path.name == jobfolder.SCRIPT:
                path.unlink()
