"""Round amounts to ask for: memory and time as people write them, never less than is needed.

Pure functions.
"""

from __future__ import annotations

import math

from slurmapply.wording import duration
from slurmapply.worker.memory import in_words

_GIGABYTE = 1024
_MINUTES = (5, 10, 15, 20, 30, 45)
_HOURS = (1, 2, 3, 4, 6, 8, 12, 18, 24)


def memory_option(megabytes: float) -> str:
    """Write at least so much memory as ``mem=`` takes it.

    Parameters
    ----------
    megabytes
        In MiB.

    Examples
    --------
    >>> memory_option(20), memory_option(640), memory_option(2500)
    ('100M', '700M', '3G')
    """
    if megabytes <= _GIGABYTE - 100:
        return f"{max(1, math.ceil(megabytes / 100)) * 100}M"
    return f"{math.ceil(megabytes / _GIGABYTE)}G"


def memory_of(option: str) -> float:
    """Give the MiB of what `memory_option` wrote.

    Examples
    --------
    >>> memory_of("700M"), memory_of("3G")
    (700.0, 3072.0)
    """
    return float(option[:-1]) * (_GIGABYTE if option.endswith("G") else 1)


def megabytes_in_words(megabytes: float) -> str:
    """Write an amount of memory for people.

    Examples
    --------
    >>> megabytes_in_words(614.2), megabytes_in_words(8192)
    ('614 MB', '8.0 GB')
    """
    return in_words(round(megabytes * 2**20))


def time_option(seconds: float) -> str:
    """Write at least so much time as ``time=`` takes it.

    Examples
    --------
    >>> time_option(40), time_option(1300), time_option(4000), time_option(100_000)
    ('5min', '30min', '2h', '36h')
    """
    for minutes in _MINUTES:
        if seconds <= minutes * 60:
            return f"{minutes}min"
    for hours in _HOURS:
        if seconds <= hours * 3600:
            return f"{hours}h"
    return f"{math.ceil(seconds / 43200) * 12}h"


def time_of(option: str) -> float:
    """Give the seconds of what `time_option` wrote.

    Examples
    --------
    >>> time_of("30min"), time_of("2h")
    (1800.0, 7200.0)
    """
    hours = option.endswith("h")
    return float(option.removesuffix("h").removesuffix("min")) * (3600 if hours else 60)


def seconds_in_words(seconds: float) -> str:
    """Write a short time for people, to two figures where it is less than ten seconds.

    Examples
    --------
    >>> seconds_in_words(0.0123), seconds_in_words(2.345), seconds_in_words(700)
    ('12 ms', '2.3 s', '12 min')
    """
    if seconds < 1:
        return f"{max(seconds * 1000, 0.01):.2g} ms" if seconds < 0.0995 else f"{seconds:.2g} s"  # noqa: PLR2004  # rounds to 0.1 s
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)  # noqa: PLR2004  # two figures
