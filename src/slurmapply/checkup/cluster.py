"""What Slurm's commands say of the site: five questions, each with a time limit."""

from __future__ import annotations

import difflib
import re
import shutil
from typing import TYPE_CHECKING

from slurmapply.errors import SchedulerError
from slurmapply.schedulers import slurm_site
from slurmapply.schedulers.local import unshared_file_system
from slurmapply.schedulers.slurm_words import is_accounting_off

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slurmapply.checkup.diagnosis import Findings
    from slurmapply.schedulers.slurm_text import Partition

_NEEDED = ("sbatch", "squeue", "scancel")
_USED = ("sinfo", "scontrol", "sacct")
#: The oldest and the newest Slurm that slurmapply was tried on.
_OLDEST, _NEWEST = (22, 5), (26, 5)
_SHOWN_PARTITIONS = 12


def check_commands(findings: Findings) -> bool:
    """Look for Slurm's commands and their version; tells whether a job can be submitted."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        findings.fail(
            "commands", f"no {', '.join(missing)} on PATH: load Slurm's commands (module load?)"
        )
        return False
    unused = [name for name in _USED if shutil.which(name) is None]
    if unused:
        findings.warn("commands", f"no {', '.join(unused)} on PATH: messages will say less")
    with findings.watch("version"):
        _check_version(findings, slurm_site.version())
    return True


def _check_version(findings: Findings, said: str) -> None:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    if found is None:
        findings.warn("version", f"sbatch --version says {said!r}, in which no version was found")
    elif (int(found[1]), int(found[2])) < _OLDEST:
        findings.warn(
            "version", f"{said} is older than the oldest that slurmapply was tried on, 22.05"
        )
    else:
        newer = (int(found[1]), int(found[2])) > _NEWEST
        findings.ok("version", f"{said}{' (tried up to 26.05)' if newer else ''}")


def check_controller(findings: Findings) -> Mapping[str, str]:
    """Ask the controller for its settings, and say what follows for jobs; {} without an answer."""
    try:
        settings = slurm_site.config()
    except SchedulerError as error:
        findings.fail("controller", str(error))
        return {}
    findings.ok("controller", f"cluster {settings.get('ClusterName', 'without a name')} answers")
    _check_arrays(findings, settings.get("MaxArraySize", ""))
    return settings


def _check_arrays(findings: Findings, largest: str) -> None:
    if not largest.isdecimal():
        findings.skip("arrays", "the controller says nothing of MaxArraySize")
    elif int(largest) == 0:
        findings.fail(
            "arrays",
            "this cluster takes no job arrays (MaxArraySize=0), which jobs need: ask its staff",
        )
    else:
        findings.ok("arrays", f"up to {largest} tasks in a job, nodes= (MaxArraySize)")


def check_partitions(findings: Findings, wanted: str | None) -> None:
    """Ask for the partitions and their limits.

    Parameters
    ----------
    findings
        Takes what is found.
    wanted
        The partitions that jobs go to, as sbatch takes them; the default one when None.
    """
    with findings.watch("partitions"):
        found = slurm_site.list_partitions()
        names = list(dict.fromkeys(partition.name for partition in found))
        chosen = wanted.split(",") if wanted else [p.name for p in found if p.default][:1]
        if not chosen:
            findings.warn(
                "partitions",
                f"no default partition: say partition= ({_listed(names)})",
            )
        for name in chosen:
            mine = [partition for partition in found if partition.name == name]
            _check_partition(findings, name, mine, names)
        others = [name for name in names if name not in chosen]
        if others:
            findings.ok("other partitions", _listed(others))


def _check_partition(
    findings: Findings, name: str, parts: Sequence[Partition], names: Sequence[str]
) -> None:
    if not parts:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        findings.fail("partition", f"there is no {name!r}: {hint}Here are: {_listed(names)}")
        return
    first, up, total = parts[0], sum(p.usable for p in parts), sum(p.nodes for p in parts)
    label = f"{name}{' (default)' if first.default else ''}"
    size = sorted({f"{part.memory} MB, {part.cpus} CPUs" for part in parts})
    limit = "no time limit" if first.time == "infinite" else f"time limit {first.time}"
    said = (
        f"{label}: {first.state}, {limit}, {up} of {total} nodes usable, each {' or '.join(size)}"
    )
    if first.state != "up":
        findings.fail("partition", f"{said}: it starts no jobs now; choose another partition=")
    elif up == 0:
        findings.fail("partition", f"{said}: jobs will wait until a node is back (sinfo -R)")
    else:
        findings.ok("partition", said)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_PARTITIONS
    return ", ".join(names[:_SHOWN_PARTITIONS]) + (f" and {more} more" if more > 0 else "")


def check_sharing(findings: Findings, folder: Path) -> None:
    """Look whether the nodes are other machines, which do not see a disk of this one."""
    kind = unshared_file_system(folder.resolve())
    elsewhere = slurm_site.nodes_elsewhere() if kind else []
    if elsewhere:
        findings.warn(
            "shared disk",
            f"{folder} is on a disk of this machine alone ({kind}), and nodes are elsewhere"
            f" ({_listed(elsewhere)}): name a folder that they see, often one in your home, with"
            " jobs_folder=",
        )


def check_accounting(findings: Findings, settings: Mapping[str, str]) -> None:
    """Look whether the accounts answer, where there are any."""
    without = "not needed: causes come from the job folder and from squeue"
    if settings.get("AccountingStorageType", "").endswith("/none"):
        findings.ok("accounting", f"this cluster keeps no accounts; {without}")
        return
    try:
        slurm_site.ask_accounts()
    except SchedulerError as error:
        if is_accounting_off(error.output):
            findings.ok("accounting", f"this cluster keeps no accounts; {without}")
        else:
            findings.warn("accounting", f"{error} It is {without}")
    else:
        findings.ok("accounting", "sacct answers")
