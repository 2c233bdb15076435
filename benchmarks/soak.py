"""Many rows on a Slurm that is not left in peace: none may be lost or wrong.

Four tasks of two workers run rows of 5 to 75 ms. Meanwhile, every 0.3 s, something is done to them
that a seeded generator chooses: workers, supervisors and clerks are killed or frozen, tasks are
warned or requeued. What ended early is requeued as an administrator would do it; what ended because
it found no more rows is not, so that rows it may have forgotten are seen. At the end every row must
be ok and have its value; rows that were killed twice are brought by `job.retry()`.

It needs the packages of the test Slurm (``python -m tests.slurm_cluster missing``) and starts one
of its own, or uses one that runs already::

    python benchmarks/soak.py --rows 20000 --minutes 2 --seed 1
    python benchmarks/soak.py --cluster /tmp/cluster --json soak.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply import SlurmJob, slurm_apply
from slurmapply.disk import FolderDisk
from slurmapply.records import latest_lives, read_lives
from slurmapply.survey import Survey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the test Slurm is no package's part

from tests.slurm_cluster import Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NODES, WORKERS = 4, 2
#: Rows of the first length are handed out many at a time, of the last one by one.
ROW_SECONDS = (0.005, 0.075, 0.02, 0.06)
PAUSE = 0.3
#: Seconds without a new outcome after which a run that is left in peace is given up.
_STUCK = 60.0
_RETRIES = 5
#: Seconds for a command of Slurm's.
_PATIENCE = 3.0
#: A task that Slurm has ended, and could start again (squeue(1), job state codes).
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL", "TIMEOUT")


def expected(row: int) -> int:
    """Give the value that a row must have."""
    return row * 2654435761 % 2**32


def noting(folder: Path, seconds: Sequence[float]) -> Callable[..., int]:
    """Make the function of the rows: it writes down each begin and each end of an evaluation.

    Parameters
    ----------
    folder
        Outside the job folder; each worker appends to a file of its own.
    seconds
        How long rows take, in turn, four of each length.
    """
    place, lengths = str(folder), tuple(seconds)

    def evaluate(row: int) -> int:
        path = f"{place}/{os.uname().nodename}_{os.getpid()}"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, row.to_bytes(8, sys.byteorder, signed=True))
        time.sleep(lengths[row // 4 % len(lengths)])
        os.write(file, (-1 - row).to_bytes(8, sys.byteorder, signed=True))
        os.close(file)
        return row * 2654435761 % 2**32

    return evaluate


def read_notes(folder: Path) -> tuple[Counter[int], Counter[int]]:
    """Count how often each row's evaluation began, and how often it ended."""
    begun: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    for path in folder.iterdir():
        notes = array("q", path.read_bytes())
        begun.update(note for note in notes if note >= 0)
        ended.update(-1 - note for note in notes if note < 0)
    return begun, ended


# -- what is done to the tasks ---------------------------------------------------------------


class Tasks:
    """The tasks of a job's first run, as processes of this machine and as Slurm's.

    Parameters
    ----------
    cluster, job
        Where they run, and whose they are.
    """

    def __init__(self, cluster: Cluster, job: SlurmJob) -> None:
        self._cluster = cluster
        self._id = job.job_id or ""
        self._disk = FolderDisk(job.folder)

    def supervisors(self) -> dict[int, int]:
        """Give the living tasks and the process id of each one's supervisor."""
        lives = latest_lives(read_lives(self._disk, 0))
        started = {view.life.task: view.started["pid"] for view in lives if view.started}
        return {task: pid for task, pid in started.items() if _runs_rows(pid)}

    def done(self) -> set[int]:
        """Give the tasks that have ended because there was nothing more to do."""
        lives = latest_lives(read_lives(self._disk, 0))
        return {view.life.task for view in lives if view.end and view.end["reason"] == "done"}

    def children(self, *, workers: bool) -> list[int]:
        """Give the process ids of all workers, or of all clerks.

        A worker leads a process group of its own, a clerk stays in its supervisor's.
        """
        found = []
        for supervisor in self.supervisors().values():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
                found += [pid for pid in map(int, text.split()) if _leads(pid) == workers]
        return found

    def states(self) -> Iterator[tuple[int, str, str]]:
        """Give number, state and reason of each task that Slurm knows."""
        command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={self._id}"]
        with contextlib.suppress(ClusterError):
            for line in self._cluster.run([*command, "--format=%K|%T|%r"]).splitlines():
                task, state, reason = line.split("|")
                yield int(task), state, reason

    def slurm(self, *command: str) -> bool:
        """Run a command of Slurm's on a task, ``{id}`` standing for the array's id."""
        words = [word.replace("{id}", self._id) for word in command]
        try:
            self._cluster.run(words, timeout_seconds=_PATIENCE)
        # It ended a moment before; or it is just ending, and scancel would wait for that.
        except (ClusterError, subprocess.TimeoutExpired):
            return False
        return True


