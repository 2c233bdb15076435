"""Writing outcomes to a disk that fails: every way in which it can, and no row lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply.disk import FolderDisk, write_all
from slurmapply.outcome import KIND_INT, FrameBuilder, Measures
from slurmapply.states import OK_CODE
from slurmapply.survey import Survey
from slurmapply.worker import patience, writing
from slurmapply.worker.writing import OutcomesWriter

if TYPE_CHECKING:
    import io

UUID = "0123456789abcdef0123456789abcdef"
NAME = "run_0/outcomes_0_0_0_abcdef01.rec"
ROWS = 6


class FailingDisk(FolderDisk):
    """A folder whose operations fail as often as they are told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refusals = {"write": 0, "fsync": 0, "create": 0}
        self.error = errno.ENOSPC
        self.torn = 0
        self.written = self.synced = 0

    def create(self, name: str) -> io.FileIO:
        self._may_fail("create")
        return super().create(name)

    def write_all(self, descriptor: int, data: bytes) -> None:
        if self.refusals["write"]:
            os.write(descriptor, data[: self.torn])
        self._may_fail("write")
        self.written += 1
        write_all(descriptor, data)

    def fsync(self, _: int) -> None:
        self._may_fail("fsync")
        self.synced += 1

    def _may_fail(self, what: str) -> None:
        if self.refusals[what]:
            self.refusals[what] -= 1
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    Path("job/run_0").mkdir(parents=True)
    made = FailingDisk(Path("job"))
    monkeypatch.setattr(writing, "write_all", made.write_all)
    monkeypatch.setattr(os, "fsync", made.fsync)
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.01)
    return made


def frame(row: int) -> bytes:
    builder = FrameBuilder(bytes.fromhex(UUID))
    builder.add(row, 1, KIND_INT, row, Measures())
    return builder.take()


def rows_of(disk: FolderDisk) -> list[int]:
    """Give the rows that a reader finds."""
    survey = Survey(disk, UUID, ROWS)
    survey.update(range(1))
    return [row for row in range(ROWS) if survey.outcomes.status_code(row) == OK_CODE]


def files() -> list[str]:
    return sorted(path.name for path in Path("job/run_0").iterdir())


def write(disk: FailingDisk, bad_row: int, **refusals: int) -> OutcomesWriter:
    """Write all rows; the disk fails from one of them on."""
    writer = OutcomesWriter(disk, NAME)
    for row in range(ROWS):
        if row == bad_row:
            disk.refusals |= refusals
        writer.write(frame(row))
    writer.close()
    return writer


EVERYTHING = list(range(ROWS))


def test_a_disk_that_works_gets_one_file_synced_once(disk: FailingDisk) -> None:
    write(disk, -1)
    assert rows_of(disk) == EVERYTHING
    assert (len(files()), disk.written, disk.synced) == (1, ROWS, 1)


@pytest.mark.parametrize("bad_row", [0, 3, ROWS - 1])
@pytest.mark.parametrize(
    "refusals",
    [
        {"write": 1},
        {"write": 4},
        {"fsync": 1},
        {"fsync": 3},
        {"write": 1, "create": 3},
        {"write": 2, "create": 2, "fsync": 2},
    ],
)
def test_no_row_is_lost_however_a_disk_fails_for_a_while(
    disk: FailingDisk, bad_row: int, refusals: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    write(disk, bad_row, **refusals)
    assert rows_of(disk) == EVERYTHING
    # One torn or doubtful file shows what happened; of all others nothing is left.
    assert len(files()) == 2
    assert capsys.readouterr().err.count("outcomes could not be written: [Errno 28]") == 1


def test_a_write_that_is_torn_at_any_byte_loses_nothing(disk: FailingDisk) -> None:
    for torn in range(len(frame(3)) + 1):
        for path in Path("job/run_0").iterdir():
            path.unlink()
        disk.torn = torn
        write(disk, 3, write=1)
        assert rows_of(disk) == EVERYTHING, torn
        assert len(files()) == 2


def test_what_was_synced_is_not_written_again(disk: FailingDisk) -> None:
    writer = OutcomesWriter(disk, NAME)
    writer.write(frame(0))
    writer.sync()
    writer.write(frame(1))
    disk.refusals["write"] = 1
    writer.write(frame(2))
    writer.close()
    first, second = sorted(Path("job/run_0").iterdir())
    assert first.name.endswith(".2.rec")
    assert first.read_bytes() == frame(1) + frame(2)
    assert second.read_bytes() == frame(0) + frame(1)
    assert rows_of(disk) == [0, 1, 2]


def test_a_file_that_failed_is_never_written_to_again(disk: FailingDisk) -> None:
    writer = OutcomesWriter(disk, NAME)
    disk.refusals["write"] = 1
    disk.torn = 10
    writer.write(frame(0))
    writer.write(frame(1))
    writer.close()
    assert Path("job", NAME).read_bytes() == frame(0)[:10]


@pytest.mark.parametrize("what", ["write", "fsync", "create"])
def test_patience_ends(disk: FailingDisk, what: str) -> None:
    writer = OutcomesWriter(disk, NAME)
    writer.write(frame(0))
    disk.refusals |= {"write": 1, what: 10**6}
    with pytest.raises(OSError, match="No space left"):
        writer.write(frame(1))
    disk.refusals = dict.fromkeys(disk.refusals, 0)
    assert rows_of(disk) == [0], "what was written before is there"
    writer.sync()
    assert rows_of(disk) == [0, 1], "and the rest, should the disk come back after all"
    writer.close()


def test_a_folder_that_is_gone_is_not_waited_for(
    disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 1000.0)
    writer = OutcomesWriter(disk, NAME)
    disk.error = errno.ENOENT
    disk.refusals |= {"write": 1, "create": 10**6}
    with pytest.raises(FileNotFoundError):
        writer.write(frame(0))


def test_only_so_much_is_kept_in_memory(disk: FailingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_KEPT_BYTES", 3 * len(frame(0)))
    writer = OutcomesWriter(disk, NAME)
    for row in range(ROWS):
        writer.write(frame(row))
        assert writer._bytes <= 3 * len(frame(0))
    assert disk.synced == 1
    writer.close()


def test_insisting_complains_once_and_gives_what_came_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.001)
    errors = [OSError(errno.ESTALE, "stale"), OSError(errno.EDQUOT, "quota")]
    said: list[Any] = []

    def action() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert patience.insist(action, said.append) == "done"
    assert [error.errno for error in said] == [errno.EDQUOT]


def test_insisting_is_for_disks_only() -> None:
    with pytest.raises(ZeroDivisionError):
        patience.insist(lambda: 1 // 0, lambda _: None)
