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

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.disk import random_hex
from slurmapply.errors import FormatError, JobFolderError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from slurmapply.disk import FolderDisk

FORMAT = 1
PREFIX = "_slurmapply_"

JOB = "job.json"
FUNCTION = "function.pkl"
DATA = "data.bin"
ROWS = "rows.bin"
ROWS_INDEX = "rows.json"
ROWS_FRAME = "rows.frame"
ROWS_ORDER = "rows.order"
WORKER = "worker.pyz"
SCRIPT = "submit.sh"
RUN = "run.json"
CLAIMS = "claims"


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


def intent(run: int, attempt: int) -> str:
    """Name the file that says that a run is about to be submitted, for each attempt."""
    return f"run_{run}/intent.{attempt}"


def cancelled(run: int) -> str:
    """Name the mark that makes tasks exit that start after a cancellation."""
    return f"run_{run}/cancelled"


def claims(run: int) -> str:
    """Name the folder of a run's claims."""
    return f"run_{run}/{CLAIMS}"


def claim(run: int, chunk: int, generation: int) -> str:
    """Name of the claim of a chunk."""
    return f"run_{run}/claims/{chunk}.{generation}"


def stopping(run: int) -> str:
    """Name the folder where tasks of a run that stop early leave a mark."""
    return f"run_{run}/stopping"


class Life(NamedTuple):
    """One start of a task: its submission, its number, how often it was restarted."""

    submission: str
    task: int
    life: int

    def token(self, run: int) -> str:
        """Name the file that this life links to what it claims, different at each call."""
        return f"run_{run}/claims/token_{self.submission}_{self.task}_{self.life}_{random_hex()}"

    def record(self, run: int) -> str:
        """Name this life's own record."""
        return f"run_{run}/task_{self.submission}_{self.task}_{self.life}.jsonl"

    def mark(self, run: int) -> str:
        """Name the empty file by which others see that this life's record says `stopping`."""
        return f"{stopping(run)}/{self.submission}_{self.task}_{self.life}"

    def outcomes(self, run: int, worker: str) -> str:
        """Name an outcomes file of a worker of this life, different at each call."""
        random = random_hex()
        return f"run_{run}/outcomes_{self.task}_{self.life}_{worker}_{random}.rec"


def console_of(outcomes: str) -> str:
    """Name the console file of the worker whose outcomes stand in this file."""
    return f"{stem_of(outcomes).replace('/outcomes_', '/console_')}.txt"


def stem_of(outcomes: str) -> str:
    """Give what the names of all outcomes files of one worker begin with."""
    return outcomes.partition(".")[0]


def next_outcomes(outcomes: str, number: int) -> str:
    """Name the file that a worker goes on with when an earlier one could not be written."""
    return f"{stem_of(outcomes)}.{number}.rec"


def beside_outcomes(outcomes: str) -> str:
    """Name the file for the row that a worker died on, beside that worker's own."""
    return f"{stem_of(outcomes)}.died.rec"


def task_console(run: int, task: int | None = None) -> str:
    """Name the console of a task, or of any in Slurm's way (sbatch(1), "filename pattern")."""
    return f"run_{run}/slurm_{'%a' if task is None else task}.out"


def parse_console(name: str) -> int | None:
    """Give the task of a console in a run's folder, its own or a worker's."""
    match = re.fullmatch(_CONSOLE, name)
    return int(match[1]) if match else None


def console_order(name: str) -> tuple[bool, str]:
    """Sort a task's own console before its workers'."""
    return (not name.startswith("slurm_"), name)


# Compiled when they are first used (re.fullmatch keeps them): most are needed late or never.
_CONSOLE = r"(?:slurm|console)_(\d+)(?:_\w+)?\.(?:out|txt)"


