"""What a terminal can show, and text of others made fit for it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from slurmapply.cli.tables import cells_wide
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slurmapply.cli.screen import Line

_WIDTH = 80
_COLOURS = {"good": "green", "bad": "red", "doubt": "yellow"}
#: What sets colours and nothing else (ECMA-48, "Select Graphic Rendition").
_COLOUR = re.compile(r"\x1b\[[\d;:]{0,40}m")
#: All other sequences of a terminal: of parameters, of strings to their end, of two letters.
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
_RESET = "\x1b[0m"
_LONGEST_SEQUENCE = 64


@dataclass(frozen=True)
class Terminal:
    """What a stream can show.

    Attributes
    ----------
    width : int or None
        Columns; None where nobody looks, as in a file or a pipe.
    height : int
        Lines.
    colour, unicode : bool
        Whether colours, and letters beyond ASCII, are shown.
    live : bool
        Whether lines can be drawn over.
    """

    width: int | None
    height: int
    colour: bool
    unicode: bool
    live: bool


def terminal_of(stream: TextIO) -> Terminal:
    """Look at what a stream is connected to."""
    unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
    if not stream.isatty():
        return Terminal(None, 24, colour=False, unicode=unicode, live=False)
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except OSError:
        columns, lines = 0, 0
    columns, lines = shutil.get_terminal_size((columns or _WIDTH, lines or 24))
    clever = os.environ.get("TERM", "") not in ("", "dumb")
    colour = clever and not os.environ.get("NO_COLOR")
    # A line that fills the last column may wrap.
    return Terminal(max(1, columns - 1), lines, colour=colour, unicode=unicode, live=clever)


def prepare_streams() -> None:
    """Let no letter end the program: what an encoding lacks is shown as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def painted(line: Line, *, colour: bool) -> str:
    """Write a line's pieces, with colours or without."""
    if not colour:
        return "".join(text for text, _ in line)
    return "".join(
        click.style(text, fg=_COLOURS.get(style), bold=style == "name") if style else text
        for text, style in line
    )


class LivePicture:
    """Draws lines over those drawn before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn: list[int] = []

    def draw(self, lines: Sequence[Line], terminal: Terminal) -> None:
        """Draw lines, each of them no wider than the terminal."""
        # A terminal that became narrower has wrapped what was drawn.
        width = (terminal.width or _WIDTH) + 1
        above = sum(max(1, -(-size // width)) for size in self._drawn)
        back = f"\x1b[{above}A\r\x1b[J" if above else ""
        text = "".join(f"{painted(line, colour=terminal.colour)}\n" for line in lines)
        self._stream.write(back + text)
        self._stream.flush()
        self._drawn = [cells_wide("".join(piece for piece, _ in line)) for line in lines]


class ConsoleText:
    """Makes what a job printed fit for a terminal, piece after piece as it comes.

    Line feeds, tabs and colours stay. What could move the cursor, rewrite the screen or speak to
    the terminal is left out, other control characters are shown as escapes.

    Parameters
    ----------
    colour
        Whether colours stay.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._kept = ""

    def feed(self, text: str, *, last: bool = False) -> str:
        """Give what of the text so far can be shown.

        Parameters
        ----------
        text
            What came.
        last
            Nothing follows it: a sequence that is cut off will not be completed.
        """
        text = self._kept + text
        cut = len(text) if last else _whole(text)
        text, self._kept = text[:cut], text[cut:]
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        pieces = _pieces(text)
        shown = "".join(self._shown(piece, is_colour=is_colour) for piece, is_colour in pieces)
        return shown + (_RESET if self._colour and "\x1b" in shown else "")

    def _shown(self, piece: str, *, is_colour: bool) -> str:
        if is_colour:
            return piece if self._colour else ""
        return harmless(_SEQUENCE.sub("", piece))


def _whole(text: str) -> int:
    """Give where a sequence begins that may not be complete, else the end."""
    if text.endswith("\r"):
        return len(text) - 1
    escape = text.rfind("\x1b", -_LONGEST_SEQUENCE)
    if escape < 0 or _COLOUR.match(text, escape) or _SEQUENCE.match(text, escape):
        return len(text)
    return escape


def _pieces(text: str) -> Iterable[tuple[str, bool]]:
    position = 0
    for match in _COLOUR.finditer(text):
        yield text[position : match.start()], False
        yield match[0], True
        position = match.end()
    yield text[position:], False
