"""All outcomes of a job, read from its folder and kept up to date as the files grow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from slurmapply import jobfolder
from slurmapply.choice import Outcomes
from slurmapply.errors import FormatError
from slurmapply.outcome_file import FileReader, Frame, FrameValues, Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurmapply.disk import Disk

#: Before values whose checksum is wrong are read a second time: NFS may show a file's new length
#: before its bytes.
_SECOND_LOOK = 0.5


class Survey:
    """What is known of all rows, from all outcomes files of some runs.

    Parameters
    ----------
    disk
        The job folder.
    uuid
        The job's; frames of another job are not ours, however they came here.
    rows
        Number of rows of the job.
    second_look
        Seconds after which damaged values are read again; 0 on a disk of this machine alone.

    Attributes
    ----------
    outcomes
        Those that count.
    ended
        The last sizes of files that nobody writes to any more, as far as somebody knows: when
        these are read, the files are not looked at again.
    """

    def __init__(
        self, disk: Disk, uuid: str, rows: int, *, second_look: float = _SECOND_LOOK
    ) -> None:
        self._disk = disk
        self._second_look = second_look
        self._uuid = bytes.fromhex(uuid)
        self._readers: dict[str, FileReader] = {}
        self.outcomes = Outcomes(rows)
        self.ended: dict[str, int] = {}

    def update(self, runs: Iterable[int]) -> int:
        """Read what is new in the files of these runs; gives the number of new frames."""
        return sum(self._update_run(run) for run in runs)

    def _update_run(self, run: int) -> int:
        folder = jobfolder.run_folder(run)
        new = 0
        for name in sorted(self._disk.names(folder)):
            path = f"{folder}/{name}"
            reader = None if self._is_done_with(path) else self._reader(path, run, name)
            if reader is not None:
                new += self._read(path, reader)
        return new

    def _reader(self, path: str, run: int, name: str) -> FileReader | None:
        """Give what reads a file of a run's folder, None where it is no outcomes file."""
        if path not in self._readers:
            place = jobfolder.parse_outcomes(name)
            if place is None:
                return None
            self._readers[path] = FileReader(Origin(run, *place, path), self._uuid)
        return self._readers[path]

    def _is_done_with(self, path: str) -> bool:
        """Whether a file was read to its last byte, and nobody writes to it any more."""
        size = self.ended.get(path)
        return size is not None and self.has_read(path, size) and not self.damaged_at(path)

    def _read(self, path: str, reader: FileReader) -> int:
        # Opened anew each time: NFS looks for new data only then (close-to-open).
        file = self._disk.open(path)
        if file is None:
            return 0
        with file:
            size = file.seek(0, os.SEEK_END)
            new = 0
            for frame in reader.read(file, size):
                self.outcomes.add(frame)
                new += 1
            return new

    def has_read(self, path: str, size: int) -> bool:
        """Whether a file was read when it had its last size; its end may be torn for ever."""
        reader = self._readers.get(path)
        return not size or (reader is not None and reader.seen >= size)

    def values(self, frame: Frame) -> FrameValues:
        """Read the values of a frame; what is damaged is read once more.

        Raises
        ------
        FormatError
            They are damaged; the frame's rows then count as not done.
        """
        try:
            return self._values(frame)
        except FormatError:
            time.sleep(self._second_look)
        return self._values_or_discard(frame)

    def _values_or_discard(self, frame: Frame) -> FrameValues:
        try:
            return self._values(frame)
        except FormatError:
            self.outcomes.discard(frame)
            raise

    def _values(self, frame: Frame) -> FrameValues:
        file = self._disk.open(frame.origin.file)
        if file is None:
            raise FormatError(
                f"{frame.origin.file} is gone. Its rows can be run again: job.retry()."
            )
        with file:
            return frame.load_values(file)

    def verify(self) -> None:
        """Read all values once, so that rows whose values are damaged count as not done."""
        damaged = [frame for frame in self.outcomes.frames if self._is_damaged(frame)]
        if damaged:
            time.sleep(self._second_look)
        for frame in damaged:
            if self._is_damaged(frame):
                self.outcomes.discard(frame)

    def _is_damaged(self, frame: Frame) -> bool:
        try:
            self._values(frame)
        except FormatError:
            return True
        return False

    def damaged_at(self, path: str) -> bool:
        """Whether a part of a file could not be read, at the last look."""
        reader = self._readers.get(path)
        return reader is not None and bool(reader.damaged_frames or reader.damaged_bytes)

    @property
    def damage(self) -> list[str]:
        """Say in words what of the files could not be read."""
        return [
            f"{path}: {reader.damaged_frames} damaged frames, {reader.damaged_bytes} bytes given up"
            for path, reader in self._readers.items()
            if reader.damaged_frames or reader.damaged_bytes
        ]