def _runs_rows(pid: int) -> bool:
    try:
        return b"worker.pyz" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _leads(pid: int) -> bool:
    return os.getpgid(pid) == pid


class Turmoil:
    """Does harm.

    Parameters
    ----------
    tasks
        To whom.
    chance
        Chooses what and to which.
    """

    #: How often each kind of harm is chosen, relative to the others.
    WEIGHTS = {  # noqa: RUF012 - nobody changes it
        "kill_worker": 8,
        "freeze": 4,
        "kill_supervisor": 2,
        "kill_clerk": 2,
        "warn": 2,
        "requeue": 2,
    }

    def __init__(self, tasks: Tasks, chance: random.Random) -> None:
        self._tasks = tasks
        self._chance = chance
        self._frozen: list[tuple[float, int]] = []
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        """Do one harmful thing, if there is anything to do it to."""
        kind = self._chance.choices([*self.WEIGHTS], [*self.WEIGHTS.values()])[0]
        self.done[kind] += bool(getattr(self, kind)())

    def thaw(self, now: float = float("inf")) -> None:
        """Let those go on that were frozen until now."""
        for until, pid in self._frozen:
            if until <= now:
                _send(pid, signal.SIGCONT)
        self._frozen = [(until, pid) for until, pid in self._frozen if until > now]

    def kill_worker(self) -> bool:
        """Kill the process of a row."""
        return self._send_to(self._tasks.children(workers=True), signal.SIGKILL)

    def kill_clerk(self) -> bool:
        """Kill the process that looks after a task's files."""
        return self._send_to(self._tasks.children(workers=False), signal.SIGKILL)

    def kill_supervisor(self) -> bool:
        """Kill a task's main process."""
        return self._send_to([*self._tasks.supervisors().values()], signal.SIGKILL)

    def freeze(self) -> bool:
        """Stop a process of any kind for up to three seconds."""
        tasks = self._tasks
        pids = [*tasks.children(workers=True), *tasks.supervisors().values()]
        pids += tasks.children(workers=False)
        until = time.monotonic() + self._chance.uniform(0.1, 3.0)
        pid = self._chance.choice(pids) if pids else 0
        self._frozen.append((until, pid))
        return bool(pid) and _send(pid, signal.SIGSTOP)

    def warn(self) -> bool:
        """Send a task the signal that it gets before its time limit."""
        return self._to_task("scancel", "--signal=USR1", "--batch")

    def requeue(self) -> bool:
        """Have Slurm end a task and start it again, as after a preemption."""
        return self._to_task("scontrol", "requeue")

    def _to_task(self, *command: str) -> bool:
        tasks = [*self._tasks.supervisors()]
        return bool(tasks) and self._tasks.slurm(*command, f"{{id}}_{self._chance.choice(tasks)}")

    def _send_to(self, pids: list[int], number: signal.Signals) -> bool:
        return bool(pids) and _send(self._chance.choice(pids), number)


def _send(pid: int, number: signal.Signals) -> bool:
    if not _runs_rows(pid):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


