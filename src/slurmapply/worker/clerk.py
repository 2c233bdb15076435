"""The clerk: a process that does for a supervisor what may take long, all that is on the disk.

::

    supervisor ── requests ──▶ clerk ──▶ claims, records, outcomes of rows that killed their worker
        ▲                        │
        └────── replies ─────────┘

A shared disk can hang for minutes, and a process that asks it for anything hangs with it. The
supervisor has row deadlines, signals and dead workers to look after all the while, so it asks its
clerk, over pipes, in order, and never waits. A request is a line of JSON, and so is a reply.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.disk import write_all
from slurmapply.outcome import Failure, FrameBuilder, Measures
from slurmapply.states import RowStatus
from slurmapply.worker.console import ROW_LIMIT, cut_notice
from slurmapply.worker.memory import TaskMemory
from slurmapply.worker.patience import insist

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.records import TaskRecord
    from slurmapply.worker.claims import Claims
    from slurmapply.worker.run import Run

#: How much of what a dying process printed is looked at for its traceback.
_LAST_WORDS = 16 * 1024
#: How a traceback of `faulthandler` begins, and the frames of ours at its end.
_DUMPS = ("Fatal Python error: ", "Current thread 0x", "Thread 0x")
_OURS = re.compile(
    r'(?m)^  File "[^"\n]*slurmapply/worker/evaluate\.py", line \d+ in evaluate\n(?:  .*\n)*'
)


def _encode(what: str, fields: Mapping[str, Any]) -> tuple[str, bytes]:
    return what, json.dumps({"ask": what, **fields}).encode() + b"\n"


class Clerk:
    """The supervisor's end: sends requests, takes replies, and waits for neither.

    Parameters
    ----------
    pid
        Of the clerk's process.
    requests, replies
        Descriptors of the pipes.
    """

    def __init__(self, pid: int, requests: int, replies: int) -> None:
        self.pid = pid
        self.replies = replies
        self._requests = requests
        self._unsent = b""
        self._unread = b""
        self._open: deque[tuple[str, bytes]] = deque()
        os.set_blocking(requests, False)
        os.set_blocking(replies, False)

    def ask(self, what: str, **fields: Any) -> None:
        """Send a request; what the pipe does not take now goes with the next `flush`."""
        self.repeat(_encode(what, fields))

    def ask_once(self, what: str, **fields: Any) -> None:
        """Send a request unless the same was not answered yet."""
        request = _encode(what, fields)
        if request not in self._open:
            self.repeat(request)

    def repeat(self, request: tuple[str, bytes]) -> None:
        """Send a request that another clerk was sent before."""
        self._open.append(request)
        self._unsent += request[1]
        self.flush()

    @property
    def unanswered(self) -> list[tuple[str, bytes]]:
        """Requests that were not answered, but for those that ask for rows."""
        return [request for request in self._open if request[0] != "take"]

    @property
    def is_behind(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what was left."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._requests, self._unsent) :]

    def receive(self) -> list[dict[str, Any]] | None:
        """Give the replies that have come, None when the clerk is gone."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.replies, 1 << 16):
                self._unread += data
            if not self._unread:
                return None
        *lines, self._unread = self._unread.split(b"\n")
        for _ in lines:
            self._open.popleft()
        return [json.loads(line) for line in lines]

    @property
    def ends(self) -> tuple[int, int]:
        """Descriptors that a fork must not keep open."""
        return self._requests, self.replies

    def close(self) -> None:
        """Close the pipes; the clerk ends when it has read all that was sent."""
        for end in self.ends:
            os.close(end)


