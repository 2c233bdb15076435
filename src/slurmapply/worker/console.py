"""A worker's console: descriptors 1 and 2, what Python prints to them, and how much of it.

A row's part of the console is two numbers in its outcome. What C code and child processes print
lands in the same file, as the descriptors are the file's; C's own stream holds nothing back.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, Protocol

#: More than anybody reads; a row that prints without end must not fill the disk.
ROW_LIMIT = 10 * 1024 * 1024
#: The same for all rows of a worker together.
WORKER_LIMIT = 1024 * 1024 * 1024

_OUT, _ERR = 1, 2
#: Unbuffered, as glibc and musl have it (stdio.h).
_IONBF = 2


class Console(Protocol):
    """What the loop over rows asks of a console."""

    def length(self) -> int:
        """Give how much was printed so far."""

    def begin(self, offset: int) -> None:
        """Note that rows begin, and that the first one's part begins here."""

    def end(self, row: int, offset: int) -> int:
        """Give where the row's part ends, and the next one's begins; cut off what is too much."""

    def mend(self) -> None:
        """Put right what rows did to the standard streams."""


class _Stream(io.FileIO):
    """A descriptor that takes so much and drops the rest."""

    def __init__(self, descriptor: int, console: WorkerConsole) -> None:
        self._console = console
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any, /) -> int:
        """Write what the row may still print; says that all was written."""
        view = memoryview(data).cast("B")
        room = self._console.room
        if room > 0:
            # A full disk takes no words, and that is no fault of the row.
            with contextlib.suppress(OSError):
                super().write(view[:room])
        self._console.room = room - len(view)
        return len(view)

    def close(self) -> None:
        """Close; the layers above come here too when they are closed."""
        self._console.used = True
        super().close()


# The two layers of a standard stream, each of which may hold something back, or be taken off the
# one below. They say when they are used, since flushing both streams after each row would take as
# long as a quick row.


class _Bytes(io.BufferedWriter):
    def __init__(self, raw: io.RawIOBase, console: WorkerConsole) -> None:
        self._console = console
        super().__init__(raw)

    def write(self, data: Any, /) -> int:
        self._console.used = True
        return super().write(data)

    def detach(self) -> io.RawIOBase:
        self._console.used = True
        return super().detach()


class _Text(io.TextIOWrapper):
    def __init__(self, descriptor: int, console: WorkerConsole) -> None:
        self._console = console
        below = _Bytes(_Stream(descriptor, console), console)
        super().__init__(below, encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def write(self, text: str, /) -> int:
        self._console.used = True
        return super().write(text)

    def detach(self) -> Any:
        self._console.used = True
        return super().detach()


class WorkerConsole:
    """The console of this process, which it keeps whatever the user's code does to it.

    Parameters
    ----------
    descriptor
        The console's file, open for appending.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = os.dup(descriptor)
        found = os.fstat(self._file)
        self._identity = found.st_ino, found.st_dev
        self._limit = 0
        self.room = ROW_LIMIT
        self.used = False
        self._connect()

    @property
    def descriptor(self) -> int:
        """The console's file, whatever becomes of descriptors 1 and 2."""
        return self._file

    def length(self) -> int:
        """Give how much was printed so far."""
        return os.lseek(self._file, 0, os.SEEK_END)

    def begin(self, offset: int) -> None:
        """Note what a row may print whose part begins here."""
        room = WORKER_LIMIT - offset
        self.room = self._limit = ROW_LIMIT if room > ROW_LIMIT else max(0, room)

    def end(self, row: int, offset: int) -> int:
        """Give where the row's part ends, all that was printed included; mend Python's streams."""
        try:
            ours = sys.stdout is self._out and sys.stderr is self._err
        except AttributeError:  # deleted by the row
            ours = False
        if ours and not self.used and os.lseek(self._file, 0, os.SEEK_END) == offset:
            return offset
        self._settle()
        size = self.length()
        if self.room < 0 or size - offset > self._limit:
            size = self._cut(row, offset, size)
        self.begin(size)
        return size

    def _settle(self) -> None:
        """Write what streams hold back, the row's own ones too, and put ours back."""
        out, err = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
        if out is not self._out or err is not self._err:
            _flush(out, err)
            self._reconnect()
        self.used = False  # first: a thread of the row's may be printing
        try:
            self._out.flush()
            self._err.flush()
        except ValueError:  # closed by the row
            self._reconnect()

    def mend(self) -> None:
        """Put descriptors 1 and 2 back where a row closed or redirected them."""
        if self._is_elsewhere(_OUT) or self._is_elsewhere(_ERR):
            self._reconnect()

    def _is_elsewhere(self, descriptor: int) -> bool:
        try:
            found = os.fstat(descriptor)
        except OSError:
            return True
        return (found.st_ino, found.st_dev) != self._identity

    def _cut(self, row: int, offset: int, size: int) -> int:
        """Cut a row's part to its limit and say so."""
        with contextlib.suppress(OSError):
            if size - offset > self._limit:
                os.ftruncate(self._file, offset + self._limit)
            os.write(self._file, cut_notice(row, self._limit))
        return self.length()

    def _reconnect(self) -> None:
        os.dup2(self._file, _OUT)
        os.dup2(self._file, _ERR)
        self._connect()

    def _connect(self) -> None:
        sys.stdout = self._out = _Text(_OUT, self)
        sys.stderr = self._err = _Text(_ERR, self)


def become_console(descriptor: int) -> WorkerConsole:
    """Make a file the standard streams of this process; its input is empty.

    Parameters
    ----------
    descriptor
        The file, open for appending.
    """
    os.dup2(descriptor, _OUT)
    os.dup2(descriptor, _ERR)
    _unbuffer_c()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    return WorkerConsole(descriptor)


def _unbuffer_c() -> None:
    """Have what C code prints written at once (setvbuf(3)).

    The C library holds back 4 KiB of what is printed to a file, so that it would stand in the part
    of a later row, or be lost when the process is killed. Flushing after each row would cost all
    rows, most of which print nothing from C.
    """
    import ctypes  # noqa: PLC0415  # the supervisor, of which workers are forked, has it loaded

    with contextlib.suppress(AttributeError, ValueError):  # a C library without these names
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _IONBF, 0)


def cut_notice(row: int, limit: int) -> bytes:
    """Say that a row printed too much."""
    return b"\n[slurmapply: row %d printed more than %d MB; the rest was dropped]\n" % (
        row,
        limit // 2**20,
    )


def _flush(*streams: Any) -> None:
    for stream in streams:
        with contextlib.suppress(Exception):  # the user's own objects may do anything
            stream.flush()
