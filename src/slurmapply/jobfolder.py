"""The job folder: the only wire between the session and the nodes. This module spells its names.

::

    session                        _slurmapply_<name>/                       node
    -------                        -------------------                       ----
    api, inputs ── what, rows ──▶  job.json function.pkl data.bin rows.*  ──▶ worker.process
    job         ── run, script ─▶  run_<k>/run.json submit.sh             ──▶ worker.__main__
                                   run_<k>/rows submission claims/        ◀─▶ worker.claims
    status      ◀── records ─────  run_<k>/task_*.jsonl                   ◀── worker.supervisor
    results     ◀── outcomes ────  run_<k>/outcomes_*.rec  console_*.txt  ◀── worker.process

Every file has one writer and is either written once (beside, synced, then linked to its name) or
only appended to. Nothing is locked, replaced or judged by its time while a run is alive: locks do
not hold across NFS caches, replaced names give ESTALE, and times of other nodes arrive late.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from slurmapply.errors import FormatError, JobFolderError, UntrustedFolderError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
PREFIX = "_slurmapply_"

JOB = "job.json"
FUNCTION = "function.pkl"
DATA = "data.bin"
ROWS = "rows.bin"
ROWS_INDEX = "rows.json"
ROWS_FRAME = "rows.frame"
WORKER = "worker.pyz"
SCRIPT = "submit.sh"
RUN = "run.json"
CLAIMS = "claims"

# open(2) on NFS without hard links (or a FUSE disk) answers one of these.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def random_hex() -> str:
    """Give eight hex digits; the module `secrets` would cost a node's program 8 ms."""
    return os.urandom(4).hex()


def run_folder(run: int) -> str:
    """Name of a run's folder."""
    return f"run_{run}"


def run_json(run: int) -> str:
    """Name the file that says what was asked for in a run."""
    return f"run_{run}/{RUN}"


def run_script(run: int) -> str:
    """Name the submit script of a run; run 0's is at the top, where a person looks for it."""
    return f"run_{run}/{SCRIPT}" if run else SCRIPT


def run_function(run: int) -> tuple[str, str]:
    """Name a run's own function and data file, if it has them."""
    return f"run_{run}/{FUNCTION}", f"run_{run}/{DATA}"


def run_rows(run: int) -> str:
    """Name the fixed list of a run's rows."""
    return f"run_{run}/rows"


def submission(run: int) -> str:
    """Name the file that says which submission a run belongs to."""
    return f"run_{run}/submission"


def cancelled(run: int) -> str:
    """Name the mark that makes tasks exit that start after a cancellation."""
    return f"run_{run}/cancelled"


def claims(run: int) -> str:
    """Name the folder of a run's claims."""
    return f"run_{run}/{CLAIMS}"


def claim(run: int, chunk: int, generation: int) -> str:
    """Name of the claim of a chunk."""
    return f"run_{run}/claims/{chunk}.{generation}"


class Life(NamedTuple):
    """One start of a task: its submission, its number, how often it was restarted."""

    submission: str
    task: int
    life: int

    def token(self, run: int) -> str:
        """Name the file that this life links to what it claims."""
        return f"run_{run}/claims/token_{self.submission}_{self.task}_{self.life}"

    def record(self, run: int) -> str:
        """Name this life's own record."""
        return f"run_{run}/task_{self.submission}_{self.task}_{self.life}.jsonl"

    def outcomes(self, run: int, worker: str) -> str:
        """Name an outcomes file of a worker of this life, different at each call."""
        random = random_hex()
        return f"run_{run}/outcomes_{self.task}_{self.life}_{worker}_{random}.rec"


def console_of(outcomes: str) -> str:
    """Name the console file of the worker whose outcomes stand in this file."""
    worker = outcomes.replace("/outcomes_", "/console_").partition(".")[0]
    return f"{worker}.txt"


def beside_outcomes(outcomes: str) -> str:
    """Name the file for the row that a worker died on, beside that worker's own."""
    return f"{outcomes.partition('.')[0]}.died.rec"


def task_console(run: int, task: int | None = None) -> str:
    """Name the console of a task, or of any in Slurm's way (sbatch(1), "filename pattern")."""
    return f"run_{run}/slurm_{'%a' if task is None else task}.out"


def parse_console(name: str) -> int | None:
    """Give the task of a console in a run's folder, its own or a worker's."""
    match = _CONSOLE.fullmatch(name)
    return int(match[1]) if match else None


def console_order(name: str) -> tuple[bool, str]:
    """Sort a task's own console before its workers'."""
    return (not name.startswith("slurm_"), name)


