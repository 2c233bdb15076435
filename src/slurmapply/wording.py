"""How messages speak: of what a user gave, of times, of text that others wrote."""

from __future__ import annotations

from typing import Any

_LONGEST = 60


def described(value: Any) -> str:
    """Show a value and its type on one line; of tables and arrays only the type.

    Examples
    --------
    >>> described("abc"), described(2.0), described(None)
    ("'abc' (str)", '2.0 (float)', 'None')
    """
    kind = type(value).__name__
    if value is None:
        return "None"
    many = hasattr(value, "__array__") and getattr(value, "ndim", 1) > 0
    if many or hasattr(value, "collect"):
        return f"a {kind}"
    return f"{shown(value)} ({kind})"


def shown(value: Any) -> str:
    """Show a value on one line, cut short.

    Examples
    --------
    >>> shown("a" * 80)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    line = " ".join(repr(value).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def bounded(value: Any, limit: int = 1000) -> str:
    """Show a value whose own repr may be very long, or raise.

    Examples
    --------
    >>> bounded(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ...]'
    """
    import reprlib  # noqa: PLC0415  # sessions alone need it

    short = reprlib.Repr()
    short.maxother = short.maxstring = short.maxlong = limit
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = 20
    text = short.repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def harmless(text: str) -> str:
    """Show control characters as escapes: what a row printed must not steer a terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}"
        for letter in text
    )


def duration(seconds: float) -> str:
    """Write a time for people: ``40 s``, ``12 min``, ``3.5 h``.

    Examples
    --------
    >>> duration(40), duration(700), duration(12600)
    ('40 s', '12 min', '3.5 h')
    """
    if seconds < 100:  # noqa: PLR2004  # two minutes read better as seconds
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def first_line(text: str) -> str:
    r"""Give the first line that says something.

    Examples
    --------
    >>> first_line("\n boom\nat home")
    'boom'
    """
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
