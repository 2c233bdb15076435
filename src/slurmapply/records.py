"""A task's own record: what it began, what it holds while it stops, and how it ended."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.rows import RowNumbers

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from slurmapply.disk import Disk
    from slurmapply.jobfolder import Life


def parse_records(data: bytes) -> Iterator[dict[str, Any]]:
    """Give the complete records of a task's file; a torn last line is not one."""
    for line in data.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("record"), str):
            yield record


class TaskRecord:
    """Appends to one life's record.

    Parameters
    ----------
    disk, run, life
        The job folder, the run, whose record it is.
    """

    def __init__(self, disk: Disk, run: int, life: Life) -> None:
        self.disk = disk
        self.run = run
        self.life = life
        self._torn = False

    def start(self, workers: int, limit: float | None = None, pid: int | None = None) -> None:
        """Append the first record: who and where this life is, and its time limit in seconds.

        Parameters
        ----------
        workers, limit
            Of the task.
        pid
            Of its main process; None: it is this one.
        """
        self.append(
            "started",
            time=time.time(),
            host=os.uname().nodename,
            node=os.environ.get("SLURMD_NODENAME", ""),
            pid=pid or os.getpid(),
            python=".".join(map(str, sys.version_info[:3])),
            workers=workers,
            limit=limit,
        )

    def stop(
        self,
        reason: str,
        message: str,
        *,
        chunks: Iterable[tuple[int, int]],
        rows: Iterable[int],
        attempts: Iterable[int] = (),
    ) -> None:
        """Append what is given up, before the last rows finish, and leave a mark of it.

        Parameters
        ----------
        reason, message
            A signal's name, ``time_limit``, ``max_failures``, ``load_failed``, ...; what there is
            to say about it.
        chunks
            Chunk and generation of the claims that are given up.
        rows
            Rows that are in the workers still.
        attempts
            Which attempt each of them is.
        """
        self.append(
            "stopping",
            reason=reason,
            message=message,
            chunks=list(chunks),
            rows=list(rows),
            attempts=list(attempts),
            time=time.time(),
        )
        # Hundreds of tasks look for what was given up, and read no record without this mark.
        self.disk.make_folder(jobfolder.stopping(self.run))
        self.disk.append(self.life.mark(self.run), b"")

    def finish(
        self, reason: str, files: Mapping[str, int] | None = None, **used: float | None
    ) -> None:
        """Append the last record.

        Parameters
        ----------
        reason
            Why the task ended, ``done`` if it found no more rows.
        files
            Size of each of its outcomes files: another machine may see this record before it sees
            the files (NFS lists a folder from its cache).
        **used
            What the whole task used, and might use; None for what cannot be known.
        """
        self.append("end", reason=reason, time=time.time(), files=dict(files or {}), **used)

    def append(self, record: str, **fields: Any) -> None:
        """Append a record, synced."""
        line = json.dumps({"record": record, **fields}) + "\n"
        # What a disk refused half way must not swallow the line after it.
        begin = "\n" if self._torn else ""
        self._torn = True
        self.disk.append(self.life.record(self.run), (begin + line).encode())
        self._torn = False


class LifeView:
    """What the record of one life says.

    Attributes
    ----------
    life
        Whose it is.
    started
        Its first record, or None.
    running
        Rows that ran for more than two seconds, with their latest record.
    interrupted
        Attempts of rows that ended without an outcome.
    stopping
        The record that it wrote before it let its last rows finish, or None.
    end
        Its last record, or None.
    """

    def __init__(self, life: Life) -> None:
        self.life = life
        self.started: dict[str, Any] | None = None
        self.running: dict[int, dict[str, Any]] = {}
        self.interrupted: list[dict[str, Any]] = []
        self.stopping: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None

    @property
    def in_workers(self) -> RowNumbers:
        """Rows that are in its workers while it stops."""
        if self.stopping is None or self.end is not None:
            return RowNumbers(())
        return RowNumbers.of(self.stopping["rows"])

    @property
    def attempts(self) -> dict[int, int]:
        """The latest attempt of each row that is named here."""
        found = {row: record["attempt"] for row, record in self.running.items()}
        if self.stopping is not None:
            named = zip(self.stopping["rows"], self.stopping.get("attempts", ()), strict=False)
            found.update((row, max(found.get(row, 0), attempt)) for row, attempt in named)
        return found

    @property
    def held(self) -> list[tuple[int, int]]:
        """Chunks and generations that it gave up when it stopped."""
        if self.stopping is None:
            return []
        return [(chunk, generation) for chunk, generation in self.stopping["chunks"]]