class Caretaker:
    """Has Slurm start again what was ended.

    Parameters
    ----------
    tasks
        Of whom to take care.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self.requeued = 0

    def look(self) -> None:
        """Look at all tasks once."""
        done = self._tasks.done()
        for task, state, reason in self._tasks.states():
            if state in _ENDED and task not in done:
                self.requeued += self._tasks.slurm("scontrol", "requeue", f"{{id}}_{task}")
            elif state == "PENDING" and reason == "BeginTime":  # two minutes by itself
                self._tasks.slurm("scontrol", "update", f"JobId={{id}}_{task}", "StartTime=now")


# -- one soak --------------------------------------------------------------------------------


@dataclass
class Report:
    """What came of a soak.

    Attributes
    ----------
    harm
        What was done, by kind.
    requeued_ended
        Tasks that had ended early and were requeued.
    lives, ends
        Starts of tasks; how they ended, by reason ("none": killed).
    begun_again, ended_again
        Rows whose evaluation began, and was finished, more than once.
    duplicates
        Outcomes beside the first of a row in the first run.
    retried, retries
        Rows that the first run left not ok, by cause; runs that it took to bring them.
    lost, wrong
        Rows that are not ok, or have another value than they should, at the end.
    seconds
        How long all of it took.
    """

    rows: int
    seed: int
    harm: dict[str, int] = field(default_factory=dict)
    requeued_ended: int = 0
    lives: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    begun_again: int = 0
    ended_again: int = 0
    duplicates: int = 0
    retried: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    lost: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        lines: list[str] = []
        for name, value in asdict(self).items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            lines += [f"{name} {part}".ljust(32) + _number(each) for part, each in parts]
        return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:10.1f}" if isinstance(value, float) else f"{value!s:>10}"


def soak(
    cluster: Cluster, folder: Path, *, rows: int, seconds: float, seed: int, pause: float = PAUSE
) -> tuple[Report, SlurmJob]:
    """Run rows while harm is done to their tasks.

    Parameters
    ----------
    cluster
        Where; its environment has to be set.
    folder
        For the job and the notes of its rows.
    rows, seconds, seed, pause
        How many rows, how long harm is done, by which chance, how often.
    """
    notes = folder / "notes"
    notes.mkdir()
    begin = time.monotonic()
    job = slurm_apply(
        noting(notes, ROW_SECONDS), {"row": range(rows)},
        nodes=NODES, cpus_per_node=WORKERS, job_name="soak", jobs_folder=folder,
        slurm_options={"exclusive": True},  # else Slurm would put all tasks on one node
    )  # fmt: skip
    report = Report(rows, seed)
    tasks = Tasks(cluster, job)
    caretaker = Caretaker(tasks)
    turmoil = Turmoil(tasks, random.Random(seed))  # noqa: S311 - chance, no secret
    disturb(job, turmoil, caretaker, seconds=seconds, pause=pause)
    report.harm = dict(sorted(turmoil.done.items()))
    finish(job, caretaker)
    report.requeued_ended = caretaker.requeued
    _describe_first_run(report, job)
    _bring_the_rest(report, job)
    _compare(report, job)
    begun, ended = read_notes(notes)
    report.begun_again = sum(count > 1 for count in begun.values())
    report.ended_again = sum(count > 1 for count in ended.values())
    report.seconds = time.monotonic() - begin
    return report, job


def disturb(
    job: SlurmJob, turmoil: Turmoil, caretaker: Caretaker, *, seconds: float, pause: float
) -> None:
    """Do harm for a while, or until no row is left."""
    settled = settled_rows(job)
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until and settled() < len(job):
        turmoil.act()
        turmoil.thaw(now)
        caretaker.look()
        time.sleep(pause)
    turmoil.thaw()


def finish(job: SlurmJob, caretaker: Caretaker) -> None:
    """Let the first run come to its end in peace; what ended early is started again."""
    settled = settled_rows(job)
    count, since = settled(), time.monotonic()
    while count < len(job) and time.monotonic() - since < _STUCK:
        caretaker.look()
        time.sleep(PAUSE)
        before, count = count, settled()
        since = time.monotonic() if count > before else since
    job.wait()


def settled_rows(job: SlurmJob) -> Callable[[], int]:
    """Make a function that counts the rows of the first run that have an outcome."""
    disk = FolderDisk(job.folder)
    uuid = json.loads((job.folder / "job.json").read_bytes())["uuid"]
    survey = Survey(disk, uuid, len(job))

    def count() -> int:
        survey.update([0])
        return survey.outcomes.settled_in(0)

    return count


def _describe_first_run(report: Report, job: SlurmJob) -> None:
    lives = read_lives(FolderDisk(job.folder), 0)
    report.lives = len(lives)
    ends = Counter(str(view.end["reason"]) if view.end else "none" for view in lives)
    report.ends = dict(ends.most_common())
    survey = Survey(FolderDisk(job.folder), json.loads(_job_json(job))["uuid"], len(job))
    survey.update([0])
    report.duplicates = survey.outcomes.duplicates


def _job_json(job: SlurmJob) -> bytes:
    return (job.folder / "job.json").read_bytes()


def _bring_the_rest(report: Report, job: SlurmJob) -> None:
    left = job.errors()
    report.retried = {str(cause): int(n) for cause, n in left["row_cause"].value_counts().items()}
    while len(job.errors()) and report.retries < _RETRIES:
        report.retries += 1
        job.retry().wait()


def _compare(report: Report, job: SlurmJob) -> None:
    report.lost = len(job.errors())
    values = job.results(errors="keep")
    wrong = sum(value != expected(row) for row, value in enumerate(values))
    report.wrong = wrong - report.lost


@contextlib.contextmanager
def cluster_of(folder: Path | None) -> Iterator[Cluster]:
    """Give the cluster in a folder, or one of our own; its environment is set."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))
            cluster = stack.enter_context(Cluster(name, accounting=False))
        else:
            cluster = Cluster(folder)
        os.environ.update(cluster.environment)
        yield cluster


def main() -> int:
    """Run one soak, print its figures; gives 1 when a row is lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long harm is done")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", type=Path, help="folder of a test Slurm that runs already")
    parser.add_argument("--json", type=Path, help="where the figures are written, too")
    parser.add_argument("--keep", type=Path, help="folder for the job, which then stays")
    asked = parser.parse_args()
    with cluster_of(asked.cluster) as cluster, tempfile.TemporaryDirectory() as name:
        folder = asked.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        how = {"rows": asked.rows, "seconds": 60 * asked.minutes, "seed": asked.seed}
        report, _ = soak(cluster, folder, **how)
    print(report)
    if asked.json:
        asked.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return 1 if report.lost or report.wrong else 0


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves the description as it is written."""


if __name__ == "__main__":
    sys.exit(main())
