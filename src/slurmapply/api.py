"""The three calls that make a job: over the rows of a table, over a collection, once."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from slurmapply import fingerprint, jobfolder, listing
from slurmapply.backends import choose_backend
from slurmapply.byvalue import sources_of
from slurmapply.costs import read_costs
from slurmapply.earlier import existing_job, ids_to_wait_for, refuse_to_replace, same_job
from slurmapply.errors import InvalidArgumentError
from slurmapply.inputs import Params, read_items, read_params
from slurmapply.job import SlurmJob
from slurmapply.preparing import RunPlan, Work, write_job
from slurmapply.resources import check_resources
from slurmapply.schedulers.script import default_template as _template_text
from slurmapply.settings import load_defaults, merge_slurm_options
from slurmapply.shipping import WORTH_SAYING, caller_outside, find_globals, large_parts
from slurmapply.signature import check_call, check_count, function_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from pathlib import Path
    from types import ModuleType

    from slurmapply.rows import RowNumbers

P = ParamSpec("P")
R = TypeVar("R")

#: What rslurm calls what we call otherwise.
_RSLURM = {
    "jobname": "job_name",
    "pkgs": "packages",
    "libPaths": "sys_path",
    "rscript_path": "python",
    "r_template": "initializer (a function run once in each worker) or setup",
    "sh_template": "template",
    "job_array_task_limit": "task_limit",
    "preschedule_cores": 'schedule="static" (TRUE) or schedule="dynamic" (FALSE)',
    "add_objects": "global_objects",
    "x": "items",
}
_NAME_LENGTH = 100
#: Of a seed that is drawn; a seed that is given may be as long as NumPy's own.
_SEED_BITS = 64
_SEED_END = 2**128
_NOT_RESOURCES = frozenset(
    {
        "f", "params", "items", "more_args", "global_objects", "initializer", "seed", "job_name",
        "if_exists", "jobs_folder", "after", "backend", "submit", "cost",
    }
)  # fmt: skip


def with_site_defaults(function: Callable[P, R]) -> Callable[P, R]:
    """Fill keywords that were not given from ``slurmapply.toml`` and `set_defaults`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        _refuse_unknown(function.__name__, given, signature.parameters, args[:1])
        defaults = {k: v for k, v in load_defaults().items() if k in signature.parameters}
        options = merge_slurm_options(
            defaults.pop("slurm_options", None), _options_given(given.get("slurm_options"))
        )
        merged: Any = defaults | given
        if options:
            merged["slurm_options"] = options
        return function(*args, **merged)

    return call


def _options_given(options: Any) -> Any:
    # What is no mapping is refused with the other keywords, by its name.
    return options if hasattr(options, "items") else None