class Desk:
    """The clerk's end: does what is asked, one thing after the other.

    Parameters
    ----------
    disk, run
        The job folder, the run.
    claims, record
        Where rows come from, where events are written to.
    """

    def __init__(self, disk: FolderDisk, run: Run, claims: Claims, record: TaskRecord) -> None:
        self._disk = disk
        self._run = run
        self._claims = claims
        self._record = record

    def serve(self, requests: int, replies: int) -> int:
        """Answer requests until there are no more; gives the exit status."""
        with os.fdopen(requests, "rb") as lines:
            for line in lines:
                request = json.loads(line)
                act = functools.partial(getattr(self, f"do_{request.pop('ask')}"), **request)
                try:
                    reply = insist(act, _complain) or {"reply": "done"}
                except OSError as error:
                    reply = {"reply": "failed", "message": str(error)}
                write_all(replies, json.dumps(reply).encode() + b"\n")
                if reply["reply"] == "failed":
                    return 1
        return 0

    def do_start(self, workers: int, limit: float | None, pid: int) -> None:
        """Write the record of the start; the process that it names is the supervisor."""
        self._record.start(workers, limit, pid)

    def do_take(self) -> dict[str, Any]:
        """Claim more rows."""
        claim = self._claims.take() or self._claims.take_released()
        found = None
        if claim is not None:
            found = {
                "chunk": claim.chunk,
                "generation": claim.generation,
                "positions": [[part.start, part.stop] for part in claim.positions],
                "past": [[position, *past] for position, past in claim.past.items()],
            }
        return {"reply": "taken", "claim": found, "waiting": self._claims.waiting}

    def do_append(self, record: str, fields: dict[str, Any]) -> None:
        """Write a record."""
        self._record.append(record, **fields)

    def do_stop(
        self,
        reason: str,
        message: str,
        chunks: list[list[int]],
        rows: list[list[int]],
        outcomes: list[str],
        *,
        replaced: bool,
    ) -> dict[str, Any]:
        """Give up what is held; says whether the run was cancelled.

        Others may look for outcomes as soon as they read the record: what stands in the files by
        now must be there for them.
        """
        for name in self._all_outcomes():
            if any(name.startswith(jobfolder.stem_of(each)) for each in outcomes):
                self._disk.sync_file(name)
        held = {(chunk, generation) for chunk, generation in chunks}
        held.update(self._claims.waiting, self._claims.inherited)
        if replaced:
            held.update(self._claims.owned())
        self._record.stop(
            reason,
            message,
            chunks=sorted(held),
            rows=[row for row, _ in rows],
            attempts=[attempt for _, attempt in rows],
        )
        return {"reply": "stopped", "cancelled": self._is_cancelled()}

    def do_died(
        self,
        *,
        outcomes: str,
        row: int,
        attempt: int,
        status: str,
        cause: str,
        message: str,
        start: float,
        seconds: float,
        offset: int,
        trace: str,
    ) -> None:
        """Write the outcome of a row whose worker died on it.

        The dead worker's own file ends who knows where, so it gets a file beside it.
        """
        console = jobfolder.console_of(outcomes)
        length = max(0, self._length(console) - offset)
        frame = FrameBuilder(bytes.fromhex(self._run.uuid))
        measures = Measures(start, seconds, log_offset=offset, log_length=length)
        trace = trace or self._last_words(console, offset)
        failure = Failure(cause, message, _OURS.sub("", trace))
        frame.add_failure(row, attempt, RowStatus(status), failure, measures)
        name = jobfolder.beside_outcomes(outcomes)
        self._disk.remove(name)  # of an attempt that the disk refused half way
        with self._disk.create(name) as file:
            write_all(file.fileno(), frame.take())
            os.fsync(file.fileno())

    def do_running(self, outcomes: str, row: int, attempt: int, start: float, offset: int) -> None:
        """Write down that a row has been running for long."""
        console = jobfolder.console_of(outcomes)
        self._record.append(
            "running", row=row, attempt=attempt, start=start, console=console, log_offset=offset
        )

    def do_trim(self, outcomes: str, row: int, offset: int) -> None:
        """Cut what a running row has printed to what it may."""
        console = jobfolder.console_of(outcomes)
        if self._length(console) > offset + 2 * ROW_LIMIT:
            self._disk.truncate(console, offset + ROW_LIMIT)
            self._disk.append(console, cut_notice(row, ROW_LIMIT))

    def do_note(self, text: str) -> None:
        """Say something on the task's console."""
        _say(text)

    def do_finish(self, reason: str, cpu: float | None = None) -> dict[str, Any]:
        """Write the last record, with the size of each outcomes file, by which readers know.

        Most rows print nothing, and a file is a file to those who count them.
        """
        for console in {jobfolder.console_of(name) for name in self._all_outcomes()}:
            if not self._length(console):
                self._disk.remove(console)
        files = {name.rpartition("/")[2]: self._length(name) for name in self._all_outcomes()}
        memory = TaskMemory()
        peak, limit = memory.peak(), memory.limit()
        self._record.finish(
            reason, files, cpu_seconds=cpu, peak_mb=_megabytes(peak), memory_mb=_megabytes(limit)
        )
        return {"reply": "finished"}

    def _all_outcomes(self) -> Iterable[str]:
        folder = jobfolder.run_folder(self._run.number)
        mine = (self._record.life.task, self._record.life.life)
        for name in self._disk.names(folder):
            if jobfolder.parse_outcomes(name) == mine:
                yield f"{folder}/{name}"

    def _is_cancelled(self) -> bool:
        return self._disk.read(jobfolder.cancelled(self._run.number)) is not None

    def _length(self, name: str) -> int:
        file = self._disk.open(name)
        if file is None:
            return 0
        with file:
            return file.seek(0, os.SEEK_END)

    def _last_words(self, console: str, offset: int) -> str:
        """Give the traceback that a dying process left on its console, if it did."""
        file = self._disk.open(console)
        if file is None:
            return ""
        with file:
            file.seek(max(offset, file.seek(0, os.SEEK_END) - _LAST_WORDS))
            text = file.read().decode("utf-8", "replace")
        begins = [place for place in map(text.find, _DUMPS) if place >= 0]
        return text[min(begins) :] if begins else ""


def _megabytes(size: int | None) -> float | None:
    return None if size is None else round(size / 2**20, 1)


def _complain(error: OSError) -> None:
    _say(f"the job folder could not be written: {error}; trying again")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the console may be on the disk that is full
        sys.stderr.write(f"slurmapply: {text}\n")
        sys.stderr.flush()