_OUTCOMES = r"outcomes_(\d+)_(\d+)_(\d+)_([0-9a-f]+)(\.died|\.\d+)?\.rec"
_WORKER = r"(?:outcomes|console)_\d+_\d+_(\d+)_"
_RECORD = r"task_([\w.@-]+)_(\d+)_(\d+)\.jsonl"
_MARK = r"([\w.@-]+)_(\d+)_(\d+)"
_CLAIM = r"(\d+)\.(\d+)"
_INTENT = r"intent\.(\d+)"
_RUN = r"run_(\d+)"


def parse_outcomes(name: str) -> tuple[int, int] | None:
    """Give task and life of an outcomes file's name."""
    match = re.fullmatch(_OUTCOMES, name)
    return (int(match[1]), int(match[2])) if match else None


def worker_of(name: str) -> int:
    """Give the number, within its task, of the worker whose outcomes or console this is; else 0."""
    match = re.search(_WORKER, name)
    return int(match[1]) if match else 0


def parse_record(name: str) -> Life | None:
    """Give whose record a file of this name is."""
    match = re.fullmatch(_RECORD, name)
    return Life(match[1], int(match[2]), int(match[3])) if match else None


def parse_mark(name: str) -> Life | None:
    """Give whose mark a file of this name is."""
    match = re.fullmatch(_MARK, name)
    return Life(match[1], int(match[2]), int(match[3])) if match else None


def parse_claim(name: str) -> tuple[int, int] | None:
    """Give chunk and generation of a claim's name."""
    match = re.fullmatch(_CLAIM, name)
    return (int(match[1]), int(match[2])) if match else None


def parse_intent(name: str) -> int | None:
    """Give the attempt that an intent's name is of."""
    match = re.fullmatch(_INTENT, name)
    return int(match[1]) if match else None


def parse_run(name: str) -> int | None:
    """Give the number of a run's folder."""
    match = re.fullmatch(_RUN, name)
    return int(match[1]) if match else None


def encode_json(content: Mapping[str, Any]) -> bytes:
    """Write one of the folder's JSON files."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape")


def decode_json(data: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
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
    content = decode_json(data, disk.place(JOB))
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
    _check_fields(content, _JOB_FIELDS, disk.place(JOB))
    return content


def read_run(disk: FolderDisk, number: int) -> dict[str, Any]:
    """Read what was asked for in a run."""
    name = run_json(number)
    data = disk.read(name)
    if data is None and not (disk.path / JOB).exists():
        raise JobFolderError(
            f"the job folder {disk.path} is gone: it was deleted or moved after it was opened.",
            path=disk.path,
        )
    if data is None:
        raise JobFolderError(
            f"{disk.path / name} is missing: was the folder copied in part?", path=disk.path
        )
    content = decode_json(data, disk.place(name))
    _check_fields(content, _RUN_FIELDS, disk.place(name))
    return content


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_ROWS


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def _is_rule(value: Any) -> bool:
    if isinstance(value, list):
        return all(
            isinstance(pair, list) and [*map(_is_count, pair)] == [True] * 2 for pair in value
        )
    return value in ("all", "left")


_MOST_ROWS = 2**32
_JOB_FIELDS = {"uuid": _is_uuid, "rows": _is_count, "name": lambda value: isinstance(value, str)}
_RUN_FIELDS = {"rule": _is_rule, "tasks": _is_count, "function_of_run": _is_count}


def _check_fields(
    content: Mapping[str, Any], fields: Mapping[str, Callable[[Any], bool]], path: str
) -> None:
    """Refuse what this package does not write: a folder may come from elsewhere, or be damaged."""
    for name, fits in fields.items():
        if not fits(content.get(name)):
            raise FormatError(
                f"{path} cannot be used: its {name!r} is {str(content.get(name))[:60]!r}.",
                path=path,
            )


def function_files(asked: Mapping[str, Any]) -> tuple[str, str]:
    """Name the pickled function that a run calls, and its data file."""
    run: int = asked["function_of_run"]
    return run_function(run) if run else (FUNCTION, DATA)
