"""What happened to rows: the frames of an outcomes file, written and read.

A worker appends frames to a file of its own. A frame is::

    header   magic, format, job uuid, number of rows, lengths, checksums, its own checksum
    table    one column after another; a column whose values are all equal holds one value
    causes   JSON list of the causes that the column `cause` counts into
    values   the rows' values, separately pickled, one after another

The header's checksum tells a torn end from damage; the table has a checksum of its own, so that
reading how rows are doing reads no values; the values have another. Exact None, bool, int and
float stand in the table itself. Little-endian throughout, as all machines with a Slurm are.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from slurmapply.errors import FormatError
from slurmapply.states import OK_CODE, STATUS_CODES, RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAGIC = b"slurmrec"
FORMAT = 1

# magic, format, constant columns, uuid, rows, table length, causes length, values length,
# checksums of (table + causes) and of the values, then the header's own checksum
_HEADER = struct.Struct("<8sHI16sIQIQII")
_CHECKSUM = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECKSUM.size

#: Columns of the table and the array type of each; `slot` is by `kind` the value itself or the
#: length of its bytes among the values.
COLUMNS = (
    ("row", "q"), ("status", "B"), ("kind", "B"), ("cause", "B"), ("attempt", "H"),
    ("start", "d"), ("seconds", "d"), ("cpu", "f"), ("peak_mb", "f"),
    ("log_offset", "q"), ("log_length", "q"), ("slot", "q"),
)  # fmt: skip

KIND_NONE, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_PICKLE, KIND_FAILURE = range(6)
_MOST_CAUSES = 255
#: A peak that could not be known.
UNKNOWN_PEAK = -1.0


class Failure(NamedTuple):
    """Why a row is not ok, as text that can be shown without unpickling anything.

    `cause` is one word (the exception's type, a signal's name), `exception` its pickle or empty.
    """

    cause: str
    message: str
    traceback: str = ""
    place: str = ""
    exception: bytes = b""

    def encode(self) -> bytes:
        """Write the bytes that stand among the values."""
        text = json.dumps([self.message, self.traceback, self.place]).encode("utf-8", "replace")
        return _CHECKSUM.pack(len(text)) + text + self.exception

    @classmethod
    def decode(cls, cause: str, data: bytes) -> Failure:
        """Read what `encode` wrote."""
        (length,) = _CHECKSUM.unpack_from(data)
        end = _CHECKSUM.size + length
        message, traceback, place = json.loads(data[_CHECKSUM.size : end])
        return cls(cause, message, traceback, place, bytes(data[end:]))


class Measures(NamedTuple):
    """When and how a row ran: seconds since the epoch, seconds, MiB, bytes of the console."""

    start: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = UNKNOWN_PEAK
    log_offset: int = 0
    log_length: int = 0


@dataclass(slots=True)
class FrameBuilder:
    """Collects rows until they are written as one frame."""

    uuid: bytes
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name, _ in COLUMNS})
    causes: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.columns["row"])

    @property
    def full(self) -> bool:
        """Whether another cause might not fit."""
        return len(self.causes) >= _MOST_CAUSES

    def add(self, row: int, attempt: int, kind: int, value: Any, measures: Measures) -> None:
        """Add a row that is ok: `value` is the value itself, or its pickle for KIND_PICKLE."""
        if kind == KIND_PICKLE:
            self.values.append(value)
            value = len(value)
        self._append(row, OK_CODE, kind, 0, attempt, *measures, value)

    def add_failure(
        self, row: int, attempt: int, status: RowStatus, failure: Failure, measures: Measures
    ) -> None:
        """Add a row that failed."""
        if failure.cause not in self.causes:
            self.causes.append(failure.cause)
        cause = self.causes.index(failure.cause)
        data = failure.encode()
        self.values.append(data)
        code = STATUS_CODES[status]
        self._append(row, code, KIND_FAILURE, cause, attempt, *measures, len(data))

    def _append(self, *cells: Any) -> None:
        for column, cell in zip(self.columns.values(), cells, strict=True):
            column.append(cell)

    def take(self) -> bytes:
        """Give the collected rows as one frame, and begin anew."""
        frame = _encode_frame(self)
        self.columns = {name: [] for name, _ in COLUMNS}
        self.causes, self.values = [], []
        return frame


def _encode_frame(builder: FrameBuilder) -> bytes:
    constant = 0
    parts = []
    kinds = builder.columns["kind"]
    for bit, (name, code) in enumerate(COLUMNS):
        cells = builder.columns[name]
        # Not for slots: equal values of different kinds (1, True, 1.0) are not the same bytes.
        if name != "slot" and cells.count(cells[0]) == len(cells):
            constant |= 1 << bit
            cells = cells[:1]
        parts.append(_pack_slots(kinds, cells) if name == "slot" else array(code, cells).tobytes())
    table = b"".join(parts)
    causes = json.dumps(builder.causes).encode()
    values = b"".join(builder.values)
    header = _HEADER.pack(
        MAGIC, FORMAT, constant, builder.uuid, len(builder), len(table), len(causes), len(values),
        zlib.crc32(table + causes), zlib.crc32(values),
    )  # fmt: skip
    return b"".join((header, _CHECKSUM.pack(zlib.crc32(header)), table, causes, values))


def _pack_slots(kinds: list[int], cells: list[Any]) -> bytes:
    floats = kinds.count(KIND_FLOAT)
    if floats == len(kinds):
        return array("d", cells).tobytes()
    if not floats:
        return array("q", [cell or 0 for cell in cells]).tobytes()
    pairs = zip(kinds, cells, strict=True)
    return b"".join(
        struct.pack("<d", cell) if kind == KIND_FLOAT else struct.pack("<q", cell or 0)
        for kind, cell in pairs
    )


class Origin(NamedTuple):
    """Whose file it is: decides between several outcomes of one row."""

    run: int
    task: int
    life: int
    file: str


class Frame:
    """One frame of an outcomes file: its table, and where its values stand.

    Attributes
    ----------
    origin
        Run, task, life and name of the file.
    offset, size
        Where the frame stands in the file, and its length in bytes.
    rows, status, kind, ...
        One array for each name in `COLUMNS`.
    causes
        What the column `cause` counts into.
    """

    __slots__ = (
        "_values", "_values_checksum", "causes", "columns", "offset", "origin", "size",
    )  # fmt: skip

    def __init__(
        self, origin: Origin, offset: int, size: int, values: tuple[int, int, int],
        columns: dict[str, array[Any]], causes: list[str],
    ) -> None:  # fmt: skip
        self.origin = origin
        self.offset = offset
        self.size = size
        self._values = values[:2]
        self._values_checksum = values[2]
        self.columns = columns
        self.causes = causes

    def __len__(self) -> int:
        return len(self.columns["row"])

    def cause(self, index: int) -> str:
        """Give the cause of one row, empty when it is ok."""
        if self.columns["status"][index] == OK_CODE:
            return ""
        return self.causes[self.columns["cause"][index]]

    def tally(self) -> Counter[tuple[int, str]]:
        """Count the rows by status code and cause."""
        pairs = Counter(zip(self.columns["status"], self.columns["cause"], strict=True))
        return Counter(
            {
                (code, "" if code == OK_CODE else self.causes[cause]): count
                for (code, cause), count in pairs.items()
            }
        )

    def measures(self, index: int) -> Measures:
        """Give when and how one row ran."""
        return Measures(*(self.columns[name][index] for name in Measures._fields))

    def load_values(self, file: BinaryIO) -> FrameValues:
        """Read the frame's values. Raises FormatError when their checksum is wrong."""
        file.seek(self.offset + self._values[0])
        data = file.read(self._values[1])
        if len(data) != self._values[1] or zlib.crc32(data) != self._values_checksum:
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
        kinds, slots = frame.columns["kind"], frame.columns["slot"]
        lengths = (
            slot if kind >= KIND_PICKLE else 0 for kind, slot in zip(kinds, slots, strict=True)
        )
        self._ends = list(accumulate(lengths))

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


