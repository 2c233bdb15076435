"""What rows and tasks printed, cut out of the workers' consoles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurmapply import jobfolder

if TYPE_CHECKING:
    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower


class Consoles:
    """Reads the consoles of a job.

    Parameters
    ----------
    disk, follower
        The folder; knows where each row ran.
    """

    def __init__(self, disk: FolderDisk, follower: Follower) -> None:
        self._disk = disk
        self._follower = follower

    def of_row(self, row: int) -> str:
        """Give exactly what a row printed, also one that is running now."""
        found = self._follower.outcomes.find(row)
        if found is not None:
            frame, index = found
            measures = frame.measures(index)
            console = jobfolder.console_of(frame.origin.file)
            return _part(self._disk, console, measures.log_offset, measures.log_length)
        for view in self._follower.run.latest:
            if row in view.running:
                record = view.running[row]
                return _part(self._disk, record["console"], record["log_offset"], None)
        return ""

    def of_tasks(self, limit: int | None = None) -> dict[int, str]:
        """Give what each task of the latest run printed, its own console first."""
        run = self._follower.run.number
        folder = jobfolder.run_folder(run)
        consoles: dict[int, list[str]] = {}
        for name in sorted(self._disk.names(folder), key=jobfolder.console_order):
            task = jobfolder.parse_console(name)
            if task is not None:
                text = _part(self._disk, f"{folder}/{name}", 0, None, limit)
                consoles.setdefault(task, []).append(text)
        return {task: "".join(texts) for task, texts in sorted(consoles.items())}


def _part(
    disk: FolderDisk, name: str, offset: int, length: int | None, limit: int | None = None
) -> str:
    file = disk.open(name)
    if file is None:
        return ""
    with file:
        if limit is not None:
            offset = max(offset, file.seek(0, 2) - limit)
        file.seek(offset)
        data = file.read() if length is None else file.read(length)
    return data.decode("utf-8", "replace")
