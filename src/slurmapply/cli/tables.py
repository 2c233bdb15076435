"""Tables for people: columns under each other, cut to the terminal's width."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = 2
_NARROWEST = 6


def table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    r"""Lay out a table.

    Parameters
    ----------
    header, rows
        Cells, each on one line; columns of numbers stand to the right.
    width
        How wide it may be: long cells are cut first, then the last columns are left out. None: as
        wide as it is.

    Examples
    --------
    >>> print("\n".join(table_lines(["x", "name"], [["1", "one"], ["10", "ten"]])))
     x  name
     1  one
    10  ten
    """
    columns = [list(cells) for cells in zip(header, *rows, strict=True)]
    sizes = [max(map(cells_wide, cells)) for cells in columns]
    shown = len(columns)
    if width is not None:
        shown = _how_many_fit(sizes, width)
        sizes = _shrunk(sizes[:shown], width)
    right = [all(map(_is_number, cells[1:])) for cells in columns]
    return [
        (" " * _GAP)
        .join(
            _padded(cut(cell, size), size, right=flag)
            for cell, size, flag in zip(line[:shown], sizes, right, strict=False)
        )
        .rstrip()
        for line in [header, *rows]
    ]


def _how_many_fit(sizes: Sequence[int], width: int) -> int:
    used = -_GAP
    for number, size in enumerate(sizes):
        used += _GAP + min(size, _NARROWEST)
        if used > width:
            return max(1, number)
    return len(sizes)


def _shrunk(sizes: Sequence[int], width: int) -> list[int]:
    sizes = list(sizes)
    excess = sum(sizes) + _GAP * (len(sizes) - 1) - width
    while excess > 0:
        widest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[widest] <= 1:
            break
        others = sorted(sizes)[-2:-1] or [0]
        step = min(excess, max(1, sizes[widest] - max(others[0], _NARROWEST)), sizes[widest] - 1)
        sizes[widest] -= step
        excess -= step
    return sizes


def cells_wide(text: str) -> int:
    """Count the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_letter_wide(letter) for letter in text)


def _letter_wide(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Cut a text to a number of terminal columns, with dots where something is missing.

    Examples
    --------
    >>> cut("a long name", 8), cut("short", 8)
    ('a lon...', 'short')
    """
    if cells_wide(text) <= width:
        return text
    dots = "..." if width > 2 * len("...") else "." * min(width, 1)
    kept, used = [], len(dots)
    for letter in text:
        used += _letter_wide(letter)
        if used > width:
            break
        kept.append(letter)
    return "".join(kept) + dots


def _padded(text: str, size: int, *, right: bool) -> str:
    space = " " * (size - cells_wide(text))
    return space + text if right else text + space


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
