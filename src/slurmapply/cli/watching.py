"""Looking at a job until it is over: drawn in place on a terminal, a few lines in a file."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from slurmapply.cli.saying import ROWS_NOT_OK, RefusedError, say
from slurmapply.cli.screen import picture
from slurmapply.cli.shellwords import in_shell_words
from slurmapply.cli.terminal import LivePicture, terminal_of
from slurmapply.progress import pause_after
from slurmapply.states import JobState
from slurmapply.status import expected
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from typing import TextIO

    from slurmapply.job import SlurmJob
    from slurmapply.status import JobStatus

_SHORTEST_PAUSE = 0.1
#: How often a file is told that a job goes on.
_LINE_EVERY = 60.0


def watch(job: SlurmJob, stream: TextIO) -> JobStatus:
    """Show how a job's rows are doing until nothing of it can still run.

    Ctrl-C ends the watching only, and says so.

    Raises
    ------
    RefusedError
        The job was never submitted.
    """
    shown = _Live(stream) if terminal_of(stream).live else _Lines(stream)
    begin = time.monotonic()
    try:
        while True:
            used = time.process_time()
            status = job.status()
            if status.state is JobState.PREPARED:
                raise RefusedError(
                    f"{job.name} was prepared, and never submitted: slurmapply submit {job.name}"
                )
            shown.show(status)
            if status.completed:
                return status
            pause = pause_after(time.monotonic() - begin, time.process_time() - used)
            time.sleep(max(_SHORTEST_PAUSE, pause))
    except KeyboardInterrupt:
        say(
            f"stopped watching {job.name}; the job itself goes on "
            f"(slurmapply cancel {job.name} ends it)"
        )
        raise


class _Live:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawing = LivePicture(stream)

    def show(self, status: JobStatus) -> None:
        terminal = terminal_of(self._stream)  # it may have another size by now
        width = terminal.width or 1
        lines = picture(
            for_shells(status, time.time()), width, terminal.height, unicode=terminal.unicode
        )
        self._drawing.draw(lines, terminal)


class _Lines:
    """A line at each change of the state, and at most one a minute in between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state: JobState | None = None
        self._said = ""
        self._at = 0.0

    def show(self, status: JobStatus) -> None:
        line = f"{status.name} is {status.state}. {status.summary()}"
        now = time.monotonic()
        changed = status.state is not self._state
        if not changed and (line == self._said or now - self._at < _LINE_EVERY):
            return
        self._state, self._said, self._at = status.state, line, now
        self._stream.write(f"{harmless(line)}\n")
        self._stream.flush()


def closing_words(job: SlurmJob, status: JobStatus) -> int:
    """Say what became of a job that is over, and give the exit code."""
    if status.ok:
        return 0
    for reason in status.reasons:
        say(in_shell_words(reason, job.name))
    say(f"all of one row: slurmapply errors {job.name} --row N")
    return ROWS_NOT_OK


def wait_for(job: SlurmJob) -> JobStatus:
    """Wait for a job, drawing on standard error where somebody looks."""
    status = job.status()
    return status if status.completed else watch(job, sys.stderr)


def for_shells(status: JobStatus, now: float) -> JobStatus:
    """Let a status say in the shell's words what to do, and first when a task is to start.

    Parameters
    ----------
    status
        What is known.
    now
        Seconds since 1970.
    """
    queue = []
    for entry in status.queue:
        start = expected(entry.get("expected_start"), now)
        words = in_shell_words(entry["explanation"], status.name)
        queue.append({**entry, "explanation": f"{start} {words}".strip()})
    return replace(status, note=in_shell_words(status.note, status.name), queue=queue)
