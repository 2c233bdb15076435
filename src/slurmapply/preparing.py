"""Writing a job folder: everything is checked and written beside, then appears under its name."""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import pickle
import platform
import secrets
import shutil
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder, removal
from slurmapply.buffers import BufferWriter, DataFileError, check_room
from slurmapply.byvalue import sent_by_value
from slurmapply.chunks import tasks_for
from slurmapply.disk import FolderDisk, write_all
from slurmapply.errors import InvalidArgumentError, JobExistsError, JobFolderError
from slurmapply.order import encode_order
from slurmapply.packing import pack_worker
from slurmapply.pickles import PROTOCOL, Stored
from slurmapply.pickling import ObjectWriter
from slurmapply.resources import render_script, sbatch_options
from slurmapply.rows import ITEM, encode_blocks, encode_index, index_entry
from slurmapply.schedulers.base import Request
from slurmapply.shipping import ship
from slurmapply.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurmapply.inputs import Items, Params
    from slurmapply.resources import Resources
    from slurmapply.schedulers.options import Options


@dataclass(frozen=True, slots=True)
class Work:
    """What a job computes.

    Attributes
    ----------
    kind
        ``"apply"``, ``"map"`` or ``"call"``.
    function, more_args, global_objects, initializer
        What is called.
    rows
        The rows: parameters, or items.
    seed, seeded
        From which each row's random stream follows; whether the user gave it.
    costs
        What each row is expected to cost, or None.
    """

    kind: str
    function: Callable[..., Any]
    rows: Params | Items
    more_args: Mapping[str, Any] = field(default_factory=dict)
    global_objects: Mapping[str, Any] = field(default_factory=dict)
    initializer: Callable[[], Any] | None = None
    function_name: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    seeded: bool = False
    costs: Sequence[float] | None = None

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """Cells by argument; the item of slurm_map has no name."""
        if self.kind == "map":
            return {ITEM: self.rows.values}  # type: ignore[union-attr]
        return self.rows.columns  # type: ignore[union-attr]

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(self.rows.values) if self.kind == "map" else self.rows.length  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to be: which rows, with what, how it is found again.

    Attributes
    ----------
    number, tag
        The run; six hex digits that only this submission has.
    rule
        ``"all"``, ``"left"``, or ranges of row numbers.
    rows
        How many rows that is, as far as the session knows now.
    resources, after
        What is asked for; jobs that must have ended.
    function_of_run
        The run whose function is called.
    backend
        What the session was told or chose.
    """

    number: int
    rule: Any
    rows: int
    resources: Resources
    backend: str
    after: tuple[str, ...] = ()
    function_of_run: int = 0
    tag: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def tasks(self) -> int:
        """How many tasks are worth starting."""
        return tasks_for(self.rows, self.resources.nodes, self.resources.processes)

    @property
    def workers(self) -> int:
        """How many rows can run at a time; without a Slurm, this machine's processors allow."""
        asked = self.tasks * self.resources.processes
        here = {"slurm": asked, "local": len(os.sched_getaffinity(0)), "inline": 1}
        return min(asked, here[self.backend])

    def content(self) -> dict[str, Any]:
        """Give the content of ``run.json``."""
        resources = self.resources
        return {
            "run": self.number,
            "tag": self.tag,
            "rule": self.rule,
            "tasks": self.tasks,
            "cpus_per_node": resources.cpus_per_node,
            "processes_per_node": resources.processes,
            "gpus_per_node": resources.gpus,
            "time_seconds": resources.time_seconds,
            "row_timeout": resources.row_timeout,
            "max_failures": resources.max_failures,
            "retries": resources.retries,
            "schedule": resources.schedule,
            "chunksize": resources.chunksize,
            "packages": resources.packages,
            "sys_path": resources.sys_path,
            "function_of_run": self.function_of_run,
            "backend": self.backend,
            "after": self.after,
            "resources": resources.plain(),
        }

    def slurm_name(self, name: str) -> str:
        """Name the submission so that it can be found again."""
        return f"{name}_{self.tag}"

    def options(self, name: str) -> Options:
        """List what is asked of sbatch."""
        return sbatch_options(
            self.resources,
            slurm_name=self.slurm_name(name),
            tasks=max(1, self.tasks),
            run=self.number,
            after=self.after,
        )

    def request(self, folder: Path, name: str, uuid: str) -> Request:
        """Say what is asked of a batch system."""
        return Request(
            folder=folder,
            script=jobfolder.run_script(self.number),
            slurm_name=self.slurm_name(name),
            options=self.options(name),
            tasks=self.tasks,
            console=jobfolder.task_console(self.number, 0),
            uuid=uuid,
            run=self.number,
            tag=self.tag,
        )

    def script(self, name: str, uuid: str) -> str:
        """Write the submit script."""
        return render_script(
            self.resources,
            self.options(name),
            script=jobfolder.run_script(self.number),
            uuid=uuid,
            run=self.number,
            tag=self.tag,
        )


