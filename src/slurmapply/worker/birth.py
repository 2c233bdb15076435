"""What a fresh fork of the supervisor does to become a worker."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import types
from _thread import get_ident  # of `threading`, which is large
from typing import TYPE_CHECKING, Any

from slurmapply.worker.console import WorkerConsole, become_console

if TYPE_CHECKING:
    from slurmapply.disk import FolderDisk
    from slurmapply.worker.page import Page

#: At this signal a worker prints where it is, even while C code holds the interpreter's lock.
DUMP = signal.SIGRTMAX
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes  # noqa: PLC0415  # 2 ms, in the clerk while the supervisor goes on

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)


def become_worker(
    console: str, disk: FolderDisk, page: Page, trace: int
) -> tuple[WorkerConsole, Watch]:
    """Give this process its group, its signals, its console.

    Parameters
    ----------
    console
        Name of the console's file.
    disk, page
        The job folder; shared with the supervisor.
    trace
        Descriptor to which it writes where it is when it is asked.
    """
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where Slurm signals all processes of a task, the supervisor decides what a stop means.
    _leave_to_the_supervisor(signal.SIGTERM, signal.SIGUSR1)
    with disk.create(console) as file:
        made = become_console(file.fileno())
    # Into the console's own descriptor: what the row does to 1 and 2 must not silence it.
    faulthandler.enable(made.descriptor)
    # Not into the console: it may be on a disk that hangs, and who waits for one cannot be killed.
    faulthandler.register(DUMP, trace, all_threads=True)
    watch = Watch(page)
    sys.addaudithook(watch)
    # pickle looks names of __main__ up in the running program; the user's are not there.
    sys.modules["__main__"] = types.ModuleType("__main__")
    return made, watch


def _leave_to_the_supervisor(*numbers: int) -> None:
    """Ignore signals here, and here only: what the user's code forks must still die of them.

    `multiprocessing` ends its processes with SIGTERM. They must not inherit a handler of Python's:
    it runs between two bytecodes, so that a signal that comes just before a call that waits for
    ever is never noticed. Until a fork has its own handlers it is sent none: what comes before
    that is forgotten there (PyOS_AfterFork_Child clears pending signals).
    """
    masks: dict[int, set[int]] = {}  # by thread: any may fork

    def pass_over(_number: int, _frame: object) -> None:
        pass

    def hold_back() -> None:
        masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

    def become_the_users() -> None:
        for number in numbers:
            if signal.getsignal(number) is pass_over:  # or the user has set another meanwhile
                signal.signal(number, signal.SIG_DFL)
        let_through()

    for number in numbers:
        signal.signal(number, pass_over)
    os.register_at_fork(
        before=hold_back, after_in_parent=let_through, after_in_child=become_the_users
    )


class Watch:
    """Notes three things that the user's code does (sys.addaudithook).

    That it is about to kill its own process: the kernel does not tell who sent a SIGKILL, and a
    kill from outside is worth another try. That it changes the working folder: a look after each
    row would cost a system call. That it has ever started a program: then each row may leave one.

    Parameters
    ----------
    page
        Shared with the supervisor.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        worker = os.getpid()
        self._own = (worker, 0, -worker, -1)
        self.moved = self.started = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an event of the audit table."""
        if event == "os.chdir":
            self.moved = True
        elif event == "subprocess.Popen":
            self.started = True
        elif event in ("os.kill", "os.killpg") and arguments[1] == signal.SIGKILL:
            self._page.own_hand = self._page.own_hand or arguments[0] in self._own
