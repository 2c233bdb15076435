"""What a job's rows gave: values, errors and tables, read from its folder."""

from __future__ import annotations

import pickle
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import FormatError, RowError, RowsFailedError, UntrustedFolderError
from slurmapply.inputs import Items, Params
from slurmapply.outcome import Failure
from slurmapply.pickles import BufferReader
from slurmapply.results import EMPTY, collection, results_table, rows_table
from slurmapply.rows import ABSENT, ITEM, RowReader, open_rows
from slurmapply.states import NOT_OK, OK_CODE, JobState, RowStatus
from slurmapply.status import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurmapply.following import Follower
    from slurmapply.jobfolder import FolderDisk
    from slurmapply.outcome_file import Frame, FrameValues

_SHOWN_ARGUMENTS = 200


@dataclass(frozen=True, slots=True)
class RowReport:
    """All of one row.

    Attributes
    ----------
    number, status, cause
        Which row, what is the case, why.
    parameters
        What the function was called with.
    value
        What it returned, None when it did not.
    message, traceback, log
        The error's text, its full traceback, what the row printed.
    seconds, cpu_seconds, peak_mb, host, attempt
        How it ran.
    """

    number: int
    status: str
    cause: str
    parameters: dict[str, Any]
    value: Any
    message: str
    traceback: str
    log: str
    seconds: float | None
    cpu_seconds: float | None
    peak_mb: float | None
    host: str
    attempt: int

    def __str__(self) -> str:
        lines = [f"row {self.number}: {self.status}" + (f" ({self.cause})" if self.cause else "")]
        lines += [f"  {name} = {value!r}" for name, value in self.parameters.items()]
        if self.status == RowStatus.OK:
            lines.append(f"  returned {self.value!r}")
        lines += [harmless(text) for text in (self.traceback or self.message, self.log) if text]
        return "\n".join(lines)


