"""What came of the measurements: medians, and who was fastest."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: One measurement: line, contestant, peer, style, rows, and its figures or an `error`.
Measurement = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """All measurements of a run.

    Attributes
    ----------
    measurements
        In the order in which they were made.
    """

    measurements: Sequence[Measurement]

    def values(self, line: str, contestant: str, rows: int, name: str = "seconds") -> list[float]:
        """Give one figure of all measurements of the same thing."""
        wanted = (line, contestant, rows)
        return [each[name] for each in self.measurements if _key(each) == wanted and name in each]

    def median(self, line: str, contestant: str, rows: int, name: str = "seconds") -> float | None:
        """Give the median of a figure, or None where it was not measured."""
        values = self.values(line, contestant, rows, name)
        return statistics.median(values) if values else None

    def fastest(
        self, line: str, rows: int, *, apart_from: Sequence[str] = (), style: str | None = None
    ) -> float | None:
        """Give the smallest median of the seconds among those that are not left out."""
        found = {
            each["contestant"]
            for each in self.of_line(line)
            if each["peer"] not in apart_from
            and each["rows"] == rows
            and (style is None or each["style"] == style)
        }
        medians = [self.median(line, contestant, rows) for contestant in found]
        return min((median for median in medians if median is not None), default=None)

    def of_line(self, line: str) -> Iterator[Measurement]:
        """Give the measurements of a line."""
        return (each for each in self.measurements if each["line"] == line)

    def contestants(self, line: str) -> list[str]:
        """Name all who were measured, whether it failed or not."""
        return list(dict.fromkeys(each["contestant"] for each in self.of_line(line)))

    def sizes(self, line: str, contestant: str | None = None) -> list[int]:
        """Give the numbers of rows that were measured."""
        return sorted(
            {
                each["rows"]
                for each in self.of_line(line)
                if contestant in {None, each["contestant"]}
            }
        )

    def failures(self) -> list[Measurement]:
        """Give the measurements that failed."""
        return [each for each in self.measurements if "error" in each]


def _key(each: Measurement) -> tuple[str, str, int]:
    return each["line"], each["contestant"], each["rows"]
