"""Reading outcomes files: their frames, and the values in them.

What is damaged never harms what stands before it: a good header with a bad table or bad values
costs that frame, a bad header what follows it, and an end that is still being written nothing.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, repeat
from operator import mul
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from slurmapply.errors import FormatError
from slurmapply.outcome import (
    CHECKSUM,
    COLUMNS,
    FORMAT,
    HEADER,
    HEADER_SIZE,
    KIND_BOOL,
    KIND_FAILURE,
    KIND_FLOAT,
    KIND_INT,
    KIND_NONE,
    KIND_PICKLE,
    MAGIC,
    Failure,
    Measures,
)
from slurmapply.states import OK_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


#: By kind: whether the value's bytes stand among the values.
_HAS_BYTES = bytes(kind >= KIND_PICKLE for kind in range(256))


class Origin(NamedTuple):
    """Whose file it is: decides between several outcomes of one row."""

    run: int
    task: int
    life: int
    file: str


class Same(Sequence[Any]):
    """A column of a frame whose cells are all equal."""

    __slots__ = ("_length", "cell")

    def __init__(self, cell: Any, length: int) -> None:
        self.cell = cell
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self.cell

    def __iter__(self) -> Iterator[Any]:
        return repeat(self.cell, self._length)


class Frame:
    """One frame of an outcomes file: its table, and where its values stand.

    Attributes
    ----------
    origin
        Run, task, life and name of the file.
    offset, size
        Where the frame stands in the file, and its length in bytes.
    columns
        The cells by the names in `COLUMNS`: an array, or less where that says it all: `Same` for
        equal cells, a range for consecutive rows.
    causes
        What the column `cause` counts into.
    values_place, values_checksum
        Offset within the frame and length of the values; their checksum.
    """

    __slots__ = (
        "causes", "columns", "offset", "origin", "size", "values_checksum", "values_place",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        offset: int,
        size: int,
        *,
        columns: Mapping[str, Sequence[Any]],
        causes: list[str],
        values_place: tuple[int, int],
        values_checksum: int,
    ) -> None:
        self.origin = origin
        self.offset = offset
        self.size = size
        self.columns = columns
        self.causes = causes
        self.values_place = values_place
        self.values_checksum = values_checksum

    def __len__(self) -> int:
        return len(self.columns["slot"])

    def cause(self, index: int) -> str:
        """Give the cause of one row, empty when it is ok."""
        if self.columns["status"][index] == OK_CODE:
            return ""
        cause: int = self.columns["cause"][index]
        return self.causes[cause]

    def tally(self) -> Counter[tuple[int, str]]:
        """Count the rows by status code and cause."""
        codes, causes = self.columns["status"], self.columns["cause"]
        if isinstance(codes, Same) and codes.cell == OK_CODE:
            return Counter({(OK_CODE, ""): len(self)})
        pairs = Counter(zip(codes, causes, strict=True))
        found: Counter[tuple[int, str]] = Counter()
        for (code, cause), count in pairs.items():
            found[code, "" if code == OK_CODE else self.causes[cause]] += count
        return found

    @property
    def kinds(self) -> set[int]:
        """The kinds of values that stand in it."""
        kinds = self.columns["kind"]
        return {kinds.cell} if isinstance(kinds, Same) else set(kinds)

    def measures(self, index: int) -> Measures:
        """Give when and how one row ran."""
        return Measures(*(self.columns[name][index] for name in Measures._fields))

    def load_values(self, file: BinaryIO) -> FrameValues:
        """Read the frame's values. Raises FormatError when their checksum is wrong."""
        place, length = self.values_place
        file.seek(self.offset + place)
        data = file.read(length)
        if len(data) != length or zlib.crc32(data) != self.values_checksum:
            raise FormatError(
                f"{len(self)} outcomes in {self.origin.file} at byte {self.offset} are damaged: "
                "the checksum of their values is wrong. The rows can be run again: job.retry()."
            )
        return FrameValues(self, data)


