"""The one module that starts processes on the machine of the session.

Argument lists only, never a shell line; a time limit on every call; an environment in which a
command answers the same for every user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply.errors import SchedulerError, SchedulerNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What a surrounding job or the user's taste has put there: a submission from inside a job would
# inherit the job's CPU binding and sizes (sbatch(1), "INPUT ENVIRONMENT VARIABLES"), and a
# SQUEUE_FORMAT would change the answers that we read.
_SCRUBBED = (
    "SLURM_",
    "SLURMD_",
    "SBATCH_",
    "SRUN_",
    "SALLOC_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SCONTROL_",
    "SINFO_",
    "PMI",
)
# Which Slurm, as whom, and the user's own standing choices: many sites tell their users to put
# SBATCH_ACCOUNT into ~/.bashrc. All of these are overridden by our command line.
_KEPT = frozenset(
    {
        "SLURM_CONF",
        "SLURM_CLUSTERS",
        "SLURM_JWT",
        "SBATCH_CLUSTERS",
        "SBATCH_ACCOUNT",
        "SBATCH_PARTITION",
        "SBATCH_QOS",
        "SBATCH_RESERVATION",
    }
)
_LONGEST_OUTPUT_QUOTED = 2000
_LARGEST_VARIABLE = 128 * 1024  # MAX_ARG_STRLEN, execve(2)

# Positional parameters, so that no argument is ever read as shell text. The pid is the program's
# own: bash replaces the background subshell of a simple command by the command.
_DETACH = 'out=$1; shift; "$@" </dev/null >>"$out" 2>&1 & echo "$!"'


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended.

    Attributes
    ----------
    argv
        The command.
    exit_code
        Its exit status, negative for a signal.
    stdout, stderr
        What it said.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, errors first."""
        return "\n".join(text.strip() for text in (self.stderr, self.stdout) if text.strip())


def user_environment() -> dict[str, str]:
    """Return this process's environment without what would change an answer or a submission.

    Returns
    -------
    dict
        Everything but Slurm's variables; of those, the ones that say which cluster, and the
        user's standing account, partition, QOS and reservation, stay.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_SCRUBBED)
    }


def _question_environment() -> dict[str, str]:
    # Not for sbatch: what it sees is what the job gets, and the user's locale is the user's.
    return user_environment() | {"LC_ALL": "C.UTF-8", "SLURM_BITSTR_LEN": "0"}


def run(
    argv: Sequence[str],
    *,
    purpose: str = "",
    cwd: Path | None = None,
    timeout: float = 30.0,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run a command to its end and return what it said.

    Parameters
    ----------
    argv
        The command as a list of arguments.
    purpose
        What is being done, for the message of an error: ``"submitting tuning"``.
    cwd
        Its working folder.
    timeout
        Seconds after which it is killed together with everything that it started.
    check
        Whether an exit status other than 0 is an error.
    environment
        Its environment; by default this process's, scrubbed, with a neutral locale.

    Raises
    ------
    SchedulerNotFoundError
        There is no such command.
    SchedulerError
        It failed, or did not end in time (then its ``exit_code`` is None).
    """
    argv = tuple(argv)
    env = _question_environment() if environment is None else dict(environment)
    process = _start(argv, purpose=purpose, cwd=cwd, env=env)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        said = _end_group(process)
        raise SchedulerError(
            f"{_doing(purpose, argv)}: no answer within {timeout:g} s, so the command was stopped."
            f"{_quoted(said)}The batch system may be busy or down: try again in a few minutes.",
            command=argv,
            output=said,
        ) from None
    except BaseException:
        _end_group(process)
        raise
    completed = Completed(argv, process.returncode, stdout, stderr)
    if check and completed.exit_code != 0:
        raise failure(completed, purpose=purpose)
    return completed


def failure(completed: Completed, *, purpose: str = "", advice: str = "") -> SchedulerError:
    """Return the error for a command that ended badly, with its own words in it.

    Parameters
    ----------
    completed
        The command.
    purpose
        What was being done.
    advice
        What to do next, one sentence.
    """
    return SchedulerError(
        f"{_doing(purpose, completed.argv)}: {_ended(completed.exit_code)}."
        f"{_quoted(completed.output)}{advice or _try_by_hand(completed.argv)}",
        command=completed.argv,
        exit_code=completed.exit_code,
        output=completed.output,
    )


