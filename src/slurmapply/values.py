"""Reading the values of rows from the folder, after a look at who could have written them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurmapply.errors import FormatError, RowError
from slurmapply.gathering import gathered_numbers, gathered_values
from slurmapply.outcome import KIND_PICKLE
from slurmapply.outcome_file import FrameValues
from slurmapply.states import RowStatus

if TYPE_CHECKING:
    from slurmapply.disk import FolderDisk
    from slurmapply.numeric import NumberColumn
    from slurmapply.outcome_file import Frame
    from slurmapply.parameters import Parameters
    from slurmapply.survey import Survey

_Read = tuple[list[Any], dict[int, BaseException]]


class ValueReader:
    """Reads values, of one row or of all.

    What is damaged is forgotten, so that another outcome of its rows counts, or none.

    Parameters
    ----------
    disk, survey
        The folder; knows which outcome of each row counts.
    parameters
        Knows whether the folder may be trusted.
    """

    def __init__(self, disk: FolderDisk, survey: Survey, parameters: Parameters) -> None:
        self._disk = disk
        self._survey = survey
        self._parameters = parameters
        self._latest: tuple[Frame, FrameValues] | None = None
        self._kept: dict[Frame, _Read] = {}
        self._trusted: set[str] = set()

    def of_frame(self, frame: Frame) -> FrameValues:
        """Give the values of one frame.

        Raises
        ------
        FormatError
            They are damaged; the frame's rows count as not done from now on.
        UntrustedFolderError
            Others could have written them.
        """
        # Who asks for row after row asks for those of one frame together.
        if self._latest is None or self._latest[0] is not frame:
            self._parameters.check_trust()
            self._disk.open_trusted(frame.origin.file).close()
            self._latest = frame, self._survey.values(frame)
        return self._latest[1]

    def one(self, row: int) -> Any:
        """Give the value of a row that is ok.

        Raises
        ------
        RowError
            It cannot be unpickled here.
        FormatError, UntrustedFolderError
            As `of_frame`.
        """
        frame, index = self._found(row)
        values = self.of_frame(frame)
        try:
            return values.value(index)
        except (Exception, SystemExit) as error:  # unpickling runs the user's code
            raise _not_loaded(row, error) from error

    def is_damaged(self, row: int) -> bool:
        """Whether the value of a row that is ok cannot be read; it is forgotten then."""
        frame, _ = self._found(row)
        try:
            self.of_frame(frame)
        except FormatError:
            return True
        return False

    def _found(self, row: int) -> tuple[Frame, int]:
        found = self._survey.outcomes.find(row)
        if found is None:
            raise LookupError(f"row {row} has no outcome")
        return found

    def numbers(self) -> NumberColumn | None:
        """Give the values of all rows where they are numbers of one type, else None.

        Values that cannot be numbers are not unpickled, but read: what is damaged is to be known.
        """
        self._look_at_damage()
        return gathered_numbers(self._survey.outcomes)

    def _look_at_damage(self) -> None:
        self._begin()
        for frame, _ in [*self._survey.outcomes.counting()]:
            if KIND_PICKLE in frame.kinds:
                return  # no numbers; it will be read in a moment
        while True:
            try:
                for frame, _ in [*self._survey.outcomes.counting()]:
                    self._bytes_of(frame)
            except FormatError:
                continue
            return

    def all(self, nothing: Any, *, keep: bool) -> tuple[list[Any], dict[int, RowError]]:
        """Give the values of all rows that are ok, and by row why some cannot be loaded here.

        Parameters
        ----------
        nothing
            Stands for the values of all other rows, and of those that cannot be loaded.
        keep
            Keep what is unpickled for the next time, which then reads only what is new and gives
            the same objects; else let go of what was kept.
        """
        self._begin()
        if not keep:
            self._kept.clear()
        read = self._read_once if keep else self._read
        while True:
            try:
                values, unread = gathered_values(self._survey.outcomes, nothing, read)
            except FormatError:
                continue
            return values, {row: _not_loaded(row, error) for row, error in unread.items()}

    def _begin(self) -> None:
        self._trusted.clear()
        self._latest = None

    def _read_once(self, frame: Frame) -> _Read:
        if KIND_PICKLE not in frame.kinds:
            return self._read(frame)  # these are in memory anyway
        if frame not in self._kept:
            values, broken = self._read(frame)
            if broken:  # it may be loaded later, when its package is there
                return values, broken
            self._kept[frame] = values, broken
        return self._kept[frame]

    def _read(self, frame: Frame) -> _Read:
        return self._bytes_of(frame).all()

    def _bytes_of(self, frame: Frame) -> FrameValues:
        """Read a frame's values; whose its file is was looked at once in this reading."""
        if not self._trusted:
            self._parameters.check_trust()
        if frame.origin.file not in self._trusted:
            self._disk.open_trusted(frame.origin.file).close()
            self._trusted.add(frame.origin.file)
        if not frame.values_place[1]:
            return FrameValues(frame, b"")
        return self._survey.values(frame)


def _not_loaded(row: int, error: BaseException) -> RowError:
    return RowError(
        f"row {row}: its value cannot be loaded here ({type(error).__name__}: {error}). It is "
        "complete in the job folder; load it where the same packages are installed.",
        row=row,
        status=RowStatus.OK,
        cause="not_loaded",
        exception=error,
    )
