"""How long rows took: a histogram by status, and the rows to know of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: From the shortest to the longest row by more than this factor, only a logarithmic axis shows all.
_WIDE = 30.0
#: Clocks tell no shorter times, and a logarithmic axis has no place for none.
_SHORTEST = 1e-6


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the rows took that have ended.

    Attributes
    ----------
    edges
        Of the bins, in seconds: a NumPy array, empty when no row has ended.
    counts
        Rows in each bin, by the code of their status.
    logarithmic
        Whether the bins are equal on a logarithmic axis.
    median, longest
        In seconds.
    longest_row
        Its number.
    """

    edges: Any
    counts: Mapping[int, Any]
    logarithmic: bool
    median: float
    longest: float
    longest_row: int


def durations(seconds: Any, codes: bytes, bins: int = 40) -> Durations:
    """Count rows by how long they took.

    Parameters
    ----------
    seconds
        Of each row, as a `NumberColumn`, or a list of None where no row has ended.
    codes
        The code of each row's settled status, or 0.
    bins
        How many.
    """
    import numpy as np  # noqa: PLC0415

    if isinstance(seconds, list):
        return Durations(np.array([]), {}, False, 0.0, 0.0, 0)  # noqa: FBT003  # a field
    status = np.frombuffer(bytes(codes), np.uint8)
    rows = np.flatnonzero((status > 0) & ~seconds.empty & np.isfinite(seconds.cells))
    taken, status = np.maximum(seconds.cells[rows], _SHORTEST), status[rows]
    if not len(rows):
        return durations([], b"")
    shortest, longest = float(taken.min()), float(taken.max())
    logarithmic = longest > _WIDE * shortest
    if logarithmic:
        edges = np.geomspace(shortest, longest, bins + 1)
    else:
        edges = np.linspace(0.0, longest, bins + 1)
    edges[0], edges[-1] = min(edges[0], shortest), longest  # whatever rounding did
    counts = {
        int(code): np.histogram(taken[status == code], edges)[0] for code in np.unique(status)
    }
    last = int(np.argmax(taken))
    return Durations(edges, counts, logarithmic, float(np.median(taken)), longest, int(rows[last]))
