"""How messages speak of what a user gave."""

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
