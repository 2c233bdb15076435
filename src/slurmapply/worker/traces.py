"""What a row leaves behind: another working folder, programs that nobody waits for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from slurmapply.worker.kernel import read_text

if TYPE_CHECKING:
    from slurmapply.worker.birth import Watch

_PR_SET_CHILD_SUBREAPER = 36
_LOOKS = 50
_LOOK_EVERY = 0.005


class Traces:
    """Puts right what a row changed for those after it.

    Parameters
    ----------
    watch
        Notes what the row does.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        watch.moved = False

    def clear(self, row: int) -> str:
        """Go back to the working folder, end forgotten programs; gives what there is to say."""
        if self._watch.moved:
            os.fchdir(self._folder)
            self._watch.moved = False
        return _end_forgotten(row) if self._watch.started else ""


def _end_forgotten(row: int) -> str:
    """End the programs that a row started and of which nobody holds a handle any more.

    A program whose `Popen` object is still referred to is meant to go on (a server that later
    rows talk to), as are processes of `multiprocessing` and joblib, which keep pools. All of them
    end with the worker.
    """
    subprocess = sys.modules.get("subprocess")
    # Where Popen.__del__ leaves programs that were still running when the last reference went.
    forgotten: list[Any] | None = getattr(subprocess, "_active", None)
    if not forgotten:
        return ""
    said = ""
    for process in list(forgotten):
        if process.poll() is None:
            process.kill()
            process.wait()
            name = os.path.basename(_program(process.args))  # any text
            said += (
                f"slurmapply: row {row} left {name} (process {process.pid}) running; it was ended\n"
            )
        with contextlib.suppress(ValueError):
            forgotten.remove(process)
    return said


def _program(arguments: Any) -> str:
    if isinstance(arguments, (list, tuple)):
        arguments = arguments[0] if arguments else ""
    return os.fsdecode(arguments)


def adopt_orphans() -> None:
    """Become the parent of what the workers leave behind (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes  # noqa: PLC0415  # 2 ms, while the clerk is at the disk

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_orphans() -> None:
    """End all children of this process; theirs become ours, and end too.

    One that hangs in the kernel, on a disk that does not answer, is left.
    """
    for _ in range(_LOOKS):
        children = _children()
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_LOOK_EVERY)


def _children() -> list[int]:
    try:
        text = read_text(f"/proc/self/task/{os.getpid()}/children")
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []
    return [int(pid) for pid in text.split()]