@dataclass(slots=True)
class FileReader:
    """Reads the frames of one file as it grows.

    Attributes
    ----------
    offset
        Where the next frame begins.
    damaged_frames, damaged_bytes
        Frames whose table is damaged; bytes behind a damaged header, which are given up.
    """

    origin: Origin
    uuid: bytes
    offset: int = 0
    damaged_frames: int = 0
    damaged_bytes: int = 0

    def read(self, file: BinaryIO, size: int) -> Iterator[Frame]:
        """Give the complete frames between `offset` and the file's `size`."""
        while not self.damaged_bytes and size - self.offset >= HEADER_SIZE:
            file.seek(self.offset)
            header = _decode_header(file.read(HEADER_SIZE), self.uuid)
            if header is None:
                self.damaged_bytes = size - self.offset
                return
            if self.offset + header.size > size:
                return  # its end is still being written, or was never: not done either way
            frame = _read_table(file, self.origin, self.offset, header)
            self.offset += header.size
            if frame is None:
                self.damaged_frames += 1
            else:
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
        return HEADER_SIZE + self.table + self.causes + self.values


def _decode_header(data: bytes, uuid: bytes) -> _Header | None:
    if len(data) < HEADER_SIZE:
        return None
    magic, version, constant, job, rows, table, causes, values, *checksums = _HEADER.unpack_from(
        data
    )
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    good = checksum == zlib.crc32(data[: _HEADER.size])
    if not good or magic != MAGIC or version != FORMAT or job != uuid:
        return None
    return _Header(constant, rows, table, causes, values, *checksums)


