"""How much to ask for: a few rows are run and measured, and a proposal is made and explained."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import secrets
import sys
import time as clock
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.api import make_job, read_rows, with_site_defaults
from slurmapply.backends import choose_backend
from slurmapply.buffers import in_units
from slurmapply.errors import InvalidArgumentError, SubmissionError, SubmissionUnknownError
from slurmapply.proposal import Measured, MeasuredRow, Wish, propose
from slurmapply.rows import RowNumbers
from slurmapply.shipping import large_parts
from slurmapply.signature import check_count, function_name
from slurmapply.sizing import megabytes_in_words, seconds_in_words
from slurmapply.states import OVER, RowStatus
from slurmapply.wording import harmless, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from slurmapply.collecting import RowReport
    from slurmapply.job import SlurmJob

#: Captured objects above this size are named: less than at submission, where a line is a warning.
_WORTH_NAMING = 10 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE, _SLOWER = 0.02, 1.0, 1.1
#: What a row that was cut short needs more of, in the words of `advice`.
_MORE = re.compile(r'(?:mem|time)="\w+"|row_timeout=[\d.]+')
#: Keywords that are measured with, but not kept: they are what is proposed.
_PROPOSED = ("nodes", "cpus_per_node", "processes_per_node", "mem", "time")


@dataclass(frozen=True)
class Estimate:
    """What to ask for, and why.

    Attributes
    ----------
    keywords : dict
        For ``slurm_apply(f, params, **plan.keywords)``: what is proposed, and the other keywords
        that `estimate` was given. Empty when a measured row was not ok.
    explanation : str
        What was measured, and the arithmetic of each proposal.
    ok : bool
        Whether all measured rows were.
    """

    keywords: dict[str, Any]
    explanation: str
    ok: bool = True
    proposed: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        if not self.ok:
            return self.explanation
        shown = ", ".join(f"{name}={_shown(self.keywords[name])}" for name in self.proposed)
        return f"{self.explanation}\nproposal: {shown}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415  # notebooks alone need it

        lines = "".join(f"<li>{html.escape(line)}</li>" for line in str(self).splitlines())
        return f"<div><p><b>estimate</b></p><ul>{lines}</ul></div>"


@with_site_defaults
def estimate(
    f: Callable[..., Any],
    params: Any,
    rows: int = 3,
    *,
    more_args: Mapping[str, Any] | None = None,
    global_objects: Iterable[str] | Mapping[str, Any] | None = None,
    packages: Iterable[str] = (),
    by_value: str | ModuleType | Iterable[str | ModuleType] = (),
    initializer: Callable[[], Any] | None = None,
    seed: int | None = None,
    nodes: int | None = None,
    cpus_per_node: int | None = None,
    processes_per_node: int | None = None,
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
    row_timeout: Any = None,
    jobs_folder: str | os.PathLike[str] = ".",
    backend: str = "auto",
) -> Estimate:
    """Run a few rows, measure them, and propose what to ask Slurm for.

    The rows run one after another in one process: in one small Slurm job where there is a Slurm,
    else on this machine. It waits for them, and leaves nothing behind.

    Parameters
    ----------
    f, params
        As in `slurm_apply`.
    rows : int, default 3
        How many rows are run, spread evenly over the table, the first and the last among them.
        3, because one row says nothing about how rows differ, and each takes its time.
    nodes, cpus_per_node, processes_per_node : int, optional
        Where they are given they stand, and the rest is proposed for them.
    time, mem
        Limits of the small job; the site's own when None. Others are proposed.
    more_args, global_objects, packages, by_value, initializer, seed, gpus_per_node, partition, \
