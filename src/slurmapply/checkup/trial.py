"""The test job: one task of a minute, through the machinery of every other job, and its verdict."""

from __future__ import annotations

import contextlib
import io
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

from slurmapply.api import slurm_call
from slurmapply.checkup import errand
from slurmapply.checkup.diagnosis import in_words, one_line
from slurmapply.checkup.machine import CLOCKS_ADVICE, CLOCKS_DIFFER, check_writing, clock_words
from slurmapply.disk import FolderDisk
from slurmapply.errors import RowsFailedError, SlurmApplyError, SubmissionUnknownError
from slurmapply.records import read_lives
from slurmapply.schedulers.slurm_site import warn_task
from slurmapply.schedulers.slurm_words import waits_in_vain
from slurmapply.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from slurmapply.checkup.diagnosis import Findings
    from slurmapply.job import SlurmJob
    from slurmapply.status import JobStatus

_PREFIX = "slurmapply_doctor_"
#: Slurm counts in minutes, and slow setup lines are no fault of the test.
_TIME_LIMIT = "2min"
#: How long the errand waits for the session, whose files an NFS client may show late.
_ERRAND_PATIENCE = 40.0
#: A signal passes through the controller, slurmd and slurmstepd.
_SIGNAL_PATIENCE = 10.0
_END_PATIENCE = 20.0
_LOOK_EVERY = 0.25
#: An answer of Slurm's that is older than so many seconds may say nothing of the last ones.
_FRESH = 2.5
_LITTLE_SPACE = 2**28


def check_place(findings: Findings, folder: Path) -> Path | None:
    """Make a folder for the trial in the user's, and look at how it behaves; None if it cannot."""
    place = folder / f"{_PREFIX}{secrets.token_hex(4)}"
    try:
        place.mkdir(mode=0o700)
    except OSError as error:
        findings.fail(
            "writing",
            f"{folder} cannot be written to ({error.strerror}): name another folder with"
            " jobs_folder=",
        )
        return None
    try:
        findings.ok("writing", f"files can be made in {folder}")
        check_writing(findings, place)
    except OSError as error:
        findings.fail("writing", f"{folder} cannot be written to: {error}")
    return place


