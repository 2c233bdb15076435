"""Runs measurements: each in a process and a folder of its own, on a Slurm that is empty."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import watching
from benchmarks.work import uneven

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.case import Case
    from benchmarks.figures import Measurement
    from tests.slurm_cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[1]
#: In which the calls of a waiting session are counted.
_WAITED = 60.0
_TOY_WAITED = 3.0
_SETTLE_SECONDS = 60.0
_LONGEST_ERROR = 160


@dataclass(frozen=True)
class Arena:
    """Where measurements run.

    Attributes
    ----------
    cluster
        Used alone: whatever runs there is ended between two measurements.
    say
        Is told what is being done.
    pause
        Seconds for which it waits before a measurement at most.
    """

    cluster: Cluster
    say: Callable[[str], None]
    pause: float = 1.0

    def run_all(self, cases: Sequence[Case], *, at_once: bool = False) -> list[Measurement]:
        """Measure, round by round, in random order within each."""
        if at_once:
            self.settle()
            with ThreadPoolExecutor(len(cases) or 1) as threads:
                found = list(threads.map(self.run, cases))
            self.settle()
            return found
        found = []
        for number in range(max((case.rounds for case in cases), default=0)):
            due = [case for case in cases if case.rounds > number]
            random.shuffle(due)
            for case in due:
                self.settle()
                found.append(self.run(case))
        self.settle()
        return found

    def run(self, case: Case) -> Measurement:
        """Measure once; a failure is a result as well."""
        found: Measurement = {
            "line": case.line, "contestant": case.contestant, "peer": case.peer,
            "style": case.style, "rows": case.rows,
        }  # fmt: skip
        # Not below the cluster's folder, and short: peers make sockets in it.
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            try:
                found.update(self._measure(case, folder))
            except subprocess.TimeoutExpired:
                found["error"] = f"no result within {case.timeout:g} s"
            except (OSError, ValueError) as error:
                found["error"] = last_words(str(error))
        seconds = found.get("seconds")
        shown = found.get("error") if seconds is None else f"{seconds:.2f} s"
        self.say(f"{case.line}: {case.contestant}, {case.rows:,} rows: {shown}")
        return found

    def _measure(self, case: Case, folder: Path) -> Measurement:
        inside = folder / "work"
        inside.mkdir()
        environment = self._environment()
        calls = watching.count_commands(folder / "bin")
        if case.line == "waiting":
            environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
        with contextlib.ExitStack() as stack:
            watch = None
            if case.watched:
                configuration = self.cluster.environment["SLURM_CONF"]
                watch = stack.enter_context(watching.Watch(inside, configuration))
            result = folder / "result.json"
            _run(command(case, inside, result), inside, environment, case.timeout)
        found: Measurement = json.loads(result.read_text())
        found["files"], _ = watching.size_of(inside)
        found["claims"] = sum(1 for _ in inside.glob("*/run_*/claims/*"))
        if watch:
            found |= {"workers_bytes": watch.workers_bytes, "disk_bytes": watch.disk_bytes}
        if case.line == "waiting":
            found["calls"] = _calls_a_minute(case, inside / "began", calls)
        return found

    def _environment(self) -> dict[str, str]:
        binaries = Path(sys.executable).parent  # Parsl looks for its programs there
        # Nobody's modules are compiled anew each time: from the second measurement on, all are.
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return {
            **inherited,
            **self.cluster.environment,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        }

    def settle(self) -> None:
        """End what is left in Slurm, and wait for a moment of random length.

        Else the one would always meet the phase of the scheduler's clock that the other left.
        """
        self.cluster.run(["scancel", "--user", str(os.getuid())])
        until = time.monotonic() + _SETTLE_SECONDS
        while self.cluster.run(["squeue", "--noheader"]).strip() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(random.uniform(0.0, self.pause))  # noqa: S311 - no secret


def command(case: Case, folder: Path, result: Path) -> list[str]:
    """Give the command that measures a case; what rslurm needs is put into its folder."""
    if case.work == "start":
        return [sys.executable, "-m", "benchmarks.worker_start", case.to_json(), str(result)]
    if case.peer != "rslurm":
        return [sys.executable, "-m", "benchmarks.measurement", case.to_json(), str(result)]
    if case.work == "uneven":
        seconds = uneven(case.rows, toy=case.toy).columns["seconds"]
        (folder / "seconds").write_text("\n".join(map(str, seconds)))
    numbers = [case.rows, case.nodes, case.workers, case.memory]
    script = REPOSITORY / "benchmarks" / "peers" / "rslurm.R"
    last = [case.style, str(case.toy).lower(), str(result)]
    return ["Rscript", str(script), case.work, *map(str, numbers), *last]


def _run(asked: Sequence[str], folder: Path, environment: dict[str, str], timeout: float) -> None:
    """Run a command to its end, or end it and all that it started.

    Raises
    ------
    ValueError
        It failed; the message is the end of what it said.
    """
    output = folder.parent / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603
            asked, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0 and not (folder.parent / "result.json").exists():
        raise ValueError(output.read_text(errors="replace"))


def last_words(text: str) -> str:
    r"""Give the last line of what a failed measurement said: tracebacks name the machine's paths.

    Examples
    --------
    >>> last_words("Traceback ...\\n  File ...\\nJobDied: no result\\n")
    'JobDied: no result'
    """
    lines = text.strip().splitlines() or ["ended without a word"]
    return lines[-1].strip()[-_LONGEST_ERROR:]


def _calls_a_minute(case: Case, marker: Path, calls: Path) -> float:
    begin = watching.began(marker)
    if begin is None:
        raise ValueError("the row that was to be waited for never began")
    waited = _TOY_WAITED if case.toy else _WAITED
    return watching.calls_between(calls, begin, begin + waited) * 60 / waited
