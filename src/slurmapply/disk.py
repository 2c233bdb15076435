"""The few things that the rules of the job folder do with a file system, and how they are done.

A file is written once (beside, synced, then linked to its name) or appended to by its one writer.
What was read to be unpickled was looked at first: who could have written it?
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Protocol

from slurmapply.errors import FormatError, JobFolderError, UntrustedFolderError

if TYPE_CHECKING:
    from pathlib import Path

# open(2) on NFS without hard links (or a FUSE disk) answers one of these.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_STALE_LOOKS = 3


def random_hex() -> str:
    """Give eight hex digits; the module `secrets` would cost a node's program 8 ms."""
    return os.urandom(4).hex()


class Disk(Protocol):
    """What the rules of the job folder need of a file system; names are relative to the folder."""

    def read(self, name: str) -> bytes | None:
        """Give a file's content, None when it is not there."""

    def names(self, folder: str) -> list[str]:
        """Give the names in a folder, none when it is not there."""

    def publish(self, name: str, content: bytes) -> bool:
        """Write a file once; False when another was there first."""

    def link(self, source: str, name: str) -> bool:
        """Give a file a second name; False when that name is another file's."""

    def forget(self, source: str, name: str) -> None:
        """Drop the first name of a file that has another, unless that is a soft link to it."""

    def append(self, name: str, data: bytes) -> None:
        """Append to a file of one's own, and sync it."""

    def make_folder(self, name: str) -> None:
        """Make a folder for this user alone; it may be there."""

    def open(self, name: str) -> BinaryIO | None:
        """Open a file for reading, None when it is not there."""


