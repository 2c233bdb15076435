"""Writing ``data.bin``: the large buffers of all pickles of a folder, equal ones once."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurmapply.pickles import BufferPlace

#: From here on a buffer has pages of its own; on smaller ones too much would be wasted.
_OWN_PAGES = 1024 * 1024
_PAGE = 4096
#: As wide as anything that a processor loads at once.
_ALIGNED = 64
_SAMPLE = 64
_PIECE = 1024 * 1024


class DataFileError(OSError):
    """The data file could not be written."""


class BufferWriter:
    """Writes large buffers to a data file, equal ones once.

    Whether two are equal is asked only where their lengths and a few of their bytes are: one that
    is unlike all others is written without being read a second time for a digest.

    Parameters
    ----------
    file
        Descriptor of a new file, open for reading and appending.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._size = 0
        self._known: dict[tuple[int, bytes], list[_Content]] = {}

    def add(self, raws: Sequence[memoryview]) -> list[BufferPlace]:
        """Write the buffers of one object; gives their places.

        Raises
        ------
        DataFileError
            There is no room for all of them, and none was written; or writing failed.
        """
        try:
            contents = [self._content(raw) for raw in raws]
            new = {content: None for content in contents if content.raw is not None}
            check_room(self._file, sum(content.length for content in new))
            for content in new:
                self._write(content)
        except OSError as error:
            raise DataFileError(*error.args) from error
        return [
            (content.offset, content.length, not raw.readonly)
            for content, raw in zip(contents, raws, strict=True)
        ]

    def _content(self, raw: memoryview) -> _Content:
        """Give the equal one that is known, or a new one that is to be written."""
        new = _Content(raw)
        alike = self._known.setdefault((raw.nbytes, _sample(raw)), [])
        for other in alike:
            if other.digest(self._file) == new.digest(self._file):
                return other
        alike.append(new)
        return new

    def _write(self, content: _Content) -> None:
        raw = content.raw or memoryview(b"")
        padding = -self._size % (_PAGE if raw.nbytes >= _OWN_PAGES else _ALIGNED)
        self._append(memoryview(bytes(padding)))
        self._append(raw)
        content.offset = self._size + padding
        content.raw = None  # the file has it, and what it belongs to may go
        self._size = content.offset + content.length

    def _append(self, data: memoryview) -> None:
        while data:  # write(2) takes 2 GiB at most
            data = data[os.write(self._file, data) :]


class _Content:
    """The content of equal buffers, which has a place in the file, or will have one soon."""

    __slots__ = ("_digest", "length", "offset", "raw")

    def __init__(self, raw: memoryview) -> None:
        self.raw: memoryview | None = raw
        self.length = raw.nbytes
        self.offset = 0
        self._digest = b""

    def digest(self, file: int) -> bytes:
        """Give a digest, made when it is first asked for."""
        if not self._digest:
            import hashlib  # noqa: PLC0415  # seldom needed, and it loads OpenSSL

            digest = hashlib.blake2b(digest_size=16)
            for piece in [self.raw] if self.raw is not None else self._pieces(file):
                digest.update(piece)
            self._digest = digest.digest()
        return self._digest

    def _pieces(self, file: int) -> Iterator[bytes]:
        for offset in range(self.offset, self.offset + self.length, _PIECE):
            yield os.pread(file, min(_PIECE, self.offset + self.length - offset), offset)


def _sample(raw: memoryview) -> bytes:
    """Give some bytes of the beginning, the middle and the end."""
    middle = raw.nbytes // 2
    return b"".join((raw[:_SAMPLE], raw[middle : middle + _SAMPLE], raw[-_SAMPLE:]))


def check_room(file: int, size: int) -> None:
    """Refuse to write what the file system of an open file has no room for.

    Raises
    ------
    DataFileError
        With both sizes.
    """
    found = os.fstatvfs(file)
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and size > free:  # some do not know their size, and say 0
        raise DataFileError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: {in_units(size)} of data are to be copied there, and "
            f"{in_units(free)} are free (none of it was copied)",
        )


def in_units(size: int) -> str:
    """Write a size for people.

    Examples
    --------
    >>> in_units(12_000), in_units(500_000_000), in_units(2_500_000_000)
    ('12 kB', '500 MB', '2.5 GB')
    """
    if size < 1e6:  # noqa: PLR2004
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"  # noqa: PLR2004


class Counter:
    """Takes buffers that are only to be measured."""

    def __init__(self) -> None:
        self.size = 0

    def add(self, raws: Sequence[memoryview]) -> list[BufferPlace]:
        """Add up their lengths."""
        self.size += sum(raw.nbytes for raw in raws)
        return []
