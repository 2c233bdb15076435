"""A task's own record: what it began, what it holds while it stops, and how it ended."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.rows import RowNumbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


@dataclass(slots=True)
class TaskRecord:
    """Appends to one life's record.

    Parameters
    ----------
    disk, run, life
        The job folder, the run, whose record it is.
    """

    disk: Disk
    run: int
    life: Life

    def start(self, workers: int) -> None:
        """Append the first record: who and where this life is."""
        self.append(
            "started",
            time=time.time(),
            host=os.uname().nodename,
            node=os.environ.get("SLURMD_NODENAME", ""),
            pid=os.getpid(),
            python=".".join(map(str, sys.version_info[:3])),
            workers=workers,
        )

    def stop(
        self, reason: str, message: str, *, chunks: Iterable[tuple[int, int]], rows: Iterable[int]
    ) -> None:
        """Append what is given up, before the last rows finish.

        Parameters
        ----------
        reason, message
            A signal's name, ``load_failed``, ``write_failed``; what there is to say about it.
        chunks
            Chunk and generation of the claims that are given up.
        rows
            Rows that are in the workers still.
        """
        self.append(
            "stopping",
            reason=reason,
            message=message,
            chunks=list(chunks),
            rows=list(rows),
            time=time.time(),
        )

    def finish(self, reason: str, files: Mapping[str, int] | None = None) -> None:
        """Append the last record.

        Parameters
        ----------
        reason
            Why the task ended, ``done`` if it found no more rows.
        files
            Size of each of its outcomes files: another machine may see this record before it sees
            the files (NFS lists a folder from its cache).
        """
        self.append("end", reason=reason, time=time.time(), files=dict(files or {}))

    def append(self, record: str, **fields: Any) -> None:
        """Append a record, synced."""
        line = json.dumps({"record": record, **fields}) + "\n"
        self.disk.append(self.life.record(self.run), line.encode())


@dataclass(slots=True)
class LifeView:
    """What the record of one life says.

    Attributes
    ----------
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

    life: Life
    started: dict[str, Any] | None = None
    running: dict[int, dict[str, Any]] = field(default_factory=dict)
    interrupted: list[dict[str, Any]] = field(default_factory=list)
    stopping: dict[str, Any] | None = None
    end: dict[str, Any] | None = None

    @property
    def in_workers(self) -> RowNumbers:
        """Rows that are in its workers while it stops."""
        if self.stopping is None or self.end is not None:
            return RowNumbers(())
        return RowNumbers.of(self.stopping["rows"])

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


def view_life(life: Life, data: bytes) -> LifeView:
    """Read the record of one life."""
    view = LifeView(life)
    for record in parse_records(data):
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


def read_lives(disk: Disk, run: int) -> list[LifeView]:
    """Read the records of all lives of a run."""
    folder = jobfolder.run_folder(run)
    views = []
    for name in sorted(disk.names(folder)):
        life = jobfolder.parse_record(name)
        if life is not None:
            views.append(view_life(life, disk.read(f"{folder}/{name}") or b""))
    return views


def latest_lives(views: Iterable[LifeView]) -> list[LifeView]:
    """Give the latest life of each task: an earlier one is over, or a copy that nobody awaits."""
    latest: dict[tuple[str, int], LifeView] = {}
    for view in views:
        key = view.life[:2]
        if key not in latest or latest[key].life.life < view.life.life:
            latest[key] = view
    return list(latest.values())
