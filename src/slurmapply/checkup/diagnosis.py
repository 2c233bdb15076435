"""What a check found, and all of them together. Pure."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmapply.errors import SlurmApplyError
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator


class Verdict(str, enum.Enum):
    """How a check ended: a `str`, equal to its word."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"

    __str__ = str.__str__


_MARKS = {Verdict.OK: "ok", Verdict.WARNING: "! ", Verdict.FAILED: "!!", Verdict.SKIPPED: "--"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at: ``"links"``, ``"node: python"``.
    verdict : str
        ``"ok"``; ``"warning"``: jobs run, with less comfort or a risk; ``"failed"``: jobs, or the
        part of them that is named, will not work; ``"skipped"``: it could not be looked at.
    message : str
        What was found, and where it is not ok what to do.
    """

    name: str
    verdict: Verdict
    message: str

    def __str__(self) -> str:
        return f"{_MARKS[self.verdict]}  {self.name}: {one_line(self.message)}"


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found; printed, it is one line for each check.

    Attributes
    ----------
    checks : tuple of Check
        In the order in which they were made: this machine, the folder, Slurm, the test job.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing failed. There may be warnings, and checks that were skipped."""
        return all(check.verdict is not Verdict.FAILED for check in self.checks)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), self._summary()])

    __repr__ = __str__

    def _summary(self) -> str:
        count = {word: sum(check.verdict is word for check in self.checks) for word in Verdict}
        failed, warned = count[Verdict.FAILED], count[Verdict.WARNING]
        if not failed and not warned:
            return f"all well: {count[Verdict.OK]} checks"
        parts = [f"{failed} failed"] * bool(failed)
        parts += ["1 warning" if warned == 1 else f"{warned} warnings"] * bool(warned)
        return f"{len(self.checks)} checks: {', '.join(parts)}"


class Findings:
    """Collects checks while they are made."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def ok(self, name: str, message: str) -> None:
        """Note that something is as it should be."""
        self._checks.append(Check(name, Verdict.OK, message))

    def warn(self, name: str, message: str) -> None:
        """Note what jobs can live with."""
        self._checks.append(Check(name, Verdict.WARNING, message))

    def fail(self, name: str, message: str) -> None:
        """Note what keeps jobs from working."""
        self._checks.append(Check(name, Verdict.FAILED, message))

    def skip(self, name: str, message: str) -> None:
        """Note what could not be looked at, and why."""
        self._checks.append(Check(name, Verdict.SKIPPED, message))

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Turn what goes wrong inside into a failed check: a doctor does not fall ill."""
        try:
            yield
        except SlurmApplyError as error:
            self.fail(name, str(error))
        except (OSError, ValueError) as error:
            self.fail(name, f"{type(error).__name__}: {error}")

    def diagnosis(self) -> Diagnosis:
        """Give what was found."""
        return Diagnosis(tuple(self._checks))


def one_line(text: str) -> str:
    r"""Put a text on one line, without what could steer a terminal.

    Examples
    --------
    >>> one_line("no answer:\n    try again\n")
    'no answer: try again'
    """
    return harmless(" ".join(text.split()))


def in_words(size: float) -> str:
    """Write a number of bytes for people, in the units of ``mem=``.

    Examples
    --------
    >>> in_words(300 * 2**20), in_words(3 * 2**40)
    ('300 MB', '3 TB')
    """
    for unit, power in (("TB", 40), ("GB", 30)):
        if size >= 2**power:
            return f"{size / 2**power:.3g} {unit}"
    return f"{size / 2**20:.3g} MB"