class FrameValues:
    """The values of one frame."""

    def __init__(self, frame: Frame, data: bytes) -> None:
        self._frame = frame
        self._data = memoryview(data)
        self._ends = self._found_ends() if data else []

    def _found_ends(self) -> list[int]:
        kinds, slots = self._frame.columns["kind"], self._frame.columns["slot"]
        if isinstance(kinds, Same):
            return list(accumulate(slots))
        # A slot says a length only where the value is not the slot itself.
        lengths = map(mul, slots, bytes(kinds).translate(_HAS_BYTES))
        return list(accumulate(lengths))

    def bytes(self, index: int) -> bytes:
        """Give the pickle of a value, or the bytes of a failure."""
        end = self._ends[index]
        return bytes(self._data[end - self._frame.columns["slot"][index] : end])

    def failure(self, index: int) -> Failure:
        """Give why a row is not ok."""
        return Failure.decode(self._frame.cause(index), self.bytes(index))

    def value(self, index: int) -> Any:
        """Give the value of a row that is ok; unpickles, so the file's origin must be checked."""
        kind, slot = self._frame.columns["kind"][index], self._frame.columns["slot"][index]
        if kind == KIND_PICKLE:
            return pickle.loads(self.bytes(index))
        if kind == KIND_FLOAT:
            return struct.unpack("<d", struct.pack("<q", slot))[0]
        return None if kind == KIND_NONE else bool(slot) if kind == KIND_BOOL else slot

    def all(self) -> tuple[list[Any], dict[int, BaseException]]:
        """Give all values at once, and by index why some cannot be loaded here.

        Rows that are not ok, and values that cannot be loaded, are None; unpickles as `value`.
        """
        kinds, slots = self._frame.columns["kind"], self._frame.columns["slot"]
        if not isinstance(kinds, Same):
            return self._of_all_kinds()
        if kinds.cell == KIND_PICKLE:
            return self._unpickled()
        return _PLAIN[kinds.cell](slots), {}

    def _unpickled(self) -> tuple[list[Any], dict[int, BaseException]]:
        values: list[Any] = []
        broken: dict[int, BaseException] = {}
        load, data, keep, start = pickle.loads, self._data, values.append, 0
        for end in self._ends:
            try:
                keep(load(data[start:end]))
            except (Exception, SystemExit) as error:  # noqa: BLE001  # it runs the user's code
                broken[len(values)] = error
                keep(None)
            start = end
        return values, broken

    def _of_all_kinds(self) -> tuple[list[Any], dict[int, BaseException]]:
        values: list[Any] = []
        broken: dict[int, BaseException] = {}
        slots, keep = self._frame.columns["slot"], values.append
        rows = zip(self._frame.columns["kind"], slots, _floats(slots), strict=True)
        for index, (kind, slot, number) in enumerate(rows):
            if kind == KIND_FLOAT:
                keep(number)
            elif kind == KIND_INT:
                keep(slot)
            elif kind == KIND_FAILURE:
                keep(None)
            else:
                try:
                    keep(self.value(index))
                except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's code
                    broken[index] = error
                    keep(None)
        return values, broken


def _floats(slots: Any) -> list[float]:
    return array("d", slots.tobytes()).tolist()


def _nothing(slots: Any) -> list[None]:
    return [None] * len(slots)


#: Makes a frame's values of its slots, where all are of one kind.
_PLAIN: dict[int, Callable[[Any], list[Any]]] = {
    KIND_NONE: _nothing,
    KIND_BOOL: lambda slots: list(map(bool, slots)),
    KIND_INT: lambda slots: slots.tolist(),
    KIND_FLOAT: _floats,
    KIND_FAILURE: _nothing,
}