def start_detached(
    argv: Sequence[str], *, cwd: Path, output: Path, environment: Mapping[str, str] | None = None
) -> int:
    """Start a process that outlives this one, and return its pid.

    It is in a session of its own (no terminal can hang it up), reads nothing, appends both of its
    streams to a file, and is not a child of this process, so that it leaves no zombie.

    Parameters
    ----------
    argv
        The command as a list of arguments.
    cwd
        Its working folder.
    output
        The file that takes what it prints.
    environment
        Its environment; by default this process's, scrubbed.

    Raises
    ------
    SchedulerNotFoundError
        There is no such command.
    """
    if shutil.which(argv[0]) is None:
        raise _not_found(tuple(argv), "starting a process in the background")
    launcher = run(
        ["bash", "-c", _DETACH, "slurmapply", str(output), *argv],
        purpose="starting a process in the background",
        cwd=cwd,
        environment=user_environment() if environment is None else environment,
    )
    return int(launcher.stdout)


def process_start_time(pid: int) -> int | None:
    """Return when a process of this machine started, in clock ticks since the machine did.

    Together with `boot_id` it tells a process from a later one of the same pid (proc(5), stat,
    field 22).

    Returns
    -------
    int or None
        None when there is no such process, or only a zombie is left of it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may itself hold blanks and brackets.
    fields = text.rpartition(b")")[2].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def processes_with_argument(argument: str) -> list[int]:
    """Give this machine's processes that were started with this very argument."""
    return _processes_with("cmdline", argument)


def processes_with_variable(name: str, value: str) -> list[tuple[int, dict[str, str]]]:
    """Give this user's processes that were started with this variable, oldest first.

    Returns
    -------
    list
        Pid and environment of each.
    """
    # Each environment is read once: a second look would find another program, or none.
    environments = {pid: _environment_of(pid) for pid in _pids()}
    found = [
        (process_start_time(pid), pid, environment)
        for pid, environment in environments.items()
        if environment.get(name) == value
    ]
    return [(pid, environment) for start, pid, environment in sorted(found, key=_age) if start]


def _age(found: tuple[int | None, int, dict[str, str]]) -> tuple[int, int]:
    return found[0] or 0, found[1]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _processes_with(file: str, entry: str) -> list[int]:
    return [pid for pid in _pids() if entry in _entries(pid, file) and process_start_time(pid)]


def _environment_of(pid: int) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in _entries(pid, "environ"))
    return {name: value for name, _, value in pairs}


def _entries(pid: int, file: str) -> list[str]:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/{file}").read_bytes()).split("\0")
    except OSError:  # it has ended, or is another user's
        return []


def boot_id() -> str:
    """Return what names this start of this machine, empty where the system has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start(
    argv: tuple[str, ...], *, purpose: str, cwd: Path | None, env: dict[str, str]
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(  # noqa: S603  an argument list, never a shell line
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise _start_error(error, argv, purpose, env) from error


def _start_error(
    error: OSError, argv: tuple[str, ...], purpose: str, env: Mapping[str, str]
) -> SchedulerError:
    if error.errno == errno.ENOENT and shutil.which(argv[0]) is None:
        return _not_found(argv, purpose)
    advice = ""
    if error.errno == errno.E2BIG:
        largest = max(env, key=lambda name: len(env[name]))
        advice = (
            f" The environment variable {largest} has {len(env[largest])} characters, more than"
            f" the system allows ({_LARGEST_VARIABLE}): unset it."
        )
    return SchedulerError(
        f"{_doing(purpose, argv)}: the command could not be started: {error}.{advice}",
        command=argv,
    )


def _not_found(argv: tuple[str, ...], purpose: str) -> SchedulerNotFoundError:
    return SchedulerNotFoundError(
        f"{_doing(purpose, argv)}: there is no {argv[0]} on this machine. Is this a login node of"
        f" the cluster, and is its folder on PATH?",
        command=argv,
    )


def _end_group(process: subprocess.Popen[str]) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        stdout, stderr = process.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        # Something that left the group still holds the pipes: not ours to wait for.
        _close_pipes(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        return ""
    return "\n".join(text.strip() for text in (stderr, stdout) if text.strip())


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _doing(purpose: str, argv: tuple[str, ...]) -> str:
    return f"{purpose} with {argv[0]}" if purpose else argv[0]


def _ended(exit_code: int) -> str:
    return f"exit status {exit_code}" if exit_code >= 0 else f"ended by signal {-exit_code}"


def _quoted(text: str) -> str:
    lines = text.strip()[-_LONGEST_OUTPUT_QUOTED:].splitlines()
    return "".join(f"\n    {line}" for line in lines) + ("\n" if lines else " ")


def _try_by_hand(argv: tuple[str, ...]) -> str:
    return f"The command was: {shlex.join(argv)}"
