"""What a session says before it submits, so that a later one knows what to look for.

``run_<k>/intent.<n>`` is written before sbatch is called. A run with an intent and no submission
may exist in the batch system: the session was killed, interrupted, or got no answer. Each attempt
has a number of its own, so that of two sessions that try at once one is told; and a tag of its
own, so that whatever an earlier attempt may still bring about ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import (
    FormatError,
    JobAliveError,
    SchedulerNotFoundError,
    SubmissionError,
    SubmissionUnknownError,
)
from slurmapply.schedulers.command import boot_id, process_start_time, processes_with_argument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.preparing import RunPlan

#: How long a submission takes at most, seen from another machine: sbatch's time limit, and the
#: looks for it afterwards. Only the second guard of three: tags and the one submission file of a
#: run hold whatever this clock says.
_LONGEST_SUBMISSION = 300.0


@dataclass(frozen=True, slots=True)
class Intent:
    """One attempt to submit a run.

    Attributes
    ----------
    run, attempt
        Of which run, and which attempt.
    content
        ``time``; ``host``, ``boot_id``, ``pid`` and ``start_time`` of the session, pid 0 when it
        has given up; ``kind`` of the batch system; the submission's ``name``; the run's ``tag``.
    """

    run: int
    attempt: int
    content: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """The tag of the submission that was about to be made."""
        return str(self.content.get("tag", ""))


def read_intents(disk: FolderDisk, run: int) -> tuple[Intent, ...]:
    """Read a run's attempts, in order."""
    names = disk.names(jobfolder.run_folder(run))
    attempts = sorted(n for n in map(jobfolder.parse_intent, names) if n is not None)
    return tuple(Intent(run, attempt, _read(disk, run, attempt)) for attempt in attempts)


def _read(disk: FolderDisk, run: int, attempt: int) -> dict[str, Any]:
    # Half written where a disk has no links: then it says only that there is an attempt.
    name = jobfolder.intent(run, attempt)
    with contextlib.suppress(FormatError):
        return jobfolder.decode_json(disk.read(name) or b"", Path(name))
    return {}


def submission_time(disk: FolderDisk, run: int) -> float | None:
    """Give when a run was submitted, in seconds since the epoch.

    None where no session did it: a script that was submitted by hand says it to nobody.
    """
    intents = read_intents(disk, run)
    said: Any = intents[-1].content.get("time") if intents else None
    return float(said) if type(said) in (int, float) else None


@contextlib.contextmanager
def declared(disk: FolderDisk, plan: RunPlan, name: str, attempt: int) -> Iterator[None]:
    """Say that a run is about to be submitted, and afterwards whether it was refused.

    Parameters
    ----------
    disk, plan, name
        Where, which run, the job's name.
    attempt
        The number after those that were seen when it was decided to submit.

    Raises
    ------
    JobAliveError
        Another session decided the same.
    """
    intent = Intent(plan.number, attempt, _content(plan, name))
    file = jobfolder.intent(plan.number, attempt)
    if not disk.publish(file, jobfolder.encode_json(intent.content)):
        raise JobAliveError(
            f"another session is submitting {name} at this moment. job.status() says what became "
            "of it."
        )
    try:
        yield
    except SubmissionUnknownError:
        _give_up(disk, file, intent)
        raise
    except (SubmissionError, SchedulerNotFoundError):
        (disk.path / file).unlink(missing_ok=True)
        raise
    except BaseException:
        _give_up(disk, file, intent)
        raise


def _content(plan: RunPlan, name: str) -> dict[str, Any]:
    return {
        "time": time.time(),
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "start_time": process_start_time(os.getpid()),
        "kind": plan.backend,
        "name": plan.slurm_name(name),
        "tag": plan.tag,
    }


def _give_up(disk: FolderDisk, file: str, intent: Intent) -> None:
    # No word about it is no harm: the process's end says the same.
    with contextlib.suppress(OSError):
        disk.replace(file, jobfolder.encode_json({**intent.content, "pid": 0}))


def who_submits(intent: Intent) -> str:
    """Say who may still be at it, empty when nobody is."""
    content = intent.content
    name, pid, host = (content.get(key) for key in ("name", "pid", "host"))
    if host != socket.gethostname():
        since = time.time() - float(content.get("time", 0))
        recent = bool(pid) and since < _LONGEST_SUBMISSION
        return f"a session on {host} began to submit it {since:.0f} s ago" if recent else ""
    if content.get("boot_id") != boot_id():
        return ""
    # This process is not at it, or it would not ask.
    if pid and pid != os.getpid() and process_start_time(pid) == content.get("start_time"):
        return f"process {pid} of this machine is submitting it"
    # The session is gone, and its sbatch may wait for an answer still.
    left = processes_with_argument(f"--job-name={name}")
    return f"sbatch (process {left[0]}) is still submitting it" if left else ""
