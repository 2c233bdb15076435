"""What is asked of sbatch: one list of long options, and its two renderings.

The list stands on sbatch's command line, where it beats ``SBATCH_*`` variables, and as
``#SBATCH`` lines in the script, for a run that is submitted by hand. Nothing here asks a cluster.
"""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.amounts import parse_memory, parse_time, time_seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import TypeAlias

OptionValue: TypeAlias = "str | Literal[True]"

_OUR_PROCESSES = "one array task is one process tree: use processes_per_node= and cpus_per_node="
_OUR_CONSOLE = "consoles go to the job folder, where job.logs() reads them"
_OUR_SESSION = "slurmapply talks to sbatch itself"
_OWNED = {
    "array": "slurmapply numbers its tasks: use nodes= (how many) and task_limit= (at once)",
    "chdir": "rows run in this session's folder; the job folder's place is jobs_folder=",
    "cpus-per-task": "use cpus_per_node=",
    "error": _OUR_CONSOLE,
    "help": _OUR_SESSION,
    "input": "rows read nothing from the terminal; give f a file name as an argument",
    "job-name": "use job_name=",
    "nodes": "use nodes= (how many array tasks; each gets cpus_per_node= CPUs of one node)",
    "ntasks": _OUR_PROCESSES,
    "ntasks-per-core": _OUR_PROCESSES,
    "ntasks-per-gpu": _OUR_PROCESSES,
    "ntasks-per-node": _OUR_PROCESSES,
    "ntasks-per-socket": _OUR_PROCESSES,
    "open-mode": "consoles are always appended to, so that a requeued task keeps its first life's",
    "output": _OUR_CONSOLE,
    "parsable": _OUR_SESSION,
    "quiet": _OUR_SESSION,
    "signal": "slurmapply asks for a warning itself, as long before the end as the time limit lets",
    "test-only": "use submit=False, then `sbatch --test-only submit.sh` in the job folder",
    "usage": _OUR_SESSION,
    "verbose": _OUR_SESSION,
    "version": _OUR_SESSION,
    "wait": "use job.wait()",
    "wrap": "the script is slurmapply's own; use setup= or template=",
}
_KEYWORDS = {
    "account": "account",
    "gpus-per-node": "gpus_per_node",
    "mem": "mem",
    "partition": "partition",
    "time": "time",
}
_ALSO_OURS = ("dependency", "requeue", "no-requeue")
# The one option of sbatch whose whole name begins one of the names above.
_NOT_ABBREVIATIONS = frozenset({"gpus"})
_MEMORY_OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.,:;/=@%+^~*?\[\]|&()!<>{}$-]+")


_WARNING_SECONDS = 90
_SHORTEST_LIMIT_WARNED = 300


@dataclass(frozen=True, slots=True)
class Options:
    """The long sbatch options of a run, in order.

    Attributes
    ----------
    items
        Pairs of name and value; the value of a flag is True.
    """

    items: tuple[tuple[str, OptionValue], ...] = ()

    def as_dict(self) -> dict[str, OptionValue]:
        """Return them as a mapping, which can be written as JSON."""
        return dict(self.items)


def arguments(options: Options) -> list[str]:
    """Return options as arguments of a command line.

    Examples
    --------
    >>> arguments(Options((("time", "02:00:00"), ("requeue", True))))
    ['--time=02:00:00', '--requeue']
    """
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items]


def directives(options: Options) -> list[str]:
    r"""Return options as ``#SBATCH`` lines of a script.

    Examples
    --------
    >>> directives(Options((("comment", "two words"),)))
    ['#SBATCH --comment="two words"']
    """
    return [
        f"#SBATCH --{name}" if value is True else f"#SBATCH --{name}={_directive_value(value)}"
        for name, value in options.items
    ]


