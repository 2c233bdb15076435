"""What a run asks for: all keywords that say how much, where, and what the node needs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.byvalue import check_modules
from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.amounts import parse_seconds, parse_time
from slurmapply.schedulers.options import run_options, time_limit
from slurmapply.schedulers.script import check_syntax, default_template, render, script_fields
from slurmapply.signature import check_count

if TYPE_CHECKING:
    from slurmapply.schedulers.options import Options

SCHEDULES = ("dynamic", "static")
#: A row's attempts are counted in 16 bits, over all runs of its job.
_MOST_RETRIES = 1000
AUTO = "auto"
#: What sbatch calls [type:]number; the type is the site's word.
_GPUS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*:[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Resources:
    """The checked keywords of a run; the names are those of `slurm_apply`."""

    nodes: int = 2
    cpus_per_node: int = 2
    processes_per_node: int | None = None
    gpus_per_node: int | str | None = None
    time: Any = None
    mem: Any = None
    partition: str | None = None
    account: str | None = None
    slurm_options: Mapping[str, Any] = field(default_factory=dict)
    task_limit: int | None = None
    schedule: str = "dynamic"
    chunksize: int | None = None
    packages: tuple[str, ...] = ()
    by_value: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    python: str = sys.executable
    sys_path: tuple[str, ...] = ()
    template: str | None = None
    row_timeout: float | None = None
    max_failures: int | str | None = AUTO
    retries: int = 0

    @property
    def processes(self) -> int:
        """Workers in each task."""
        return self.processes_per_node or self.cpus_per_node

    @property
    def gpus(self) -> int | None:
        """Number of GPUs of each task; None when none were asked for."""
        asked = self.gpus_per_node
        return int(asked.rpartition(":")[2]) if isinstance(asked, str) else asked

    @property
    def time_seconds(self) -> int | None:
        """The time limit of each task; None when it is the cluster's, which is not known here."""
        return time_limit(self.time, self.slurm_options)

    def plain(self) -> dict[str, Any]:
        """Give what is written to ``run.json``."""
        return asdict(self) | {"slurm_options": dict(self.slurm_options)}


def check_resources(given: Mapping[str, Any], before: Resources | None = None) -> Resources:
    """Check the keywords that were given, the others standing as before.

    Raises
    ------
    InvalidArgumentError
        One of them cannot be used; nothing was written.
    """
    base = before or Resources()
    known = {each.name for each in fields(Resources)}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise InvalidArgumentError(
            f"{unknown[0]} cannot be changed here; what can: {', '.join(sorted(known))}.",
            argument=unknown[0],
        )
    changed = {name: _CHECKS[name](value, name) for name, value in given.items()}
    if "slurm_options" in changed:
        changed["slurm_options"] = dict(base.slurm_options) | changed["slurm_options"]
    resources = replace(base, **changed)
    # Everything that sbatch would see, rendered once, so that a fault shows before a file is made.
    sbatch_options(resources, slurm_name="check", tasks=1, run=0)
    return replace(resources, time=parse_time(resources.time))


def sbatch_options(
    resources: Resources, *, slurm_name: str, tasks: int, run: int, after: tuple[str, ...] = ()
) -> Options:
    """List all that is asked of sbatch for a run."""
    return run_options(
        slurm_name=slurm_name,
        tasks=tasks,
        console=jobfolder.task_console(run),
        cpus_per_node=resources.cpus_per_node,
        gpus_per_node=resources.gpus_per_node,
        time=resources.time,
        mem=resources.mem,
        partition=resources.partition,
        account=resources.account,
        task_limit=resources.task_limit,
        after=after,
        slurm_options=resources.slurm_options,
    )


def render_script(
    resources: Resources, options: Options, *, script: str, uuid: str, run: int, tag: str
) -> str:
    """Write the run's submit script.

    Raises
    ------
    InvalidArgumentError
        The template or a setup line is no valid shell.
    """
    text = render(
        resources.template or default_template(),
        script_fields(
            options=options,
            script=script,
            setup=resources.setup,
            cpus_per_node=resources.cpus_per_node,
            processes_per_node=resources.processes,
            python=resources.python,
            version=sys.version_info[:2],
            command=(jobfolder.WORKER, "--uuid", uuid, "--run", str(run), "--tag", tag),
        ),
    )
    if resources.setup or resources.template:
        check_syntax(text, argument="setup" if resources.setup else "template")
    return text


def _count(value: Any, name: str) -> int:
    return check_count(value, name)


