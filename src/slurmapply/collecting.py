"""What a job's rows gave: values, errors and tables, read from its folder."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurmapply.advice import MEND, raised
from slurmapply.durations import durations
from slurmapply.errors import FormatError, RowError, RowsFailedError
from slurmapply.gathering import failed_rows, gathered_hosts, gathered_measures, row_numbers
from slurmapply.inputs import Params
from slurmapply.leftovers import Leftovers
from slurmapply.outcome import Failure
from slurmapply.reasons import Reasons, damaged
from slurmapply.records import read_lives
from slurmapply.results import EMPTY, collection, results_table, rows_table
from slurmapply.rows import ITEM
from slurmapply.states import FAILED, NOT_OK, OK_CODE, JobState, RowStatus
from slurmapply.statuses import WORDS
from slurmapply.values import ValueReader
from slurmapply.wording import bounded, first_line, harmless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.disk import FolderDisk
    from slurmapply.durations import Durations
    from slurmapply.following import Follower
    from slurmapply.parameters import Parameters


_SHOWN_CAUSES = 5
#: Characters of a traceback, and of what was printed, in the text of a row's report.
_LONGEST_TEXT = 4000


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
        lines += [f"  {name} = {bounded(value)}" for name, value in self.parameters.items()]
        if self.status == RowStatus.OK:
            lines.append(f"  returned {bounded(self.value)}")
        lines += [_end_of(text) for text in (self.traceback, self.log) if text]
        return harmless("\n".join(lines))

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        from slurmapply.cards import row_card  # noqa: PLC0415  # notebooks alone need it

        return row_card(self)


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
        self._values = ValueReader(disk, follower.survey, parameters)

    def status(self, row: int, state: JobState) -> RowStatus:
        """Say what is the case with a row; one whose value is damaged is not ok.

        Raises
        ------
        UntrustedFolderError
            Others could have written the value.
        """
        while True:  # where one outcome is damaged, another one counts, or none
            status = self._follower.row_status(row, state)
            if status is not RowStatus.OK or not self._values.is_damaged(row):
                return status

    def value(self, row: int) -> Any:
        """Give the value of a row that is ok, as `status` said.

        Raises
        ------
        RowError
            It cannot be unpickled here.
        """
        return self._values.one(row)

    def failure(self, row: int, state: JobState) -> tuple[RowStatus, Failure]:
        """Say what is the case with a row that is not ok."""
        status = self._follower.row_status(row, state)
        found = self._follower.outcomes.find(row)
        if found is not None and found[0].columns["status"][found[1]] != OK_CODE:
            try:
                return status, _shown(self._values.of_frame(found[0]).failure(found[1]))
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

    def reasons(self, state: JobState, *, failed_only: bool = False) -> list[str]:
        """Say for each cause how many rows there are, and tell of the first; unpickles nothing."""
        return self._reasons.by_cause(state, failed_only=failed_only)

    def causes(self, state: JobState) -> list[tuple[RowStatus, str, list[int]]]:
        """Give the rows that are not ok by status and cause, the largest group first."""
        return self._reasons.groups(state)

    def told(self, row: int, state: JobState) -> tuple[str, Failure]:
        """Say what became of a row that is not ok, what to do, and why; unpickles nothing."""
        failure = self._reasons.failure_of(row)
        status = self._follower.row_status(row, state)
        return self._reasons.told(row, status, failure), _shown(failure)

    def values(self, state: JobState, *, errors: str, snapshot: bool) -> list[Any]:
        """Give the value of each row; RowError, or None where nothing is known yet.

        Raises
        ------
        RowsFailedError
            Rows are not ok and `errors` is "raise".
        """
        values, unread = self._values.all(None, keep=snapshot)
        bad = self.bad_rows(state, snapshot=snapshot)
        if errors == "raise":
            self._refuse(bad, unread, state)
        for row in bad:
            values[row] = self.error(row, state)
        for row, error in unread.items():
            values[row] = error
        return values

    def _refuse(self, bad: Sequence[int], unread: Mapping[int, RowError], state: JobState) -> None:
        if bad:
            raise self.refusal(bad, state)
        if unread:
            raise unread[min(unread)]

    def bad_rows(self, state: JobState, *, snapshot: bool) -> list[int]:
        """Rows that are not ok; in a snapshot only the failed ones among those that ended."""
        return self._follower.rows_that_are(FAILED if snapshot else NOT_OK, state)

    def refusal(self, bad: Sequence[int], state: JobState) -> RowsFailedError:
        """Describe rows that are not ok, grouped by cause."""
        befell = {row: self.failure(row, state) for row in bad}
        steps = f"{MEND}; " if any(raised(*each) for each in befell.values()) else ""
        head = f"{len(bad)} of {self._job['rows']} rows of {self._job['name']} are not ok"
        causes = self._grouped(befell)
        ways = (
            f"Look with job.errors() or job.row({bad[0]}); {steps}"
            'take what is there with errors="keep".'
        )
        error = RowsFailedError(
            f"{head}: {'; '.join(causes)}. {ways}",
            lines=[f"{head}:", *(f"  {cause}" for cause in causes), ways],
        )
        error.__cause__ = _unpickled(befell[bad[0]][1].exception)
        return error

    def _grouped(self, befell: Mapping[int, tuple[RowStatus, Failure]]) -> list[str]:
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
        return [*parts, f"and {left} more causes"] if left > 0 else parts

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
        values: Any = self._values.numbers()
        unread: dict[int, RowError] = {}
        if values is None:
            values, unread = self._values.all(EMPTY, keep=snapshot)
        if errors == "raise":
            self._refuse(self.bad_rows(state, snapshot=snapshot), unread, state)
        params = self._parameters.params()
        like = params.frame if params else self._parameters.stored()["frame"]
        extra: dict[str, Any] = {}
        if errors == "keep":
            extra = self._status_columns(state, unread)
        if details:
            extra |= self._detail_columns()
        return results_table(params if with_params else None, values, extra=extra, like=like)

    def statuses(self, state: JobState) -> list[tuple[str, str]]:
        """Give status and cause of each row."""
        return list(zip(self._words(state), self._causes(state), strict=True))

    def _status_columns(self, state: JobState, unread: Mapping[int, RowError]) -> dict[str, Any]:
        statuses, causes = self._words(state), self._causes(state)
        for row, error in unread.items():
            causes[row] = error.cause
        numbers = row_numbers(self._job["rows"])
        return {"row_number": numbers, "row_status": statuses, "row_cause": causes}

    def _words(self, state: JobState) -> list[str]:
        words = {code: str(status) for code, status in WORDS.items()}
        return list(map(words.__getitem__, self._follower.status_codes(state)))

    def _causes(self, state: JobState) -> list[str]:
        """Give the cause of each row, empty where there is none."""
        causes = [""] * self._job["rows"]
        waiting = harmless(self._leftovers.waiting(state).cause)
        for row in self._follower.rows_that_are({RowStatus.PENDING}, state) if waiting else ():
            causes[row] = waiting
        for row in self._follower.rows_that_are(NOT_OK - FAILED, state):
            causes[row] = harmless(self._leftovers.why(row).cause)
        said = functools.cache(harmless)
        for row, cause in failed_rows(self._follower.outcomes, self._values.of_frame):
            causes[row] = said(cause)
        return causes

    def usage_columns(self) -> dict[str, Any]:
        """Give how each row ran, by what `Usage.rows` calls it."""
        return {name.removeprefix("row_"): cells for name, cells in self._detail_columns().items()}

    def _detail_columns(self) -> dict[str, Any]:
        outcomes, hosts = self._follower.outcomes, self._hosts()
        return {
            "row_seconds": gathered_measures(outcomes, "seconds"),
            "row_cpu_seconds": gathered_measures(outcomes, "cpu"),
            "row_peak_mb": gathered_measures(outcomes, "peak_mb"),
            "row_host": gathered_hosts(outcomes, lambda frame: hosts.get(frame.origin[:3])),
            "row_attempt": gathered_measures(outcomes, "attempt"),
        }

    def durations(self) -> Durations:
        """Say how long the rows took that have ended."""
        outcomes = self._follower.outcomes
        return durations(gathered_measures(outcomes, "seconds"), bytes(outcomes.codes))

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
        status = self.status(row, state)
        ok = status is RowStatus.OK
        _, failure = (status, Failure("", "")) if ok else self.failure(row, state)
        sentence = self._reasons.told(row, status, failure) if failure.cause else ""
        seconds, cpu, peak, host, attempt = self._details(row, self._hosts())
        arguments = self._parameters.arguments(row)
        if ITEM in arguments:
            arguments["item"] = arguments.pop(ITEM)
        return RowReport(
            row, str(status), failure.cause, arguments, self._value_or_error(row) if ok else None,
            self._message(row, status, failure), failure.traceback, log,
            seconds, cpu, peak, host or "", attempt or 0, sentence,
        )  # fmt: skip

    def _value_or_error(self, row: int) -> Any:
        try:
            return self.value(row)
        except RowError as error:
            return error


def _end_of(text: str) -> str:
    """Give a text's last part: what is printed is for people, the attribute has all."""
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"... the last of {len(text)} characters:\n{text[-_LONGEST_TEXT:]}"


def _shown(failure: Failure) -> Failure:
    """Make a failure's texts harmless: what a row raised must not steer a terminal."""
    texts = (failure.cause, failure.message, failure.traceback)
    cause, message, traceback = map(harmless, texts)
    return failure._replace(cause=cause, message=message, traceback=traceback)


def _unpickled(data: bytes) -> BaseException | None:
    if not data:
        return None
    try:
        error = pickle.loads(data)
    except (Exception, SystemExit):  # noqa: BLE001  # its class may not be here; the text is
        return None
    return error if isinstance(error, BaseException) else None
