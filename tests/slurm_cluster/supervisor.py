"""The process that starts the daemons, watches over them and ends them.

It is their parent and the subreaper of all that they leave behind, so that nothing of the cluster
can escape it. It ends them on SIGTERM, and when the process that it was started for is gone.
SIGHUP starts again what a test has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm_cluster import cgroups, daemons, processes
from tests.slurm_cluster.layout import READY, Layout
from tests.slurm_cluster.settings import NODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster.daemons import Daemon

START_SECONDS = 60.0
DAEMON_STOP_SECONDS = 5.0
OWNER_LOOK_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class StopRequestedError(Exception):
    """Somebody asked the supervisor to end, or its owner is gone."""


class StartError(Exception):
    """A daemon did not come up; the text says which and what it said."""


class Supervisor:
    """Run the daemons of one cluster.

    Parameters
    ----------
    layout
        The cluster's folder, with its settings written.
    owner
        Process id and start time of the process to live for; None to live until stopped.
    """

    def __init__(self, layout: Layout, owner: tuple[int, str] | None = None) -> None:
        self.layout = layout
        self.owner = owner
        self.facts = layout.read_facts()
        self.environment = daemons.environment(layout)
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        """Start everything, write the verdict, stay until asked to end, end everything."""
        try:
            self.start()
            self.layout.verdict.write_text(READY)
            self.watch()
        except StopRequestedError:
            pass
        except (StartError, OSError, subprocess.SubprocessError) as error:
            self.layout.verdict.write_text(f"{error}")
            traceback.print_exc()
        finally:
            self.stop()

    def start(self) -> None:
        """Start each daemon when the one before it answers."""
        munged, *others = daemons.make_daemons(self.layout, self.facts)
        self.spawn(munged)
        if self.facts.accounting:
            self.call("mariadb-install-db", daemons.database_maker(self.layout, self.facts), 60)
        self.wait_for(munged)
        for daemon in others:
            self.spawn(daemon)
            if daemon.name not in NODES:
                self.wait_for(daemon)
        self.wait_until(self.nodes_are_idle, f"{len(NODES)} idle nodes")

    def spawn(self, daemon: Daemon) -> None:
        """Start one daemon in a session of its own."""
        with self.layout.output(daemon.name).open("ab") as output:
            child = subprocess.Popen(
                daemon.command,
                cwd=self.layout.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_prepare_child,  # noqa: PLW1509 - this process has one thread
            )
        self.children[daemon.name] = child
        # mariadbd, munged and Slurm's daemons write it too, later: a test may ask at once.
        self.layout.pid_file(daemon.name).write_text(f"{child.pid}\n")

    def call(self, name: str, command: list[str], seconds: float) -> str:
        """Run a command that ends by itself and give what it prints."""
        with self.layout.output(name).open("ab") as output:
            done = subprocess.run(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                preexec_fn=_prepare_child,
                text=True,
                timeout=seconds,
                check=True,
            )
        return done.stdout

    def wait_for(self, daemon: Daemon) -> None:
        """Wait until a daemon answers."""
        self.wait_until(daemon.is_up, daemon.name)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while every daemon lives."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            for name, child in self.children.items():
                if child.poll() is not None:
                    raise StartError(self.explain(name, f"ended with code {child.returncode}"))
            if time.monotonic() > deadline:
                raise StartError(self.explain(what, f"is not there after {START_SECONDS:.0f} s"))
            self.pause(0.02)

    def explain(self, name: str, what: str) -> str:
        """Give a message with the last lines of a daemon's log."""
        lines: list[str] = []
        for path in (self.layout.output(name), self.layout.log(name)):
            with contextlib.suppress(OSError):
                lines += path.read_text(errors="replace").splitlines()[-8:]
        return "\n    ".join([f"{name} {what}; logs: {self.layout.logs}", *lines])

    def nodes_are_idle(self) -> bool:
        """Tell whether ``sinfo`` shows all nodes idle."""
        command = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"]
        with contextlib.suppress(subprocess.SubprocessError):
            return self.call("sinfo", command, 5).split() == ["idle"] * len(NODES)
        return False

    def pause(self, seconds: float) -> None:
        """Sleep, reap, and act on signals."""
        arrived = signal.sigtimedwait(SIGNALS, seconds)
        if arrived is None:
            return
        if arrived.si_signo in {signal.SIGTERM, signal.SIGINT}:
            raise StopRequestedError
        if arrived.si_signo == signal.SIGCHLD:
            self.reap()
        elif self.layout.read_verdict():
            self.revive()

    def reap(self) -> None:
        """Collect the dead: daemons, and orphans of jobs that came to this subreaper."""
        for child in self.children.values():
            child.poll()
        known = {child.pid for child in self.children.values() if child.returncode is None}
        with contextlib.suppress(ChildProcessError):
            while True:
                # WNOWAIT first, so that a daemon's exit code is left to its Popen.
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if dead is None or dead.si_pid in known:
                    return
                os.waitpid(dead.si_pid, os.WNOHANG)

    def revive(self) -> None:
        """Start again each daemon that has ended."""
        for daemon in daemons.make_daemons(self.layout, self.facts):
            if self.children[daemon.name].poll() is not None:
                self.spawn(daemon)

    def watch(self) -> None:
        """Stay until asked to end or the owner is gone."""
        while self.owner is None or processes.start_ticks(self.owner[0]) == self.owner[1]:
            self.pause(OWNER_LOOK_SECONDS)

    def stop(self) -> None:
        """End the daemons, those first that start others, then all that is left, jobs above all."""
        database = [name for name in ("slurmdbd", "mariadbd") if name in self.children]
        slurm = [name for name in self.children if name not in {*database, "munged"}]
        self.end_daemons(slurm)
        for name in database:
            self.end_daemons([name])
        processes.kill_cluster(self.layout.folder, spare=os.getpid())
        cgroups.sweep(self.facts)

    def end_daemons(self, names: list[str]) -> None:
        """Ask daemons to end and wait for it."""
        children = [self.children[name] for name in names]
        for child in children:
            if child.poll() is None:
                child.terminate()
        self.wait_quietly(
            lambda: all(child.poll() is not None for child in children), DAEMON_STOP_SECONDS
        )

    def wait_quietly(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition or the end of patience; further requests to end change nothing."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            signal.sigtimedwait(SIGNALS, 0.05)
            self.reap()


def _prepare_child() -> None:
    """Run in the child before the program: take no blocked signals along, die with the parent."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def supervise(folder: Path, owner: tuple[int, str] | None) -> None:
    """Leave a supervisor behind, which is nobody's child."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    layout = Layout(folder)
    if child := os.fork():
        layout.pid_file("supervisor").write_text(f"{child}\n")
        return
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    Supervisor(layout, owner).run()


def main() -> None:
    """Take the folder and, optionally, the owner's process id and start time."""
    folder, *owner = sys.argv[1:]
    supervise(Path(folder), (int(owner[0]), owner[1]) if owner else None)


if __name__ == "__main__":
    main()
