"""Where progress is shown: a line of a terminal, an output of a notebook's cell."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Protocol

from slurmapply.cards import line_card, progress_card
from slurmapply.progressbar import ASCII, Style, draw, more_words, shown_name, words

if TYPE_CHECKING:
    from typing import TextIO

    from slurmapply.status import JobStatus


class Place(Protocol):
    """Where somebody watches."""

    def show(self, status: JobStatus, waited: float) -> None:
        """Draw in place of what was drawn before."""

    def write(self, text: str) -> None:
        """Write a line that stays; what was drawn goes."""

    def clear(self) -> None:
        """Leave nothing of what was drawn."""


class Terminal:
    """A line of a terminal, drawn again and again.

    The cursor rests at the line's beginning, so that the ``^C`` of who interrupts the wait stands
    in the line too, and goes with it.

    Parameters
    ----------
    stream
        Writes to the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0
        kind = os.environ.get("TERM", "")
        self._escapes = kind not in ("", "dumb")
        colours = self._escapes and not os.environ.get("NO_COLOR")
        marks = Style().marks if _takes(stream, Style().marks) else ASCII
        self._style = Style(marks, Style().colours if colours else ())

    def show(self, status: JobStatus, waited: float) -> None:
        """Draw in place of what was drawn before; the terminal may have been resized."""
        width = _columns(self._stream)
        line = draw(status, waited, width, self._style)
        before, self._drawn = self._drawn, len(line)  # first: Ctrl-C may come with the line's end
        if self._escapes:
            # To the screen's end: a terminal that became narrower has wrapped the old line.
            self._put(f"\r\x1b[J{line}\r")
        else:
            self._put(f"\r{line.ljust(min(before, width - 1))}\r")

    def write(self, text: str) -> None:
        """Write a line that stays; what was drawn goes."""
        self.clear()
        self._put(f"{text}\n")

    def clear(self) -> None:
        """Leave nothing of what was drawn."""
        if self._drawn:
            blank = " " * min(self._drawn, _columns(self._stream) - 1)
            self._put("\r\x1b[J" if self._escapes else f"\r{blank}\r")
        self._drawn = 0

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed: the job goes on without a bar
            self._stream.write(text)
            self._stream.flush()


class Notebook:
    """An output of a notebook's cell, shown anew each time; needs no widgets.

    Parameters
    ----------
    display
        IPython's own function.
    """

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, status: JobStatus, waited: float) -> None:
        """Draw in place of what was drawn before."""
        text = ", ".join([*words(status), *more_words(status)])
        self._update(f"{shown_name(status)}: {text}", progress_card(status, waited))

    def write(self, text: str) -> None:
        """Write a line that stays, in place of what was drawn."""
        self._update(text, line_card(text))
        self._handle = None

    def clear(self) -> None:
        """Leave nothing of what was drawn."""
        if self._handle is not None:
            self._update("", "")
        self._handle = None

    def _update(self, text: str, html: str) -> None:
        bundle = {"text/plain": text, "text/html": html}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def watched_place() -> Place | None:
    """Give where somebody watches: a notebook's cell, a terminal; None: nobody does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "kernel"):
        from IPython.display import display  # noqa: PLC0415  # it is running already

        return Notebook(display)
    if sys.stderr is not None and sys.stderr.isatty():
        return Terminal(sys.stderr)
    return None


def _takes(stream: TextIO, letters: str) -> bool:
    try:
        letters.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _columns(stream: TextIO) -> int:
    columns = 0
    with contextlib.suppress(OSError, ValueError):
        columns = os.get_terminal_size(stream.fileno()).columns
    # Terminals over a serial line or a container's may not know their size.
    return columns or shutil.get_terminal_size().columns
