"""What a submission and a task's start cost, in counts: a clock would only tell how busy we are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from slurmapply import SlurmJob, slurm_map
from slurmapply.progress import looks, pause_after
from slurmapply.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

real_sleep = time.sleep

#: Put first on PYTHONPATH: notes what each process opens, imports, forks and syncs.
WATCHER = """
import os, sys
log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def note(event, what):
    os.write(log, f"{{os.getpid()}} {{event}} {{what}}\\n".encode())
def watch(event, arguments):
    if event in ("open", "import", "os.fork"):
        note(event, arguments[0] if arguments else "-")
def fsync(descriptor, real=os.fsync):
    note("fsync", os.readlink(f"/proc/self/fd/{{descriptor}}"))
    real(descriptor)
os.fsync = fsync
sys.addaudithook(watch)
"""


class Event(NamedTuple):
    pid: int
    kind: str
    what: str


class Task(NamedTuple):
    """A job of one row whose only task was run by hand, and what its processes did."""

    job: SlurmJob
    kind: str
    events: list[Event]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


@pytest.fixture(params=["by reference", "by value"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    function = abs if request.param == "by reference" else lambda x: -x
    job = slurm_map(function, [-1], submit=False, job_name="counted", backend="local")
    log, watcher = tmp_path / "log", tmp_path / "watcher"
    watcher.mkdir()
    (watcher / "sitecustomize.py").write_text(WATCHER.format(log=str(log)))
    environment = {**os.environ, "PYTHONPATH": str(watcher)}
    subprocess.run(["bash", "submit.sh"], cwd=job.folder, check=True, env=environment)
    assert job.results() == [1]
    lines = (line.split(" ", 2) for line in log.read_text().splitlines())
    return Task(job, request.param, [Event(int(pid), kind, what) for pid, kind, what in lines])


def test_the_program_is_read_from_the_disk_once(task: Task) -> None:
    # Python looks what the archive holds and reads its start, then all modules; once more it looks
    # what it holds when its path has become absolute.
    opened = [event for event in task.of("open") if event.what.endswith("worker.pyz")]
    assert len(opened) <= 4


def test_a_task_syncs_what_others_rely_on_and_no_more(task: Task) -> None:
    names = (event.what.removesuffix(" (deleted)") for event in task.of("fsync"))
    synced = [re.sub(r"_local-\w+|_\d\w*|\.\w+\.new", "", Path(name).name) for name in names]
    assert sorted(synced) == [
        "outcomes.rec", "rows", "submission", "task.jsonl", "task.jsonl", "token",
    ]  # fmt: skip


def test_a_plain_function_loads_no_package_and_little_of_the_library(task: Task) -> None:
    modules = {event.what.split(".")[0] for event in task.of("import")} - {"slurmapply"}
    if task.kind == "by value":
        assert "cloudpickle" in modules
        return
    assert modules <= {*sys.stdlib_module_names, "org"}  # pickle looks whether this is Jython
    assert modules.isdisjoint(
        {"dataclasses", "inspect", "pathlib", "urllib", "ast", "dis", "logging", "threading"}
    )


def test_workers_are_made_ready_while_the_clerk_is_at_the_disk(task: Task) -> None:
    main = task.events[0].pid
    done = [event[1:] for event in task.events if event.pid == main]
    first, second = (place for place, event in enumerate(done) if event[0] == "os.fork")
    loaded = [name for kind, name in done[first:second] if kind == "import"]
    assert "slurmapply.worker.process" in loaded
    assert ("cloudpickle" in loaded) == (task.kind == "by value")
    # What the clerk alone needs, it loads meanwhile.
    clerk = next(event.pid for event in task.of("open") if "/token_" in f"/{event.what}")
    assert {event.pid for event in task.of("import") if event.what == "ctypes"} >= {clerk}


def test_a_row_finds_the_collector_on_and_what_was_loaded_before_left_to_itself() -> None:
    def collector() -> tuple[bool, int]:
        import gc

        return gc.isenabled(), gc.get_freeze_count()

    job = slurm_map(lambda _: collector(), [0], job_name="collector", backend="local")
    on, frozen = job.results()[0]
    assert on
    assert frozen > 10_000


def test_no_module_is_loaded_by_each_worker_anew(task: Task) -> None:
    forked = {event.pid for event in task.events} - {task.events[0].pid}
    by_workers = Counter(
        event.what
        for event in task.of("import")
        if event.pid in forked and event.what.startswith("slurmapply")
    )
    assert not by_workers


def test_the_script_starts_no_program_but_python(tmp_path: Path) -> None:
    started = tmp_path / "started"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\necho "$1" >> "{started}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    job = slurm_map(abs, [-1], submit=False, job_name="bare", backend="local", python=python)
    bash = shutil.which("bash") or "bash"
    subprocess.run([bash, "submit.sh"], cwd=job.folder, check=True, env={"PATH": "/nowhere"})
    assert job.results() == [1]
    # Once to ask for its version, once for good.
    assert started.read_text().split() == ["-S", "worker.pyz"]


def test_a_submission_syncs_each_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    job = slurm_map(abs, [-1], submit=False, job_name="synced")
    names = [name.partition(".json.")[0] for name in synced]
    files = {path.name for path in job.folder.iterdir()}
    assert sorted(names) == sorted([*files, "run"])


class Looked:
    """A follower whose looks take their time, with the processor or without it."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._left = 2

    def look(self, *, waiting: bool) -> JobState:
        assert waiting
        self._look()
        self._left -= 1
        return JobState.RUNNING if self._left else JobState.FINISHED


def compute() -> None:
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(("look", "rests"), [(compute, True), (lambda: real_sleep(0.1), False)])
def test_waiting_leaves_the_processor_to_others(
    look: Callable[[], None], *, rests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert [*looks(Looked(look), None)][-1] is JobState.FINISHED  # type: ignore[arg-type]
    assert (pauses[0] >= 0.3) == rests


def test_pauses_grow_and_end_at_a_second() -> None:
    waits = [0.0, 1.0, 10.0, 100.0, 10_000.0]
    assert [pause_after(waited, 0.0) for waited in waits] == [0.02, 0.02, 0.2, 1.0, 1.0]
    assert pause_after(0.0, 60.0) == 30.0