class Collector:
    """Reads what the rows of a job gave.

    Parameters
    ----------
    disk, job
        The folder and its ``job.json``.
    follower
        Knows which outcome of each row counts.
    trust
        Unpickle whatever Python wrote it.
    """

    def __init__(
        self, disk: FolderDisk, job: Mapping[str, Any], follower: Follower, *, trust: bool
    ) -> None:
        self._disk = disk
        self._job = job
        self._follower = follower
        self._trust = trust
        self._frames: dict[int, FrameValues] = {}
        self._rows: RowReader | None = None

    # -- parameters ------------------------------------------------------------------------

    def check_trust(self) -> None:
        """Refuse to unpickle what others could have written, or another Python has.

        Raises
        ------
        UntrustedFolderError
            With what to do.
        """
        self._disk.open_trusted(jobfolder.JOB).close()
        made = self._job["python"]["version"].rpartition(".")[0]
        here = platform.python_version().rpartition(".")[0]
        if made != here and not self._trust:
            raise UntrustedFolderError(
                f"this job was made with Python {made} and this is Python {here}: pickles of "
                f"functions and classes may fail or crash between the two. Open it with Python "
                f"{made}, or pass trust=True if the results are plain data.",
                path=self._disk.path,
            )

    def arguments(self, row: int) -> dict[str, Any]:
        """Give what a row's call gets."""
        if self._rows is None:
            self.check_trust()
            self._rows = open_rows(self._disk)
        return self._rows.arguments(row)

    def shown_arguments(self, row: int) -> str:
        """Write a row's parameters as ``a=1, b='x'``, cut short."""
        try:
            arguments = self.arguments(row)
        except Exception:  # noqa: BLE001  # a parameter that cannot be loaded is shown as such
            return "parameters that cannot be loaded here"
        shown = ", ".join(
            f"{name}={_short(value)}" if name != ITEM else _short(value)
            for name, value in arguments.items()
        )
        return harmless(shown[:_SHOWN_ARGUMENTS])

    def params(self) -> Params | None:
        """Give the parameters as a table; None for the items of slurm_map."""
        if self._job["kind"] == "map":
            return None
        rows = range(self._job["rows"])
        cells: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in self.arguments(row).items():
                cells.setdefault(name, [ABSENT] * len(rows))[row] = value
        columns = {name: cells.get(name, []) for name in self.column_names()}
        return Params(columns, len(rows), self._frame()["frame"])

    def items(self) -> Items | None:
        """Give slurm_map's items without their values, for a collection of the same kind."""
        if self._job["kind"] != "map":
            return None
        stored = self._frame()
        return Items([], stored["keys"], stored["kind"], stored["frame"])

    def keys(self) -> Sequence[Any]:
        """Give what each row is known by: its number, or its key."""
        items = self.items()
        if items is None or items.kind == "list":
            return range(self._job["rows"])
        if items.keys is not None:
            return items.keys
        index = getattr(items.frame, "index", None)
        return range(self._job["rows"]) if index is None else list(index)

    def column_names(self) -> list[str]:
        """Give the names of the parameters; the item of slurm_map has none."""
        if self._rows is None:
            self._rows = open_rows(self._disk)
        return self._rows.names

    def _frame(self) -> dict[str, Any]:
        return self.load(jobfolder.ROWS_FRAME, jobfolder.DATA)

    def load(self, name: str, data_name: str) -> dict[str, Any]:
        """Unpickle what was stored with its buffers in a data file."""
        self.check_trust()
        with self._disk.open_trusted(name) as file:
            data, places = pickle.load(file)
        reader = BufferReader(self._disk.path.absolute() / data_name)
        content: dict[str, Any] = reader.load(data, places)
        return content

    # -- outcomes --------------------------------------------------------------------------

    def value(self, row: int) -> Any:
        """Give the value of a row that is ok, or a RowError when it cannot be unpickled here."""
        found = self._follower.outcomes.find(row)
        if found is None:
            raise LookupError(f"row {row} has no outcome")
        frame, index = found
        try:
            return self._values(frame).value(index)
        except FormatError as error:
            return RowError(str(error), row=row, status=RowStatus.UNFINISHED, cause="damaged")
        except Exception as error:  # noqa: BLE001  # unpickling runs the user's code
            return RowError(
                f"row {row}: its value cannot be loaded here ({type(error).__name__}: {error}). "
                "It is complete in the job folder; load it where the same packages are installed.",
                row=row,
                status=RowStatus.OK,
                cause="not_loaded",
                exception=error,
            )

    def failure(self, row: int, state: JobState) -> tuple[RowStatus, Failure]:
        """Say what is the case with a row that is not ok."""
        status = self._follower.row_status(row, state)
        found = self._follower.outcomes.find(row)
        if found is not None and found[0].columns["status"][found[1]] != OK_CODE:
            try:
                return status, self._values(found[0]).failure(found[1])
            except FormatError as error:
                return status, Failure("damaged", str(error))
        if status in NOT_OK:
            return status, Failure(*self._follower.why_unfinished())
        return status, Failure("", "")

    def error(self, row: int, state: JobState) -> RowError:
        """Describe a row that is not ok as an exception."""
        status, failure = self.failure(row, state)
        exception = _unpickled(failure.exception)
        error = RowError(
            f"row {row} ({self.shown_arguments(row)}): {failure.cause}: "
            f"{harmless(failure.message)}",
            row=row,
            status=str(status),
            cause=failure.cause,
            exception=exception,
            traceback=failure.traceback,
        )
        error.__cause__ = exception
        return error

    def _values(self, frame: Frame) -> FrameValues:
        self.check_trust()
        with self._disk.open_trusted(frame.origin.file):
            pass
        if id(frame) not in self._frames:
            self._frames = {id(frame): self._follower.survey.values(frame)}
        return self._frames[id(frame)]

    def values(self, state: JobState, *, errors: str, snapshot: bool) -> list[Any]:
        """Give the value of each row; RowError, or None where nothing is known yet.

        Raises
        ------
        RowsFailedError
            Rows are not ok and `errors` is "raise".
        """
        bad = self.bad_rows(state, snapshot=snapshot)
        if bad and errors == "raise":
            raise self.refusal(bad, state)
        values: list[Any] = [None] * self._job["rows"]
        for row in self._by_frame():
            values[row] = self.value(row)
        for row in bad:
            values[row] = self.error(row, state)
        unread = [row for row, value in enumerate(values) if _is_unread(value)]
        if unread and errors == "raise":
            raise values[unread[0]]
        return values

    def _by_frame(self) -> Iterable[int]:
        """Rows that are ok, in the order in which their values stand on the disk."""
        outcomes = self._follower.outcomes
        rows = [row for row in range(len(outcomes)) if outcomes.status_code(row) == OK_CODE]
        rows.sort(key=outcomes.reference)
        return rows

    def bad_rows(self, state: JobState, *, snapshot: bool) -> list[int]:
        """Rows that are not ok; in a snapshot only the failed ones among those that ended."""
        wanted = NOT_OK if not snapshot else NOT_OK - {RowStatus.UNFINISHED, RowStatus.CANCELLED}
        if self._follower.count(state)[0].get(RowStatus.OK, 0) == self._job["rows"]:
            return []
        rows = range(self._job["rows"])
        return [row for row in rows if self._follower.row_status(row, state) in wanted]

    def refusal(self, bad: Sequence[int], state: JobState) -> RowsFailedError:
        """Describe rows that are not ok, grouped by cause."""
        groups: dict[str, list[int]] = {}
        for row in bad:
            _, failure = self.failure(row, state)
            first_line = failure.message.strip().splitlines()[:1]
            text = f"{failure.cause}: {first_line[0]}" if first_line else failure.cause
            groups.setdefault(harmless(text), []).append(row)
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))
        causes = "; ".join(
            f"{len(rows)} x {text} (first: row {rows[0]})" for text, rows in largest[:5]
        )
        more = f"; and {len(largest) - 5} more causes" if len(largest) > 5 else ""  # noqa: PLR2004
        error = RowsFailedError(
            f"{len(bad)} of {self._job['rows']} rows of {self._job['name']} are not ok: {causes}"
            f"{more}. Look with job.errors() or job.row({bad[0]}); mend the function and "
            'job.retry(f=...), or job.retry() as it is; take what is there with errors="keep".'
        )
        error.__cause__ = self.error(bad[0], state).exception
        return error

    # -- tables ----------------------------------------------------------------------------

    def collection(self, values: list[Any]) -> Any:
        """Put values into the kind of collection that the items were."""
        return collection(self.items(), values)

    def table(
        self, state: JobState, *, errors: str, details: bool, snapshot: bool, with_params: bool
    ) -> Any:
        """Make the table of parameters and results, one line per row."""
        values = self.values(state, errors=errors, snapshot=snapshot)
        params = self.params()
        like = params.frame if params else self._frame()["frame"]
        unread = {row: value for row, value in enumerate(values) if _is_unread(value)}
        empty = self.empty_rows(values)
        extra: dict[str, list[Any]] = {}
        if errors == "keep":
            extra = self._status_columns(state, unread)
        if details:
            extra |= self._detail_columns()
        shown = [EMPTY if row in empty else value for row, value in enumerate(values)]
        return results_table(params if with_params else None, shown, extra=extra, like=like)

    def empty_rows(self, values: Sequence[Any]) -> set[int]:
        """Rows that have no value to show."""
        outcomes = self._follower.outcomes
        return {
            row
            for row, value in enumerate(values)
            if outcomes.status_code(row) != OK_CODE or _is_unread(value)
        }

    def _status_columns(
        self, state: JobState, unread: Mapping[int, RowError]
    ) -> dict[str, list[Any]]:
        rows = range(self._job["rows"])
        statuses = [str(self._follower.row_status(row, state)) for row in rows]
        causes = [
            "" if statuses[row] == RowStatus.OK else self.failure(row, state)[1].cause
            for row in rows
        ]
        for row, error in unread.items():
            causes[row] = error.cause
        return {"row_number": list(rows), "row_status": statuses, "row_cause": causes}

    def _detail_columns(self) -> dict[str, list[Any]]:
        hosts = self._hosts()
        rows = [self._details(row, hosts) for row in range(self._job["rows"])]
        names = ("row_seconds", "row_cpu_seconds", "row_peak_mb", "row_host", "row_attempt")
        return {name: [row[index] for row in rows] for index, name in enumerate(names)}

    def _details(
        self, row: int, hosts: Mapping[tuple[int, int, int], str]
    ) -> tuple[float | None, float | None, float | None, str | None, int | None]:
        found = self._follower.outcomes.find(row)
        if found is None:
            return None, None, None, None, None
        frame, index = found
        measures = frame.measures(index)
        peak = measures.peak_mb if measures.peak_mb >= 0 else None
        host = hosts.get(frame.origin[:3])
        return measures.seconds, measures.cpu, peak, host, frame.columns["attempt"][index]

    def _hosts(self) -> dict[tuple[int, int, int], str]:
        """Where each life of a task ran."""
        from slurmapply.records import read_lives  # noqa: PLC0415  # only details need it

        return {
            (run, view.life.task, view.life.life): view.started["node"] or view.started["host"]
            for run in range(self._follower.run.number + 1)
            for view in read_lives(self._disk, run)
            if view.started
        }

    def errors(self, state: JobState) -> Any:
        """Make the table of rows that are not ok."""
        bad = self.bad_rows(state, snapshot=False)
        found = [self.failure(row, state) for row in bad]
        extra: dict[str, list[Any]] = {
            "row_number": bad,
            "row_status": [str(status) for status, _ in found],
            "row_cause": [failure.cause for _, failure in found],
            "message": [failure.message for _, failure in found],
            "traceback": [failure.traceback for _, failure in found],
        }
        params = self.params() or Params({}, self._job["rows"], None)
        return rows_table(params, bad, extra)

    def row(self, row: int, state: JobState) -> RowReport:
        """Report all of one row."""
        status = self._follower.row_status(row, state)
        ok = status is RowStatus.OK
        _, failure = (status, Failure("", "")) if ok else self.failure(row, state)
        found = self._follower.outcomes.find(row)
        seconds, cpu, peak, host, attempt = self._details(row, self._hosts())
        arguments = self.arguments(row)
        if ITEM in arguments:
            arguments["item"] = arguments.pop(ITEM)
        return RowReport(
            row, str(status), failure.cause, arguments, self.value(row) if ok else None,
            failure.message, failure.traceback, self.row_log(row) if found else "",
            seconds, cpu, peak, host or "", attempt or 0,
        )  # fmt: skip

    # -- consoles --------------------------------------------------------------------------

    def row_log(self, row: int) -> str:
        """Give exactly what a row printed, also one that is running now."""
        found = self._follower.outcomes.find(row)
        if found is not None:
            frame, index = found
            measures = frame.measures(index)
            console = jobfolder.console_of(frame.origin.file)
            return _part(self._disk, console, measures.log_offset, measures.log_length)
        for view in self._follower.run.latest:
            if row in view.running:
                record = view.running[row]
                return _part(self._disk, record["console"], record["log_offset"], None)
        return ""

    def task_logs(self, limit: int | None = None) -> dict[int, str]:
        """Give what each task of the latest run printed, its own console first."""
        run = self._follower.run.number
        folder = jobfolder.run_folder(run)
        consoles: dict[int, list[str]] = {}
        for name in sorted(self._disk.names(folder), key=lambda n: (not n.startswith("slurm_"), n)):
            stem, _, rest = name.partition("_")
            task = rest.split("_")[0].split(".")[0]
            if stem in ("slurm", "console") and task.isdigit():
                text = _part(self._disk, f"{folder}/{name}", 0, None, limit)
                consoles.setdefault(int(task), []).append(text)
        return {task: "".join(texts) for task, texts in sorted(consoles.items())}


def _is_unread(value: Any) -> bool:
    return isinstance(value, RowError) and value.status == RowStatus.OK


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # the user's __repr__
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  # one line of an error


def _unpickled(data: bytes) -> BaseException | None:
    if not data:
        return None
    try:
        error = pickle.loads(data)
    except Exception:  # noqa: BLE001  # its class may not be here; the text is
        return None
    return error if isinstance(error, BaseException) else None


def _part(
    disk: FolderDisk, name: str, offset: int, length: int | None, limit: int | None = None
) -> str:
    file = disk.open(name)
    if file is None:
        return ""
    with file:
        if limit is not None:
            offset = max(offset, file.seek(0, 2) - limit)
        file.seek(offset)
        data = file.read() if length is None else file.read(length)
    return data.decode("utf-8", "replace")
