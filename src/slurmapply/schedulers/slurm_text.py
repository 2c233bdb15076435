"""Reading what Slurm's commands print. Pure functions of text; nothing here runs a command.

The formats were tried on 22.05.8; a word that is not in the tables below comes from a Slurm newer
than they are, and means "unknown", never "over".
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slurmapply.schedulers.base import Account, Phase, TaskState
from slurmapply.schedulers.slurm_words import explain_end, explain_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: ``squeue --format``: array job, array task, state, nodes, start (of a waiting task Slurm's own
#: estimate), name, reason. The reason may hold anything but a newline, so it comes last; the
#: others, our own names too, cannot hold the separator.
SQUEUE_FORMAT = "%F|%K|%T|%N|%S|%j|%r"
#: ``sacct --format`` with ``--parsable2``.
SACCT_FORMAT = "JobID,State,ExitCode,NodeList,JobName"
#: The same for what tasks used; with their steps, as only these have a peak of memory.
ACCOUNTS_FORMAT = "JobID,Submit,Start,End,ReqMem,AllocCPUS,MaxRSS"

#: ``sinfo --format``: partition, up or not, time limit, a node's memory and CPUs, how many nodes.
SINFO_FORMAT = "%P|%a|%l|%m|%c|%F"

_SQUEUE_FIELDS = SQUEUE_FORMAT.count("|") + 1
_SACCT_FIELDS = SACCT_FORMAT.count(",") + 1
_SINFO_FIELDS = SINFO_FORMAT.count("|") + 1
_ACCOUNTS_FIELDS = ACCOUNTS_FORMAT.count(",") + 1

# squeue(1) JOB STATE CODES, and the flags that squeue shows in place of the state: the order is in
# job_state_string() of slurm_protocol_defs.c. POWER_UP_NODE and EXPEDITING came after 22.05.
_PHASES = {
    Phase.WAITING: (
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
        "POWER_UP_NODE",
        "EXPEDITING",
    ),
    Phase.RUNNING: ("RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"),
    # Processes of the task may still be there.
    Phase.ENDING: ("COMPLETING", "STAGE_OUT"),
    Phase.ENDED: (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ),
}
_PHASE_OF = {word: phase for phase, words in _PHASES.items() for word in words}

_SUBMITTED = re.compile(r"(\d+)(?:;(\S+))?")
_ARRAY_JOB = re.compile(r"(\d+)(?:_(?:(\d+)|\[([^\]]*)\]))?")
_TASK_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_ACCOUNT_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)([cn]?)")
_MEMORY_MEGABYTES = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
_MEGABYTES_PER_GIGABYTE = 1024


@dataclass(frozen=True, slots=True)
class Partition:
    """Alike nodes of a partition.

    Attributes
    ----------
    name, default
        The partition's name, and whether jobs go there that name none.
    state
        ``"up"``, ``"down"``, ``"drain"`` or ``"inact"``.
    time
        Its time limit as Slurm writes it, ``"1-00:00:00"`` or ``"infinite"``.
    memory, cpus
        Of each node: megabytes and number, with a ``+`` where they differ.
    nodes, usable
        How many, and how many of them are idle or at work.
    """

    name: str
    default: bool
    state: str
    time: str
    memory: str
    cpus: str
    nodes: int
    usable: int


def parse_sinfo(text: str) -> tuple[Partition, ...]:
    r"""Return the partitions in sinfo's answer in `SINFO_FORMAT`; other lines are passed over.

    Examples
    --------
    >>> parse_sinfo("main*|up|infinite|4000|8|1/2/1/4\n")[0].usable
    3
    """
    partitions = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        counts = re.fullmatch(r"(\d+)/(\d+)/\d+/(\d+)", fields[-1])
        if len(fields) == _SINFO_FIELDS and counts:
            name, state, time, memory, cpus, _ = fields
            busy, idle, total = map(int, counts.groups())
            partitions.append(
                Partition(
                    name=name.rstrip("*"),
                    default=name.endswith("*"),
                    state=state,
                    time=time,
                    memory=memory,
                    cpus=cpus,
                    nodes=total,
                    usable=busy + idle,
                )
            )
    return tuple(partitions)


def phase(word: str) -> Phase:
    """Return what a state's name means.

    Parameters
    ----------
    word
        As squeue, sacct or scontrol print it: ``"RUNNING"``, ``"CANCELLED by 1000"``, cut off as
        ``"OUT_OF_ME+"``.

    Examples
    --------
    >>> phase("CANCELLED by 1000").value, phase("OUT_OF_ME+").value, phase("BRAND_NEW").value
    ('ended', 'ended', 'unknown')
    """
    return _PHASE_OF.get(_whole_word(word), Phase.UNKNOWN)


def parse_sbatch(stdout: str) -> tuple[str, str | None] | None:
    r"""Return job id and cluster from what ``sbatch --parsable`` printed, None when it has no id.

    Sites print greetings around it, so the last line of the right form counts. The cluster is
    given when one was chosen (``-M``, SLURM_CLUSTERS).

    Examples
    --------
    >>> parse_sbatch("Welcome!\n4711;big\n")
    ('4711', 'big')
    """
    for line in reversed(stdout.splitlines()):
        match = _SUBMITTED.fullmatch(line.strip())
        if match:
            return match[1], match[2]
    return None


def parse_squeue(text: str) -> tuple[TaskState, ...]:
    """Return the tasks in squeue's answer in `SQUEUE_FORMAT`.

    Lines of another form (a greeting, ``CLUSTER: big``) are passed over. The tasks of an array
    that have not started may stand in one line, ``0-9,20%3``.
    """
    states = []
    for line in text.splitlines():
        fields = line.strip().split("|", _SQUEUE_FIELDS - 1)
        if len(fields) == _SQUEUE_FIELDS and fields[0].isdecimal():
            job_id, tasks, word, host, start, name, reason = fields
            known = (job_id, word, reason, host, "", name)
            states += [_state(known, task, parse_moment(start)) for task in _tasks(tasks)]
    return tuple(states)


def parse_sacct(text: str) -> tuple[TaskState, ...]:
    """Return the tasks in the answer of ``sacct -n -P -X`` in `SACCT_FORMAT`.

    An array that was cancelled before it began has one line without task numbers: a state whose
    ``task`` is None stands for all of them.
    """
    states = []
    for line in text.splitlines():
        fields = line.strip().split("|", _SACCT_FIELDS - 1)
        job = _ARRAY_JOB.fullmatch(fields[0])
        if len(fields) == _SACCT_FIELDS and job:
            _, word, exit_code, host, name = fields
            host = "" if host == "None assigned" else host
            known = (job[1], word, "", host, exit_code, name)
            states += [_state(known, task) for task in _tasks(job[2] or job[3] or "")]
    return tuple(states)


def parse_moment(text: str) -> float | None:
    """Return a time that Slurm printed as seconds since 1970; None for ``N/A``, ``Unknown``.

    Slurm prints the local time of the machine that asks, without its zone, where SLURM_TIME_FORMAT
    is not set (squeue(1)); `schedulers.command` sees to that.

    Examples
    --------
    >>> parse_moment("2026-11-22T14:20:30") - parse_moment("2026-11-22T14:20:00")
    30.0
    >>> parse_moment("N/A"), parse_moment("Tomorr 14:20")
    (None, None)
    """
    try:
        return time.mktime(time.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def parse_accounts(text: str) -> dict[tuple[str, int], Account]:
    """Return what tasks used from the answer of ``sacct -n -P`` in `ACCOUNTS_FORMAT`.

    The line of a task says when it was submitted, began and ended; those of its steps, which
    follow, how much memory was used.
    """
    found: dict[tuple[str, int], Account] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        task, _, step = fields[0].partition(".")
        job = _ARRAY_JOB.fullmatch(task)
        if len(fields) != _ACCOUNTS_FIELDS or job is None or job[2] is None:
            continue
        key = job[1], int(job[2])
        peak = _account_memory(fields[6])
        if step:
            before = found.get(key, Account())
            peaks = [each for each in (before.peak_mb, peak) if each is not None]
            found[key] = replace(before, peak_mb=max(peaks, default=None))
        else:
            submitted, started, ended = map(parse_moment, fields[1:4])
            memory = _account_memory(fields[4], cpus=fields[5])
            found[key] = Account(submitted, started, ended, memory, peak)
    return found


def _account_memory(text: str, cpus: str = "") -> float | None:
    """Return MiB of ``614400K``, ``4Gn`` or ``100Mc``: sacct before 21.08 said per node or CPU."""
    match = _ACCOUNT_MEMORY.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        return None
    # A bare number is bytes (sacct(1), MaxRSS).
    megabytes = float(match[1]) * (_MEMORY_MEGABYTES[match[2]] if match[2] else 2**-20)
    return megabytes * (int(cpus) if match[3] == "c" and cpus.isdecimal() else 1)


def parse_show_job(text: str) -> dict[str, str]:
    """Return the fields of the first job in the answer of ``scontrol -o show job``.

    Only the first of each name counts: paths and names, which a user chooses, come later in the
    line than the fields that we read. Values with blanks are cut at the first.
    """
    first = next((line for line in text.splitlines() if line.startswith("JobId=")), "")
    fields: dict[str, str] = {}
    for name, value in re.findall(r"(?:^| )([A-Za-z][\w/:]*)=(\S*)", first):
        fields.setdefault(name, value)
    return fields


def parse_config(text: str) -> dict[str, str]:
    r"""Return the settings in the answer of ``scontrol show config``.

    Examples
    --------
    >>> parse_config("Configuration data as of now\nMaxArraySize            = 1001\n")
    {'MaxArraySize': '1001'}
    """
    return {
        name.strip(): value.strip()
        for name, separator, value in (line.partition(" = ") for line in text.splitlines())
        if separator
    }


def memory_per_node(fields: Mapping[str, str]) -> str:
    """Return the memory of each node from `parse_show_job`'s fields, in words; "" if unknown.

    Examples
    --------
    >>> memory_per_node({"MinMemoryCPU": "512M", "CPUs/Task": "4"})
    '2 GB'
    """
    per_node = _MEMORY.fullmatch(fields.get("MinMemoryNode", ""))
    per_cpu = _MEMORY.fullmatch(fields.get("MinMemoryCPU", ""))
    match = per_node or per_cpu
    if match is None:
        return ""
    megabytes = float(match[1]) * _MEMORY_MEGABYTES[match[2]]
    if per_node is None:
        megabytes *= int(fields.get("CPUs/Task", "1"))
    if megabytes == 0:
        return "all memory"
    if megabytes < _MEGABYTES_PER_GIGABYTE:
        return f"{megabytes:.0f} MB"
    return f"{round(megabytes / _MEGABYTES_PER_GIGABYTE, 1):g} GB"


def _state(
    fields: tuple[str, str, str, str, str, str], task: int | None, start: float | None = None
) -> TaskState:
    job_id, shown, reason, host, exit_code, name = fields
    word = _whole_word(shown)
    reason = "" if reason == "None" else reason
    waiting = phase(word) is Phase.WAITING
    return TaskState(
        job_id=job_id,
        task=task,
        phase=phase(word),
        word=word,
        reason=reason,
        explanation=explain_reason(reason) if waiting else explain_end(word, reason, exit_code),
        host=host,
        exit_code=exit_code,
        name=name,
        expected_start=start if waiting else None,
    )


def _whole_word(word: str) -> str:
    text = word.split(" ", 1)[0]
    if text.endswith("+"):
        whole = [known for known in _PHASE_OF if known.startswith(text[:-1])]
        return whole[0] if len(whole) == 1 else text
    return text


def _tasks(text: str) -> Iterator[int | None]:
    """Give the numbers in ``7``, ``0-9,20%3`` or ``0-8:2``; None once for what is no array."""
    ranges = [_TASK_RANGE.fullmatch(part) for part in text.partition("%")[0].split(",")]
    for found in ranges:
        if found is None:
            yield None
        else:
            last = int(found[2] or found[1])
            yield from range(int(found[1]), last + 1, int(found[3] or 1))