account, slurm_options, setup, python, sys_path, template, row_timeout, jobs_folder, backend
        As in `slurm_apply`; they are among the proposed keywords, as they were given.

    Returns
    -------
    Estimate
        ``.keywords`` and ``.explanation``; printed, it is the explanation. When a measured row is
        not ok, it says so with the cause, and proposes nothing.

    Raises
    ------
    InvalidArgumentError
        An argument cannot be used, as in `slurm_apply`; or there are no rows to measure.
    SubmissionError
        Slurm refused the small job; nothing of it is left.

    Examples
    --------
    >>> from slurmapply import estimate, expand_grid, slurm_apply
    >>> def area(width, height):
    ...     return width * height
    >>> params = expand_grid(width=[1, 2], height=[10, 20])
    >>> plan = estimate(area, params, backend="local")  # doctest: +ELLIPSIS
    measuring rows 0, 2 and 3 of 4 ...
    >>> plan.keywords
    {'backend': 'local', 'nodes': 1, 'cpus_per_node': 1, 'time': '5min'}
    """
    given = dict(locals())
    count = check_count(rows, "rows")
    table = read_rows(f, params, more_args)
    if not table.length:
        raise InvalidArgumentError(
            "params: it has no rows, so there is nothing to measure.", argument="params"
        )
    wish = Wish(*(None if n is None else check_count(n, name) for name, n in _wished(given)))
    chosen = spread_evenly(count, table.length)
    with _small_job(f, table, given, wish, chosen) as job:
        _wait(job)
        reports = [job.row(row) for row in chosen]
        measured = _measured(job, reports)
        facts = [_about_rows(reports, table.length, job), *_about_function(job, f, more_args)]
    bad = [report for report in reports if report.status != RowStatus.OK]
    if bad:
        text = "\n".join(
            ["nothing is proposed, for not all measured rows are ok:", *map(_about_failure, bad)]
        )
        print(text)  # noqa: T201  # who goes on without looking at it would run them all
        return Estimate({}, text, ok=False)
    keywords, lines = propose(measured, wish)
    return Estimate(_kept(given) | keywords, "\n".join([*facts, *lines]), proposed=(*keywords,))


def _wished(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("nodes", "cpus_per_node", "processes_per_node"):
        yield name, given[name]


def spread_evenly(count: int, total: int) -> list[int]:
    """Give so many row numbers, spread evenly, the first and the last among them.

    Examples
    --------
    >>> spread_evenly(3, 9), spread_evenly(1, 9), spread_evenly(5, 2)
    ([0, 4, 8], [0], [0, 1])
    """
    count = min(count, total)
    if count == 1:
        return [0]
    return [round(number * (total - 1) / (count - 1)) for number in range(count)]


@contextlib.contextmanager
def _small_job(
    f: Any, table: Any, given: Mapping[str, Any], wish: Wish, chosen: Sequence[int]
) -> Iterator[SlurmJob]:
    """Submit a job of some rows, and take it away afterwards whatever happens."""
    share = max(1, wish.cpus // wish.processes) if wish.cpus and wish.processes else 1
    keywords = {name: value for name, value in given.items() if name not in ("f", "params", "rows")}
    keywords |= {
        "nodes": 1,
        "cpus_per_node": share,
        "processes_per_node": 1,
        "job_name": f"estimate_{function_name(f)[:40]}_{secrets.token_hex(3)}",
        "if_exists": "fail",
        "after": None,
        "backend": choose_backend(given["backend"]),
        "submit": False,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        job = make_job("apply", f, table, keywords, RowNumbers.of(chosen))
    try:
        inline = keywords["backend"] == "inline"  # what the rows print is shown there
        with contextlib.redirect_stdout(sys.stdout if inline else io.StringIO()):
            job.submit()
        print(f"measuring {_named(chosen, table.length)} ({job.job_id})")  # noqa: T201  # it may take long
        yield job
    except SubmissionUnknownError:  # something of it may run, and its folder is what that needs
        raise
    except BaseException as error:
        if isinstance(error, SubmissionError):
            error.job = None
        _take_away(job)
        raise
    _take_away(job)


def _take_away(job: SlurmJob) -> None:
    if job.status().state not in OVER:
        job.cancel()
        _wait(job)
    job.cleanup()


def _wait(job: SlurmJob) -> None:
    """Wait for the end of a job of which most rows do not run; says what holds it up."""
    pause, said = _FIRST_PAUSE, ""
    while True:
        status = job.status()
        if status.completed:
            return
        if status.note and status.note != said:
            said = status.note
            sys.stderr.write(f"{harmless(said)}\n")
        clock.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * _SLOWER)


def _measured(job: SlurmJob, reports: Sequence[RowReport]) -> Measured:
    uses = job.usage().uses
    begun = max((use.begun for use in uses if use.begun is not None), default=0.0)
    peaks = [use.peak_mb for use in uses if use.peak_mb is not None]
    return Measured(
        len(job),
        [
            MeasuredRow(
                report.number, report.seconds or 0.0, report.cpu_seconds or 0.0, report.peak_mb
            )
            for report in reports
        ],
        begun,
        max(peaks, default=None),
        _size_of_function(job.folder)[1] / 2**20,
        # There a peak is that of the whole session.
        in_session=(job.job_id or "").startswith("inline"),
    )


def _about_rows(reports: Sequence[RowReport], total: int, job: SlurmJob) -> str:
    times = [report.seconds for report in reports if report.seconds is not None]
    cpu = sum(report.cpu_seconds or 0.0 for report in reports)
    used = f", {cpu / sum(times):.2f} CPUs" if times and sum(times) else ""
    inline = (job.job_id or "").startswith("inline")
    peaks = [each.peak_mb for each in reports if each.peak_mb is not None and not inline]
    memory = f", {megabytes_in_words(max(peaks))} at most" if peaks else ""
    host = next((report.host for report in reports if report.host), "")
    where = f" ({job.job_id} on {host})" if host else ""
    each = ", ".join(map(seconds_in_words, times))
    return f"measured {_named([r.number for r in reports], total)}{where}: {each}{used}{memory}"


def _named(rows: Sequence[int], total: int) -> str:
    if len(rows) == total:
        return f"all {total} rows" if total > 1 else "the only row"
    if len(rows) == 1:
        return f"row {rows[0]} of {total}"
    return f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]} of {total}"


def _about_failure(report: RowReport) -> str:
    """Say what became of a row; its job is gone, and so is what could be done with it."""
    befell, _, way_on = report.sentence.rpartition(": ")
    befell = befell.removeprefix(f"row {report.number} ")
    arguments = ", ".join(f"{name}={shown(value)}" for name, value in report.parameters.items())
    more = _MORE.search(way_on)
    hint = f"; estimate(..., {more[0]}) tries with more" if more else ""
    return harmless(f"row {report.number} ({arguments}) {befell}{hint}")


def _about_function(job: SlurmJob, f: Any, more_args: Mapping[str, Any] | None) -> Iterator[str]:
    size = sum(_size_of_function(job.folder))
    yield f"function: {_in_words(size)} go to each node with it"
    if size < _WORTH_NAMING:
        return
    for name, part in large_parts(f, more_args or {}, _WORTH_NAMING):
        yield (
            f"large: {name} ({_in_words(part)}) goes along with it; what stands in a file already "
            "is better read in the function, or in initializer="
        )


def _in_words(size: int) -> str:
    # Of more than that in the units of mem=, with which it stands in one line.
    return in_units(size) if size < 2**20 else megabytes_in_words(size / 2**20)


def _size_of_function(folder: Path) -> tuple[int, int]:
    """Give the bytes of the pickled function, and of its large buffers."""
    with (folder / jobfolder.FUNCTION).open("rb") as file:
        data, places = pickle.load(file)
    return len(data), sum(length for _, length, _ in places)


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keywords that stand as they were given, without those that say nothing."""
    nothing = {"backend": "auto", "jobs_folder": "."}
    return {
        name: value
        for name, value in given.items()
        if name not in ("f", "params", "rows", *_PROPOSED)
        if value is not None and value != () and nothing.get(name) != value
    }


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
