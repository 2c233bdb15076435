"""A job's parameters, read back from its folder: cells, the user's frame, the function."""

from __future__ import annotations

import pickle
import platform
from typing import TYPE_CHECKING, Any

from slurmapply import jobfolder
from slurmapply.errors import JobFolderError, UntrustedFolderError
from slurmapply.inputs import Items, Params
from slurmapply.pickles import BufferReader
from slurmapply.rows import ITEM, RowReader, open_rows
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.disk import FolderDisk

_SHOWN_ARGUMENTS = 200
_SHOWN_VALUE = 60


class Parameters:
    """Reads what a job was given.

    Parameters
    ----------
    disk, job
        The folder and its ``job.json``.
    trust
        Unpickle whatever Python wrote it.
    """

    def __init__(self, disk: FolderDisk, job: Mapping[str, Any], *, trust: bool) -> None:
        self._disk = disk
        self._job = job
        self._trust = trust
        self._rows: RowReader | None = None

    def check_trust(self) -> None:
        """Refuse to unpickle what others could have written, or another Python has.

        Raises
        ------
        UntrustedFolderError
            With what to do.
        """
        self._disk.open_trusted(jobfolder.JOB).close()
        made = self._job["python"]["version"].rpartition(".")[0]
        here = platform.python_version().rpartition(".")[0]
        if made != here and not self._trust:
            raise UntrustedFolderError(
                f"this job was made with Python {made} and this is Python {here}: pickles of "
                f"functions and classes may fail or crash between the two. Open it with Python "
                f"{made}, or pass trust=True if the results are plain data.",
                path=self._disk.path,
            )

    def arguments(self, row: int) -> dict[str, Any]:
        """Give what a row's call gets."""
        return self._reader().arguments(row)

    def shown(self, row: int) -> str:
        """Write a row's parameters as ``a=1, b='x'``, cut short."""
        try:
            arguments = self.arguments(row)
        except Exception:  # noqa: BLE001  # a parameter that cannot be loaded is shown as such
            return "parameters that cannot be loaded here"
        shown = ", ".join(
            f"{name}={_short(value)}" if name != ITEM else _short(value)
            for name, value in arguments.items()
        )
        return harmless(shown[:_SHOWN_ARGUMENTS])

    def params(self) -> Params | None:
        """Give the parameters as a table; None for the items of slurm_map."""
        if self._job["kind"] == "map":
            return None
        frame = self.stored()["frame"]
        # A frame is the better source of a table: it has the user's own types and index.
        names = self.column_names()
        columns = self._columns() if frame is None else {name: [] for name in names}
        return Params(columns, self._job["rows"], frame)

    def _columns(self) -> dict[str, list[Any]]:
        rows = self._reader()
        columns: dict[str, list[Any]] = {name: [] for name in rows.names}
        for block in rows.all_blocks():
            for name, cells in block.columns().items():
                columns[name] += cells
        return columns

    def items(self) -> Items | None:
        """Give slurm_map's items without their values, for a collection of the same kind."""
        if self._job["kind"] != "map":
            return None
        stored = self.stored()
        return Items([], stored["keys"], stored["kind"], stored["frame"])

    def keys(self) -> Sequence[Any]:
        """Give what each row is known by: its number, or its key."""
        items = self.items()
        if items is None or items.kind == "list":
            return range(self._job["rows"])
        if items.keys is not None:
            return items.keys
        index = getattr(items.frame, "index", None)
        return range(self._job["rows"]) if index is None else list(index)

    def column_names(self) -> list[str]:
        """Give the names of the parameters; the item of slurm_map has none."""
        return self._reader().names

    def _reader(self) -> RowReader:
        if self._rows is None:
            self.check_trust()
            self._rows = open_rows(self._disk)
        return self._rows

    def stored(self) -> dict[str, Any]:
        """Give the user's own frame or Series, and the keys of items."""
        return self.load(jobfolder.ROWS_FRAME, jobfolder.DATA)

    def load(self, name: str, data_name: str) -> dict[str, Any]:
        """Unpickle what was stored with its buffers in a data file.

        Raises
        ------
        JobFolderError
            It needs a module that this session does not have.
        UntrustedFolderError
            As in `check_trust`.
        """
        self.check_trust()
        with self._disk.open_trusted(name) as file:
            data, places = pickle.load(file)
        reader = BufferReader(self._disk.path.absolute() / data_name)
        try:
            content: dict[str, Any] = reader.load(data, places)
        except (ImportError, AttributeError) as error:
            folder = self._job["session"]["folder"]
            raise JobFolderError(
                f"{name} of {self._job['name']} needs what cannot be imported here "
                f"({type(error).__name__}: {error}). The job was made in {folder}: start Python "
                "there, or add the folder of that module to sys.path first.",
                path=self._disk.path,
            ) from error
        return content


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # the user's __repr__
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 3] + "..."
