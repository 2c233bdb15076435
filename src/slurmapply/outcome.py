"""What happened to rows: the frames of an outcomes file, as a worker writes them.

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
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.states import OK_CODE, STATUS_CODES, RowStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"slurmrec"
FORMAT = 1

# magic, format, constant columns, uuid, rows, table length, causes length, values length,
# checksums of (table + causes) and of the values, then the header's own checksum
HEADER = struct.Struct("<8sHI16sIQIQII")
CHECKSUM = struct.Struct("<I")
HEADER_SIZE = HEADER.size + CHECKSUM.size

#: Columns of the table and the array type of each; `slot` is by `kind` the value itself or the
#: length of its bytes among the values.
COLUMNS = (
    ("row", "q"), ("status", "B"), ("kind", "B"), ("cause", "B"), ("attempt", "H"),
    ("start", "d"), ("seconds", "d"), ("cpu", "f"), ("peak_mb", "f"),
    ("log_offset", "q"), ("log_length", "q"), ("slot", "q"),
)  # fmt: skip

KIND_NONE, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_PICKLE, KIND_FAILURE = range(6)
#: How a slot is packed, by kind.
_SLOT_CODES = "qqqdqq"
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
        return CHECKSUM.pack(len(text)) + text + self.exception

    @classmethod
    def decode(cls, cause: str, data: bytes) -> Failure:
        """Read what `encode` wrote."""
        (length,) = CHECKSUM.unpack_from(data)
        end = CHECKSUM.size + length
        message, traceback, place = json.loads(data[CHECKSUM.size : end])
        return cls(cause, message, traceback, place, bytes(data[end:]))


class Measures(NamedTuple):
    """When and how a row ran: seconds since the epoch, seconds, MiB, bytes of the console."""

    start: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = UNKNOWN_PEAK
    log_offset: int = 0
    log_length: int = 0


#: Measures where they are made for each row: a plain tuple takes a fifth of the time.
MeasuresLike = tuple[float, float, float, float, int, int]


@dataclass(slots=True)
class FrameBuilder:
    """Collects rows until they are written as one frame."""

    uuid: bytes
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    shares: list[tuple[int, float, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def full(self) -> bool:
        """Whether another cause might not fit."""
        return len(self.causes) >= _MOST_CAUSES

    def add(self, row: int, attempt: int, kind: int, value: Any, measures: MeasuresLike) -> None:
        """Add a row that is ok: `value` is the value itself, or its pickle for KIND_PICKLE."""
        if kind == KIND_PICKLE:
            self.values.append(value)
            value = len(value)
        start, seconds, cpu, peak, offset, length = measures
        self.rows.append(
            (row, OK_CODE, kind, 0, attempt, start, seconds, cpu, peak, offset, length, value)
        )

    def add_failure(
        self, row: int, attempt: int, status: RowStatus, failure: Failure, measures: MeasuresLike
    ) -> None:
        """Add a row that failed."""
        if failure.cause not in self.causes:
            self.causes.append(failure.cause)
        cause = self.causes.index(failure.cause)
        data = failure.encode()
        self.values.append(data)
        code = STATUS_CODES[status]
        self.rows.append((row, code, KIND_FAILURE, cause, attempt, *measures, len(data)))

    def share_cpu(self, cpu: float, seconds: float) -> None:
        """Share seconds of CPU out to the rows that were added since the last time.

        Parameters
        ----------
        cpu, seconds
            On both clocks, since the last time. What passed between the rows is taken off; the
            rest is shared out in proportion to the rows' seconds.
        """
        self.shares.append((len(self.rows), cpu, seconds))

    def take(self) -> bytes:
        """Give the collected rows as one frame, and begin anew."""
        frame = _encode_frame(self)
        self.rows, self.causes, self.values, self.shares = [], [], [], []
        return frame


def _encode_frame(builder: FrameBuilder) -> bytes:
    columns: dict[str, Sequence[Any]] = dict(
        zip((name for name, _ in COLUMNS), zip(*builder.rows, strict=True), strict=True)
    )
    if builder.shares:
        columns["cpu"] = _shared_cpu(columns["seconds"], builder.shares)
    constant = 0
    parts = []
    for bit, (name, code) in enumerate(COLUMNS):
        cells = columns[name]
        if name == "slot":
            parts.append(_pack_slots(columns["kind"], cells))
            continue
        # The last one first: most columns that vary are known by it.
        if cells[0] == cells[-1] and cells.count(cells[0]) == len(cells):
            constant |= 1 << bit
            cells = cells[:1]
        parts.append(array(code, cells).tobytes())
    table = b"".join(parts)
    causes = json.dumps(builder.causes).encode()
    values = b"".join(builder.values)
    header = HEADER.pack(
        MAGIC, FORMAT, constant, builder.uuid, len(builder), len(table), len(causes), len(values),
        zlib.crc32(table + causes), zlib.crc32(values),
    )  # fmt: skip
    return b"".join((header, CHECKSUM.pack(zlib.crc32(header)), table, causes, values))


def _shared_cpu(
    seconds: Sequence[float], shares: Sequence[tuple[int, float, float]]
) -> list[float]:
    cells: list[float] = []
    for stop, cpu, passed in shares:
        own = seconds[len(cells) : stop]
        worked = sum(own)
        rate = max(0.0, cpu - (passed - worked)) / (worked or 1.0)
        cells += [each * rate for each in own]
    return cells


def _pack_slots(kinds: Sequence[int], cells: Sequence[Any]) -> bytes:
    # Never constant: equal values of different kinds (1, True, 1.0) are not the same bytes.
    if kinds.count(KIND_FLOAT) == len(kinds):
        return array("d", cells).tobytes()
    if kinds.count(KIND_NONE):
        cells = [cell or 0 for cell in cells]
    if not kinds.count(KIND_FLOAT):
        return array("q", cells).tobytes()
    codes = "".join(map(_SLOT_CODES.__getitem__, kinds))
    return struct.pack(f"<{codes}", *cells)
