"""Times and amounts of memory, as people write them and as Slurm does. Pure functions."""

from __future__ import annotations

import math
import numbers
import re
from datetime import timedelta

from slurmapply.errors import InvalidArgumentError

_TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME_WORDS = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)\s*"
    r"(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)(?![a-z])[\s,]*"
)
_TIME_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")
_TIME_HINT = "Write '2h', '90min', '1:30:00' (hours), '1-12:00:00' (days) or a timedelta."
_LENGTH_HINT = "Write seconds, such as 90, or '10m', '1:30:00' (hours) or a timedelta."
_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT])(?:I?B)?")
_MEMORY_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
_MEMORY_HINT = "Write '4G' or '500M'."


def parse_time(value: object) -> str | None:
    """Return a time limit as Slurm writes it.

    Parameters
    ----------
    value
        ``"2h"``, ``"90min"``, ``"1h 30min"``, ``"1:30:00"``, ``"1-12:00:00"``, ``"2 days"``,
        ``"unlimited"``, a timedelta, or None. A bare number is refused: minutes to Slurm, hours
        or seconds to most people.

    Raises
    ------
    InvalidArgumentError
        It is not a time, or has two meanings, or is not above zero.

    Examples
    --------
    >>> parse_time("90min"), parse_time("2 days"), parse_time(None)
    ('01:30:00', '2-00:00:00', None)
    """
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() in {"unlimited", "infinite"}:
        return "UNLIMITED"
    seconds = math.ceil(_seconds(value))
    if seconds <= 0:
        raise _invalid(f"time={value!r} is not above zero. {_TIME_HINT}", "time")
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def parse_seconds(value: object, argument: str) -> float:
    """Return a length of time in seconds.

    Parameters
    ----------
    value
        A number of seconds, or what `parse_time` takes with a unit. What is no limit of Slurm's
        may be a bare number: everybody means seconds then.
    argument
        The name of the argument, for the message.

    Raises
    ------
    InvalidArgumentError
        It is not a length of time, not finite, or not above zero.

    Examples
    --------
    >>> parse_seconds(90, "row_timeout"), parse_seconds("10m", "row_timeout")
    (90.0, 600.0)
    """
    seconds = _length(value, argument)
    if not math.isfinite(seconds) or seconds <= 0:
        raise _invalid(
            f"{argument}={value!r}: a finite number of seconds above zero is needed. {_LENGTH_HINT}"
            " None is no limit.",
            argument,
        )
    return seconds


def _length(value: object, argument: str) -> float:
    try:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return float(value if number else _seconds(value))  # type: ignore[arg-type]
    except (InvalidArgumentError, OverflowError):
        raise _invalid(
            f"{argument}={value!r} is not a length of time. {_LENGTH_HINT} None is no limit.",
            argument,
        ) from None


def _seconds(value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        raise _invalid(_not_a_time(value), "time")
    text = value.strip().lower()
    clock = _TIME_CLOCK.fullmatch(text)
    if clock is None:
        return _seconds_in_words(value, text)
    if not clock["days"] and clock["clock"].count(":") != 2:  # noqa: PLR2004  h:m:s
        raise _invalid(_ambiguous_time(value, text), "time")
    return _clock_seconds(text) or 0


def _seconds_in_words(value: str, text: str) -> float:
    seconds, end = 0.0, 0
    for match in _TIME_WORDS.finditer(text):
        if match.start() != end:
            break
        seconds += float(match["number"]) * _TIME_UNITS[match["unit"][0]]
        end = match.end()
    if end != len(text) or not text:
        raise _invalid(_not_a_time(value), "time")
    return seconds


def _not_a_time(value: object) -> str:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return _ambiguous_time(value, str(value))
    return f"time={value!r} is not a time. {_TIME_HINT}"


def _ambiguous_time(value: object, text: str) -> str:
    if ":" in text:
        return (
            f"time={value!r} is minutes and seconds to Slurm, hours and minutes to most people."
            f" Write '{text}:00' or '0:{text}'."
        )
    return (
        f"time={value!r} has no unit (Slurm would take it as minutes). Write '{text}min', '{text}h'"
        f" or a timedelta."
    )


def time_seconds(text: str | None) -> int | None:
    """Return the seconds of a time limit in any of sbatch's spellings, None when it has none.

    sbatch(1), ``--time``: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
    days-hours:minutes, days-hours:minutes:seconds. 0 is no limit.

    Examples
    --------
    >>> time_seconds("90"), time_seconds("1-12"), time_seconds("UNLIMITED")
    (5400, 129600, None)
    """
    return _clock_seconds(text.strip()) if text else None


def _clock_seconds(text: str) -> int | None:
    match = _TIME_CLOCK.fullmatch(text)
    if match is None:
        return None
    parts = [int(part) for part in match["clock"].split(":")]
    if match["days"]:
        parts = parts + [0] * (3 - len(parts))
    elif len(parts) == 1:
        parts = [0, *parts, 0]
    else:
        parts = [0] * (3 - len(parts)) + parts
    hours, minutes, seconds = parts
    return int(match["days"] or 0) * 86400 + hours * 3600 + minutes * 60 + seconds or None


def parse_memory(value: object) -> str:
    """Return an amount of memory as Slurm writes it, in whole megabytes.

    Parameters
    ----------
    value
        ``"4G"``, ``"500M"``, ``"4 GB"``, ``"1.5G"``. A bare number is refused: megabytes to
        Slurm, bytes or gigabytes to most people.

    Raises
    ------
    InvalidArgumentError
        It is not an amount of memory.

    Examples
    --------
    >>> parse_memory("4 GB"), parse_memory("1.5G")
    ('4G', '1536M')
    """
    match = _MEMORY.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    if match is None:
        raise _invalid(_not_memory(value), "mem")
    megabytes = math.ceil(float(match["number"]) * _MEMORY_MEGABYTES[match["unit"]])
    if megabytes == 0:
        raise _invalid(f"mem={value!r} is nothing. {_MEMORY_HINT}", "mem")
    return f"{megabytes}M" if megabytes % 1024 else f"{megabytes // 1024}G"


def _not_memory(value: object) -> str:
    text = str(value).strip()
    if text == "0":
        return (
            f"mem={value!r} has no unit. For all memory of each node: slurm_options={{'mem': 0}}."
        )
    if re.fullmatch(r"\d+(\.\d+)?", text) and not isinstance(value, bool):
        return f"mem={value!r} has no unit. Write '{text}M' or '{text}G'."
    return f"mem={value!r} is not an amount of memory. {_MEMORY_HINT}"


def _invalid(message: str, argument: str) -> InvalidArgumentError:
    return InvalidArgumentError(message, argument=argument)
