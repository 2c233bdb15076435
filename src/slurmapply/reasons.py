"""What becomes of rows that are not ok, said in sentences: of one row, and of a job by causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmapply.advice import sentence
from slurmapply.errors import FormatError
from slurmapply.outcome import Failure
from slurmapply.states import FAILED, NOT_OK, OVER, JobState, RowStatus
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from slurmapply.following import Follower
    from slurmapply.leftovers import Leftovers

_SHOWN_CAUSES = 8


class Reasons:
    """Says in sentences why rows are not ok.

    Parameters
    ----------
    follower, leftovers
        What is known of the job; why rows are left.
    """

    def __init__(self, follower: Follower, leftovers: Leftovers) -> None:
        self._follower = follower
        self._leftovers = leftovers

    def told(self, row: int, status: RowStatus, failure: Failure, shown: str = "") -> str:
        """Say what became of a row, and what to do."""
        return sentence(row, status, failure, self._leftovers.asked(row), shown=shown)

    def by_cause(self, state: JobState, *, failed_only: bool = False) -> list[str]:
        """Say for each cause how many rows there are, and tell of the first; unpickles nothing.

        Parameters
        ----------
        state
            The job's.
        failed_only
            Leave out rows without an outcome: why they are left, Slurm may have to be asked.
        """
        groups = self.groups(state, failed_only=failed_only)
        lines = [
            f"{len(rows)} x {harmless(cause)}: {self.told_of(rows[0], status)}"
            for status, cause, rows in groups[:_SHOWN_CAUSES]
        ]
        left = len(groups) - _SHOWN_CAUSES
        return lines + ([f"... and {left} more causes"] if left > 0 else [])

    def groups(
        self, state: JobState, *, failed_only: bool = False
    ) -> list[tuple[RowStatus, str, list[int]]]:
        """Give the rows that are not ok by status and cause, the largest group first."""
        groups: dict[tuple[RowStatus, str, str], list[int]] = {}
        rows = self._follower.outcomes.not_ok()
        if failed_only:
            rows = self._follower.rows_that_are(FAILED, state)
        for row in rows:
            status = self._status(row, state)
            if status in NOT_OK:
                groups.setdefault((status, *self._cause(row)), []).append(row)
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))
        return [(status, cause, rows) for (status, cause, _), rows in largest]

    def _status(self, row: int, state: JobState) -> RowStatus:
        if state not in OVER and self._follower.outcomes.find(row) is None:
            return RowStatus.PENDING  # or running: not our matter, and dear to find out
        return self._follower.row_status(row, state)

    def _cause(self, row: int) -> tuple[str, str]:
        """Give the cause of a row, and what tells those apart that have it in common."""
        found = self._follower.outcomes.find(row)
        if found is not None:
            return found[0].cause(found[1]), ""
        left = self._leftovers.why(row)
        return left.cause, left.place

    def told_of(self, row: int, status: RowStatus) -> str:
        """Say what became of a row and what to do."""
        return self.told(row, status, self.failure_of(row))

    def failure_of(self, row: int) -> Failure:
        """Say why a row is not ok; unpickles nothing."""
        found = self._follower.outcomes.find(row)
        if found is None:
            return self._leftovers.why(row)
        try:
            return self._follower.survey.values(found[0]).failure(found[1])
        except FormatError:
            return damaged(found[0].origin.file)


def damaged(file: str) -> Failure:
    """Describe a row whose outcome is there and cannot be read."""
    return Failure("damaged", f"has an outcome that cannot be read: {file} is damaged")
