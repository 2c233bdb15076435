"""What a job's rows gave: values, errors and tables, read from its folder."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmapply.advice import MEND, raised
from slurmapply.errors import FormatError, RowError, RowsFailedError
from slurmapply.inputs import Params
from slurmapply.leftovers import Leftovers
from slurmapply.outcome import Failure
from slurmapply.reasons import Reasons, damaged
from slurmapply.records import read_lives
from slurmapply.results import EMPTY, collection, results_table, rows_table
from slurmapply.rows import ITEM
from slurmapply.states import NOT_OK, OK_CODE, JobState, RowStatus
from slurmapply.wording import first_line, harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.outcome_file import Frame, FrameValues
    from slurmapply.parameters import Parameters


_SHOWN_CAUSES = 5


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
        The exception's text, else the sentence; its full traceback; what the row printed.
    seconds, cpu_seconds, peak_mb, host, attempt
        How it ran.
    sentence
        Of a row that is not ok: what became of it, and what to do.
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
    sentence: str = ""

    def __str__(self) -> str:
        lines = [self.sentence or f"row {self.number}: {self.status}"]
        lines += [f"  {name} = {value!r}" for name, value in self.parameters.items()]
        if self.status == RowStatus.OK:
            lines.append(f"  returned {self.value!r}")
        lines += [text for text in (self.traceback, self.log) if text]
        return harmless("\n".join(lines))


class Collector:
    """Reads what the rows of a job gave.

    Parameters
    ----------
    disk, job
        The folder and its ``job.json``.
    follower
        Knows which outcome of each row counts.
    parameters
        What the job was given.
    """

    def __init__(
        self,
        disk: FolderDisk,
        job: Mapping[str, Any],
        follower: Follower,
        parameters: Parameters,
    ) -> None:
        self._disk = disk
        self._job = job
        self._follower = follower
        self._parameters = parameters
        self._leftovers = Leftovers(disk, job, follower)
        self._reasons = Reasons(follower, self._leftovers)
        self._loaded: tuple[Frame, FrameValues] | None = None

    def value(self, row: int) -> Any:
        """Give the value of a row that is ok, or a RowError when it cannot be unpickled here.

        Raises
        ------
        FormatError
            It is damaged; the row counts as not done from now on.
        UntrustedFolderError
            Others could have written it.
        """
        found = self._follower.outcomes.find(row)
        if found is None:
            raise LookupError(f"row {row} has no outcome")
        values = self._values(found[0])
        try:
            return values.value(found[1])
        except (Exception, SystemExit) as error:  # noqa: BLE001  # unpickling runs the user's code
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
                return status, _shown(self._values(found[0]).failure(found[1]))
            except FormatError:
                return status, damaged(found[0].origin.file)
        if status in NOT_OK:
            return status, _shown(self._leftovers.why(row))
        if status is RowStatus.PENDING:
            return status, _shown(self._leftovers.waiting(state))
        return status, Failure("", "")

    def error(self, row: int, state: JobState) -> RowError:
        """Describe a row that is not ok as an exception."""
        status, failure = self.failure(row, state)
        exception = _unpickled(failure.exception)
        error = RowError(
            self._reasons.told(row, status, failure, self._parameters.shown(row)),
            row=row,
            status=str(status),
            cause=failure.cause,
            exception=exception,
            traceback=failure.traceback,
        )
        error.__cause__ = exception
        return error

    def reasons(self, state: JobState) -> list[str]:
        """Say for each cause how many rows there are, and tell of the first; unpickles nothing."""
        return self._reasons.by_cause(state)

    def _values(self, frame: Frame) -> FrameValues:
        # Rows are read frame by frame: the latest one is all that is worth keeping.
        if self._loaded is None or self._loaded[0] is not frame:
            self._parameters.check_trust()
            self._disk.open_trusted(frame.origin.file).close()
            self._loaded = frame, self._follower.survey.values(frame)
        return self._loaded[1]

    def values(self, state: JobState, *, errors: str, snapshot: bool) -> list[Any]:
        """Give the value of each row; RowError, or None where nothing is known yet.

        Raises
        ------
        RowsFailedError
            Rows are not ok and `errors` is "raise".
        """
        values = self._values_of_ok_rows()
        bad = self.bad_rows(state, snapshot=snapshot)
        if bad and errors == "raise":
            raise self.refusal(bad, state)
        for row in bad:
            values[row] = self.error(row, state)
        unread = [row for row, value in enumerate(values) if _is_unread(value)]
        if unread and errors == "raise":
            raise values[unread[0]]
        return values

    def _values_of_ok_rows(self) -> list[Any]:
        """Read all values; a damaged frame is forgotten, and its rows looked for elsewhere."""
        while True:
            values: list[Any] = [None] * self._job["rows"]
            try:
                for row in self._by_frame():
                    values[row] = self.value(row)
            except FormatError:
                continue
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
        rows = self._follower.outcomes.not_ok()
        return [row for row in rows if self._follower.row_status(row, state) in wanted]

    def refusal(self, bad: Sequence[int], state: JobState) -> RowsFailedError:
        """Describe rows that are not ok, grouped by cause."""
        befell = {row: self.failure(row, state) for row in bad}
        steps = f"{MEND}; " if any(raised(*each) for each in befell.values()) else ""
        error = RowsFailedError(
            f"{len(bad)} of {self._job['rows']} rows of {self._job['name']} are not ok: "
            f"{self._grouped(befell)}. Look with job.errors() or job.row({bad[0]}); {steps}"
            'take what is there with errors="keep".'
        )
        error.__cause__ = _unpickled(befell[bad[0]][1].exception)
        return error

    def _grouped(self, befell: Mapping[int, tuple[RowStatus, Failure]]) -> str:
        """Group rows by cause and place: messages of one fault differ (ids, values, sets)."""
        groups: dict[tuple[RowStatus, str, str], list[int]] = {}
        for row, (status, failure) in befell.items():
            groups.setdefault((status, failure.cause, failure.place), []).append(row)
        largest = sorted(groups.values(), key=lambda rows: -len(rows))
        parts = [
            f"{len(rows)} x {self._first_of_group(rows[0], *befell[rows[0]])}"
            for rows in largest[:_SHOWN_CAUSES]
        ]
        left = len(largest) - _SHOWN_CAUSES
        return "; ".join(parts) + (f"; and {left} more causes" if left > 0 else "")

    def _first_of_group(self, row: int, status: RowStatus, failure: Failure) -> str:
        if raised(status, failure):
            said = first_line(failure.message)
            return f"{failure.cause}: {said} (first: row {row})".replace(":  (", " (")
        return f"{failure.cause}: {self._reasons.told(row, status, failure)}"

    def _message(self, row: int, status: RowStatus, failure: Failure) -> str:
        """Give an exception's own text, and of everything else the sentence."""
        own = raised(status, failure) or not failure.cause
        return failure.message if own else self._reasons.told(row, status, failure)

    # -- tables ----------------------------------------------------------------------------

    def collection(self, values: list[Any]) -> Any:
        """Put values into the kind of collection that the items were."""
        return collection(self._parameters.items(), values)

    def table(
        self, state: JobState, *, errors: str, details: bool, snapshot: bool, with_params: bool
    ) -> Any:
        """Make the table of parameters and results, one line per row."""
        values = self.values(state, errors=errors, snapshot=snapshot)
        params = self._parameters.params()
        like = params.frame if params else self._parameters.stored()["frame"]
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
            "message": [self._message(row, *each) for row, each in zip(bad, found, strict=True)],
            "traceback": [failure.traceback for _, failure in found],
        }
        params = self._parameters.params() or Params({}, self._job["rows"], None)
        return rows_table(params, bad, extra)

    def row(self, row: int, state: JobState, log: str) -> RowReport:
        """Report all of one row."""
        status = self._follower.row_status(row, state)
        ok = status is RowStatus.OK
        _, failure = (status, Failure("", "")) if ok else self.failure(row, state)
        sentence = self._reasons.told(row, status, failure) if failure.cause else ""
        seconds, cpu, peak, host, attempt = self._details(row, self._hosts())
        arguments = self._parameters.arguments(row)
        if ITEM in arguments:
            arguments["item"] = arguments.pop(ITEM)
        return RowReport(
            row, str(status), failure.cause, arguments, self.value(row) if ok else None,
            self._message(row, status, failure), failure.traceback, log,
            seconds, cpu, peak, host or "", attempt or 0, sentence,
        )  # fmt: skip


def _shown(failure: Failure) -> Failure:
    """Make a failure's texts harmless: what a row raised must not steer a terminal."""
    texts = (failure.cause, failure.message, failure.traceback)
    cause, message, traceback = map(harmless, texts)
    return failure._replace(cause=cause, message=message, traceback=traceback)


def _is_unread(value: Any) -> bool:
    return isinstance(value, RowError) and value.status == RowStatus.OK


def _unpickled(data: bytes) -> BaseException | None:
    if not data:
        return None
    try:
        error = pickle.loads(data)
    except (Exception, SystemExit):  # noqa: BLE001  # its class may not be here; the text is
        return None
    return error if isinstance(error, BaseException) else None
