"""Whatever a user's job says, as text that a page can show: short, and without control characters.

Escaping for HTML is the template's, which does it to everything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from slurmapply.wording import harmless

LONGEST_CELL = 120
LONGEST_TEXT = 20_000


def shown(value: Any, longest: int = LONGEST_CELL) -> str:
    """Show a value on one line; of tables and arrays only what they are.

    Examples
    --------
    >>> shown(" a b "), shown(" "), shown(0.1 + 0.2), shown({"rmse": 57.1234567, "n": 3})
    ('a b', "' '", '0.3', 'rmse=57.1235, n=3')
    """
    try:
        text = _written(value)
    except Exception:  # noqa: BLE001  # the user's __repr__
        text = f"<{type(value).__name__}>"
    return cut(" ".join(text.split()), longest)


def _written(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__}, {' x '.join(map(str, shape))}"
    if isinstance(value, float) or (shape == () and hasattr(value, "__float__")):
        return f"{float(value):.6g}"
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return ", ".join(f"{name}={_written(cell)}" for name, cell in [*value.items()][:20])
    if isinstance(value, str):
        return value[: 2 * LONGEST_CELL] if value.strip() else repr(value)
    return repr(value[: 2 * LONGEST_CELL] if isinstance(value, bytes) else value)


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Make a text harmless, and leave out its middle where it is too long."""
    if len(text) > longest:
        ends = longest // 2
        long = longest > LONGEST_CELL
        text = f"{text[:ends]} ... {text[-ends:]}" if long else f"{text[:longest]}..."
    return harmless(text)


def at(seconds: float | None) -> str:
    """Write a time of the epoch in this machine's zone."""
    if seconds is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds)).strip()


def sentence(text: str) -> str:
    """Write a text as a sentence.

    Examples
    --------
    >>> sentence("ask for less"), sentence("Why? (no reason)")
    ('Ask for less.', 'Why? (no reason).')
    """
    text = text.strip()
    end = "" if text.endswith((".", "!", "?", "...")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"
