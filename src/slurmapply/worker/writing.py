"""Writing outcomes so that none is lost to a disk that is full, over quota or gone for a while.

A file whose writing failed is never written to again: nobody knows where it ends. Its frames
that were not synced yet go into a new file, whole (a full disk or a quota may show itself only at
the sync: close(2), "Dealing with error returns").
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.disk import write_all
from slurmapply.worker.patience import insist

if TYPE_CHECKING:
    import io

    from slurmapply.disk import FolderDisk

#: Written rows are synced to the disk at most so often; so much is lost with a node.
SYNC_AFTER = 1.0
#: Frames are kept in memory until they are synced, and this much of them at most.
_KEPT_BYTES = 16 * 2**20


class OutcomesWriter:
    """Appends frames to a worker's outcomes file, or to the next one when that fails.

    Parameters
    ----------
    disk, name
        The job folder, the name of the first file.
    """

    def __init__(self, disk: FolderDisk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._number = 1
        self._file: io.FileIO | None = disk.create(name)
        self._frames: list[bytes] = []
        self._bytes = 0
        self._synced = time.monotonic()

    def write(self, frame: bytes) -> None:
        """Append a frame; returns when it is in the file.

        Raises
        ------
        OSError
            The disk has refused it for minutes.
        """
        self._frames.append(frame)
        self._bytes += len(frame)
        try:
            if self._file is None:
                self._write_kept()
            else:
                write_all(self._file.fileno(), frame)
        except OSError as error:
            self._write_anew(error)
        if time.monotonic() - self._synced > SYNC_AFTER or self._bytes > _KEPT_BYTES:
            self.sync()

    def sync(self) -> None:
        """Sync what was written, if anything was."""
        if not self._frames:
            return
        try:
            if self._file is None:
                self._write_kept()
            else:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._write_anew(error)
        self._frames.clear()
        self._bytes = 0
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._abandon()

    def _abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # all that counts was synced, or is written anew
                file.close()

    def _write_anew(self, error: OSError) -> None:
        """Write all that was not synced to a new file, synced, for as long as patience lasts."""
        sys.stderr.write(f"slurmapply: outcomes could not be written: {error}; trying again\n")
        insist(self._write_kept, lambda _: None)

    def _write_kept(self) -> None:
        self._abandon()
        self._number += 1
        self._file = file = self._disk.create(jobfolder.next_outcomes(self._name, self._number))
        try:
            for frame in self._frames:
                write_all(file.fileno(), frame)
            os.fsync(file.fileno())
        except OSError:
            # One torn file is enough to show what happened.
            self._abandon()
            self._disk.remove(jobfolder.next_outcomes(self._name, self._number))
            raise