class FolderDisk:
    """A real folder, held by its descriptor, so that a swapped path changes nothing.

    Parameters
    ----------
    path
        The job folder.
    trust
        Read files for unpickling whoever could have written them.

    Raises
    ------
    JobFolderError
        It is not there or not a folder.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust: bool = False) -> None:
        self._path = os.fspath(path)
        self._trust = trust
        try:
            self._folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise JobFolderError(
                f"the job folder {self.path} cannot be opened: {error.strerror}.", path=self.path
            ) from error

    def __del__(self) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            with contextlib.suppress(OSError):
                os.close(folder)

    @property
    def path(self) -> Path:
        """The job folder's path, as it was given."""
        from pathlib import Path  # noqa: PLC0415  # it would cost each task's start 5 ms

        return Path(self._path)

    def place(self, name: str = "") -> str:
        """Give the absolute path of a file, of the folder itself when it has no name."""
        folder = os.path.abspath(self._path)  # noqa: PTH100  # see `path`
        return f"{folder}/{name}" if name else folder

    def open(self, name: str, *, looks: int = _STALE_LOOKS) -> BinaryIO | None:
        """Open a file for reading, None when it is not there."""
        # Some names stand in files of the folder, which may come from elsewhere.
        if name.startswith("/") or ".." in name.split("/"):
            raise FormatError(
                f"a file of {self.path} names {name!r}, which is outside of the job folder. "
                "slurmapply writes no such name: do not trust this folder.",
                path=self.path,
            )
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # NFS: a cached handle of a file that was replaced; the next look asks the server.
            if error.errno != errno.ESTALE or looks <= 1:
                raise
            return self.open(name, looks=looks - 1)
        return os.fdopen(descriptor, "rb")

    def read(self, name: str) -> bytes | None:
        """Give a file's content, None when it is not there."""
        file = self.open(name)
        if file is None:
            return None
        with file:
            return file.read()

    def open_trusted(self, name: str) -> BinaryIO:
        """Open a file that will be unpickled, after a look at who could have written it.

        Raises
        ------
        UntrustedFolderError
            The folder or the file is another user's or writable by others.
        JobFolderError
            It is not there.
        """
        check_owner(os.fstat(self._folder), self._path, trust=self._trust)
        file = self.open(name)
        if file is None:
            raise JobFolderError(
                f"{self.path / name} is missing. The job folder is incomplete: was it purged, or "
                "copied in part?",
                path=self.path,
            )
        try:
            check_owner(os.fstat(file.fileno()), f"{self._path}/{name}", trust=self._trust)
        except UntrustedFolderError:
            file.close()
            raise
        return file

    def names(self, folder: str) -> list[str]:
        """Give the names in a folder, none when it is not there."""
        try:
            descriptor = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._folder
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(descriptor)  # noqa: PTH208  # by descriptor, which Path cannot
        finally:
            os.close(descriptor)

    def create(self, name: str) -> io.FileIO:
        """Create a file of one's own for appending; it must not exist."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return io.FileIO(os.open(name, flags, 0o600, dir_fd=self._folder), "a")

    def write(self, name: str, content: bytes) -> None:
        """Write a file of a folder that nobody else knows yet; `sync` makes it durable."""
        with self.create(name) as file:
            write_all(file.fileno(), content)

    def sync(self) -> None:
        """Sync all files of this folder.

        All at the end: the first one then carries the others along, which costs a journal commit
        in all instead of one each (5 ms).
        """
        for name in self.names("."):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sync_file(self, name: str) -> None:
        """Sync a file, whoever on this machine has written to it; it may not be there yet."""
        file = self.open(name)
        if file is not None:
            with file:
                os.fsync(file.fileno())

    def append(self, name: str, data: bytes) -> None:
        """Append to a file of one's own, and sync it."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self, name: str, content: bytes) -> bool:
        """Write a file once: beside, synced, then linked; False when another was there first."""
        beside = f"{name}.{random_hex()}.new"
        with self.create(beside) as file:
            write_all(file.fileno(), content)
            os.fsync(file.fileno())
        won = False
        try:
            won = self.link(beside, name)
        finally:
            if won:
                self.forget(beside, name)
            else:
                self.remove(beside)
        return won

    def forget(self, source: str, name: str) -> None:
        """Drop the first name of a file that has another, unless that is a soft link to it."""
        if not self._is_symlink(name):
            self.remove(source)

    def link(self, source: str, name: str) -> bool:
        """Give a file a second name; False when that name is another file's.

        A reply that was lost on its way looks like an error (link(2), "BUGS"), so the content
        decides who won.
        """
        try:
            os.link(source, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            return self.read(name) == self.read(source)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return self._symlink(source, name)
            if self.read(name) == self.read(source):
                return True
            raise
        return True

    def _symlink(self, source: str, name: str) -> bool:
        """Link softly where the disk has no hard links: as atomic, and it carries its content."""
        try:
            os.symlink(os.path.basename(source), name, dir_fd=self._folder)  # noqa: PTH119
        except FileExistsError:
            return self.read(name) == self.read(source)
        except OSError:
            return self._create_copy(source, name)
        return True

    def _is_symlink(self, name: str) -> bool:
        found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        return stat.S_ISLNK(found.st_mode)

    def _create_copy(self, source: str, name: str) -> bool:
        """Create exclusively: for a while others may read less than the whole of it."""
        content = self.read(source) or b""
        with contextlib.suppress(FileExistsError), self.create(name) as file:
            write_all(file.fileno(), content)
            os.fsync(file.fileno())
        return self.read(name) == content

    def replace(self, name: str, content: bytes) -> None:
        """Write a file anew; only for what no run can be reading."""
        beside = f"{name}.{random_hex()}.new"
        with self.create(beside) as file:
            write_all(file.fileno(), content)
            os.fsync(file.fileno())
        os.replace(beside, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def remove(self, name: str) -> None:
        """Remove a file of one's own that nobody needs; it may not be there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def truncate(self, name: str, length: int) -> None:
        """Cut a file off."""
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            os.ftruncate(descriptor, length)
        finally:
            os.close(descriptor)

    def make_folder(self, name: str) -> None:
        """Make a folder for this user alone; it may be there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._folder)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: a full disk or a file-size limit makes write(2) write less than asked."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def check_owner(found: os.stat_result, path: str | Path, *, trust: bool) -> None:
    """Refuse what others could have written: a job folder is code.

    Root counts as trusted: it can do anything as you already.
    """
    if trust:
        return
    others = stat.S_IMODE(found.st_mode) & 0o022
    if found.st_uid not in (os.geteuid(), 0):
        raise UntrustedFolderError(
            f"{path} belongs to another user (uid {found.st_uid}). Reading results runs code that "
            "its owner could have written, as you. Pass trust=True if you trust them.",
            path=path,
        )
    if others:
        raise UntrustedFolderError(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):o}), and reading "
            f"results runs what is in it, as you. Close it with: chmod -R go-w '{path}' - or pass "
            "trust=True.",
            path=path,
        )
