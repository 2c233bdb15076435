"""The rows of a job on disk: their arguments in blocks, and sets of row numbers.

``rows.bin`` holds blocks of consecutive rows, ``rows.json`` says where each block stands, so that
a node loads only the blocks that it works on. A block is a pickle of plain containers::

    {"rows": 2,
     "columns": [("depth", "plain", [1, 2]),                   cells that cannot be changed in
                                                  place; many ints or floats are an `array`
                 ("model", "objects", [(pickle, buffers), None])]}  all others, a fresh copy for
                                                  each row; None: not given, f's default holds
"""

from __future__ import annotations

import enum
import itertools
import json
import pickle
import zlib
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, BinaryIO

from slurmapply import jobfolder
from slurmapply.errors import FormatError
from slurmapply.pickles import PROTOCOL, BufferReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from slurmapply.disk import FolderDisk
    from slurmapply.pickles import BufferPlace
    from slurmapply.pickling import ObjectWriter

#: A block is closed at this many rows or bytes of objects, whichever comes first.
BLOCK_ROWS = 4096
BLOCK_BYTES = 4 * 1024 * 1024


#: The column of slurm_map's items: no keyword can have this name.
ITEM = ""


class Absent(enum.Enum):
    """The cell of a row that was not given."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT

_IMMUTABLE = frozenset({type(None), bool, int, float, complex, str, bytes})
#: By name: nodes load this module, and none of these are needed there.
_IMMUTABLE_NAMES = frozenset(
    {
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta",
        "decimal.Decimal", "fractions.Fraction", "uuid.UUID",
    }
)  # fmt: skip
_IMMUTABLE_OF_PANDAS = frozenset({"Timestamp", "Timedelta", "NaTType"})


def _is_plain(kind: type) -> bool:
    if kind in _IMMUTABLE or f"{kind.__module__}.{kind.__qualname__}" in _IMMUTABLE_NAMES:
        return True
    return kind.__name__ in _IMMUTABLE_OF_PANDAS and kind.__module__.split(".")[0] == "pandas"


class RowNumbers:
    """An ascending set of row numbers, kept as ranges; by position as a list would be.

    Examples
    --------
    >>> numbers = RowNumbers.of([0, 1, 2, 7])
    >>> len(numbers), numbers[3], 5 in numbers, numbers.ranges
    (4, 7, False, ((0, 3), (7, 8)))
    """

    __slots__ = ("_firsts", "_starts", "ranges")

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges = tuple((int(start), int(stop)) for start, stop in ranges)
        self._starts = [start for start, _ in self.ranges]
        sizes = (stop - start for start, stop in self.ranges)
        self._firsts = list(itertools.accumulate(sizes, initial=0))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> RowNumbers:
        """Make a set from numbers in any order."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(set(numbers)):
            if ranges and ranges[-1][1] == number:
                ranges[-1] = (ranges[-1][0], number + 1)
            else:
                ranges.append((number, number + 1))
        return cls(ranges)

    @classmethod
    def first(cls, count: int) -> RowNumbers:
        """Give the numbers from 0 to `count` - 1."""
        return cls(((0, count),) if count else ())

    def __len__(self) -> int:
        return self._firsts[-1]

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(range(*pair) for pair in self.ranges)

    def __getitem__(self, position: int) -> int:
        index = bisect_right(self._firsts, position) - 1
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._starts[index] + position - self._firsts[index]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self.ranges[index][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowNumbers) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"RowNumbers({self.ranges!r})"

    def between(self, positions: range) -> Iterator[range]:
        """Give the numbers at consecutive positions, as ranges.

        Examples
        --------
        >>> list(RowNumbers(((0, 3), (7, 9))).between(range(1, 4)))
        [range(1, 3), range(7, 8)]
        """
        while positions:
            index = bisect_right(self._firsts, positions.start) - 1
            here = positions[: self._firsts[index + 1] - positions.start]
            ahead = self._starts[index] - self._firsts[index]
            yield range(here.start + ahead, here.stop + ahead)
            positions = positions[len(here) :]

    def position(self, number: int) -> int:
        """Give the position of a number that is in the set."""
        index = bisect_right(self._starts, number) - 1
        return self._firsts[index] + number - self._starts[index]


def encode_blocks(
    columns: Mapping[str, Sequence[Any]], length: int, writer: ObjectWriter
) -> Iterator[tuple[int, bytes]]:
    """Pickle rows block by block.

    Parameters
    ----------
    columns
        Cells of each column, or `ABSENT`; each of `length` cells.
    length
        Number of rows.
    writer
        Pickles cells that are no plain values; large buffers go through it to the data file.

    Yields
    ------
    tuple of int and bytes
        The first row's number and the block.
    """
    mixed = {name for name, cells in columns.items() if not _all_plain(cells)}
    start = 0
    while start < length:
        stop = min(start + BLOCK_ROWS, length)
        objects, stop = _encode_objects(columns, mixed, range(start, stop), writer)
        stored = [
            (name, "objects", objects[name])
            if name in mixed
            else (name, "plain", cells[start:stop])
            for name, cells in columns.items()
        ]
        yield start, pickle.dumps({"rows": stop - start, "columns": stored}, PROTOCOL)
        start = stop


def _all_plain(cells: Sequence[Any]) -> bool:
    return isinstance(cells, array) or all(_is_plain(kind) for kind in set(map(type, cells)))


