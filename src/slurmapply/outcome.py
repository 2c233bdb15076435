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
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply.states import OK_CODE, STATUS_CODES, RowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class FrameBuilder:
    """Collects rows until they are written as one frame.

    Parameters
    ----------
    uuid
        The job's.
    """

    __slots__ = ("batches", "causes", "uuid", "values")

    def __init__(self, uuid: bytes) -> None:
        self.uuid = uuid
        self.batches: list[Mapping[str, Sequence[Any]]] = []
        self.causes: list[str] = []
        self.values: list[bytes] = []

    def __len__(self) -> int:
        return sum(len(batch["row"]) for batch in self.batches)

    @property
    def full(self) -> bool:
        """Whether another cause might not fit."""
        return len(self.causes) >= _MOST_CAUSES

    def add(self, row: int, attempt: int, kind: int, value: Any, measures: Measures) -> None:
        """Add a row that is ok: `value` is the value itself, or its pickle for KIND_PICKLE."""
        slot = self.keep(value) if kind == KIND_PICKLE else value
        self._add(row, OK_CODE, kind, 0, attempt, *measures, slot)

    def add_failure(
        self, row: int, attempt: int, status: RowStatus, failure: Failure, measures: Measures
    ) -> None:
        """Add a row that failed."""
        cause, slot = self.keep_failure(failure)
        self._add(row, STATUS_CODES[status], KIND_FAILURE, cause, attempt, *measures, slot)

    def _add(self, *cells: Any) -> None:
        names = (name for name, _ in COLUMNS)
        self.add_columns(**{name: (cell,) for name, cell in zip(names, cells, strict=True)})

    def add_columns(self, **columns: Sequence[Any]) -> None:
        """Add rows column by column; their values and failures are kept already, in this order.

        All in one step: in the session a KeyboardInterrupt may come at any moment.
        """
        self.batches.append(columns)

    def keep(self, value: bytes) -> int:
        """Keep the pickle of a row's value; gives what stands for it in the row's slot."""
        self.values.append(value)
        return len(value)

    def keep_failure(self, failure: Failure) -> tuple[int, int]:
        """Keep why a row failed; gives what stands for it in the columns `cause` and `slot`."""
        if failure.cause not in self.causes:
            self.causes.append(failure.cause)
        return self.causes.index(failure.cause), self.keep(failure.encode())

    def take(self) -> bytes:
        """Give the collected rows as one frame, and begin anew."""
        frame = _encode_frame(self)
        self.batches, self.causes, self.values = [], [], []
        return frame


def _encode_frame(builder: FrameBuilder) -> bytes:
    constant = 0
    parts = []
    columns = {
        name: [*chain.from_iterable(batch[name] for batch in builder.batches)]
        for name, _ in COLUMNS
    }
    for bit, (name, code) in enumerate(COLUMNS):
        cells = columns[name]
        if name == "slot":
            parts.append(_pack_slots(columns["kind"], cells))
            continue
        # The last cell first: by it most columns that vary are known at once.
        if cells[0] == cells[-1] and cells.count(cells[0]) == len(cells):
            constant |= 1 << bit
            cells = cells[:1]
        parts.append(array(code, cells).tobytes())
    table = b"".join(parts)
    causes = json.dumps(builder.causes).encode()
    values = b"".join(builder.values)
    header = HEADER.pack(
        MAGIC, FORMAT, constant, builder.uuid, len(columns["row"]),
        len(table), len(causes), len(values), zlib.crc32(table + causes), zlib.crc32(values),
    )  # fmt: skip
    return b"".join((header, CHECKSUM.pack(zlib.crc32(header)), table, causes, values))


def _pack_slots(kinds: list[int], cells: list[Any]) -> bytes:
    # Never constant: equal values of different kinds (1, True, 1.0) are not the same bytes.
    floats = kinds.count(KIND_FLOAT)
    if floats == len(kinds):
        return array("d", cells).tobytes()
    if kinds.count(KIND_NONE):
        cells = [0 if cell is None else cell for cell in cells]
    if not floats:
        return array("q", cells).tobytes()
    codes = "".join(map(_SLOT_CODES.__getitem__, kinds))
    return struct.pack(f"<{codes}", *cells)
