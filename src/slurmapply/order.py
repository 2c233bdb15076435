"""The order in which rows start when their costs are known: ``rows.order``.

The file is a line of JSON and then the numbers of all rows, the most costly first, as uint32::

    {"costs": [[1.0, 2], [0.25, 7]], "crc32": ...}     two rows of the highest cost, seven of a
                                                       quarter of it

Costs are relative to the highest. It is small and read at once, also for millions of rows.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import zlib
from array import array
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import FormatError
from slurmapply.rows import BLOCK_ROWS, RowNumbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurmapply.disk import Disk

#: Cost of a row, and how many rows have it, descending.
CostClasses = tuple[tuple[float, int], ...]

#: Costs that differ by less than 2 ** (1 / 16), which is 4 %, are alike in a large job.
_STEPS_IN_AN_OCTAVE = 16


class OrderedRows(RowNumbers):
    """A set of row numbers whose positions follow the expected cost, the highest first.

    Parameters
    ----------
    numbers
        All of the set, in the order in which they start.
    members
        The same as a set.
    costs
        What they cost.

    Examples
    --------
    >>> rows = OrderedRows([7, 1, 2], RowNumbers.of([1, 2, 7]), ((3.0, 1), (1.0, 2)))
    >>> rows[0], [*rows], rows.position(2), rows.ranges
    (7, [7, 1, 2], 2, ((1, 3), (7, 8)))
    >>> list(rows.between(range(3)))
    [range(7, 8), range(1, 3)]
    """

    __slots__ = ("_numbers", "_positions", "costs")

    def __init__(self, numbers: Iterable[int], members: RowNumbers, costs: CostClasses) -> None:
        super().__init__(members.ranges)
        self._numbers = array("I", numbers)
        self._positions = array("I")
        self.costs = costs

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __getitem__(self, position: int) -> int:
        if position < 0:
            raise IndexError(position)
        return self._numbers[position]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedRows) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"OrderedRows({list(self._numbers)!r})"

    def between(self, positions: range) -> Iterator[range]:
        """Give the numbers at consecutive positions, as ranges."""
        numbers = iter(self._numbers[positions.start : positions.stop])
        start = stop = next(numbers, 0)
        for number in numbers:
            if number != stop + 1:
                yield range(start, stop + 1)
                start = number
            stop = number
        if positions:
            yield range(start, stop + 1)

    def position(self, number: int) -> int:
        """Give the position of a number that is in the set."""
        if not self._positions:  # by number, made when somebody asks; nodes do not
            self._positions = array("I", bytes(4 * (max(self._numbers) + 1)))
            for position, each in enumerate(self._numbers):
                self._positions[each] = position
        return self._positions[number]


def encode_order(costs: Sequence[float]) -> bytes:
    """Write ``rows.order`` for the cost of each row.

    Rows that cost the same stay in the order of their numbers. In a job of more rows than a block
    of parameters holds, so do those of which the costs differ by a few percent: an estimate says
    no more, and a node that works on rows in their own order loads each block once.
    """
    highest = max(costs, default=0.0) or 1.0
    alike = _alike if len(costs) > BLOCK_ROWS else float
    classes: dict[float, list[int]] = defaultdict(list)
    for row, cost in enumerate(costs):
        classes[alike(cost / highest)].append(row)
    descending = sorted(classes.items(), reverse=True)
    numbers = array("I", itertools.chain.from_iterable(rows for _, rows in descending))
    if sys.byteorder == "big":
        numbers.byteswap()
    body = numbers.tobytes()
    found = [(cost, len(rows)) for cost, rows in descending]
    return json.dumps({"costs": found, "crc32": zlib.crc32(body)}).encode() + b"\n" + body


def _alike(cost: float) -> float:
    """Give one number for costs that hardly differ."""
    if not cost:
        return 0.0
    step = round(_STEPS_IN_AN_OCTAVE * math.log2(cost))
    return math.pow(2.0, step / _STEPS_IN_AN_OCTAVE)


def decode_order(data: bytes, members: RowNumbers, length: int) -> OrderedRows:
    """Read the order of some rows of a job.

    Parameters
    ----------
    data
        Content of ``rows.order``.
    members
        Which rows.
    length
        Number of rows of the job.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    costs, numbers = _parsed(data, length)
    if len(members) == length:
        return OrderedRows(numbers, members, costs)
    wanted = bytearray(length)
    for start, stop in members.ranges:
        wanted[start:stop] = b"\1" * (stop - start)
    left = array("I")
    classes = []
    for cost, same in _classes(costs, numbers):
        chosen = array("I", filter(wanted.__getitem__, same))
        left += chosen
        if chosen:
            classes.append((cost, len(chosen)))
    return OrderedRows(left, members, tuple(classes))


def _parsed(data: bytes, length: int) -> tuple[CostClasses, array[int]]:
    head, _, body = data.partition(b"\n")
    try:
        content = json.loads(head)
        costs = tuple((float(cost), int(rows)) for cost, rows in content["costs"])
        numbers = array("I", body)
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if sys.byteorder == "big":
        numbers.byteswap()
    whole = content.get("crc32") == zlib.crc32(body) and len(numbers) == length
    if not whole or sum(rows for _, rows in costs) != length:
        raise _damaged()
    return costs, numbers


def _damaged() -> FormatError:
    return FormatError(
        f"{jobfolder.ROWS_ORDER}, which says what the job's rows cost, is damaged or of another "
        "job. Submit the job again."
    )


def _classes(costs: CostClasses, numbers: array[int]) -> Iterator[tuple[float, array[int]]]:
    start = 0
    for cost, rows in costs:
        yield cost, numbers[start : start + rows]
        start += rows


def order_rows(
    disk: Disk, job: Mapping[str, Any], asked: Mapping[str, Any], members: RowNumbers
) -> RowNumbers:
    """Put rows of a run into the order in which they start.

    Parameters
    ----------
    disk, job, asked
        The job folder, its ``job.json``, the run's ``run.json``.
    members
        Which rows.

    Raises
    ------
    FormatError
        Their order is damaged or missing.
    """
    if not job.get("cost") or asked["schedule"] == "static":
        return members
    data = disk.read(jobfolder.ROWS_ORDER)
    if data is None:
        raise FormatError(
            f"{jobfolder.ROWS_ORDER}, which says what the job's rows cost, is missing: was the "
            "folder copied in part?"
        )
    return decode_order(data, members, job["rows"])
