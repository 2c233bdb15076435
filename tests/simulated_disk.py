"""A job folder in memory and tasks that share out its rows, step by step as a test wants it.

What decides is the package's own code: `FolderDisk` over simulated system calls, the claims, the
records, the pool, the frames, the survey. Simulated are the system calls, the batch system that
starts lives of tasks, and the supervisor with its workers, as one small loop (`TaskLoop`).

Every task life is a thread, but only the one that holds the baton runs; it passes the baton on at
each system call that others could notice. So a simulation is a pure function of its `Scenario`.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import json
import os
import pickle
import stat
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from slurmapply import disk, jobfolder
from slurmapply.disk import FolderDisk, write_all
from slurmapply.jobfolder import Life
from slurmapply.order import encode_order, order_rows
from slurmapply.outcome import (
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    Failure,
    FrameBuilder,
    Measures,
)
from slurmapply.records import TaskRecord
from slurmapply.states import RowStatus
from slurmapply.survey import Survey
from slurmapply.worker import run as worker_run
from slurmapply.worker.claims import Claims
from slurmapply.worker.pool import Pool
from slurmapply.worker.run import (
    NotOursError,
    adopt,
    fix_rows,
    history_before,
    plan_run,
    refuse_if_over,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurmapply.rows import RowNumbers
    from slurmapply.worker.claims import Claim
    from slurmapply.worker.run import Run

UUID = "0123456789abcdef0123456789abcdef"
OWNER = "4711"
SECOND = "4712"
#: No scenario of these tests needs a tenth of it: beyond, something waits for ever.
MOST_STEPS = 50_000
FOREVER = MOST_STEPS
_LIVES = 3


class Killed(BaseException):
    """The process that runs this ended here; nothing in the package may catch it."""


class Fate(enum.Enum):
    """What befalls a task life at one of its system calls."""

    KILLED_BEFORE = "killed before the call took effect"
    KILLED_AFTER = "killed after the call took effect"
    KILLED_TORN = "killed in the middle of a write"
    REPLY_LOST = "the next link succeeds, and its reply says that it failed"
    STOPPED = "told by the batch system to stop early"
    ZOMBIE = "taken for dead: the next life starts while this one goes on"


KILLS = (Fate.KILLED_BEFORE, Fate.KILLED_AFTER, Fate.KILLED_TORN)


@dataclass(frozen=True)
class Fault:
    """A fate and the number of the system call at which it comes.

    `pause` is for how many steps of the others a zombie stands still; `then` comes to a task
    that was told to stop, at its first call after it has said so.
    """

    at: int
    fate: Fate
    pause: int = 0
    then: Fate | None = None


@dataclass(frozen=True)
class Scenario:
    """All that a simulation depends on.

    Attributes
    ----------
    rows, tasks, workers, static, chunksize
        Of the job.
    batch
        Rows that a worker collects before it writes a frame.
    faults
        What befalls lives, by (task, life); in a retry by (task + 3, life).
    order
        Who goes on: each byte says who (modulo 8) and for how many steps more (divided by 8);
        when it is used up, the same for as long as possible.
    absent
        Tasks that never start, as when a node never comes up.
    late
        A killed task starts again only when the others have nothing left to do or to wait for.
    requeue
        Tasks that stopped early start again.
    slow
        For how many steps the rows in a stopping task's workers take, FOREVER for until the others
        have nothing left to do.
    abandon
        A stopping task ends without the rows in its workers, as when they cannot be written.
    cached
        What a task wrote is seen by others only once it is synced, and lost with the task.
    links
        Which links the disk has: "hard", "soft" (and no hard ones) or "none".
    second
        Tasks of a second submission of the same folder.
    cancel_at, retry_at
        Steps at which the session writes the `cancelled` mark and begins a retry.
    costs
        What rows are expected to cost, in turn; empty when that is not said.
    """

    rows: int
    tasks: int
    workers: int = 1
    static: bool = False
    chunksize: int | None = None
    batch: int = 1
    faults: Mapping[tuple[int, int], Fault] = field(default_factory=dict)
    order: bytes = b""
    absent: frozenset[int] = frozenset()
    late: bool = False
    requeue: bool = False
    slow: int = 0
    abandon: bool = False
    cached: bool = False
    links: str = "hard"
    second: int = 0
    cancel_at: int | None = None
    retry_at: int | None = None
    costs: tuple[float, ...] = ()

    def job(self) -> dict[str, Any]:
        """Give what ``job.json`` would say."""
        return {"uuid": UUID, "rows": self.rows, "cost": bool(self.costs)}

    def rows_order(self) -> bytes:
        """Give the content of ``rows.order``."""
        return encode_order([self.costs[row % len(self.costs)] for row in range(self.rows)])

    def asked(self) -> dict[str, Any]:
        """Give what ``run.json`` would say."""
        return {
            "schedule": "static" if self.static else "dynamic",
            "tasks": self.tasks,
            "processes_per_node": self.workers,
            "retries": 0,
            "row_timeout": None,
            "max_failures": None,
            "cpus_per_node": self.workers,
            "chunksize": self.chunksize,
        }


def answer(row: int) -> Any:
    """Give the value of a row: all the ways in which values are stored."""
    return (row * row, row / 7, f"row {row}", None)[row % 4]


def fails(row: int, run: int) -> bool:
    """Whether the function raises for a row; the retry comes with a mended one."""
    return row % 5 == 3 and run == 0


# -- the disk ------------------------------------------------------------------------------


@dataclass(eq=False)
class _File:
    writer: Actor | None = None
    content: bytearray = field(default_factory=bytearray)
    synced: int = 0


class _OpenFile(contextlib.AbstractContextManager[Any]):
    """What `io.FileIO` is to `FolderDisk.create`."""

    def __init__(self, system: SimulatedSystem, descriptor: int) -> None:
        self._system = system
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        self._system.close(self._descriptor)

    def __exit__(self, *_: object) -> None:
        self.close()


class _ReadFile(io.BytesIO):
    """What `os.fdopen` gives for reading."""

    def __init__(self, system: SimulatedSystem, descriptor: int, content: bytes) -> None:
        super().__init__(content)
        self._system = system
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            self._system.close(self._descriptor)
        super().close()


#: Above any that a real process has, so that the two kinds are never taken for each other.
_FIRST_DESCRIPTOR = 1 << 20


class SimulatedSystem:
    """The system calls of `slurmapply.disk` on files in memory.

    Parameters
    ----------
    simulation
        Is told of each call that another task could notice, and may end the caller there.
    links, cached
        As in `Scenario`.
    """

    O_RDONLY, O_WRONLY, O_CREAT, O_EXCL = os.O_RDONLY, os.O_WRONLY, os.O_CREAT, os.O_EXCL
    O_RDWR, path = os.O_RDWR, os.path
    O_APPEND, O_DIRECTORY, O_CLOEXEC = os.O_APPEND, os.O_DIRECTORY, os.O_CLOEXEC

    def __init__(
        self, simulation: Simulation | None = None, *, links: str = "hard", cached: bool = False
    ) -> None:
        self._simulation = simulation
        self._links = links
        self._cached = cached
        self._descriptors: dict[int, _File | str] = {}
        self._descriptor = _FIRST_DESCRIPTOR
        self._random = 0
        self.lose_reply = False
        self.files: dict[str, _File] = {}
        self.soft: dict[str, str] = {}
        self.folders = {"."}
        self.version = 0

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Give `slurmapply.disk` these system calls instead of the real ones."""
        files = SimpleNamespace(FileIO=lambda descriptor, _mode: _OpenFile(self, descriptor))
        clock = SimpleNamespace(sleep=self._sleep)
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(disk, "os", self))
            stack.enter_context(mock.patch.object(disk, "io", files))
            stack.enter_context(mock.patch.object(worker_run, "time", clock))
            yield

    def _sleep(self, _seconds: float) -> None:
        if self._simulation:
            self._simulation.pause(steps=20)

    @contextlib.contextmanager
    def _call(self, kind: str) -> Iterator[Fate | None]:
        fate = self._simulation.arrive(kind) if self._simulation else None
        yield fate
        if fate in KILLS and self._simulation:
            self._simulation.kill()

    @property
    def _caller(self) -> Actor | None:
        return self._simulation.current if self._simulation else None

    def _new_descriptor(self, what: _File | str) -> int:
        self._descriptor += 1
        self._descriptors[self._descriptor] = what
        return self._descriptor

    def _file(self, descriptor: int) -> _File:
        file = self._descriptors[descriptor]
        assert isinstance(file, _File)
        return file

    def visible(self, file: _File) -> bytes:
        """Give what the caller can see of a file."""
        hidden = self._cached and file.writer is not self._caller
        return bytes(file.content[: file.synced]) if hidden else bytes(file.content)

    def content(self, name: str) -> bytes | None:
        """Give a file's content without a system call, for tests that look from outside."""
        file = self._find(name)
        return None if file is None else bytes(file.content)

    def _find(self, name: str) -> _File | None:
        while name in self.soft:
            name = self.soft[name]
        return self.files.get(name)

    def forget_unsynced(self, actor: Actor) -> None:
        """Lose what a task had not synced, as when its node dies."""
        for file in self.files.values():
            if self._cached and file.writer is actor:
                del file.content[file.synced :]

    def open(self, name: str, flags: int, _mode: int = 0o777, **_dir_fd: int) -> int:
        if flags & self.O_DIRECTORY:
            if name not in self.folders:
                raise FileNotFoundError(errno.ENOENT, "no such folder", name)
            return self._new_descriptor(name)
        if not flags & self.O_CREAT:
            with self._call("open"):
                return self._new_descriptor(self._existing(name))
        with self._call("create"):
            if flags & self.O_EXCL:
                self._refuse_existing(name)
            assert (name.rpartition("/")[0] or ".") in self.folders
            file = self._find(name) or self.files.setdefault(name, _File(self._caller))
            self.version += 1
        return self._new_descriptor(file)

    def _existing(self, name: str) -> _File:
        file = self._find(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return file

    def _refuse_existing(self, name: str) -> None:
        if name in self.files or name in self.soft:
            raise FileExistsError(errno.EEXIST, "file exists", name)

    def fdopen(self, descriptor: int, _mode: str) -> io.BytesIO:
        return _ReadFile(self, descriptor, self.visible(self._file(descriptor)))

    def write(self, descriptor: int, data: memoryview) -> int:
        file = self._file(descriptor)
        with self._call("write") as fate:
            # Half of it, as on a full disk or at the end of a process.
            size = len(data) // 2 if fate is Fate.KILLED_TORN else len(data)
            file.content += data[:size]
            self.version += 1
        return size

    def fsync(self, descriptor: int) -> None:
        file = self._file(descriptor)
        if file.synced < len(file.content):
            file.synced = len(file.content)
            self.version += 1

    def close(self, descriptor: int) -> None:
        # A real folder that is collected as garbage meanwhile closes its real descriptor here.
        if descriptor < _FIRST_DESCRIPTOR:
            os.close(descriptor)
        else:
            del self._descriptors[descriptor]

    def listdir(self, descriptor: int) -> list[str]:
        with self._call("list"):
            folder = f"{self._descriptors[descriptor]}/"
            names = [*self.soft, *reversed(self.files)]
            inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
            return [name for name in inside if "/" not in name]

    def link(self, source: str, name: str, **_dir_fds: int) -> None:
        with self._call("link"):
            if self._links != "hard":
                raise PermissionError(errno.EPERM, "no hard links here", name)
            self._refuse_existing(name)
            self.files[name] = self._existing(source)
            self._linked(name)

    def symlink(self, target: str, name: str, **_dir_fd: int) -> None:
        with self._call("link"):
            if self._links == "none":
                raise PermissionError(errno.EPERM, "no links here", name)
            self._refuse_existing(name)
            self.soft[name] = f"{name.rpartition('/')[0]}/{target}"
            self._linked(name)

    def _linked(self, name: str) -> None:
        self.version += 1
        if self._simulation:
            self._simulation.linked(name)
        if self.lose_reply:
            self.lose_reply = False
            raise OSError(errno.EIO, "reply lost", name)

    def stat(self, name: str, **_how: Any) -> SimpleNamespace:
        return SimpleNamespace(st_mode=stat.S_IFLNK if name in self.soft else stat.S_IFREG)

    def unlink(self, name: str, **_dir_fd: int) -> None:
        with self._call("unlink"):
            del self.files[name]
            self.version += 1

    def mkdir(self, name: str, _mode: int, **_dir_fd: int) -> None:
        if name in self.folders:
            raise FileExistsError(errno.EEXIST, "folder exists", name)
        self.folders.add(name)

    def urandom(self, size: int) -> bytes:
        self._random += 1
        return (self._random * 0x9E3779B1 % (1 << 8 * size)).to_bytes(size, "big")


class SimulatedDisk(FolderDisk):
    """`FolderDisk` as it is, on a folder that stands in memory; use it while `patched`."""

    def __init__(self) -> None:
        self._path = "job"
        self._trust = True
        self._folder = -1

    def __del__(self) -> None:
        """There is no descriptor to close."""


# -- tasks ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Actor:
    """One life of a task, with a thread of its own.

    Attributes
    ----------
    result
        How it ended: "done", "stopped", "gave up", "refused: ..." or "killed"; empty before.
    began_at, ended_at
        The steps at which it did.
    last_look
        The step at which it last began to look for something to do.
    """

    run: int
    life: Life
    fault: Fault | None = None
    late: bool = False
    baton: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    calls: int = 0
    signalled: bool = False
    after_stop: Fate | None = None
    zombie: bool = False
    dead: bool = False
    paused_until: int = 0
    waits_at: int = -1
    impatient: bool = False
    loop: TaskLoop | None = None
    result: str = ""
    began_at: int = -1
    last_look: int = -1
    ended_at: int = -1

    @property
    def alive(self) -> bool:
        return not self.result and self.thread is not None


@dataclass(frozen=True)
class Standstill:
    """What is the case when nobody can go on but tasks that are kept up in their rows.

    Attributes
    ----------
    left, kept
        Rows without an outcome; those that stopping tasks kept for themselves.
    stopped_at, looked_at
        When a task last stopped, and when one that did not last looked for something to do.
    """

    left: frozenset[int]
    kept: frozenset[int]
    stopped_at: int
    looked_at: int


class Simulation:
    """Runs a scenario to its end; holds what happened.

    Raises
    ------
    AssertionError
        A task did what the rules forbid, or they wait for ever.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.system = SimulatedSystem(self, links=scenario.links, cached=scenario.cached)
        self.disk = SimulatedDisk()
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.steps = 0
        self.zombies = False
        self.retried = False
        self.empty_claims = 0
        self.cancelled_at: int | None = None
        self.evaluations: list[tuple[int, int, Life]] = []
        self.row_lists: list[tuple[int, RowNumbers]] = []
        self.holders: dict[tuple[int, int, int], Life] = {}
        self.standstills: list[Standstill] = []
        self._frames: dict[int, list[tuple[int, _File, int, bool]]] = {}
        self._failure: BaseException | None = None
        self._finished = threading.Lock()
        self._turn = 0
        self._stay = 0
        self._latest: Actor | None = None

    def run(self) -> Simulation:
        """Run it."""
        with self.system.patched():
            self._prepare(0)
            tasks = [t for t in range(self.scenario.tasks) if t not in self.scenario.absent]
            self._submit(0, OWNER, tasks)
            self._submit(0, SECOND, range(self.scenario.second))
            self._finished.acquire()
            self._pass_on(None)
            self._finished.acquire()
        if self._failure is not None:
            raise self._failure
        return self

    def survey(self) -> Survey:
        """Read all outcomes, as a session would."""
        with self.system.patched():
            survey = Survey(self.disk, UUID, self.scenario.rows)
            survey.update(range(2))
            return survey

    # -- the session and the batch system --------------------------------------------------

    def _prepare(self, run: int) -> None:
        current, self.current = self.current, None
        for folder in (jobfolder.run_folder(run), jobfolder.claims(run)):
            self.disk.make_folder(folder)
        self.disk.publish(jobfolder.run_json(run), jobfolder.encode_json(self.scenario.asked()))
        if self.scenario.costs and not run:
            self.disk.append(jobfolder.ROWS_ORDER, self.scenario.rows_order())
        self.current = current

    def _submit(self, run: int, submission: str, tasks: Any) -> None:
        for task in tasks:
            fault = self.scenario.faults.get((task + 3 * run, 0))
            self.actors.append(Actor(run, Life(submission, task, 0), fault))

    def _start_again(self, actor: Actor) -> None:
        life = actor.life._replace(life=actor.life.life + 1)
        fault = self.scenario.faults.get((life.task + 3 * actor.run, life.life))
        if life.life + 1 == _LIVES and fault is not None and fault.fate is not Fate.REPLY_LOST:
            fault = None  # the last life is spared, so that there is an end
        self.actors.append(Actor(actor.run, life, fault, late=self.scenario.late))

    def _events(self) -> None:
        if self.scenario.cancel_at == self.steps:
            self.cancelled_at = self.steps
            current, self.current = self.current, None
            self.disk.publish(jobfolder.cancelled(0), b"")
            self.current = current
        if self.scenario.retry_at is not None and self.steps >= self.scenario.retry_at:
            self._retry()

    def _retry(self) -> None:
        """Begin run 1, as a session that takes run 0's tasks for dead."""
        if self.retried:
            return
        self.retried = True
        for actor in self.actors:
            actor.zombie = not actor.result
            self.zombies |= actor.zombie
        self._prepare(1)
        self._submit(1, SECOND, range(self.scenario.tasks))

    # -- the baton -------------------------------------------------------------------------

    def arrive(self, kind: str) -> Fate | None:
        """Let others go first, then say what befalls this call; raises Killed."""
        actor = self.current
        if actor is None:
            return None
        self._pass_on(actor)
        if actor.dead or self._failure:
            raise Killed
        actor.calls += 1
        fault = actor.fault
        if fault is None or actor.calls < fault.at:
            return None
        actor.fault = None
        return self._befall(actor, fault, kind)

    def _befall(self, actor: Actor, fault: Fault, kind: str) -> Fate | None:
        fate = fault.fate
        if fate is Fate.KILLED_BEFORE or (fate is Fate.KILLED_TORN and kind != "write"):
            self.kill()
        elif fate is Fate.STOPPED:
            actor.signalled = True
            actor.after_stop = fault.then
        elif fate is Fate.ZOMBIE:
            actor.zombie = self.zombies = True
            actor.paused_until = self.steps + fault.pause
            self._start_again(actor)
        elif fate is Fate.REPLY_LOST and kind == "link":
            self.system.lose_reply = True
        elif fate is Fate.REPLY_LOST:
            actor.fault = fault
        return fate if fate in KILLS else None

    def kill(self) -> None:
        """End the running life here."""
        actor = self.current
        assert actor is not None
        actor.dead = True
        self.system.forget_unsynced(actor)
        if not actor.zombie:
            self._start_again(actor)
        raise Killed

    def pause(self, steps: int = 0) -> None:
        """Pass time: in a row, or while others take some steps."""
        if self.current is not None and steps:
            self.current.paused_until = self.steps + steps
        self.arrive("pause")

    def wait(self, actor: Actor, seen: int) -> bool:
        """Wait for a newer version of the disk; False when nobody is left who could make it."""
        actor.waits_at = seen
        self.pause()
        actor.waits_at = -1
        return not actor.impatient

    def _pass_on(self, actor: Actor | None) -> None:
        """Give the baton to whose turn it is, and wait until it comes back."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            self._failure = self._failure or AssertionError("the tasks come to no end")
        if not self._failure:
            self._events()
        try:
            chosen = self._choose()
        except AssertionError as error:  # the baton must go on, or everybody waits for ever
            self._failure = self._failure or error
            chosen = self._choose()
        if chosen is actor and actor is not None:
            return
        self.current = chosen
        if chosen is None:
            self._finished.release()
        elif chosen.thread is None:
            chosen.thread = threading.Thread(target=self._live, args=(chosen,), daemon=True)
            chosen.thread.start()
        else:
            chosen.baton.release()
        if actor is not None and not actor.result:
            actor.baton.acquire()

    def _choose(self) -> Actor | None:
        present = [actor for actor in self.actors if not actor.result]
        if self._failure:
            return next((actor for actor in present if actor.thread), None)
        ready = [actor for actor in present if self._ready(actor)]
        if not ready:
            ready = self._next_best(present)
        if not ready:
            if self.scenario.retry_at is None or self.retried:
                return None
            self._retry()
            return self._choose()
        return self._whose_turn(ready)

    def _ready(self, actor: Actor) -> bool:
        if actor.thread is None:
            return not actor.late
        return actor.paused_until < self.steps and actor.waits_at != self.system.version

    def _next_best(self, present: list[Actor]) -> list[Actor]:
        paused = [actor for actor in present if actor.paused_until >= self.steps]
        if paused:
            if paused[0].loop is not None and paused[0].loop.stop:
                self.standstills.append(self._look_around())
            paused[0].paused_until = 0
            return paused[:1]
        waiting = [actor for actor in present if actor.thread]
        if waiting:
            # What it waits for must be to come: the next life of a task that was killed. After a
            # cancellation that life does nothing, and the batch system ends who waits for it.
            gone = self.zombies or self.cancelled_at is not None
            assert gone or any(actor.thread is None for actor in present), (
                f"{waiting[0].life} waits for nobody"
            )
            waiting[0].impatient = True
            return waiting[:1]
        return present[:1]

    def _look_around(self) -> Standstill:
        loops = [(actor, actor.loop) for actor in self.actors if actor.loop is not None]
        stopping = [loop for _, loop in loops if loop.stop and not loop.ended]
        return Standstill(
            left=frozenset(r for r in range(self.scenario.rows) if not self.on_disk(r)),
            kept=frozenset(row for loop in stopping for row in loop.kept),
            stopped_at=max(loop.stopped_at for _, loop in loops),
            looked_at=max((a.last_look for a, loop in loops if not loop.stop), default=-1),
        )

    def _whose_turn(self, ready: list[Actor]) -> Actor:
        if self._stay and self._latest in ready:
            self._stay -= 1
            return self._latest
        if self._turn < len(self.scenario.order):
            self._stay, whom = divmod(self.scenario.order[self._turn], 8)
            self._turn += 1
            self._latest = ready[whom % len(ready)]
        elif self._latest not in ready:
            self._latest = ready[0]
        return self._latest

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            actor.result = self._work(actor)
        except Killed:
            actor.result = "killed"
        except NotOursError as reason:
            actor.result = f"refused: {reason}"
        except BaseException as error:  # noqa: BLE001  # it is raised again where the test sees it
            actor.result = "failed"
            self._failure = self._failure or error
        actor.ended_at = self.steps
        if actor.result == "stopped" and self.scenario.requeue and actor.life.life + 1 < _LIVES:
            self._start_again(actor)
        self._pass_on(actor)

    def _work(self, actor: Actor) -> str:
        """Do what ``worker.__main__`` does."""
        disk, number, scenario = self.disk, actor.run, self.scenario
        actor.began_at = self.steps
        refuse_if_over(disk, number)
        adopt(disk, number, {"kind": "slurm", "job_id": actor.life.submission, "cluster": ""})
        rows = fix_rows(disk, UUID, scenario.rows, number, "left" if number else "all")
        self.row_lists.append((number, rows))
        in_order = order_rows(disk, scenario.job(), scenario.asked(), rows)
        run = plan_run(number, UUID, in_order, scenario.asked())
        actor.loop = TaskLoop(self, actor, run)
        return actor.loop.run()

    # -- what the rules forbid -------------------------------------------------------------

    def linked(self, name: str) -> None:
        """Judge a claim at the moment at which it is made."""
        folder, _, last = name.rpartition("/")
        claim = jobfolder.parse_claim(last)
        if self.current is None or claim is None or folder != jobfolder.claims(self.current.run):
            return
        chunk, generation = claim
        if not generation:
            return
        actor = self.current
        before = self._owner_of(actor.run, chunk, generation - 1)
        own_past = before[:2] == actor.life[:2] and before.life < actor.life.life
        assert own_past or self._gave_up(actor.run, before, chunk, generation - 1), (
            f"{actor.life} took chunk {chunk} over from {before}, which did not give it up"
        )

    def _owner_of(self, run: int, chunk: int, generation: int) -> Life:
        content = self.system.content(jobfolder.claim(run, chunk, generation))
        return Life(*json.loads(content or b"")["life"])

    def _gave_up(self, run: int, owner: Life, chunk: int, generation: int) -> bool:
        """Whether the owner gave its claim up, or a later life of its task did."""
        return any(
            [chunk, generation] in record["chunks"]
            for life in range(owner.life, _LIVES)
            for record in self._stopping_records(run, owner._replace(life=life))
        )

    def _stopping_records(self, run: int, life: Life) -> list[dict[str, Any]]:
        lines = (self.system.content(life.record(run)) or b"").splitlines()
        return [json.loads(line) for line in lines if b'"stopping"' in line]

    def took(self, actor: Actor, claim: Claim | None, *, sealed: bool) -> None:
        """Judge what a task got when it asked for a claim."""
        if claim is None:
            return
        assert not sealed, f"{actor.life} claimed rows of a run that is sealed"
        self.empty_claims += not any(claim.positions)
        self.hold(actor, claim.chunk, claim.generation)

    def hold(self, actor: Actor, chunk: int, generation: int) -> None:
        holder = self.holders.setdefault((actor.run, chunk, generation), actor.life)
        assert holder == actor.life, f"{holder} and {actor.life} both hold {chunk}.{generation}"

    def is_sealed(self, run: int) -> bool:
        return jobfolder.run_rows(run + 1) in self.system.files

    def begin_row(self, actor: Actor, row: int) -> None:
        """Judge the beginning of a row."""
        self.evaluations.append((actor.run, row, actor.life))
        if self.zombies:
            return
        assert not self._settled(row, actor.run), f"{actor.life} runs row {row} once more"
        for other in self.actors:
            if other is not actor and other.loop is not None:
                assert not (other.alive and row in other.loop.rows_in_workers()), (
                    f"{actor.life} runs row {row} while {other.life} does"
                )
                assert not self._awaited(other, actor, row), (
                    f"{actor.life} runs row {row}, which {other.life} kept when it stopped"
                )

    def _awaited(self, other: Actor, actor: Actor, row: int) -> bool:
        if other.loop is None or row not in other.loop.kept or other.loop.ended:
            return False
        lives = [a.life for a in self.actors if a.loop is not None and a.loop.started]
        latest = max((life for life in lives if life[:2] == other.life[:2]), default=other.life)
        return latest == other.life and other.life[:2] != actor.life[:2]

    def writes_frame(self, actor: Actor, name: str, rows: list[int], size: int) -> None:
        """Note a frame that is about to be appended, to know later whether it came to the disk."""
        file = self.system.files[name]
        for row in rows:
            ok = not fails(row, actor.run)
            place = (actor.run, file, len(file.content) + size, ok)
            self._frames.setdefault(row, []).append(place)

    def on_disk(self, row: int) -> list[tuple[int, bool]]:
        """Give run and success of the outcomes of a row that are completely on the disk."""
        return [
            (run, ok)
            for run, file, end, ok in self._frames.get(row, ())
            if (file.synced if self.scenario.cached else len(file.content)) >= end
        ]

    def _settled(self, row: int, run: int) -> bool:
        return any(ok or of_run == run for of_run, ok in self.on_disk(row))


@dataclass(eq=False)
class _Worker:
    name: str
    frame: FrameBuilder
    descriptor: int
    group: range = range(0)
    attempt: int = 1
    next: int = 0
    written: int = 0
    unwritten: list[int] = field(default_factory=list)
    busy: bool = False

    def in_it(self) -> range:
        """Positions that were begun and whose outcomes are not written."""
        return range(self.written, self.next + self.busy) if self.group else range(0)


class TaskLoop:
    """Supervisor and workers of one task life: takes claims, runs rows, writes frames."""

    def __init__(self, simulation: Simulation, actor: Actor, run: Run) -> None:
        self._simulation = simulation
        self._actor = actor
        self._run = run
        disk = simulation.disk
        self._record = TaskRecord(disk, run.number, actor.life)
        survey = Survey(disk, UUID, simulation.scenario.rows)
        history = history_before(disk, run, survey) if run.number or actor.life.life else {}
        self._claims = Claims(disk, run, actor.life, survey)
        self._pool = Pool(run.plan, run.processes, static=run.static, history=history)
        self._workers: list[_Worker] = []
        self._turns = 0
        self.stop = ""
        self.kept: frozenset[int] = frozenset()
        self.stopped_at = 0
        self.started = False
        self.ended = False

    def run(self) -> str:
        """Run rows until there are none left for this task; says how it ended."""
        self._ask_first()
        # Before the record: others may read it before the call that writes it comes back.
        self.started = True
        self._record.start(self._run.processes)
        self._workers = [self._hire(number) for number in range(self._run.processes)]
        while True:
            seen = self._simulation.system.version
            if self._actor.signalled and not self.stop:
                self._stop_early("stopped")
            if not self.stop:
                self._hand_out()
            busy = [worker for worker in self._workers if worker.group]
            if busy:
                self._turns += 1
                self._go_on(busy[self._turns % len(busy)])
            elif self.stop or not self._claims.waiting:
                break
            else:
                self._sync()
                if not self._simulation.wait(self._actor, seen):
                    self._stop_early("gave up")
        self._sync()
        self._record.finish(self.stop or "done")
        self.ended = True
        return self.stop or "done"

    def _ask_first(self) -> None:
        """Claim rows before the record is written, as `Supervisor.run` does."""
        if not self._actor.signalled:
            self._refill()

    def _hire(self, number: int) -> _Worker:
        name = self._actor.life.outcomes(self._run.number, str(number))
        file = self._simulation.disk.create(name)
        return _Worker(name, FrameBuilder(bytes.fromhex(UUID)), file.fileno())

    def rows_in_workers(self) -> list[int]:
        """Give the rows that were begun and whose outcomes are not written."""
        return [self._run.rows[p] for worker in self._workers for p in worker.in_it()]

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.group or not (len(self._pool) or self._refill()):
                continue
            group = self._pool.next_group()
            assert group is not None
            worker.group, worker.attempt = group.positions, group.past.attempts + 1
            worker.next = worker.written = worker.group.start

    def _refill(self) -> bool:
        self._actor.last_look = self._simulation.steps
        sealed = self._simulation.is_sealed(self._run.number)
        claim = self._claims.take()
        self._simulation.took(self._actor, claim, sealed=sealed)
        claim = claim or self._claims.take_released()
        if claim is None:
            return False
        self._simulation.hold(self._actor, claim.chunk, claim.generation)
        self._pool.add(claim)
        return True

    def _go_on(self, worker: _Worker) -> None:
        if not worker.busy and not self.stop:
            self._begin_row(worker)
            return
        if worker.busy:
            self._finish_row(worker)
        over = bool(self.stop) or worker.next == worker.group.stop
        if over or len(worker.frame) >= self._simulation.scenario.batch:
            self._write(worker)
        if over:
            self._report(worker)

    def _begin_row(self, worker: _Worker) -> None:
        row = self._run.rows[worker.next]
        self._simulation.begin_row(self._actor, row)
        worker.busy = True
        if row % 3 == 0:
            self._record.append("running", row=row, attempt=worker.attempt)
        self._simulation.pause()

    def _finish_row(self, worker: _Worker) -> None:
        row = self._run.rows[worker.next]
        if fails(row, self._run.number):
            failure = Failure("ValueError", f"row {row}")
            worker.frame.add_failure(row, worker.attempt, RowStatus.ERROR, failure, Measures())
        else:
            kind = (KIND_INT, KIND_FLOAT, KIND_PICKLE, KIND_NONE)[row % 4]
            value = pickle.dumps(answer(row)) if kind == KIND_PICKLE else answer(row)
            worker.frame.add(row, worker.attempt, kind, value, Measures())
        worker.unwritten.append(row)
        worker.next += 1
        worker.busy = False

    def _write(self, worker: _Worker) -> None:
        if not len(worker.frame):
            return
        rows, worker.unwritten = worker.unwritten, []
        data = worker.frame.take()
        self._simulation.writes_frame(self._actor, worker.name, rows, len(data))
        write_all(worker.descriptor, data)
        worker.written = worker.next

    def _report(self, worker: _Worker) -> None:
        self._pool.settle(range(worker.group.start, worker.next))
        if not self.stop:
            self._pool.give_back(range(worker.next, worker.group.stop))
        worker.group = range(0)

    def _stop_early(self, reason: str) -> None:
        """Do what `Supervisor._stop_early` does, in its order."""
        self.stop = reason
        self._pool.clear()
        rows = self.rows_in_workers()
        for worker in self._workers:
            self._simulation.disk.sync_file(worker.name)
        claims = self._claims
        chunks = [*self._pool.held.items(), *claims.waiting, *claims.inherited]
        self._record.stop(reason, "", chunks=chunks, rows=rows)
        self.kept = frozenset(rows)
        self.stopped_at = self._simulation.steps
        if self._actor.after_stop is not None:
            self._actor.fault = Fault(0, self._actor.after_stop)
        if rows:
            self._actor.paused_until = self._simulation.steps + self._simulation.scenario.slow
        if self._simulation.scenario.abandon:
            self._workers = []

    def _sync(self) -> None:
        for worker in self._workers:
            self._simulation.system.fsync(worker.descriptor)


def simulate(scenario: Scenario) -> Simulation:
    """Run a scenario to its end."""
    return Simulation(scenario).run()