def _optional_count(value: Any, name: str) -> int | None:
    return None if value is None else check_count(value, name)


def _optional_seconds(value: Any, name: str) -> float | None:
    return None if value is None else parse_seconds(value, name)


def check_gpus(value: Any, name: str = "gpus_per_node") -> int | str | None:
    """Give a number of GPUs, with a type or without."""
    if value is None:
        return None
    if isinstance(value, str) and _GPUS.fullmatch(value.strip()):
        return value.strip()
    if isinstance(value, str):
        raise InvalidArgumentError(
            f"{name}: a number of GPUs is needed, such as 2, or with the site's word for their "
            f"type 'a100:2', not {value!r}.",
            argument=name,
        )
    return check_count(value, name)


def check_max_failures(value: Any, name: str = "max_failures") -> int | str | None:
    """Give "auto", a number of failures, or None."""
    if value is None or (isinstance(value, str) and value == AUTO):
        return value
    if isinstance(value, str):
        raise InvalidArgumentError(
            f'{name}: "auto", a whole number, 1 or more, or None (never) is needed, not {value!r}.',
            argument=name,
        )
    return check_count(value, name)


def check_retries(value: Any, name: str = "retries") -> int:
    """Give a number of further attempts."""
    number = check_count(value, name, minimum=0)
    if number > _MOST_RETRIES:
        raise InvalidArgumentError(
            f"{name}: {_MOST_RETRIES} at most, not {number}. What failed so often will fail again.",
            argument=name,
        )
    return number


def _as_given(value: Any, _name: str) -> Any:
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(
            f"{name}: a mapping of sbatch options is needed, as {{'qos': 'long'}}, not {value!r}.",
            argument=name,
        )
    # One spelling, so that an option given later replaces the one that stood before.
    return {str(key).replace("_", "-"): option for key, option in value.items()}


def _schedule(value: Any, name: str) -> str:
    if value not in SCHEDULES:
        raise InvalidArgumentError(
            f'{name}: "dynamic" (rows are shared out while they run) or "static" (equal chunks '
            f"decided beforehand), not {value!r}.",
            argument=name,
        )
    return str(value)


def _strings(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    alone = isinstance(value, (str, os.PathLike))
    entries: list[Any] = [value] if alone else [*value] if isinstance(value, Iterable) else [None]
    if not all(isinstance(entry, (str, os.PathLike)) for entry in entries):
        raise InvalidArgumentError(f"{name}: strings are needed, not {value!r}.", argument=name)
    return tuple(os.fspath(entry) for entry in entries)


def _paths(value: Any, name: str) -> tuple[str, ...]:
    try:
        return tuple(str(Path(entry).expanduser().absolute()) for entry in _strings(value, name))
    except RuntimeError as error:  # ~nobody
        raise InvalidArgumentError(f"{name}: {error} in {value!r}.", argument=name) from error


def _python(value: Any, name: str) -> str:
    if value is None:
        return sys.executable
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidArgumentError(
            f"{name}: the path of a Python interpreter is needed, not {value!r}.", argument=name
        )
    text = os.fspath(value)
    if not text.isprintable():
        raise InvalidArgumentError(
            f"{name}: {text!r} holds a control character, which no path of a program has.",
            argument=name,
        )
    return text


def _template(value: Any, name: str) -> str | None:
    if value is None:
        return None
    try:
        return Path(value).expanduser().read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"{name}: the submit-script template {value!r} cannot be read ({error}). Write one "
            "with Path('my.sh').write_text(default_template()) and change it.",
            argument=name,
        ) from error


_CHECKS: dict[str, Any] = {
    "nodes": _count,
    "cpus_per_node": _count,
    "processes_per_node": _optional_count,
    "time": _as_given,
    "mem": _as_given,
    "partition": _as_given,
    "account": _as_given,
    "slurm_options": _mapping,
    "task_limit": _optional_count,
    "schedule": _schedule,
    "chunksize": _optional_count,
    "packages": _strings,
    "by_value": check_modules,
    "setup": _strings,
    "python": _python,
    "sys_path": _paths,
    "template": _template,
    "gpus_per_node": check_gpus,
    "row_timeout": _optional_seconds,
    "max_failures": check_max_failures,
    "retries": check_retries,
}


def resources_of(content: Mapping[str, Any]) -> Resources:
    """Read what `Resources.plain` wrote."""
    plain = dict(content)
    for name in ("packages", "by_value", "setup", "sys_path"):
        plain[name] = tuple(plain.get(name, ()))  # by_value came later than the folder's format
    return Resources(**plain)