def _directive_value(value: str) -> str:
    # sbatch splits these lines itself, not with a shell: double quotes keep blanks and "#", a
    # backslash keeps the next character, nothing is expanded (tried on 22.05.8: a blank after a
    # backslash alone still splits, inside quotes all is kept).
    if _PLAIN_VALUE.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_options(
    user: Mapping[str, object], *, given: Collection[str] = ()
) -> dict[str, OptionValue]:
    """Check options that a user wants of sbatch, and return them as sbatch spells them.

    Parameters
    ----------
    user
        Name without dashes in front, ``-`` or ``_`` inside, to value: True is a flag, None and
        False leave the option out.
    given
        Names of options (``"time"``) that were also given as keywords of their own.

    Raises
    ------
    InvalidArgumentError
        A name or value cannot be used, is ours to set, or was given twice.

    Examples
    --------
    >>> check_options({"mail_type": "END", "exclusive": True, "qos": None})
    {'mail-type': 'END', 'exclusive': True}
    """
    checked: dict[str, OptionValue] = {}
    for key, value in user.items():
        name = _option_name(key)
        if value is None or value is False:
            continue
        if name in checked:
            raise _invalid(f"slurm_options names {name!r} twice: keep one of them.")
        _refuse_ours(name, given)
        checked[name] = _option_value(name, value)
    _refuse_contradictions(checked, given)
    return checked


def _option_name(key: object) -> str:
    if not isinstance(key, str):
        raise _invalid(f"slurm_options: a name must be a string, not {key!r}.")
    name = key.strip().lstrip("-").replace("_", "-")
    if key.startswith("-") and _NAME.fullmatch(name):
        raise _invalid(f"slurm_options: write {name!r} rather than {key!r}, without the dashes.")
    if not _NAME.fullmatch(name) or key != key.strip():
        raise _invalid(
            f"slurm_options: {key!r} is not the name of an sbatch option. Names are the long ones"
            f" of `man sbatch`, such as 'mail-type' or 'mail_type'."
        )
    if len(name) == 1:
        raise _invalid(
            f"slurm_options: {key!r} is a short option; write the long name that `man sbatch`"
            f" gives beside it."
        )
    return name


def _refuse_ours(name: str, given: Collection[str]) -> None:
    if name in _OWNED:
        raise _invalid(f"slurm_options cannot set {name!r}: {_OWNED[name]}.")
    if name in given:
        keyword = _KEYWORDS.get(name, name.replace("-", "_"))
        raise _invalid(
            f"{keyword}= and slurm_options[{name!r}] say the same thing: keep one of them."
        )
    # sbatch takes any unambiguous beginning of a name (getopt_long(3)): "out" would be "output".
    if name in _KEYWORDS or name in _NOT_ABBREVIATIONS or name in _ALSO_OURS:
        return
    for whole in (*_OWNED, *_KEYWORDS, *_ALSO_OURS):
        if whole.startswith(name):
            raise _invalid(
                f"slurm_options: {name!r} is the beginning of {whole!r}; write names in full."
            )


def _option_value(name: str, value: object) -> OptionValue:
    if value is True:
        return True
    if not isinstance(value, (str, numbers.Real, PurePath)):
        raise _invalid(
            f"slurm_options[{name!r}]: cannot use {value!r}. A value is a string or a number, True"
            f" for a flag, None to leave it out; several values are one string, 'a,b'."
        )
    text = str(value)
    if isinstance(value, numbers.Real) and not math.isfinite(value):
        raise _invalid(f"slurm_options[{name!r}]: {text} is not a number that sbatch could use.")
    if _CONTROL.search(text):
        raise _invalid(
            f"slurm_options[{name!r}]: {text!r} holds a newline or another control character,"
            f" which would end its line in the script: leave it out."
        )
    return text


def _refuse_contradictions(checked: Mapping[str, OptionValue], given: Collection[str]) -> None:
    memory = [name for name in _MEMORY_OPTIONS if name in checked or name in given]
    if len(memory) > 1:
        raise _invalid(
            f"{' and '.join(memory)} exclude each other in Slurm: keep one of them (mem= is the"
            f" memory of each node)."
        )
    if "requeue" in checked and "no-requeue" in checked:
        raise _invalid("requeue and no-requeue exclude each other: keep one of them.")


def warning_signal(time_limit_seconds: int | None) -> str | None:
    """Return the value of ``--signal`` for a time limit, None where a warning would do harm.

    Parameters
    ----------
    time_limit_seconds
        The time limit; None when it is not known.
    """
    # A task that is warned takes no more rows. Slurm may warn up to 60 s earlier than asked
    # (sbatch(1); on 22.05.8 @90 with a limit of 2 minutes came 2.5 s after the start), so with a
    # limit of five minutes or less most of the time could be lost, and with an unknown one all
    # of it. 10% of the limit and at most 90 s: with the 60 s never more than a third of the limit
    # (0.1 T + 60 <= T / 3 from T = 257 s on), a hundredth of it for a limit of four hours. Even
    # without a warning SIGTERM comes KillWait (30 s by default) before the end.
    if time_limit_seconds is None or time_limit_seconds <= _SHORTEST_LIMIT_WARNED:
        return None
    return f"B:USR1@{min(_WARNING_SECONDS, time_limit_seconds // 10)}"


