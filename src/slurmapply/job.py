"""A job: the handle on a job folder, from this session or any later one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder, listing, removal
from slurmapply.backends import scheduler_for
from slurmapply.call import call_of, enter_row, leave_rows
from slurmapply.cancelling import cancel, end_tasks, refuse_alive
from slurmapply.collecting import Collector, RowReport
from slurmapply.consoles import Consoles
from slurmapply.disk import FolderDisk
from slurmapply.errors import (
    InvalidArgumentError,
    JobAliveError,
    RowError,
    RowsFailedError,
    SlurmApplyError,
    SubmissionError,
    WaitTimeoutError,
)
from slurmapply.following import Follower
from slurmapply.parameters import Parameters
from slurmapply.progress import check_timeout, looks, wait
from slurmapply.retrying import changed_function, plan_retry
from slurmapply.runview import RunView, read_submission
from slurmapply.seeds import kept_random_state, seed_of
from slurmapply.selecting import check_output, check_row, only_row
from slurmapply.settings import load_defaults
from slurmapply.starting import start, start_prepared
from slurmapply.states import NOT_OK, OVER, JobState, RowStatus
from slurmapply.statuses import EndedRows
from slurmapply.submitting import add_run
from slurmapply.usage import usage_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from slurmapply.status import JobStatus
    from slurmapply.timeline import Timeline
    from slurmapply.usage import Usage

_LOG_TAIL = 4096
_ENDED = NOT_OK | {RowStatus.OK}


class SlurmJob:
    """All rows of one `slurm_apply`, `slurm_map` or `slurm_call`.

    It holds nothing but the path of the job folder and what was read from it: any number of
    sessions may open the same job, and none needs to stay alive.

    Parameters
    ----------
    folder
        The job folder.
    trust
        Unpickle what is in it even though others could have written it, or another Python did.

    Raises
    ------
    JobFolderError
        There is no job folder at this path, or a newer slurmapply wrote it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, trust: bool = False) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self._disk = FolderDisk(self._folder, trust=trust)
        self._content = jobfolder.read_job(self._disk)
        self._trust = trust
        self._follower = Follower(self._disk, self._content, scheduler_for)
        self._parameters = Parameters(self._disk, self._content, trust=trust)
        self._collector = Collector(self._disk, self._content, self._follower, self._parameters)
        self._consoles = Consoles(self._disk, self._follower)

    @classmethod
    def open(cls, name_or_folder: str | os.PathLike[str], *, trust: bool = False) -> SlurmJob:
        """Open a job of this or an earlier session.

        Parameters
        ----------
        name_or_folder
            The job's name, looked for in the working folder, the site's `jobs_folder` and the
            user's own list of jobs; or the path of its folder.
        trust
            As above.

        Raises
        ------
        JobNotFoundError
            There is none; the nearest name is offered.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> _ = slurm_map(abs, [-1, 2], job_name="opened", backend="inline")  # doctest: +ELLIPSIS
        opened: 2 rows...
        >>> SlurmJob.open("opened").results()
        [1, 2]
        """
        jobs_folder = Path(load_defaults().get("jobs_folder", ".")).expanduser()
        return cls(listing.find(name_or_folder, jobs_folder), trust=trust)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (str(self._folder), self._trust))

    # -- what it is ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self._content["name"])

    @property
    def folder(self) -> Path:
        """The job folder, absolute."""
        return self._folder

    @property
    def job_id(self) -> str | None:
        """What the batch system calls the latest run; None before it was submitted."""
        submission = self._latest_run().submission
        return submission.job_id if submission else None

    @property
    def job_ids(self) -> list[str]:
        """The ids of all runs that were submitted, in order."""
        runs = range(self._latest_run().number + 1)
        found = (read_submission(self._disk, run) for run in runs)
        return [submission.job_id for submission in found if submission]

    @property
    def kind(self) -> str:
        """By which call it was made, "apply", "map" or "call"."""
        return str(self._content["kind"])

    @property
    def seed(self) -> int:
        """From which each row's random stream follows, as given or drawn when it was made.

        ``slurm_apply(..., seed=job.seed)`` makes a job with the same streams.
        """
        return seed_of(self._content).number

    @property
    def fingerprints(self) -> dict[str, str]:
        """Digests of the function's code, the parameters and the fixed arguments."""
        return dict(self._content["fingerprints"])

    @property
    def nodes(self) -> int:
        """How many tasks the latest run has, at most what was asked, fewer for few rows."""
        return int(self._latest_run().asked["tasks"])

    def __len__(self) -> int:
        return int(self._content["rows"])

    def __repr__(self) -> str:
        try:
            return self._status(self._follower.look(ask=False)).summary()
        except Exception as error:  # noqa: BLE001  # a repr that raises spoils every traceback
            return f"<SlurmJob {self._folder}: {error}>"

    def _repr_html_(self) -> str | None:
        from slurmapply.cards import job_card  # noqa: PLC0415  # notebooks alone need it

        return job_card(self._folder, self._look_for_card)

    def _look_for_card(self) -> tuple[JobStatus, list[str]]:
        state = self._follower.look(ask=False)
        return self._status(state), self._collector.reasons(state, failed_only=True)

    def _latest_run(self) -> RunView:
        self._follower.look(ask=False)
        return self._follower.run

    # -- following -------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """Look at the job, without waiting for anything.

        Returns
        -------
        JobStatus
            ``.state``, ``.completed``, ``.ok``, ``.counts``, ``.queue``, ``.log``, ``.age``;
            printed, it is a summary for people.
        """
        return self._status(self._follower.look())

    def glance(self) -> JobStatus:
        """Look at the job folder alone: the batch system is not asked.

        Returns
        -------
        JobStatus
            As `status` gives it. A job whose tasks wait in the queue, and one whose tasks are gone
            without a word, look alike.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(abs, [-1], job_name="seen", backend="inline")  # doctest: +ELLIPSIS
        seen: 1 row...
        >>> job.glance().summary()
        '1 row: 1 ok'
        """
        return self._status(self._follower.look(ask=False))

    def _status(self, state: JobState) -> JobStatus:
        return self._follower.status(
            state,
            lambda: self._consoles.of_tasks(_LOG_TAIL),
            lambda: self._collector.reasons(state),
        )

    def wait(self, timeout: float | None = None) -> SlurmJob:
        """Wait until nothing of the job can still run.

        A progress bar is shown on a terminal and in a notebook. Ctrl-C ends the waiting only.

        Parameters
        ----------
        timeout
            Seconds to wait at most; as long as it takes when None.

        Returns
        -------
        SlurmJob
            This job.

        Raises
        ------
        WaitTimeoutError
            The time is over; the job goes on. It is a TimeoutError.
        """
        self._wait(check_timeout(timeout))
        return self

    def _wait(self, timeout: float | None = None) -> JobState:
        self._refuse_prepared("wait for")
        with _about(self):
            state = wait(self._follower, self.name, timeout)
        if state is JobState.PREPARED:
            self._refuse_prepared("wait for")
        return state

    def _refuse_prepared(self, what: str) -> None:
        prepared = self._known_state() is JobState.PREPARED
        if prepared and not self._follower.run.number:
            raise SlurmApplyError(
                f"there is nothing to {what}: {self.name} was prepared, but never submitted. Start "
                f"it with job.submit(), or by hand: cd '{self._folder}' && sbatch submit.sh",
                job=self,
            )

    def _known_state(self) -> JobState:
        """Judge without asking, but look for a submission that was cut short."""
        state = self._follower.look(ask=False)
        return self._follower.look() if self._follower.doubtful else state

    def _settled_state(self, *, waiting: bool) -> JobState:
        return self._wait() if waiting else self._follower.look()

    # -- collecting ------------------------------------------------------------------------

    def results(self, wait: bool = True, errors: str = "raise") -> Any:  # noqa: FBT001, FBT002  # R's order
        """Give what the rows returned, in row order.

        Parameters
        ----------
        wait
            False: a snapshot of all rows, those that have not ended being None. The next snapshot
            reads only what is new, and gives the same objects again.
        errors
            "raise": a `RowsFailedError` when rows are not ok. "keep": such a row's place holds a
            `RowError`.

        Returns
        -------
        list, dict or Series
            The kind of collection that `slurm_map` was given; a list for `slurm_apply`.
        """
        _check_errors(errors)
        state = self._settled_state(waiting=wait)
        try:
            values = self._collector.values(state, errors=errors, snapshot=not wait)
        except RowsFailedError as error:
            raise self._completed(error, state, snapshot=not wait) from error.__cause__
        return self._collector.collection(values)

    def result(self, row: int | None = None) -> Any:
        """Give one row's value; waits for the job.

        Parameters
        ----------
        row
            Its number; may be left out when there is only one.

        Raises
        ------
        RowsFailedError
            The row is not ok.
        RowError
            It is ok, but its value cannot be loaded here.
        """
        number = only_row(len(self), self.name) if row is None else self._number(row)
        state = self._wait()
        if self._collector.status(number, state) is not RowStatus.OK:
            error = self._collector.refusal([number], state)
            raise self._completed(error, state, snapshot=False) from self._collector.error(
                number, state
            )
        return self._collector.value(number)

    def table(
        self,
        wait: bool = True,  # noqa: FBT001, FBT002  # R's order
        errors: str = "raise",
        details: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Give parameters and results as one table, one line per row.

        Parameters
        ----------
        wait
            False: a snapshot, the results of rows that have not ended being empty.
        errors
            "raise": a `RowsFailedError` when rows are not ok. "keep": such rows have empty
            results, and ``row_number``, ``row_status``, ``row_cause`` say what befell each row.
        details
            Add ``row_seconds``, ``row_cpu_seconds``, ``row_peak_mb``, ``row_host`` and
            ``row_attempt``.

        Returns
        -------
        frame
            Of the same kind as the parameters were; pandas when they were no frame.
        """
        return self._table(wait=wait, errors=errors, details=details, with_params=True)

    def results_table(self, wait: bool = True, errors: str = "raise") -> Any:  # noqa: FBT001, FBT002
        """Give the results alone as a table; otherwise as `table`."""
        return self._table(wait=wait, errors=errors, details=False, with_params=False)

    def _table(self, *, wait: bool, errors: str, details: bool, with_params: bool) -> Any:
        _check_errors(errors)
        state = self._settled_state(waiting=wait)
        try:
            return self._collector.table(
                state, errors=errors, details=details, snapshot=not wait, with_params=with_params
            )
        except RowsFailedError as error:
            raise self._completed(error, state, snapshot=not wait) from error.__cause__

    def _completed(
        self, error: RowsFailedError, state: JobState, *, snapshot: bool
    ) -> RowsFailedError:
        error.job = self
        error.table = self._collector.table(
            state, errors="keep", details=False, snapshot=snapshot, with_params=True
        )
        return error

    def errors(self) -> Any:
        """Give a table of the rows that are not ok; never waits.

        Returns
        -------
        frame
            Parameters, ``row_number``, ``row_status``, ``row_cause``, ``message``, ``traceback``.
        """
        return self._collector.errors(self._follower.look())

    def row(self, row: int) -> RowReport:
        """Give all of one row: parameters, status, cause, value, traceback, log; never waits."""
        number = self._number(row)
        state = self._follower.look()
        return self._collector.row(number, state, self._consoles.of_row(number))

    def run_row(self, row: int) -> Any:
        """Run one row here and now, and let its real exception out; records nothing.

        For a debugger: ``%debug``, or ``breakpoint()`` in the function.

        Parameters
        ----------
        row
            Its number.
        """
        number = self._number(row)
        call = self._load_call()
        arguments = self._parameters.arguments(number)
        if call.initializer is not None:
            call.initializer()
        seed = seed_of(self._content)
        with kept_random_state(seed):
            enter_row(number, 1, str(self._folder), seed)
            try:
                return call(arguments)
            finally:
                leave_rows()

    def _load_call(self) -> Any:
        return call_of(self._load_payload())

    def _load_payload(self) -> Mapping[str, Any]:
        self._parameters.check_trust()
        name, data = jobfolder.function_files(self._latest_run().asked)
        return self._parameters.load(name, data)

    def _number(self, row: Any) -> int:
        return check_row(row, len(self), self.name)

    def logs(self, row: int | None = None, task: int | None = None) -> Any:
        r"""Give what was printed; never waits.

        Parameters
        ----------
        row
            Exactly what this row printed; so far, if it is running.
        task
            All that this task printed, its workers included.

        Returns
        -------
        str, or dict of int to str
            All tasks of the latest run by their number, when neither is given.

        Raises
        ------
        InvalidArgumentError
            There is no such row or task, or both are given.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(print, ["one", "two"], job_name="printed", backend="local")
        ... # doctest: +ELLIPSIS
        printed: 2 rows...
        >>> job.wait().logs(row=1)
        'two\n'
        """
        self._follower.look(ask=False)
        number, which = check_output(row, task, len(self), self.nodes, self.name)
        if number is not None:
            return self._consoles.of_row(number)
        logs = self._consoles.of_tasks()
        return logs if which is None else logs.get(which, "")

    def as_completed(self, errors: str = "raise") -> Iterator[tuple[Any, Any]]:
        """Give rows as they end.

        Parameters
        ----------
        errors
            "raise": the first row that is not ok ends it with a `RowError`. "keep": its value is
            that RowError.

        Yields
        ------
        tuple
            Number of the row, or its key where `slurm_map` was given a mapping or Series; value.
        """
        _check_errors(errors)
        self._refuse_prepared("wait for")
        keys = self._parameters.keys()
        ended = EndedRows(len(self))
        for state in looks(self._follower, None):
            for row in ended.new(self._follower.status_codes(state), state):
                status = self._collector.status(row, state)
                if status in _ENDED:
                    yield keys[row], self._outcome(row, status, state, errors)
                else:
                    ended.not_yet(row)

    def _outcome(self, row: int, status: RowStatus, state: JobState, errors: str) -> Any:
        try:
            if status is RowStatus.OK:
                return self._collector.value(row)
            error = self._collector.error(row, state)
        except RowError as unread:
            error = unread
        if errors == "raise":
            raise error from error.__cause__
        return error

    # -- running again, stopping, cleaning up ----------------------------------------------

    def retry(
        self,
        rows: Any = None,
        *,
        f: Callable[..., Any] | None = None,
        more_args: Mapping[str, Any] | None = None,
        **changed: Any,
    ) -> SlurmJob:
        """Run rows again, as a new run of the same job.

        Parameters
        ----------
        rows
            None: all rows that are not ok. Or a status, "failed", a cause, numbers, or a mask;
            rows that are named by number run again even if they are ok.
        f
            A mended function.
        more_args
            Other fixed arguments.
        **changed
            Keywords of `slurm_apply` that say how much and where: ``mem="8G"``.

        Returns
        -------
        SlurmJob
            This job. When there is nothing to run again, it says so and does nothing.

        Raises
        ------
        JobAliveError
            Something of the latest run can still run, or another session is retrying.
        """
        with _about(self):
            state = self._follower.look()
            self._refuse_prepared("retry")
            refuse_alive(self.name, state, "retry")
            plan = plan_retry(self._follower, self._collector, state, rows, changed)
            if plan is None:
                print(f"{self.name}: nothing to retry, all {len(self)} rows are ok")  # noqa: T201
                return self
            function = None
            if f is not None or more_args is not None:
                function = changed_function(self._load_payload(), self._parameters, f, more_args)
            start(self._disk, self._content, add_run(self._disk, self._content, plan, function))
        return self

    def submit(self, *, force: bool = False, **changed: Any) -> SlurmJob:
        """Submit what was only prepared, or refused.

        Where a session was cut short while it submitted, that submission is looked for first, and
        taken if it is there.

        Parameters
        ----------
        force
            Submit even if nobody knows whether an earlier attempt was taken; tasks of such a one
            end by themselves.
        **changed
            Keywords of `slurm_apply` that say how much and where, and ``backend=``.

        Raises
        ------
        JobAliveError
            It was submitted already.
        SubmissionUnknownError
            Nobody knows whether it was.
        """
        with _about(self):
            start_prepared(self._disk, self._content, self._follower, changed, force=force)
        return self

    def cancel(self) -> None:
        """End what is alive of the job; rows that are done stay done.

        The ``cancelled`` mark is written first, so that tasks that start later end at once.
        """
        cancel(self._disk, self._content, self._follower)

    def end_tasks(self) -> None:
        """Wait until no task is left of a job that is over, ending those that are not needed.

        Tasks close their files a moment after the last row; others may still be in the queue,
        where nothing is left for them to do. `cleanup` does this by itself.

        Raises
        ------
        JobAliveError
            Rows are still to run, or a task does not end.
        """
        with _about(self):
            end_tasks(self.name, self._follower)

    def cleanup(self, wait: bool = True, keep: str | None = None) -> None:  # noqa: FBT001, FBT002  # R's order
        """Delete the job folder.

        Parameters
        ----------
        wait
            Wait for the job's end first.
        keep
            "results": keep what tables and results are read from.

        Raises
        ------
        JobAliveError
            Something of it can still run; nothing was deleted.
        """
        if keep not in (None, "results"):
            raise InvalidArgumentError(f'keep: None or "results", not {keep!r}.', argument="keep")
        state = self._follower.look()
        if wait and state not in OVER:
            state = self._wait()
        with _about(self):
            refuse_alive(self.name, state, "clean up")
        self.end_tasks()
        if keep == "results":
            removal.keep_results(self._folder)
            return
        left = removal.remove(self._folder)
        if left:
            print(f"{self.name}: {len(left)} files are still in use, in {left[0].parent}")  # noqa: T201

    # -- what it used ----------------------------------------------------------------------

    def usage(self) -> Usage:
        """Compare what the job asked for with what it used so far.

        It waits for nothing but the last words of tasks whose rows are done, a second at most. All
        runs count. Slurm's accounts are asked, at most once a minute, only where the folder
        does not say how long tasks waited or how much memory they used; they are never needed.

        Returns
        -------
        Usage
            ``.tasks`` and ``.rows``, tables; ``.advice``, what to ask for next time, each sentence
            with its arithmetic. Printed, it is a summary.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(abs, [-1, 2], job_name="used", backend="inline")  # doctest: +ELLIPSIS
        used: 2 rows...
        >>> list(job.usage().rows)
        ['row_number', 'seconds', 'cpu_seconds', 'peak_mb', 'host', 'attempt']
        """
        like = self._parameters.stored()["frame"]
        return usage_of(self._disk, self._content, self._follower, self._collector, like)

    # -- output as it comes ----------------------------------------------------------------

    def follow_logs(self, row: int | None = None, task: int | None = None) -> Iterator[str]:
        """Give what is printed as it comes, until the row, the task or the job has ended.

        What was printed before comes first, so that all pieces of a row together are what `logs`
        gives. A row is shown while it runs once it has run for two seconds; a shorter one at its
        end.

        Parameters
        ----------
        row
            What this row prints. When it begins again, because its process or its task was
            killed, a line in brackets says so.
        task
            What this task prints, its workers included, in whole lines.

        Yields
        ------
        str
            What is new, at most a second old on a disk of this machine. Of all tasks, when neither
            is given: where there are several, a line ``==> task 3 <==`` comes before what another
            one printed.

        Raises
        ------
        InvalidArgumentError
            There is no such row or task, or both are given.
        SlurmApplyError
            The job was never submitted.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(print, ["one", "two"], job_name="followed", backend="local")
        ... # doctest: +ELLIPSIS
        followed: 2 rows...
        >>> for text in job.follow_logs(row=1):
        ...     print(text, end="")
        two
        """
        self._refuse_prepared("follow")
        number, which = check_output(row, task, len(self), self.nodes, self.name)
        states = looks(self._follower, None)
        if number is not None:
            return self._consoles.follow_row(number, states)
        return self._consoles.follow_tasks(which, states)

    # -- showing ---------------------------------------------------------------------------

    def plot_timeline(self, ax: Any = None) -> Any:
        """Draw what ran when and where; never waits, and unpickles nothing.

        A line for each worker, grouped by task, and by run where there were retries; each row is
        a bar, coloured by its status. What a task waited in the queue is hatched. Of many rows,
        those that share a place are one bar, which shows the worst of them.

        Parameters
        ----------
        ax
            Matplotlib axes to draw on; None makes a figure. Nothing is shown or saved.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        SlurmApplyError
            There is no matplotlib: ``pip install "slurmapply[plots]"``.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(abs, [-1, 2], job_name="drawn", backend="inline")  # doctest: +ELLIPSIS
        drawn: 2 rows...
        >>> job.plot_timeline().get_title(loc="left")
        'drawn: 2 rows: 2 ok'
        """
        from slurmapply import plots  # noqa: PLC0415  # few sessions draw

        return plots.plot_timeline(self._timeline(), f"{self.name}: {self!r}", ax)

    def plot_durations(self, ax: Any = None) -> Any:
        """Draw how long rows took, as a histogram by status; never waits, and unpickles nothing.

        The axis is logarithmic where the longest row took over thirty times as long as the
        shortest. Median and longest row are marked.

        Parameters
        ----------
        ax
            As in `plot_timeline`.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        SlurmApplyError
            There is no matplotlib: ``pip install "slurmapply[plots]"``.
        """
        from slurmapply import plots  # noqa: PLC0415  # few sessions draw

        self._follower.look()
        return plots.plot_durations(self._collector.durations(), f"{self.name}: {self!r}", ax)

    def report(
        self, path: str | os.PathLike[str] = "report.html", *, overwrite: bool = False
    ) -> Path:
        """Write one page about the job, for people: HTML that needs nothing else.

        What was asked, what became of the rows and why, when they ran and how long they took, what
        was used, and with what to do it again: at this moment, it waits for nothing but what
        `usage` waits for. Parameters, results and the function are unpickled
        after the same looks at the folder as for `table`; where these refuse, the page says so and
        has all the rest. It shows them to whoever has the page.

        Parameters
        ----------
        path
            Where to, ``report.html`` in the working folder by default.
        overwrite
            Replace a file that is there; nothing is replaced unasked.

        Returns
        -------
        Path
            The page's place, absolute.

        Raises
        ------
        InvalidArgumentError
            There is such a file already, or it is a folder.
        SlurmApplyError
            The page cannot be written there.

        Examples
        --------
        >>> from slurmapply import slurm_map
        >>> job = slurm_map(abs, [-1, 2], job_name="told", backend="inline")  # doctest: +ELLIPSIS
        told: 2 rows...
        >>> job.report("told.html").name
        'told.html'
        """
        from slurmapply.report.page import write_report  # noqa: PLC0415  # few sessions report
        from slurmapply.report.sources import Sources  # noqa: PLC0415

        state = self._follower.look()
        return write_report(
            Sources(
                job=self._content,
                folder=self._folder,
                disk=self._disk,
                follower=self._follower,
                parameters=self._parameters,
                collector=self._collector,
                consoles=self._consoles,
                state=state,
                status=lambda: self._status(state),
                timeline=self._timeline(),
                load_function=lambda: self._load_call().function,
                usage=self.usage,
            ),
            path,
            overwrite=overwrite,
        )

    def _timeline(self) -> Timeline:
        from slurmapply.timeline_reading import read_timeline  # noqa: PLC0415

        return read_timeline(self._disk, self._follower, self._follower.look())


def _reopen(folder: str, trust: bool) -> SlurmJob:  # noqa: FBT001  # called by pickle
    return SlurmJob(folder, trust=trust)


@contextlib.contextmanager
def _about(job: SlurmJob) -> Iterator[None]:
    """Give errors that come from within the job that they are about."""
    try:
        yield
    except (JobAliveError, SubmissionError, WaitTimeoutError) as error:
        error.job = job
        raise


def _check_errors(errors: str) -> None:
    if errors not in ("raise", "keep"):
        raise InvalidArgumentError(f'errors: "raise" or "keep", not {errors!r}.', argument="errors")
