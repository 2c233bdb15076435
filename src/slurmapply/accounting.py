"""What the batch system's accounts say of tasks: asked seldom, and never needed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slurmapply.errors import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurmapply.schedulers.base import Account, Submission

#: Accounts lag behind by seconds, and who looks at a running job again and again asks once.
_PAUSE = 60.0


@dataclass(slots=True)
class Accounting:
    """Accounts of a job's tasks, by the submission's id and the task's number.

    Attributes
    ----------
    ask
        Gives the accounts of some submissions.
    """

    ask: Callable[[Sequence[Submission]], Mapping[tuple[str, int], Account]]
    _known: dict[tuple[str, int], Account] = field(default_factory=dict)
    _next: float = 0.0

    def of(self, submissions: Sequence[Submission]) -> Mapping[tuple[str, int], Account]:
        """Give what is known of these submissions, asked for at most once a minute."""
        now = time.monotonic()
        if submissions and now >= self._next:
            self._next = now + _PAUSE
            try:
                self._known |= self.ask(submissions)
            except SchedulerError:  # without accounts there is less to say, and nothing is wrong
                return self._known
        return self._known