def time_limit(time: object, slurm_options: Mapping[str, object]) -> int | None:
    """Return the time limit of a run in seconds, None where it is not known.

    Parameters
    ----------
    time, slurm_options
        As in `slurm_apply`.

    Examples
    --------
    >>> time_limit("2h", {}), time_limit("2h", {"time-min": "30"}), time_limit(None, {})
    (7200, 1800, None)
    """
    # With --time-min Slurm may cut the limit down to it.
    limit = slurm_options.get("time-min") or parse_time(time) or slurm_options.get("time")
    return time_seconds(None if limit is None else str(limit))


def run_options(
    *,
    slurm_name: str,
    tasks: int,
    console: str,
    cpus_per_node: int,
    gpus_per_node: int | str | None = None,
    time: object = None,
    mem: object = None,
    partition: str | None = None,
    account: str | None = None,
    task_limit: int | None = None,
    after: Sequence[str] = (),
    slurm_options: Mapping[str, object] | None = None,
) -> Options:
    """Return all that is asked of sbatch for a run.

    No ``--nodes``: as in rslurm, ``nodes`` is the number of array tasks, and Slurm may put
    several on one machine.

    Parameters
    ----------
    slurm_name
        The job's name with the submission's tag.
    tasks
        How many array tasks.
    console
        Pattern of the tasks' consoles, relative to the job folder.
    after
        Ids of Slurm jobs that must have ended first.
    cpus_per_node, gpus_per_node, time, mem, partition, account, task_limit, slurm_options
        As in `slurm_apply`.

    Raises
    ------
    InvalidArgumentError
        One of them cannot be used.
    """
    keywords = {
        "cpus-per-task": str(cpus_per_node),
        "gpus-per-node": None if gpus_per_node is None else str(gpus_per_node),
        "time": parse_time(time),
        "mem": None if mem is None else parse_memory(mem),
        "partition": _one_line("partition", partition),
        "account": _one_line("account", account),
    }
    given = {name: value for name, value in keywords.items() if value is not None}
    user = check_options(slurm_options or {}, given=given)
    options: dict[str, OptionValue] = {
        "job-name": slurm_name,
        "array": f"0-{tasks - 1}" + (f"%{task_limit}" if task_limit else ""),
        **given,
        # Relative to the job folder, so that the folder can be moved and submitted by hand.
        "output": console,
        # Without it a requeued task begins by emptying the console of its first life.
        "open-mode": "append",
    }
    if "no-requeue" not in user:
        options["requeue"] = True
    if "propagate" not in user:
        # Limits of the login node (ulimit) are not meant for the nodes.
        options["propagate"] = "NONE"
    warning = warning_signal(time_limit(time, user))
    if warning:
        options["signal"] = warning
    dependency = _dependency(after, user.pop("dependency", None))
    if dependency:
        options["dependency"] = dependency
    return Options(tuple((options | user).items()))


def _dependency(after: Sequence[str], users: OptionValue | None) -> str | None:
    if users is True:
        raise _invalid("slurm_options['dependency'] needs a value, such as 'afterok:123'.")
    ours = "afterany:" + ":".join(after) if after else None
    # sbatch(1): "," is and, "?" is or; one list cannot have both.
    if ours and users and "?" in users:
        raise _invalid(
            f"after= cannot be joined with the dependency {users!r}: Slurm does not mix 'and' with"
            f" '?'. Keep one of them."
        )
    return ",".join(part for part in (ours, users) if part) or None


def _one_line(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or _CONTROL.search(value):
        raise _invalid(f"{name}={value!r}: a name of Slurm's is needed, one line of text.", name)
    return value.strip()


def _invalid(message: str, argument: str = "slurm_options") -> InvalidArgumentError:
    return InvalidArgumentError(message, argument=argument)
