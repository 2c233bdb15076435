"""The messages between a supervisor and its workers: of fixed size, never rows or results."""

from __future__ import annotations

import struct

#: Supervisor to worker: first and last (excluded) position, attempt, further tries of each row.
GROUP = struct.Struct("=qqqq")
#: Worker to supervisor: kind, first position, position reached, seconds of work.
REPORT = struct.Struct("=cqqd")
READY, DONE, NOT_LOADED, NOT_WRITTEN = b"R", b"D", b"L", b"W"
