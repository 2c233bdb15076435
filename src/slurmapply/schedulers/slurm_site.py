"""What a site's Slurm allows, and where its nodes are: asked when a message needs it, seldom.

Every answer is for people, so none of these functions fails: they say nothing instead.
"""

from __future__ import annotations

import getpass
import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from slurmapply.errors import SchedulerError
from slurmapply.schedulers.command import run
from slurmapply.schedulers.slurm_text import SINFO_FORMAT, Partition, parse_config, parse_sinfo

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 10.0
#: A warning is not worth a longer wait.
_TIMEOUT_OF_A_WARNING = 3.0


def config() -> dict[str, str]:
    """Return the controller's settings.

    Raises
    ------
    SchedulerError
        It does not answer.
    """
    return parse_config(run(["scontrol", "show", "config"], timeout=_TIMEOUT).stdout)


def version() -> str:
    """Return what ``sbatch --version`` says, as ``"slurm 22.05.8"``; it asks no controller.

    Raises
    ------
    SchedulerError
        It cannot be run.
    """
    return run(["sbatch", "--version"], timeout=_TIMEOUT).stdout.strip()


def list_partitions() -> tuple[Partition, ...]:
    """Return the partitions with their limits.

    Raises
    ------
    SchedulerError
        Slurm does not answer.
    """
    asked = ["sinfo", "--noheader", f"--format={SINFO_FORMAT}"]
    return parse_sinfo(run(asked, purpose="asking for the partitions", timeout=_TIMEOUT).stdout)


def ask_accounts() -> None:
    """Ask the accounts something small.

    Raises
    ------
    SchedulerError
        They do not answer, or there are none.
    """
    asked = ["sacct", "--noheader", "--parsable2", "--allocations", "--starttime=now-1minutes"]
    run([*asked, "--format=JobID"], purpose="asking the accounts", timeout=_TIMEOUT)


def warn_task(job_id: str) -> None:
    """Send a running job the signal that Slurm sends before a time limit.

    Raises
    ------
    SchedulerError
        It could not be sent.
    """
    asked = ["scancel", "--batch", "--signal=USR1", job_id]
    run(asked, purpose=f"sending a signal to Slurm job {job_id}", timeout=_TIMEOUT)


def most_tasks(said: str, *, qos: object = None) -> int | None:
    """Return how many array tasks a job may have, after a refusal that is about their number.

    Parameters
    ----------
    said
        What sbatch said.
    qos
        The QOS that was asked for, if one was.
    """
    if "job array specification" in said:
        return _largest_array()
    if re.search(r"QOS\w*SubmitJob", said):  # "accounting/QOS policy" stands in all of them
        return _smallest(["qos", *([str(qos)] if qos else [])], "MaxSubmitPU,MaxSubmitPA,GrpSubmit")
    if "SubmitJob" in said:
        return _smallest(["associations", f"users={getpass.getuser()}"], "MaxSubmit,GrpSubmit")
    return None


def _largest_array() -> int | None:
    # The index ends at MaxArraySize - 1, and ours begin at 0; max_array_tasks counts tasks.
    try:
        settings = config()
        limits = [int(settings["MaxArraySize"])]
    except (SchedulerError, KeyError, ValueError):
        return None
    found = re.search(r"max_array_tasks=(\d+)", settings.get("SchedulerParameters", ""))
    return min([*limits, int(found[1])] if found else limits)


def _smallest(which: Sequence[str], fields: str) -> int | None:
    """Return the smallest of the limits that the accounts name for something."""
    argv = ["sacctmgr", "--noheader", "--parsable2", "show", *which, f"format={fields}"]
    found = [int(word) for word in re.split(r"[|\s]", _said(argv)) if word.isdecimal()]
    return min(found, default=None)


def partitions() -> str:
    """Return a sentence that names the partitions, empty when they are not known."""
    names = dict.fromkeys(_said(["sinfo", "--noheader", "--format=%R"]).split())
    return f" Here are: {', '.join(names)}." if names else ""


def nodes_elsewhere() -> list[str]:
    """Return the nodes that are other machines than this one, as far as Slurm says."""
    asked = ["sinfo", "--noheader", "--Node", "--format=%N|%n|%o"]
    lines = _said(asked, timeout=_TIMEOUT_OF_A_WARNING).splitlines()
    nodes = [line.strip().split("|") for line in lines if line.count("|") == 2]  # noqa: PLR2004  # as asked
    return list(dict.fromkeys(name for name, *places in nodes if not any(map(_is_here, places))))


def _is_here(place: str) -> bool:
    mine = socket.gethostname()
    if place in {mine, mine.partition(".")[0], "localhost"}:
        return True
    try:
        return ipaddress.ip_address(place).is_loopback
    except ValueError:
        return False


def _said(argv: Sequence[str], *, timeout: float = _TIMEOUT) -> str:
    try:
        return run(argv, timeout=timeout).stdout
    except SchedulerError:
        return ""