#: A row that used so much of its task's time limit has no better chance in another task.
_HOPELESS_SHARE = 0.8


def never_fits(record: Mapping[str, Any]) -> bool:
    """Whether an interrupted row needs more than the time limit of a task.

    Examples
    --------
    >>> cut_short = {"cause": "time_limit", "limit": 600}
    >>> never_fits({**cut_short, "seconds": 540}), never_fits({**cut_short, "seconds": 60})
    (True, False)
    """
    if record.get("cause") != "time_limit":
        return False
    limit, seconds = float(record.get("limit") or 0), float(record["seconds"])
    return 0 < _HOPELESS_SHARE * limit <= seconds


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_row(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_row, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_claims(value: Any) -> bool:
    return isinstance(value, list) and all(_are_rows(pair) and len(pair) == 2 for pair in value)  # noqa: PLR2004  # chunk, generation


def _are_sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_row, value.values()))


#: What a record must hold to be taken for one: a folder may come from elsewhere, or be damaged.
_FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "started": {"time": _is_number, "host": _is_text, "node": _is_text},
    "running": {"row": _is_row, "attempt": _is_row},
    "interrupted": {"row": _is_row, "attempt": _is_row, "seconds": _is_number, "cause": _is_text},
    "stopping": {"reason": _is_text, "message": _is_text, "chunks": _are_claims, "rows": _are_rows},
    "end": {"reason": _is_text, "files": _are_sizes},
}


def _is_whole(record: Mapping[str, Any]) -> bool:
    fields = _FIELDS.get(record["record"], {})
    return all(fits(record.get(name)) for name, fits in fields.items())


def view_life(life: Life, data: bytes) -> LifeView:
    """Read the record of one life; a record without its fields is passed over like a torn one."""
    view = LifeView(life)
    for record in filter(_is_whole, parse_records(data)):
        kind = record["record"]
        if kind == "started":
            view.started = record
        elif kind == "running":
            view.running[record["row"]] = record
        elif kind == "interrupted":
            view.interrupted.append(record)
            view.running.pop(record["row"], None)
        elif kind == "stopping":
            view.stopping = record
        elif kind == "end":
            view.end = record
    return view


def read_lives(disk: Disk, run: int, tasks: Container[int] | None = None) -> list[LifeView]:
    """Read the records of all lives of a run, or of some of its tasks."""
    folder = jobfolder.run_folder(run)
    views = []
    for name in sorted(disk.names(folder)):
        life = jobfolder.parse_record(name)
        if life is not None and (tasks is None or life.task in tasks):
            views.append(view_life(life, disk.read(f"{folder}/{name}") or b""))
    return views


def stopping_tasks(disk: Disk, run: int) -> set[int]:
    """Give the tasks of a run of which a life has said that it stops early."""
    marks = map(jobfolder.parse_mark, disk.names(jobfolder.stopping(run)))
    return {life.task for life in marks if life is not None}


def latest_lives(views: Iterable[LifeView]) -> list[LifeView]:
    """Give the latest life of each task: an earlier one is over, or a copy that nobody awaits."""
    latest: dict[tuple[str, int], LifeView] = {}
    for view in views:
        key = view.life[:2]
        if key not in latest or latest[key].life.life < view.life.life:
            latest[key] = view
    return list(latest.values())
