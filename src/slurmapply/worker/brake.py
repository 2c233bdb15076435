"""When a task should take no more rows because they fail: pure rules over counters."""

from __future__ import annotations

import zlib
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.worker.page import MIXED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurmapply.worker.page import Page

_FEWEST = 20


class Tally(NamedTuple):
    """How rows have fared.

    Attributes
    ----------
    failed
        How many failed.
    fault, text
        A number for the exception and line of the first failure, MIXED once another differed; the
        same for people.
    any_ok
        Whether any was ok.
    """

    failed: int = 0
    fault: int = 0
    text: str = ""
    any_ok: bool = False

    def __add__(self, other: Tally) -> Tally:  # type: ignore[override]  # sums, no longer tuples
        alike = not self.failed or not other.failed or self.fault == other.fault
        return Tally(
            self.failed + other.failed,
            (self.fault or other.fault) if alike else MIXED,
            self.text or other.text,
            self.any_ok or other.any_ok,
        )


def fault_number(text: str) -> int:
    """Give a number above 0 for an exception and its line, the same in all processes."""
    return zlib.crc32(text.encode("utf-8", "replace")) + 1


def tally_of(page: Page) -> Tally:
    """Give what a worker counted."""
    return Tally(page.failed, page.fault, page.fault_text, page.any_ok)


class Brake:
    """Says when a task should take no more rows.

    Parameters
    ----------
    max_failures
        As in `slurm_apply`: "auto", a number or None.
    workers
        How many workers the task has.
    """

    def __init__(self, max_failures: Any, workers: int) -> None:
        self._most = max_failures
        self._enough = max(_FEWEST, 2 * workers)
        self._known = Tally()

    def note(self, tally: Tally) -> None:
        """Add what no living worker counts: those that have ended, and what they died of."""
        self._known += tally

    def watches(self, pages: Iterable[Page]) -> bool:
        """Whether another failure could be the last."""
        if self._most == "auto":
            return not (self._known.any_ok or any(page.any_ok for page in pages))
        return self._most is not None

    def reason(self, pages: Iterable[Page]) -> str:
        """Say why no more rows should be taken, "" when they may."""
        now = self._sum(pages)
        if self._most == "auto":
            alike = not now.any_ok and now.fault != MIXED and now.failed >= self._enough
            return f"all {now.failed} rows that ended failed with {now.text}" if alike else ""
        if self._most is None or now.failed < self._most:
            return ""
        return f"{now.failed} rows failed (max_failures={self._most}), the first with {now.text}"

    def _sum(self, pages: Iterable[Page]) -> Tally:
        return reduce(Tally.__add__, map(tally_of, pages), self._known)