def _encode_objects(
    columns: Mapping[str, Sequence[Any]], names: set[str], rows: range, writer: ObjectWriter
) -> tuple[dict[str, list[Any]], int]:
    objects: dict[str, list[Any]] = {name: [] for name in columns if name in names}
    if not objects:
        return objects, rows.stop
    # One object in many rows is pickled once; the rows keep it alive, so its id stays its own.
    seen: dict[int, tuple[bytes, tuple[BufferPlace, ...]] | None] = {id(ABSENT): None}
    size = 0
    for row in rows:
        for name, stored in objects.items():
            cell = columns[name][row]
            if id(cell) not in seen:
                seen[id(cell)] = writer.dump(cell).plain()
                size += len(seen[id(cell)][0])  # type: ignore[index]
            stored.append(seen[id(cell)])
        if size >= BLOCK_BYTES:
            return objects, row + 1
    return objects, rows.stop


def index_entry(first: int, offset: int, block: bytes) -> tuple[int, int, int, int]:
    """Say in ``rows.json`` where a block stands: first row, offset, length, checksum."""
    return (first, offset, len(block), zlib.crc32(block))


def encode_index(
    length: int, names: Iterable[str], entries: Sequence[tuple[int, int, int, int]]
) -> bytes:
    """Write the content of ``rows.json``."""
    return json.dumps({"rows": length, "columns": list(names), "blocks": entries}).encode()


class Block:
    """Consecutive rows and their arguments, as they stand in a block of ``rows.bin``."""

    def __init__(self, first: int, content: Mapping[str, Any], buffers: BufferReader) -> None:
        self.numbers = range(first, first + content["rows"])
        self._columns: list[tuple[str, str, Sequence[Any]]] = content["columns"]
        self._buffers = buffers
        self.names = [name for name, _, _ in self._columns]
        self.is_plain = all(kind == "plain" for _, kind, _ in self._columns)

    def arguments(self, number: int) -> dict[str, Any]:
        """Give the named arguments of one row, objects as fresh copies."""
        place = number - self.numbers.start
        arguments = {}
        for name, kind, cells in self._columns:
            cell = cells[place]
            if kind == "plain":
                arguments[name] = cell
            elif cell is not None:
                arguments[name] = self._buffers.load(*cell)
        return arguments

    def columns(self) -> dict[str, Sequence[Any]]:
        """Give the cells of all columns, `ABSENT` where a row was not given one."""
        return {
            name: cells if kind == "plain" else list(map(self._cell, cells))
            for name, kind, cells in self._columns
        }

    def _cell(self, stored: Any) -> Any:
        return ABSENT if stored is None else self._buffers.load(*stored)

    def cells(self, names: Sequence[str], numbers: range) -> Iterator[tuple[Any, ...]]:
        """Give the cells of plain columns, in this order, one row after another."""
        columns = {name: cells for name, _, cells in self._columns}
        first = self.numbers.start
        here = slice(numbers.start - first, numbers.stop - first)
        return zip(*(columns[name][here] for name in names), strict=True)


class RowReader:
    """Gives the arguments of any row, loading the block that holds it.

    Parameters
    ----------
    index
        Content of ``rows.json``.
    open_file
        Opens ``rows.bin``, after a look at its origin.
    buffers
        Maps ``data.bin``.
    """

    def __init__(
        self, index: bytes, open_file: Callable[[], BinaryIO], buffers: BufferReader
    ) -> None:
        content = json.loads(index)
        self._entries = content["blocks"]
        self._firsts = [entry[0] for entry in self._entries]
        self._open = open_file
        self._buffers = buffers
        self._loaded: Block | None = None
        self.length: int = content["rows"]
        self.names: list[str] = content["columns"]

    def arguments(self, number: int) -> dict[str, Any]:
        """Give the named arguments of one row, objects as fresh copies."""
        return self.block(number).arguments(number)

    def blocks(self, ranges: Iterable[range]) -> Iterator[tuple[Block, range]]:
        """Cut ranges of rows where blocks end; gives the block of each piece with it."""
        for numbers in ranges:
            start = numbers.start
            while start < numbers.stop:
                block = self.block(start)
                stop = min(numbers.stop, block.numbers.stop)
                yield block, range(start, stop)
                start = stop

    def block(self, number: int) -> Block:
        """Give the block that holds a row; the last one is kept."""
        if self._loaded is None or number not in self._loaded.numbers:
            self._loaded = self._load(number)
        return self._loaded

    def _load(self, number: int) -> Block:
        which = bisect_right(self._firsts, number) - 1
        first, offset, length, checksum = self._entries[which]
        with self._open() as file:
            file.seek(offset)
            data = file.read(length)
        if zlib.crc32(data) != checksum:
            raise FormatError(
                f"the parameters of rows {first} and following in rows.bin are damaged: their "
                "checksum is wrong. Submit the job again."
            )
        return Block(first, pickle.loads(data), self._buffers)

    def all_blocks(self) -> Iterator[Block]:
        """Give one block after another."""
        return map(self.block, self._firsts)


def open_rows(disk: FolderDisk) -> RowReader:
    """Open a job's parameters, after a look at who could have written them."""
    with disk.open_trusted(jobfolder.ROWS_INDEX) as file:
        index = file.read()
    buffers = BufferReader(disk.place(jobfolder.DATA))
    return RowReader(index, lambda: disk.open_trusted(jobfolder.ROWS), buffers)
