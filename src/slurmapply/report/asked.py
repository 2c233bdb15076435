"""What was asked for: the call, its resources, its runs."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any

from slurmapply.errors import SlurmApplyError
from slurmapply.palette import counted, exact
from slurmapply.report.text import LONGEST_TEXT, at, cut, shown
from slurmapply.rows import ITEM
from slurmapply.runview import read_submission
from slurmapply.seeds import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    from slurmapply.report.sources import Sources
    from slurmapply.runview import RunView
    from slurmapply.schedulers.base import Submission
    from slurmapply.timeline import RunTimes

_CALLS = {
    "apply": "once for each row of a table",
    "map": "once for each item of a collection",
    "call": "once",
}
#: Resources that are said only where they are not the default, and what that is.
SELDOM: dict[str, Any] = {
    "gpus_per_node": None, "partition": None, "account": None, "slurm_options": {},
    "task_limit": None, "schedule": "dynamic", "chunksize": None, "packages": (), "by_value": (),
    "setup": (), "sys_path": (), "template": None, "row_timeout": None, "max_failures": "auto",
    "retries": 0,
}  # fmt: skip
_MOST_NAMES = 40
_MOST_RUNS = 50


def asked_for(sources: Sources) -> list[tuple[str, str]]:
    """Give what was asked for, as pairs of a word and a text."""
    job, resources = sources.job, sources.follower.run.asked["resources"]
    pairs = [
        ("function", f"{job.get('function')}, {_CALLS.get(job['kind'], 'called')}"),
        ("rows", f"{job['rows']:,}"),
        ("parameters", _parameters(sources)),
        *_resources(sources.follower.run),
    ]
    pairs += [
        (name, _joined(resources[name]))
        for name, default in SELDOM.items()
        if name in resources and _as_read(resources[name]) != default
    ]
    seed = seed_of(job)
    pairs.append(("seed", f"{seed.number} ({'given' if seed.given else 'drawn'})"))
    return [(word, cut(text, 500)) for word, text in pairs if text]


def _resources(run: RunView) -> list[tuple[str, str]]:
    """Give how much was asked for; without a Slurm that binds nobody."""
    resources, tasks = run.asked["resources"], run.asked["tasks"]
    kind = run.submission.kind if run.submission else run.asked["backend"]
    if kind != "slurm":
        where = "the session itself" if kind == "inline" else "one machine, without a Slurm"
        started = (view.started for view in run.lives if view.started)
        workers = next((start.get("workers", 1) for start in started), None)
        at_a_time = f", {counted(workers)} at a time" if workers else ""
        return [("ran in", f"{where}{at_a_time}")]
    fewer = f", of which {tasks} had rows" * (tasks < resources["nodes"])
    return [
        ("nodes", f"{resources['nodes']}{fewer}"),
        ("CPUs of each", str(resources["cpus_per_node"])),
        ("workers of each", str(run.asked["processes_per_node"])),
        ("time limit", resources["time"] or "the cluster's default"),
        ("memory of each", resources["mem"] or "the cluster's default"),
    ]


def _joined(value: Any) -> str:
    return cut("; ".join(map(str, value))) if isinstance(value, (list, tuple)) else shown(value)


def _as_read(value: Any) -> Any:
    """Give a value of JSON as it was before it was written."""
    return tuple(value) if isinstance(value, list) else value


def _parameters(sources: Sources) -> str:
    try:
        names = [cut(name, 60) for name in sources.parameters.column_names() if name != ITEM]
    except SlurmApplyError:  # the table of rows says why
        return ""
    more = len(names) - _MOST_NAMES
    said = ", ".join(names[:_MOST_NAMES])
    return f"{said} and {more} more" if more > 0 else said


def runs(sources: Sources) -> list[dict[str, str]]:
    """Give a line for each run: how it was submitted, when, how long it waited and worked."""
    times = sources.timeline.runs[-_MOST_RUNS:]
    return [_run(sources, each) for each in times]


def _run(sources: Sources, times: RunTimes) -> dict[str, str]:
    number = times.number
    submission = read_submission(sources.disk, number)
    waits = [wait.end - wait.begin for wait in sources.timeline.waits if wait.run == number]
    view = sources.follower.view_run(number)
    return {
        "run": str(number),
        "submission": cut(_submission(submission), 80) if submission else "",
        "submitted": at(times.submitted) or ("by hand" if submission else "not submitted"),
        "rows": counted(len(view.rows)),
        "tasks": str(view.asked["tasks"]),
        "waited": exact(max(waits)) if waits else "",
        "worked": exact(times.end - times.zero) if times.started else "",
        "changed": _changed(sources, number),
    }


def _submission(submission: Submission) -> str:
    kind, job_id = submission.kind, submission.job_id
    return job_id if job_id.startswith(kind) else f"{kind.capitalize()} job {job_id}"


def _changed(sources: Sources, number: int) -> str:
    """Say what a retry asked for otherwise than the run before it."""
    if not number:
        return ""
    now, before = (sources.follower.view_run(each).asked for each in (number, number - 1))
    said = ["another function"] * (now["function_of_run"] != before["function_of_run"])
    new, old = now["resources"], before["resources"]
    said += [f"{name}={shown(new[name], 60)}" for name in new if new[name] != old.get(name)]
    return cut(", ".join(said), 500)


def source_of(sources: Sources) -> str:
    """Give the function's source, empty where it cannot be known for certain.

    The file may have been edited since: what is shown was compiled again, and gives the very code
    that the job has.
    """
    try:
        function = inspect.unwrap(sources.load_function())
        while hasattr(function, "func"):  # functools.partial
            function = function.func
        code = function.__code__
        # All of the file: what its top imports changes what calls are compiled to (Python 3.11).
        lines, _ = inspect.findsource(function)
        text = textwrap.dedent(inspect.getsource(function))
        whole = compile("".join(lines), code.co_filename, "exec", dont_inherit=True)
        if len(text) <= LONGEST_TEXT and any(_alike(each, code) for each in _codes(whole)):
            return cut(text)
    except (Exception, SystemExit):  # noqa: BLE001  # loading it runs the user's own modules
        return ""
    return ""


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield constant
            yield from _codes(constant)


def _alike(one: CodeType, other: CodeType) -> bool:
    def plain(code: CodeType) -> list[Any]:
        return [repr(each) for each in code.co_consts if not inspect.iscode(each)]

    def told(code: CodeType) -> tuple[Any, ...]:
        return code.co_name, code.co_code, code.co_names, code.co_varnames, plain(code)

    return told(one) == told(other)


def facts(sources: Sources) -> list[tuple[str, str]]:
    """Give where and by what the job was made."""
    job = sources.job
    session: Mapping[str, Any] = job.get("session", {})
    python: Mapping[str, Any] = job.get("python", {})
    versions = sorted({**job.get("versions", {}), **_version_of(python)}.items())
    pairs = [
        ("made", at(job.get("created"))),
        ("by", f"{session.get('user', '')} on {session.get('host', '')}"),
        ("from folder", str(session.get("folder", ""))),
        ("job folder", str(sources.folder)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions)),
        ("Python", str(python.get("executable", ""))),
        ("job", f"{job['uuid']}, folder format {job.get('format')}"),
    ]
    pairs += [
        (f"digest of the {name}", str(digest)) for name, digest in job["fingerprints"].items()
    ]
    return [(word, cut(text, 500)) for word, text in pairs if text]


def _version_of(python: Mapping[str, Any]) -> dict[str, str]:
    name = python.get("implementation", "Python")
    return {str(name): str(python["version"])} if "version" in python else {}