def _refuse_unknown(
    name: str, given: Mapping[str, Any], known: Mapping[str, Any], first: tuple[Any, ...]
) -> None:
    for keyword in given:
        if keyword in known:
            continue
        if _takes(first, keyword):
            hint = f"it is an argument of f, and goes into more_args={{{keyword!r}: ...}}"
        elif keyword in _RSLURM:
            hint = f"rslurm's {keyword} is {_RSLURM[keyword]} here"
        else:
            near = difflib.get_close_matches(keyword, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "arguments of f go into more_args={...}"
        raise InvalidArgumentError(
            f"{name}() has no keyword {keyword!r}: {hint}.", argument=keyword
        )


def _takes(first: tuple[Any, ...], keyword: str) -> bool:
    try:
        return keyword in inspect.signature(first[0]).parameters
    except (IndexError, TypeError, ValueError):  # not given here, no function, a builtin
        return False


@with_site_defaults
def slurm_apply(
    f: Callable[..., Any],
    params: Any,
    *,
    more_args: Mapping[str, Any] | None = None,
    global_objects: Iterable[str] | Mapping[str, Any] | None = None,
    packages: Iterable[str] = (),
    by_value: str | ModuleType | Iterable[str | ModuleType] = (),
    initializer: Callable[[], Any] | None = None,
    seed: int | None = None,
    nodes: int = 2,
    cpus_per_node: int = 2,
    processes_per_node: int | None = None,
    gpus_per_node: int | str | None = None,
    time: Any = None,
    mem: str | None = None,
    partition: str | None = None,
    account: str | None = None,
    slurm_options: Mapping[str, Any] | None = None,
    task_limit: int | None = None,
    schedule: str = "dynamic",
    chunksize: int | None = None,
    cost: str | Iterable[float] | None = None,
    setup: str | Iterable[str] = (),
    python: str | os.PathLike[str] | None = None,
    sys_path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    template: str | os.PathLike[str] | None = None,
    row_timeout: float | str | timedelta | None = None,
    max_failures: int | str | None = "auto",
    retries: int = 0,
    job_name: str | None = None,
    if_exists: str = "fail",
    jobs_folder: str | os.PathLike[str] = ".",
    after: Any = None,
    backend: str = "auto",
    submit: bool = True,
) -> SlurmJob:
    """Call a function once for each row of a table, spread over a Slurm cluster.

    Parameters
    ----------
    f : callable
        Called once per row; the row's cells are keyword arguments, by the columns' names.
        Functions of a notebook, lambdas, closures, partials and bound methods work.
    params : frame, mapping of columns, or iterable of mappings
        One row per call. pandas, polars and any eager frame that narwhals knows; cells reach `f`
        as Python's own bool, int, float, str and None where they are such. An absent key of a
        mapping means f's default.
    more_args : mapping, optional
        Arguments that are the same for every row; stored once.
    global_objects : names, or mapping of name to object, optional
        Put into f's globals on the nodes. Seldom needed: what a function uses goes along.
    packages : names, optional
        Modules imported on the node before the first row; a missing one stops the task and burns
        no row.
    by_value : modules or their names, optional
        Modules of your own that go along as they are now, with those inside them: the nodes need
        not have them, and later edits change nothing. Other modules are imported on the node.
    initializer : callable, optional
        Called once in each worker before its first row.
    seed : int, optional
        Gives each row a random stream of its own, the same whatever the nodes, chunks, backend
        or retries: `random` and NumPy's legacy state are set for each row, and
        ``current_row().rng()`` is a NumPy generator. When None, the seed of ``current_row()`` is
        drawn once and recorded, and `random` and NumPy are left alone: they differ in each worker.
    nodes : int, default 2
        Pieces of the job (array tasks) at most; Slurm may put several on one machine. Fewer when
        there are too few rows.
    cpus_per_node : int, default 2
        CPUs of each piece.
    processes_per_node : int, optional
        Workers of each piece; as many as CPUs when None.
    gpus_per_node : int or str, optional
        GPUs of each piece: ``2``, or with a type ``"a100:2"``. Worker w sees GPU w mod their
        number, unless the setup lines set ``CUDA_VISIBLE_DEVICES``; a lone worker sees all.
    time : str or timedelta, optional
        Time limit: ``"2h"``, ``"1:30:00"``. The site's when None. A bare number is refused: Slurm
        reads it as minutes, people as hours.
    mem : str, optional
        Memory of each piece: ``"4G"``. The site's when None.
    partition, account : str, optional
        The site's when None.
    slurm_options : mapping, optional
        Any other long option of sbatch, with ``-`` or ``_``. True is a flag; None and False leave
        it out.
    task_limit : int, optional
        How many pieces may run at once.
    schedule : {"dynamic", "static"}
        "dynamic": rows are shared out while they run, between nodes too. "static": equal
        consecutive chunks, decided beforehand, as rslurm does.
    chunksize : int, optional
        Rows that a piece takes at once; decreasing sizes when None.
    cost : str, or sequence of numbers, optional
        What each row is expected to cost, in any unit: a column of `params` (which `f` gets as
        ever), or one number for each row. Rows that cost much start first, so that none of them
        is still running when all others are done. An estimate is enough: the size of a data set,
        or the seconds of an earlier run.
    setup : str or list of str
        Shell lines run before Python starts: ``"module load gcc"``.
    python : str, optional
        The interpreter on the nodes; this one when None.
    sys_path : str or list of str
        Appended to ``sys.path`` on the nodes; missing ones are ignored.
    template : str, optional
        Path of a submit-script template of the site's own; see `default_template`.
    row_timeout : seconds, str or timedelta, optional
        A row that takes longer is stopped, and its status is ``row_timeout``: ``90``, ``"10m"``.
        None, because only you know how long a row may take.
    max_failures : "auto", int or None
        "auto": a piece takes no more rows when the first rows of it to end (20, or twice as many
        as it has workers) all failed with the same exception at the same line: then it is the
        function that is wrong, and the other rows would only wait for their turn to fail. An
        int: after so many failures. None: never.
    retries : int, default 0
        How often a failed row is tried again inside the run. 0, because an exception mostly comes
        again; `job.retry` is there for what does not.
    job_name : str, optional
        Blanks become ``_``, then all but letters, digits and ``_`` is dropped. f's name and a
        random part when None.
    if_exists : {"fail", "open", "replace"}
        When there is a job of this name: an error; that job, if f's code with what it uses,
        params and arguments are the same; a new one in its place, if nothing of the old one can
        be alive. Of modules that the nodes import only f's own counts, by code and constants.
    jobs_folder : path
        Where the job folder ``_slurmapply_<name>`` is made; the nodes must see it.
    after : SlurmJob or list of SlurmJob, optional
        Jobs that must have ended first.
    backend : {"auto", "slurm", "local", "inline"}
        "local": this machine, detached from the session. "inline": this very process. "auto":
        Slurm where there is an sbatch, local only where there is no trace of a Slurm.
    submit : bool, default True
        False: write the folder only; later ``job.submit()``, or by hand ``sbatch submit.sh``.

    Returns
    -------
    SlurmJob
        The handle: ``.status()``, ``.wait()``, ``.table()``, ``.results()``, ``.retry()``, ...

    Raises
    ------
    InvalidArgumentError
        An argument cannot be used. Nothing was written or submitted.
    JobExistsError
        There is a job of this name.
    SubmissionError
        Slurm refused it; the folder stays: ``err.job.submit(account="...")``.

    Examples
    --------
    >>> from slurmapply import expand_grid, slurm_apply
    >>> def area(width, height):
    ...     return width * height
    >>> params = expand_grid(width=[1, 2], height=[10, 20])
    >>> job = slurm_apply(area, params, job_name="areas", backend="inline")  # doctest: +ELLIPSIS
    areas: 4 rows, one after another...
    >>> print(job.table())
       width  height  result
    0      1      10      10
    1      1      20      20
    2      2      10      20
    3      2      20      40
    """
    given = dict(locals())
    return make_job("apply", f, read_rows(f, params, more_args), given)


@with_site_defaults
def slurm_map(
    f: Callable[..., Any],
    items: Any,
    *,
    more_args: Mapping[str, Any] | None = None,
    global_objects: Iterable[str] | Mapping[str, Any] | None = None,
    packages: Iterable[str] = (),
    by_value: str | ModuleType | Iterable[str | ModuleType] = (),
    initializer: Callable[[], Any] | None = None,
    seed: int | None = None,
    nodes: int = 2,
    cpus_per_node: int = 2,
    processes_per_node: int | None = None,
    gpus_per_node: int | str | None = None,
    time: Any = None,
    mem: str | None = None,
    partition: str | None = None,
    account: str | None = None,
    slurm_options: Mapping[str, Any] | None = None,
    task_limit: int | None = None,
    schedule: str = "dynamic",
    chunksize: int | None = None,
    cost: str | Iterable[float] | None = None,
    setup: str | Iterable[str] = (),
    python: str | os.PathLike[str] | None = None,
    sys_path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    template: str | os.PathLike[str] | None = None,
    row_timeout: float | str | timedelta | None = None,
    max_failures: int | str | None = "auto",
    retries: int = 0,
    job_name: str | None = None,
    if_exists: str = "fail",
    jobs_folder: str | os.PathLike[str] = ".",
    after: Any = None,
    backend: str = "auto",
    submit: bool = True,
) -> SlurmJob:
    """Call a function once for each item of a collection, as its first positional argument.

    Parameters
    ----------
    f : callable
        Called once per item.
    items : list, mapping, Series or other collection
        Any objects. A mapping's values are the items, and its keys come back with the results.
    more_args, global_objects, packages, by_value, initializer, seed, nodes, cpus_per_node, \
processes_per_node, gpus_per_node, time, mem, partition, account, slurm_options, task_limit, \
schedule, chunksize, cost, setup, python, sys_path, template, row_timeout, max_failures, retries, \
job_name, if_exists, jobs_folder, after, backend, submit
        As in `slurm_apply`.

    Returns
    -------
    SlurmJob
        Its ``.results()`` are of the kind that `items` was: list, dict or Series.

    Raises
    ------
    InvalidArgumentError, JobExistsError, SubmissionError
        As in `slurm_apply`.

    Examples
    --------
    >>> from slurmapply import slurm_map
    >>> words = {"short": "a", "long": "abcdef"}
    >>> job = slurm_map(len, words, job_name="lengths", backend="inline")  # doctest: +ELLIPSIS
    lengths: 2 rows, one after another...
    >>> job.results()
    {'short': 1, 'long': 6}
    """
    given = dict(locals())
    _check_function(f, items)
    rows = read_items(items)
    check_call(
        f, [], more_args=_checked_mapping(more_args, "more_args"), positional=1, what="items"
    )
    return make_job("map", f, rows, given)


@with_site_defaults
def slurm_call(
    f: Callable[..., Any],
    params: Mapping[str, Any] | None = None,
    *,
    global_objects: Iterable[str] | Mapping[str, Any] | None = None,
    packages: Iterable[str] = (),
    by_value: str | ModuleType | Iterable[str | ModuleType] = (),
    seed: int | None = None,
    cpus_per_node: int = 1,
    gpus_per_node: int | str | None = None,
    time: Any = None,
    mem: str | None = None,
    partition: str | None = None,
    account: str | None = None,
    slurm_options: Mapping[str, Any] | None = None,
    setup: str | Iterable[str] = (),
    python: str | os.PathLike[str] | None = None,
    sys_path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    template: str | os.PathLike[str] | None = None,
    row_timeout: float | str | timedelta | None = None,
    retries: int = 0,
    job_name: str | None = None,
    if_exists: str = "fail",
    jobs_folder: str | os.PathLike[str] = ".",
    after: Any = None,
    backend: str = "auto",
    submit: bool = True,
) -> SlurmJob:
    """Call a function once, on a node.

    Parameters
    ----------
    f : callable
        What is called.
    params : mapping, optional
        Its keyword arguments, any objects.
    cpus_per_node : int, default 1
        CPUs of the one process.
    global_objects, packages, by_value, seed, gpus_per_node, time, mem, partition, account, \
slurm_options, setup, python, sys_path, template, row_timeout, retries, job_name, if_exists, \
jobs_folder, after, backend, submit
        As in `slurm_apply`.

    Returns
    -------
    SlurmJob
        Its ``.result()`` is what `f` returned.

    Raises
    ------
    InvalidArgumentError, JobExistsError, SubmissionError
        As in `slurm_apply`.

    Examples
    --------
    >>> from slurmapply import slurm_call
    >>> job = slurm_call(pow, {"base": 2, "exp": 8}, job_name="power", backend="inline")
    ... # doctest: +ELLIPSIS
    power: 1 row, one after another...
    >>> job.result()
    256
    """
    given = dict(locals()) | {"nodes": 1, "processes_per_node": 1}
    _check_function(f, params)
    arguments = _checked_mapping(params, "params")
    check_call(f, list(arguments), more_args={})
    rows = Params({name: [value] for name, value in arguments.items()}, 1, None)
    return make_job("call", f, rows, given)


def default_template() -> str:
    """Give slurmapply's own template of the submit script.

    A site writes it to a file, changes it, and passes its path as ``template=``. Fields in double
    braces are filled by plain substitution.

    Examples
    --------
    >>> print(default_template().splitlines()[0])
    #!/bin/bash
    """
    return _template_text()


def _check_function(f: Any, over: Any) -> None:
    """Say what was meant when the first two arguments are swapped."""
    if callable(over) and not callable(f):
        raise InvalidArgumentError(
            "the function comes first, then what it is called over: slurm_apply(f, params), "
            "slurm_map(f, items). (R's slurm_map has it the other way round.)",
            argument="f",
        )


def _checked_mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not hasattr(value, "keys") or hasattr(value, "columns"):
        raise InvalidArgumentError(
            f"{name}: a mapping of argument names to values is needed, not {type(value).__name__}.",
            argument=name,
        )
    return {str(key): value[key] for key in value.keys()}  # noqa: SIM118  # any mapping-like


def _checked_seed(value: Any) -> int:
    seed = check_count(value, "seed", minimum=0)
    if seed >= _SEED_END:
        raise InvalidArgumentError(
            "seed must be below 2**128, which is as much as NumPy's own seeds hold.",
            argument="seed",
        )
    return seed


def read_rows(f: Any, params: Any, more_args: Any) -> Params:
    """Read a table of parameters, and check that the function takes its columns.

    Raises
    ------
    InvalidArgumentError
        It is no table, or the function does not take it.
    """
    arguments = _checked_mapping(more_args, "more_args")
    _check_function(f, params)
    rows = read_params(params)
    if rows.columns or rows.length:  # an empty list lacks nothing
        absent = rows.sometimes_absent
        check_call(f, list(rows.columns), sometimes_absent=absent, more_args=arguments)
    return rows


def make_job(
    kind: str,
    f: Any,
    rows: Any,
    given: Mapping[str, Any],
    only: RowNumbers | None = None,
) -> SlurmJob:
    """Check all that is left to check, then write the job folder, then submit.

    Parameters
    ----------
    kind, f, rows
        "apply", "map" or "call"; the function; its parameters or items.
    given
        All keywords of the call.
    only
        The rows that the first run is to run; all when None.
    """
    resources = check_resources({k: v for k, v in given.items() if k not in _NOT_RESOURCES})
    work = _checked_work(kind, f, rows, given, resources.schedule)
    if given["if_exists"] not in ("fail", "open", "replace"):
        raise InvalidArgumentError(
            f'if_exists: "fail", "open" or "replace", not {given["if_exists"]!r}.',
            argument="if_exists",
        )
    backend = choose_backend(given["backend"], submit=given["submit"])
    name = clean_name(given["job_name"], f)
    folder = listing.new_folder(name, given["jobs_folder"])
    # Which takes a while: after all that may be refused.
    work = _fingerprinted(work, resources.by_value)
    job = existing_job(folder)
    if job is not None and given["if_exists"] == "open":
        return same_job(job, work.fingerprints)
    if job is not None:
        refuse_to_replace(job, given["if_exists"])
    after = ids_to_wait_for(given["after"], backend)
    rule, count = ("all", work.length) if only is None else (only.ranges, len(only))
    plan = RunPlan(0, rule, count, resources, backend, after)
    write_job(folder, name, work, plan, replaces=job is not None)
    _say_what_is_large(work, folder)
    return _start(SlurmJob(folder), submit=given["submit"])


def _checked_work(kind: str, f: Any, rows: Any, given: Mapping[str, Any], schedule: str) -> Work:
    initializer, seed = given.get("initializer"), given["seed"]
    if initializer is not None and not callable(initializer):
        raise InvalidArgumentError(
            f"initializer: a function without arguments is needed, not {initializer!r}.",
            argument="initializer",
        )
    costs = read_costs(given.get("cost"), rows)
    if costs is not None and schedule == "static":
        raise InvalidArgumentError(
            'cost: with schedule="static" each piece has consecutive rows, whatever they cost. '
            "Leave one of the two out.",
            argument="cost",
        )
    return Work(
        kind,
        f,
        rows,
        _checked_mapping(given.get("more_args"), "more_args"),
        find_globals(given["global_objects"], f, caller_outside()),
        initializer,
        function_name(f),
        seed=secrets.randbits(_SEED_BITS) if seed is None else _checked_seed(seed),
        seeded=seed is not None,
        costs=costs,
    )


def _start(job: SlurmJob, *, submit: bool) -> SlurmJob:
    listing.remember(job.folder)
    if not len(job):
        print(f"{job.name}: 0 rows, nothing to run")  # noqa: T201  # rslurm says where, too
        return job
    if submit:
        return job.submit()
    print(  # noqa: T201
        f"{job.name}: submission scripts output in directory {job.folder}\n"
        f"submit with job.submit(), or by hand: cd '{job.folder}' && sbatch submit.sh"
    )
    return job


def clean_name(name: Any, f: Any) -> str:
    """Clean a job's name as rslurm does; f's name and a random part when there is none.

    Raises
    ------
    InvalidArgumentError
        Nothing is left of it, or it is too long.
    """
    if name is None:
        stem = re.sub(r"[^0-9A-Za-z_]", "", function_name(f))[:40] or "job"
        return f"{stem}_{secrets.token_hex(3)}"
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"job_name: a string is needed, not {name!r}.", argument="job_name"
        )
    cleaned = re.sub(r"[^0-9A-Za-z_]", "", re.sub(r"\s+", "_", name))
    if not cleaned or len(cleaned) > _NAME_LENGTH:
        raise InvalidArgumentError(
            f"job_name: of {name!r}, {len(cleaned)} characters are left after cleaning (blanks "
            "become _, then only letters, digits and _ stay, without accents); 1 to "
            f"{_NAME_LENGTH} are needed.",
            argument="job_name",
        )
    return cleaned


def _fingerprinted(work: Work, by_value: tuple[str, ...]) -> Work:
    prints = fingerprint.of_work(work.function, work.columns, work.more_args, work.global_objects)
    if by_value:
        prints["by_value"] = fingerprint.of_value(sources_of(by_value))
    if work.seeded:
        prints["seed"] = fingerprint.of_value(work.seed)
    return replace(work, fingerprints=prints)


def _say_what_is_large(work: Work, folder: Path) -> None:
    """Name captured objects that few people know they send."""
    sizes = ((folder / name).stat().st_size for name in (jobfolder.FUNCTION, jobfolder.DATA))
    if sum(sizes) < WORTH_SAYING:
        return
    for name, size in large_parts(work.function, work.more_args):
        print(f"{name} ({size / 1e6:.0f} MB) goes along with {work.function_name}")  # noqa: T201