class FileReader:
    """Reads the frames of one file as it grows.

    Attributes
    ----------
    origin, uuid
        Whose file it is; the job's.
    offset
        Where the next frame begins.
    seen
        The file's size when it was last read.
    damaged_bytes
        Bytes behind a damaged header, which are given up.
    """

    def __init__(self, origin: Origin, uuid: bytes) -> None:
        self.origin = origin
        self.uuid = uuid
        self.offset = 0
        self.seen = 0
        self.damaged_bytes = 0
        self._bad_tables: dict[int, _Header] = {}

    @property
    def damaged_frames(self) -> int:
        """Frames whose table is damaged, as far as is known now."""
        return len(self._bad_tables)

    def read(self, file: BinaryIO, size: int) -> Iterator[Frame]:
        """Give the complete frames between `offset` and the file's `size`.

        A bad header and a bad table are looked at anew each time: NFS may show a file's new length
        before the bytes that make it up.
        """
        yield from self._read_again(file)
        self.seen, self.damaged_bytes = size, 0
        while size - self.offset >= HEADER_SIZE:
            file.seek(self.offset)
            header = _decode_header(file.read(HEADER_SIZE), self.uuid)
            if header is None:
                self.damaged_bytes = size - self.offset
                return
            if self.offset + header.size > size:
                return  # its end is still being written, or was never: not done either way
            place, self.offset = self.offset, self.offset + header.size
            frame = _read_table(file, self.origin, place, header)
            if frame is None:
                self._bad_tables[place] = header
            else:
                yield frame

    def _read_again(self, file: BinaryIO) -> Iterator[Frame]:
        """Give the frames whose tables were bad before and are good now."""
        for place, header in tuple(self._bad_tables.items()):
            file.seek(place + HEADER_SIZE)
            frame = _read_table(file, self.origin, place, header)
            if frame is not None:
                del self._bad_tables[place]
                yield frame


class _Header(NamedTuple):
    constant: int
    rows: int
    table: int
    causes: int
    values: int
    table_checksum: int
    values_checksum: int

    @property
    def size(self) -> int:
        """Length of the whole frame."""
        return HEADER_SIZE + self.table + self.causes + self.values


def _decode_header(data: bytes, uuid: bytes) -> _Header | None:
    if len(data) < HEADER_SIZE:
        return None
    magic, version, constant, job, rows, table, causes, values, *checksums = HEADER.unpack_from(
        data
    )
    (checksum,) = CHECKSUM.unpack_from(data, HEADER.size)
    good = checksum == zlib.crc32(data[: HEADER.size])
    if not good or magic != MAGIC or version != FORMAT or job != uuid:
        return None
    return _Header(constant, rows, table, causes, values, *checksums)


def _read_table(file: BinaryIO, origin: Origin, offset: int, header: _Header) -> Frame | None:
    if header.table != _table_length(header):
        return None
    data = file.read(header.table + header.causes)
    if zlib.crc32(data) != header.table_checksum:
        return None
    columns = _decode_columns(data[: header.table], header)
    causes = json.loads(data[header.table :])
    place = (header.size - header.values, header.values)
    return Frame(
        origin, offset, header.size,
        columns=columns, causes=causes, values_place=place,
        values_checksum=header.values_checksum,
    )  # fmt: skip


def _table_length(header: _Header) -> int:
    """How long the table must be; a forged number of rows must not become gigabytes."""
    lengths = (
        array(code).itemsize * (1 if header.constant >> bit & 1 and name != "slot" else header.rows)
        for bit, (name, code) in enumerate(COLUMNS)
    )
    return sum(lengths)


def _decode_columns(table: bytes, header: _Header) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {}
    place = 0
    for bit, (name, code) in enumerate(COLUMNS):
        constant = bool(header.constant >> bit & 1) and name != "slot"
        length = array(code).itemsize * (1 if constant else header.rows)
        column: array[Any] = array(code, table[place : place + length])
        columns[name] = Same(column[0], header.rows) if constant else column
        place += length
    columns["row"] = _as_range(columns["row"])
    return columns


def _as_range(rows: Sequence[int]) -> Sequence[int]:
    """Give consecutive rows as a range, which takes no memory."""
    consecutive = range(rows[0], rows[0] + len(rows)) if rows else range(0)
    if len(rows) == 1:
        return consecutive
    return consecutive if rows == array("q", consecutive) else rows
