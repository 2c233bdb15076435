"""Cells of result tables as text, and as what JSON knows."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from slurmapply.wording import harmless


def is_empty(value: Any) -> bool:
    """Whether a cell has no value: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def as_json(value: Any) -> Any:
    """Give what JSON can say of a value: an empty cell is null, what it does not know is text.

    Examples
    --------
    >>> as_json({"a": float("nan"), "b": (1, float("inf"))})
    {'a': None, 'b': [1, 'inf']}
    """
    if is_empty(value):
        return None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, (bool, int, str)):
        return value if type(value) in (bool, int, str) else _plain(value)
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return as_json(value.tolist())
    return str(value)


def _plain(value: Any) -> Any:
    """Give the value of an enum or another subclass."""
    return str(value) if isinstance(value, str) else int(value)


def as_text(value: Any, *, short: bool = False) -> str:
    """Write a cell on one line; an empty cell is the empty string.

    Examples
    --------
    >>> as_text(1 / 3), as_text(1 / 3, short=True), as_text(None)
    ('0.3333333333333333', '0.333333', '')
    """
    if is_empty(value):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if short else repr(float(value))
    return " ".join(harmless(str(value)).split())