def write_job(
    folder: Path, name: str, work: Work, plan: RunPlan, *, replaces: bool = False
) -> None:
    """Write a new job folder; it appears at once and whole, or not at all.

    Parameters
    ----------
    folder, name
        Where, and what the job is called.
    work, plan
        What it computes, and its first run.
    replaces
        There is a job at this path, which makes place when the new one is complete.

    Raises
    ------
    JobExistsError
        Another job of this name came first.
    NotPicklableError
        Something that the function needs cannot be sent.
    JobFolderError
        The folder cannot be written.
    """
    uuid = secrets.token_hex(16)
    script = plan.script(name, uuid)
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    try:
        _make(beside)
        disk = FolderDisk(beside)
        with sent_by_value(plan.resources.by_value):
            _write_work(disk, work)
        disk.write(jobfolder.WORKER, pack_worker())
        disk.make_folder(jobfolder.run_folder(plan.number))
        write_run(FolderDisk(beside / jobfolder.run_folder(plan.number)), plan)
        disk.write(jobfolder.SCRIPT, script.encode())
        disk.write(jobfolder.JOB, jobfolder.encode_json(_job_content(name, uuid, work)))
        disk.sync()
        with removal.out_of_the_way(folder) if replaces else contextlib.nullcontext():
            # rename(2) refuses to replace a folder that is not empty: one winner.
            os.rename(beside, folder)  # noqa: PTH104  # Path.rename is the same, less plainly
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if _is_job(folder, uuid):
            return  # the reply was lost on its way (rename(2), "BUGS")
        if folder.exists():
            raise JobExistsError(
                f"{folder} exists: another session made it a moment ago.", path=folder
            ) from error
        raise JobFolderError(
            f"the job folder {folder} could not be written: {error}. Is there room, and may you "
            "write there? jobs_folder= chooses another place.",
            path=folder,
        ) from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _is_job(folder: Path, uuid: str) -> bool:
    with contextlib.suppress(JobFolderError):
        return bool(jobfolder.read_job(FolderDisk(folder))["uuid"] == uuid)
    return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise JobFolderError(
            f"the job folder cannot be made in {folder.parent}: {error.strerror}. Choose another "
            "place with jobs_folder=.",
            path=folder.parent,
        ) from error


def _write_work(disk: FolderDisk, work: Work) -> None:
    with disk.create(jobfolder.DATA) as data:
        writer = ObjectWriter(BufferWriter(data.fileno()))
        function = ship(
            work.function, work.more_args, work.global_objects, work.initializer, writer
        )
        _write_stored(disk, jobfolder.FUNCTION, function)
        del function  # what could not be shared is in it once more
        _write_rows(disk, work, writer)
        if work.costs is not None:
            disk.write(jobfolder.ROWS_ORDER, encode_order(work.costs))
        _write_stored(disk, jobfolder.ROWS_FRAME, _frame_of(work, writer))


def _write_rows(disk: FolderDisk, work: Work, writer: ObjectWriter) -> None:
    entries = []
    offset = 0
    with disk.create(jobfolder.ROWS) as file:
        for first, block in _blocks(work, writer):
            write_all(file.fileno(), block)
            entries.append(index_entry(first, offset, block))
            offset += len(block)
    disk.write(jobfolder.ROWS_INDEX, encode_index(work.length, work.columns, entries))


def _blocks(work: Work, writer: ObjectWriter) -> Any:
    try:
        yield from encode_blocks(work.columns, work.length, writer)
    except DataFileError:
        raise
    except Exception as error:
        what = "items" if work.kind == "map" else "params"
        raise InvalidArgumentError(
            f"{what}: a cell cannot be sent to another process ({type(error).__name__}: {error}). "
            "Give what it is made from, and make it inside the function.",
            argument=what,
        ) from error


def _frame_of(work: Work, writer: ObjectWriter) -> Stored:
    rows = work.rows
    if work.kind == "map":
        keys, kind = rows.keys, rows.kind  # type: ignore[union-attr]
        return writer.dump({"keys": keys, "kind": kind, "frame": rows.frame})
    return writer.dump({"frame": rows.frame})


def _write_stored(disk: FolderDisk, name: str, stored: Stored) -> None:
    # Buffered, because pickle takes no notice of a write that took less than it was given.
    with io.BufferedWriter(disk.create(name)) as file:
        check_room(file.fileno(), len(stored.data))
        pickle.dump(stored.plain(), file, PROTOCOL)


def write_run(run_folder: FolderDisk, plan: RunPlan) -> None:
    """Write what is asked for into a run's folder."""
    run_folder.make_folder(jobfolder.CLAIMS)
    run_folder.replace(jobfolder.RUN, jobfolder.encode_json(plan.content()))


def write_function(
    run_folder: FolderDisk, function: Callable[..., Any], like: Mapping[str, Any]
) -> None:
    """Write the function of a retry that has its own, with what else the job's had."""
    with run_folder.create(jobfolder.DATA) as data:
        writer = ObjectWriter(BufferWriter(data.fileno()))
        more_args, initializer = like["more_args"], like["initializer"]
        stored = ship(function, more_args, like["globals"], initializer, writer)
    _write_stored(run_folder, jobfolder.FUNCTION, stored)


def _job_content(name: str, uuid: str, work: Work) -> dict[str, Any]:
    return {
        "format": jobfolder.FORMAT,
        "uuid": uuid,
        "name": name,
        "kind": work.kind,
        "rows": work.length,
        "cost": work.costs is not None,
        "function": work.function_name,
        "fingerprints": dict(work.fingerprints),
        "seed": work.seed,
        "seeded": work.seeded,
        "created": time.time(),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "versions": _versions(),
        "session": {
            "user": _user(),
            "host": socket.gethostname(),
            "folder": str(Path.cwd()),
            "sys_path": session_path(),
        },
    }


def session_path() -> list[str]:
    """Give the session's own sys.path, absolute; '' is its working folder."""
    return [str(Path(entry or ".").absolute()) for entry in sys.path]


def _versions() -> dict[str, str]:
    """Give the versions of this package and of what the session has loaded of the usual ones."""
    usual = ("cloudpickle", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "torch")
    loaded = {name: sys.modules[name] for name in usual if name in sys.modules}
    found = {name: getattr(module, "__version__", "") for name, module in loaded.items()}
    return {name: str(version) for name, version in found.items()} | {"slurmapply": VERSION}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in a container
        return str(os.getuid())