def _read_table(file: BinaryIO, origin: Origin, offset: int, header: _Header) -> Frame | None:
    data = file.read(header.table + header.causes)
    if zlib.crc32(data) != header.table_checksum:
        return None
    columns = _decode_columns(data[: header.table], header)
    causes = json.loads(data[header.table :])
    values_at = HEADER_SIZE + header.table + header.causes
    values = (values_at, header.values, header.values_checksum)
    return Frame(origin, offset, header.size, values, columns, causes)


def _decode_columns(table: bytes, header: _Header) -> dict[str, array[Any]]:
    columns = {}
    place = 0
    for bit, (name, code) in enumerate(COLUMNS):
        column: array[Any] = array(code)
        constant = bool(header.constant >> bit & 1)
        length = column.itemsize * (1 if constant else header.rows)
        column.frombytes(table[place : place + length])
        columns[name] = column * header.rows if constant else column
        place += length
    return columns


class Outcomes:
    """What is known of all rows of a job: for each row, the outcome that counts.

    The choice among several outcomes of a row: ok before not ok; among ok the highest run, within
    a run the lowest (life, attempt, file, offset), so that a second copy of a task changes
    nothing; among failed ones the latest.

    Parameters
    ----------
    rows
        Number of rows of the job.
    """

    def __init__(self, rows: int) -> None:
        self.frames: list[Frame] = []
        self.duplicates = 0
        # frame << 32 | index, or -1: eight bytes a row instead of an object
        self._chosen = array("q", [-1]) * rows
        self._last_run = array("h", [-1]) * rows
        self._settled: dict[int, int] = {}
        #: Rows by (status code, cause) of the outcome that counts.
        self.tally: Counter[tuple[int, str]] = Counter()

    def __len__(self) -> int:
        return len(self._chosen)

    def add(self, frame: Frame) -> None:
        """Take a frame into account."""
        base = len(self.frames) << 32
        self.frames.append(frame)
        rows, run = frame.columns["row"], frame.origin.run
        first, count = rows[0], len(rows)
        place = slice(first, first + count)
        consecutive = first >= 0 and rows == array("q", range(first, first + count))
        if consecutive and self._chosen[place].count(-1) == count:
            self._chosen[place] = array("q", range(base, base + count))
            self._last_run[place] = array("h", [run]) * count
            self._settled[run] = self._settled.get(run, 0) + count
            self.tally.update(frame.tally())
            return
        for index, row in enumerate(rows):
            if 0 <= row < len(self._chosen):
                self._choose(row, base | index, run)

    def _choose(self, row: int, reference: int, run: int) -> None:
        before = self._chosen[row]
        self.duplicates += self._last_run[row] == run
        if before < 0 or self._rank(reference) > self._rank(before):
            self._chosen[row] = reference
            self.tally[self._key(reference)] += 1
            if before >= 0:
                self.tally[self._key(before)] -= 1
        if self._last_run[row] < run:
            self._last_run[row] = run
            self._settled[run] = self._settled.get(run, 0) + 1

    def _key(self, reference: int) -> tuple[int, str]:
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        return frame.columns["status"][index], frame.cause(index)

    def _rank(self, reference: int) -> tuple[Any, ...]:
        frame, index = self.frames[reference >> 32], reference & 0xFFFFFFFF
        run, _, life, file = frame.origin
        attempt = frame.columns["attempt"][index]
        if frame.columns["status"][index] == OK_CODE:
            return (1, run, -life, -attempt, [-ord(letter) for letter in file], -frame.offset)
        return (0, run, life, attempt, file, frame.offset)

    def discard(self, frame: Frame) -> None:
        """Forget a frame whose values turned out to be damaged; other outcomes take its place."""
        frames = [other for other in self.frames if other is not frame]
        rows = len(self._chosen)
        self._chosen = array("q", [-1]) * rows
        self._last_run = array("h", [-1]) * rows
        self.frames, self._settled, self.duplicates = [], {}, 0
        self.tally = Counter()
        for other in frames:
            self.add(other)

    def settled_in(self, run: int) -> int:
        """Count the rows that a run has settled."""
        return self._settled.get(run, 0)

    def last_run(self, row: int) -> int:
        """Give the latest run that settled a row, or -1."""
        return self._last_run[row]

    def find(self, row: int) -> tuple[Frame, int] | None:
        """Give the frame and the index in it of the outcome that counts."""
        reference = self._chosen[row]
        if reference < 0:
            return None
        return self.frames[reference >> 32], reference & 0xFFFFFFFF

    def reference(self, row: int) -> int:
        """Give a number by which rows sort in the order of their frames."""
        return self._chosen[row]

    def status_code(self, row: int) -> int:
        """Give the code of a row's settled status, or 0."""
        found = self.find(row)
        return found[0].columns["status"][found[1]] if found else 0
