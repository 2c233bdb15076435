"""A row's random stream: it follows from the job's seed and the row's number, from nothing else.

So it is the same whatever the nodes, chunks, schedule, backend, retries or requeues. NumPy is
imported only where one of its generators is asked for, or where the user gave a seed.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROUNDS = 4


class Seed(NamedTuple):
    """The seed of a job; `given` says whether by the user, or drawn when the job was made."""

    number: int
    given: bool


def seed_of(job: Mapping[str, Any]) -> Seed:
    """Read a job's seed from its ``job.json``; folders of 0.1.0 have none, but a uuid."""
    number = job.get("seed", int(job["uuid"][:16], 16))
    return Seed(number, job.get("seeded", False))


def row_seed(seed: int, row: int) -> int:
    """Give a row's seed, from 0 to 2**32 - 1 as scikit-learn's ``random_state=`` takes it.

    Examples
    --------
    >>> row_seed(1, 0), row_seed(1, 1), row_seed(2, 0)
    (3619430903, 950978570, 3304719206)
    """
    from hashlib import blake2b  # noqa: PLC0415  # most jobs never need it on the node

    # A plain hash of 32 bits would give two of 100 000 rows the same seed more often than not.
    # A Feistel network (Luby and Rackoff 1988) permutes the numbers: no two rows share one.
    left, right = row >> 16, row & 0xFFFF
    for turn in range(_ROUNDS):
        digest = blake2b(f"{seed} {turn} {right}".encode(), digest_size=2).digest()
        left, right = right, left ^ int.from_bytes(digest, "big")
    return left << 16 | right


def row_rng(seed: int, row: int) -> Any:
    """Give a row's NumPy generator: that of ``SeedSequence(seed).spawn(n)[row]``."""
    from numpy.random import SeedSequence, default_rng  # noqa: PLC0415  # nodes may lack it

    return default_rng(SeedSequence(seed, spawn_key=(row,)))


def seed_row(seed: int, row: int) -> None:
    """Set the state of `random` and NumPy's legacy state to the row's own."""
    import random  # noqa: PLC0415  # only where a seed was given

    number = row_seed(seed, row)
    random.seed(number)
    numpy_random = _numpy_random()
    if numpy_random is not None:
        numpy_random.seed(number)


@functools.cache
def _numpy_random() -> Any:
    """Give ``numpy.random``, None where there is none.

    It is imported even if nobody has done so yet. A function that imports NumPy inside a row
    would find a state drawn at random there, and its first row in each worker could not be
    repeated. This costs 0.1 s once in a worker, and only where the user gave a seed.
    """
    try:
        import numpy.random  # noqa: PLC0415  # see above
    except Exception:  # noqa: BLE001  # absent or broken: then no row can use it either
        return None
    return numpy.random


@contextlib.contextmanager
def kept_random_state(seed: Seed) -> Iterator[None]:
    """Put the session's own random state back after rows that were run in its process.

    Without a seed it is left alone: the rows draw from it as any call would, and a second run
    must not draw the same again.
    """
    if not seed.given:
        yield
        return
    import random  # noqa: PLC0415  # only where a seed was given

    numpy_random = _numpy_random()
    before = random.getstate()
    numpy_before = numpy_random.get_state() if numpy_random else None
    try:
        yield
    finally:
        random.setstate(before)
        if numpy_random:
            numpy_random.set_state(numpy_before)
