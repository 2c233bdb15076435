"""The session's own process, one row after another: for pdb, and to see a function fail at once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmapply.schedulers.base import Answer, Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from slurmapply.schedulers.base import Request


@dataclass(frozen=True, slots=True)
class InlineScheduler:
    """Runs a run's rows before `submit` returns.

    Parameters
    ----------
    run_here
        Runs all rows of a run: folder, run, submission. Given by the session, because batch
        systems and the node's program know nothing of each other.
    """

    run_here: Callable[[Path, int, str], None]

    def submit(self, request: Request) -> Submission:
        """Run it."""
        job_id = f"inline-{secrets.token_hex(4)}"
        self.run_here(request.folder, request.run, job_id)
        return Submission("inline", job_id)

    def recover(self, request: Request) -> None:
        """Nothing is left of one that was cut short."""

    def states(self, submissions: Sequence[Submission]) -> Answer:  # noqa: ARG002
        """Nothing is left of it once `submit` has returned."""
        return Answer(known=True)

    def cancel(self, submission: Submission) -> None:
        """There is nothing to end."""

    def describe(self, submission: Submission) -> str:  # noqa: ARG002
        """Say where it runs."""
        return "in this process"