class Trial:
    """A test job, from its submission to its end.

    Parameters
    ----------
    findings
        Takes what is found.
    place
        The folder of the trial; the job folder is made in it.
    packages
        Modules to import on the node.
    patience
        Seconds that the job may wait to start.

    Attributes
    ----------
    over
        Nothing of it can still run, so that its folder may go.
    """

    def __init__(
        self, findings: Findings, place: Path, packages: Sequence[str], patience: float
    ) -> None:
        self._findings = findings
        self._place = place
        self._packages = list(packages)
        self._patience = patience
        self._word = secrets.token_hex(8)
        self.over = True

    def run(self, options: Mapping[str, Any]) -> None:
        """Submit it, follow it, judge what it brings, and leave nothing behind."""
        (self._place / errand.FROM_HERE).write_text(self._word)
        try:
            job = self._submit(options)
        except SubmissionUnknownError as error:
            self._findings.fail("test job", str(error))
            return
        except SlurmApplyError as error:
            self.over = True
            self._findings.fail("test job", str(error))
            return
        try:
            self._follow(job)
        except SlurmApplyError as error:
            self._findings.fail("test job", str(error))
        finally:
            self._end(job)

    def _submit(self, options: Mapping[str, Any]) -> SlurmJob:
        arguments = {
            "folder": str(self._place),
            "packages": self._packages,
            "patience": _ERRAND_PATIENCE,
        }
        asked = {"time": _TIME_LIMIT, "packages": (), "retries": 0, "cpus_per_node": 1, **options}
        self._submitted = time.time()
        self.over = False
        with _quiet():
            return slurm_call(
                errand.look_around,
                arguments,
                job_name=self._place.name,
                jobs_folder=self._place,
                **asked,
            )

    def _follow(self, job: SlurmJob) -> None:
        status = self._wait_for_start(job)
        if status is None:
            return
        slurm = not str(job.job_id).startswith("local-")
        fault = self._try_signal(job) if slurm and not status.completed else None
        (self._place / errand.GO).write_text("")
        status = self._wait_for_end(job)
        if not status.completed:
            self._findings.fail("test job", f"it started and does not end: {status.summary()}")
            return
        self._judge(job)
        name = "node: signals"
        if fault:
            self._findings.warn(name, fault)
        elif fault is not None:
            self._findings.ok(name, "Slurm's warning before a time limit reaches the task")

    def _wait_for_start(self, job: SlurmJob) -> JobStatus | None:
        """Wait until its row is at work, or over; None, and a finding, if that does not come."""
        deadline = time.monotonic() + self._patience
        while True:
            status = job.status()
            if status.completed or errand.is_there(self._place / errand.FROM_NODE):
                return status
            late = time.monotonic() > deadline
            if late and status.age > _FRESH:
                # A look after some quiet seconds asks Slurm at once.
                time.sleep(_FRESH)
                status = job.status()
            if status.state is JobState.QUEUED:
                vain = [entry for entry in status.queue if _in_vain(entry)]
                if vain or late:
                    self._judge_waiting(vain or status.queue, status.note)
                    return None
            elif time.monotonic() > deadline + _ERRAND_PATIENCE:
                self._findings.fail(
                    "test job",
                    "it started, but nothing that it wrote can be seen here: is the folder on a"
                    " disk that the nodes share? Name another with jobs_folder=",
                )
                return None
            time.sleep(_LOOK_EVERY)

    def _judge_waiting(self, tasks: Sequence[Mapping[str, Any]], note: str) -> None:
        first = tasks[0] if tasks else {"reason": "", "explanation": "", "state": ""}
        said = f" Slurm's reason is {first['reason']}." if first["reason"] else ""
        said += f" It {first['explanation']}" if first["explanation"] else ""
        if _in_vain(first):
            self._findings.fail("test job", f"cannot start, and was cancelled.{said}")
            return
        said = said or f" {note or 'Slurm gives no reason.'}"
        self._findings.warn(
            "test job",
            f"did not start within {self._patience:.0f} s, and was cancelled.{said} The nodes"
            " were not looked at: try again later, with more patience=, or another partition=",
        )

    def _try_signal(self, job: SlurmJob) -> str:
        """Send the signal that warns of a time limit; says what is wrong if the task is deaf."""
        try:
            warn_task(str(job.job_id))
        except SlurmApplyError as error:
            return f"none could be sent: {error}"
        deadline = time.monotonic() + _SIGNAL_PATIENCE
        while not _warned(job):
            if time.monotonic() > deadline:
                return (
                    "Slurm's signals do not reach the task, so that it cannot stop in time before"
                    " a limit, and rows in work are lost then. A template= of yours has to end in"
                    " exec"
                )
            time.sleep(_LOOK_EVERY)
        return ""

    def _wait_for_end(self, job: SlurmJob) -> JobStatus:
        deadline = time.monotonic() + _END_PATIENCE + _ERRAND_PATIENCE
        while True:
            status = job.status()
            if status.completed or time.monotonic() > deadline:
                return status
            time.sleep(_LOOK_EVERY)

    def _judge(self, job: SlurmJob) -> None:
        try:
            found = job.result()
        except RowsFailedError:
            self._findings.fail("test job", _why(job))
            return
        now = time.time()
        waited = max(0, round(found["time"] - self._submitted))
        self._findings.ok(
            "test job",
            f"ran on {found['host']} after {waited} s, and sees {_cpus(found['cpus'])}",
        )
        self._judge_folder(found)
        self._judge_python(found)
        self._judge_packages(found["packages"])
        self._judge_clock(found["time"], now)
        self._judge_temporary(found["temporary"])
        self._judge_memory(found["memory"])

    def _judge_folder(self, found: Mapping[str, Any]) -> None:
        name = "node: folder"
        if found["seen"] != self._word:
            self._findings.fail(
                name, f"the node does not see what was written here: {found['seen']}"
            )
        elif found["linked"].startswith("cannot link"):
            self._findings.warn(
                name, f"seen; {found['linked']}. Soft links are used, which is as safe"
            )
        elif found["linked"]:
            self._findings.fail(name, f"seen, but the node {found['linked']}")
        else:
            self._findings.ok(name, "seen with what was written here; links work there")

    def _judge_python(self, found: Mapping[str, Any]) -> None:
        version = ".".join(map(str, found["python"]))
        said = f"{version}, {found['executable']}"
        if found["python"][:2] == list(sys.version_info[:2]):
            self._findings.ok("node: python", said)
        else:  # a template of the site's own may start any
            self._findings.fail("node: python", f"{said}, which is another minor version than here")

    def _judge_packages(self, imported: Mapping[str, str]) -> None:
        if not imported:
            self._findings.skip("node: packages", "none named: doctor(packages=['numpy'])")
            return
        faults = [f"{name} ({fault})" for name, fault in imported.items() if fault]
        if faults:
            self._findings.fail(
                "node: packages",
                f"cannot be imported there: {'; '.join(faults)}. Give python=, setup= or sys_path="
                " that has them",
            )
        else:
            self._findings.ok("node: packages", f"{', '.join(imported)} can be imported there")

    def _judge_clock(self, there: float, now: float) -> None:
        # Its row ran between the submission and now.
        ahead = max(0.0, there - now) - max(0.0, self._submitted - there)
        if abs(ahead) > CLOCKS_DIFFER:
            self._findings.warn("node: clock", f"{clock_words(ahead)}. {CLOCKS_ADVICE}")
        else:
            self._findings.ok("node: clock", "agrees with this machine's")

    def _judge_temporary(self, found: Mapping[str, Any]) -> None:
        if "error" in found:
            self._findings.warn(
                "node: tmp", f"no temporary folder: {found['error']}. Set TMPDIR in setup="
            )
        elif found["free"] < _LITTLE_SPACE:
            self._findings.warn(
                "node: tmp",
                f"{found['folder']} has {in_words(found['free'])} free only: set TMPDIR in setup=,"
                " if your function writes there",
            )
        else:
            self._findings.ok("node: tmp", f"{in_words(found['free'])} free in {found['folder']}")

    def _judge_memory(self, limit: int | None) -> None:
        said = f"limited to {in_words(limit)}" if limit else "no limit that the task can see"
        self._findings.ok("node: memory", said)

    def _end(self, job: SlurmJob) -> None:
        try:
            with _quiet():
                if not job.status().completed:
                    job.cancel()
                status = self._wait_for_end(job)
                if status.completed:
                    job.cleanup(wait=False)
                    self.over = True
        except SlurmApplyError as error:
            said: str | None = str(error)
        else:
            said = None if status.completed else f"it is {status.state}"
        if said is not None:
            self._findings.warn(
                "clean up",
                f"the test job (Slurm job {job.job_id}) may still be there ({one_line(said)}):"
                f" scancel {job.job_id}, then delete {self._place}",
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a job's own messages from the reader of the diagnosis."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _in_vain(entry: Mapping[str, Any]) -> bool:
    return waits_in_vain(entry["state"], entry["reason"])


def _warned(job: SlurmJob) -> bool:
    return any(view.stopping for view in read_lives(FolderDisk(job.folder), 0))


def _why(job: SlurmJob) -> str:
    report = job.row(0)
    hint = {
        "never_started": " Look at setup= and python=.",
        "load_failed": " Give setup=, python= or sys_path= that has what is missing.",
    }
    said = f"it did not run ({report.cause}): {report.message}".rstrip(".")
    return f"{said}.{hint.get(report.cause or '', '')}"


def _cpus(number: int) -> str:
    return "1 CPU" if number == 1 else f"{number} CPUs"
