"""What one measurement is: who computes which rows, where, and how they are cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    #: Calls a function once for each item, and gives the values in the order of the items.
    Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]

#: Styles in which a peer is used.
ROW, CHUNKS, BLOCK, PLAIN, COST = "a task per row", "by hand", "block", "", "cost="
SCATTERED = f"{CHUNKS}, scattered"


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes
    ----------
    line
        Of the table.
    peer, style
        Who, and in which way: a task per row, rows chunked by hand, ...
    work, rows
        What is computed: a name of `benchmarks.work.WORKS`, and how many rows of it.
    nodes, workers
        How many nodes, and workers on each.
    memory
        Megabytes for each worker.
    rounds
        How often it is measured.
    timeout
        Seconds after which it is given up.
    watched
        Whether memory and disk are sampled meanwhile, which takes time itself.
    toy
        Whether everything is small: to see that it works, not how fast.
    """

    line: str
    peer: str
    style: str
    work: str
    rows: int
    nodes: int = 4
    workers: int = 2
    memory: int = 400
    rounds: int = 3
    timeout: float = 120.0
    watched: bool = False
    toy: bool = False

    @property
    def contestant(self) -> str:
        """Name who and in which way, as the table does."""
        return f"{self.peer}, {self.style}" if self.style else self.peer

    @property
    def key(self) -> tuple[str, str, int]:
        """Tell measurements of the same thing from others."""
        return self.line, self.contestant, self.rows

    def to_json(self) -> str:
        """Give it as text, for the process that measures."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Read it back."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Place:
    """Where a peer's pool runs.

    Attributes
    ----------
    nodes, workers
        How many nodes, and workers on each.
    memory
        Megabytes for each worker.
    folder
        Where the peer may keep files.
    style
        In which way the peer is used.
    """

    nodes: int
    workers: int
    memory: int
    folder: Path
    style: str

    @property
    def all_workers(self) -> int:
        """Count the workers of all nodes."""
        return self.nodes * self.workers


def place_of(case: Case, folder: Path) -> Place:
    """Give the place of a measurement."""
    return Place(case.nodes, case.workers, case.memory, folder, case.style)