_CONSOLE = re.compile(r"(?:slurm|console)_(\d+)(?:_\w+)?\.(?:out|txt)")


_OUTCOMES = re.compile(r"outcomes_(\d+)_(\d+)_(\d+)_([0-9a-f]+)(\.died)?\.rec")
_RECORD = re.compile(r"task_([\w.@-]+)_(\d+)_(\d+)\.jsonl")
_CLAIM = re.compile(r"(\d+)\.(\d+)")
_RUN = re.compile(r"run_(\d+)")


def parse_outcomes(name: str) -> tuple[int, int] | None:
    """Give task and life of an outcomes file's name."""
    match = _OUTCOMES.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def parse_record(name: str) -> Life | None:
    """Give whose record a file of this name is."""
    match = _RECORD.fullmatch(name)
    return Life(match[1], int(match[2]), int(match[3])) if match else None


def parse_claim(name: str) -> tuple[int, int] | None:
    """Give chunk and generation of a claim's name."""
    match = _CLAIM.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def parse_run(name: str) -> int | None:
    """Give the number of a run's folder."""
    match = _RUN.fullmatch(name)
    return int(match[1]) if match else None


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

    def append(self, name: str, data: bytes) -> None:
        """Append to a file of one's own, and sync it."""

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

    def __init__(self, path: Path, *, trust: bool = False) -> None:
        self.path = Path(path)
        self._trust = trust
        try:
            self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise JobFolderError(
                f"the job folder {self.path} cannot be opened: {error.strerror}.", path=self.path
            ) from error

    def __del__(self) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            with contextlib.suppress(OSError):
                os.close(folder)

    def open(self, name: str) -> BinaryIO | None:
        """Open a file for reading, None when it is not there."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
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
        check_owner(os.fstat(self._folder), self.path, trust=self._trust)
        file = self.open(name)
        if file is None:
            raise JobFolderError(
                f"{self.path / name} is missing. The job folder is incomplete: was it purged, or "
                "copied in part?",
                path=self.path,
            )
        try:
            check_owner(os.fstat(file.fileno()), self.path / name, trust=self._trust)
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
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
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
            if not (won and self._is_symlink(name)):
                os.unlink(beside, dir_fd=self._folder)
        return won

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

    def make_folder(self, name: str) -> None:
        """Make a folder for this user alone; it may be there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._folder)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: a full disk or a file-size limit makes write(2) write less than asked."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def check_owner(found: os.stat_result, path: Path, *, trust: bool) -> None:
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


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Write one of the folder's JSON files."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape")


def decode_json(data: bytes, path: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files.

    Raises
    ------
    FormatError
        It is no JSON object.
    """
    try:
        content = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise FormatError(f"{path} cannot be read: {error}.", path=path) from error
    if not isinstance(content, dict):
        raise FormatError(f"{path} cannot be read: it is not a JSON object.", path=path)
    return content


def read_job(disk: FolderDisk) -> dict[str, Any]:
    """Read ``job.json``.

    Raises
    ------
    FormatError
        The folder is not ours, or a newer slurmapply wrote it.
    """
    data = disk.read(JOB)
    if data is None:
        raise FormatError(
            f"{disk.path} is not a job folder of slurmapply: it has no {JOB}.", path=disk.path
        )
    content = decode_json(data, disk.path / JOB)
    version = content.get("format")
    if "uuid" not in content or not isinstance(version, int):
        raise FormatError(
            f"{disk.path} is not a job folder of slurmapply: its {JOB} says no format and uuid.",
            path=disk.path,
        )
    if version > FORMAT:
        made_by = content.get("versions", {}).get("slurmapply", "a newer version")
        raise FormatError(
            f"{disk.path} was written by slurmapply {made_by} (folder format {version}); this one "
            f"reads formats up to {FORMAT}. Update slurmapply here.",
            path=disk.path,
        )
    return content


def read_run(disk: FolderDisk, number: int) -> dict[str, Any]:
    """Read what was asked for in a run."""
    name = run_json(number)
    data = disk.read(name)
    if data is None:
        raise JobFolderError(
            f"{disk.path / name} is missing: was the folder copied in part?", path=disk.path
        )
    return decode_json(data, disk.path / name)


def function_files(asked: Mapping[str, Any]) -> tuple[str, str]:
    """Name the pickled function that a run calls, and its data file."""
    run: int = asked["function_of_run"]
    return run_function(run) if run else (FUNCTION, DATA)
