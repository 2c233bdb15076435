"""Who works on which rows: claims of chunks, by files alone.

A task takes chunk c by giving its own token file the name ``claims/<c>.<generation>``. Once it has
a claim, that is its token. A claim is never stolen by a clock. It is followed by the next
generation in two cases only: the task that held it wrote ``stopping`` (then whoever comes first
goes on, rows that are still in its workers excepted until its ``end``), or the task's own next
life finds it.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from slurmapply import jobfolder
from slurmapply.disk import random_hex
from slurmapply.jobfolder import Life
from slurmapply.records import LifeView, latest_lives, read_lives, stopping_tasks
from slurmapply.worker.history import Past, histories, hopeless_rows
from slurmapply.worker.run import is_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurmapply.disk import Disk
    from slurmapply.survey import Survey
    from slurmapply.worker.run import Run


_NO_PAST: Mapping[int, Past] = MappingProxyType({})


class Claim(NamedTuple):
    """A chunk, or what is left of it, that this task works on.

    Attributes
    ----------
    chunk, generation
        The claim's name.
    positions
        Positions to run, ascending ranges.
    past
        What is known of earlier attempts of some of them in this run.
    """

    chunk: int
    generation: int
    positions: tuple[range, ...]
    past: Mapping[int, Past] = _NO_PAST


class _Waiting(NamedTuple):
    chunk: int
    generation: int
    positions: set[int]  # those that are left to wait for


class Claims:
    """The claims of one life of a task.

    Parameters
    ----------
    disk, run, life
        The job folder, the run, who claims.
    survey
        Outcomes of the run, to leave out rows that are settled.
    everything
        This task is alone and takes the chunks of all tasks (on one machine, without a Slurm).
    """

    def __init__(
        self, disk: Disk, run: Run, life: Life, survey: Survey, *, everything: bool = False
    ) -> None:
        self._disk = disk
        self._run = run
        self._life = life
        self._survey = survey
        self._everything = everything
        self._known: set[int] | None = None
        self._waiting: list[_Waiting] = []
        self._token = ""
        self._claimed = False
        self._unanswered: set[tuple[int, int]] = set()

    def take(self) -> Claim | None:
        """Claim the next chunk that has something to do, None when there is none now."""
        if is_sealed(self._disk, self._run.number):
            return None
        chunk = self._take_free()
        if chunk is not None:
            return Claim(chunk, 0, (self._run.plan.positions(chunk),))
        return self._take_again()

    @property
    def waiting(self) -> list[tuple[int, int]]:
        """Chunk and generation of claims with rows that are still in another task's workers."""
        return [(waiting.chunk, waiting.generation) for waiting in self._waiting]

    @property
    def inherited(self) -> list[tuple[int, int]]:
        """Chunk and generation of claims of this task's earlier lives that nobody took over yet.

        Only a next life may take them, so a life that stops has to give them up too.
        """
        return list(self._own_before(self._taken())) if self._life.life else []

    def take_released(self) -> Claim | None:
        """Give rows of held chunks that the tasks before have let go of, None when none yet."""
        if not self._waiting:
            return None
        lives = self._lives()
        blocked, hopeless = self._rows_in_workers(lives), hopeless_rows(lives)
        self._survey.update([self._run.number])
        for waiting in tuple(self._waiting):
            left = {p for p in waiting.positions if self._wanted(p, hopeless)}
            free = {p for p in left if self._run.rows[p] not in blocked}
            waiting.positions.intersection_update(left - free)
            if not waiting.positions:
                self._waiting.remove(waiting)
            if free:
                return self._claim(waiting.chunk, waiting.generation, free, lives)
        return None

    def _claim(
        self, chunk: int, generation: int, positions: Iterable[int], lives: list[LifeView]
    ) -> Claim:
        """Make a claim of rows that were claimed before, with what is known of them."""
        positions = list(positions)
        known = histories(lives)
        past = {p: known[self._run.rows[p]] for p in positions if self._run.rows[p] in known}
        return Claim(chunk, generation, tuple(ranges(positions)), past)

    def _wanted(self, position: int, hopeless: set[int]) -> bool:
        """Whether a row is to be run, by whoever holds it."""
        return not self._settled(position) and self._run.rows[position] not in hopeless

    def _settled(self, position: int) -> bool:
        return self._survey.outcomes.last_run(self._run.rows[position]) >= self._run.number

    def _mine(self, chunk: int) -> bool:
        return self._everything or not self._run.static or chunk == self._life.task

    def _take_free(self) -> int | None:
        """Link the own number first, then one of the lowest that nobody has."""
        own = self._life.task
        if self._known is None:
            self._known = set()
            if own < len(self._run.plan) and self._run.plan.positions(own) and self._link(own, 0):
                return own
        if not any(map(self._may_be_free, self._in_turn())):
            return None
        # Others have claimed since the last look: a listing takes less than a race that is lost.
        self._known |= self._taken().keys()
        for chunk in self._in_turn():
            if self._may_be_free(chunk):
                if self._link(chunk, 0):
                    return chunk
                self._known |= self._taken().keys()
        return None

    def _may_be_free(self, chunk: int) -> bool:
        """Whether this task may take a chunk, of which it knows no claim."""
        known = self._known or ()
        return chunk not in known and self._mine(chunk) and bool(self._run.plan.positions(chunk))

    def _in_turn(self) -> Iterator[int]:
        """Give all chunks, round by round; in each, this task's own comes first.

        A round is one chunk for each task, and those of a round are about alike. If all tasks
        went for the lowest that is free, all but one would lose at each step.
        """
        chunks, tasks = len(self._run.plan), self._run.tasks
        for first in range(0, chunks, tasks):
            size = min(tasks, chunks - first)
            yield from (first + (self._life.task + step) % size for step in range(size))

    def _taken(self) -> dict[int, int]:
        """List the claims once: the latest generation of each chunk."""
        latest: dict[int, int] = {}
        for name in self._disk.names(jobfolder.claims(self._run.number)):
            claim = jobfolder.parse_claim(name)
            # What may be our own is linked once more: then its content tells whose it is.
            if claim is not None and claim not in self._unanswered:
                latest[claim[0]] = max(latest.get(claim[0], 0), claim[1])
        return latest

    def _link(self, chunk: int, generation: int) -> bool:
        name = jobfolder.claim(self._run.number, chunk, generation)
        if not self._token:
            self._token = self._make_token()
        self._unanswered.add((chunk, generation))
        won = self._disk.link(self._token, name)
        if won and not self._claimed:
            token, self._token, self._claimed = self._token, name, True
            self._disk.forget(token, name)
        self._unanswered.remove((chunk, generation))
        if self._known is not None:
            self._known.add(chunk)
        return won

    def _make_token(self) -> str:
        token = self._life.token(self._run.number)
        content = {"life": self._life, "random": random_hex()}
        self._disk.append(token, json.dumps(content).encode())
        return token

    def _take_again(self) -> Claim | None:
        """Go on with a chunk that its task gave up, or that an earlier life of this one held."""
        lives = self._lives()
        if not lives and not self._life.life:
            return None
        taken = self._taken()
        hopeless = hopeless_rows(lives)
        given_up = set(self._given_up(lives)) | set(self._own_before(taken))
        for chunk, generation in sorted(given_up):
            if taken.get(chunk) != generation or not self._mine(chunk):
                continue
            self._survey.update([self._run.number])
            left = [p for p in self._run.plan.positions(chunk) if self._wanted(p, hopeless)]
            if left and self._link(chunk, generation + 1):
                blocked = self._rows_in_workers(lives)
                waiting = {p for p in left if self._run.rows[p] in blocked}
                if waiting:
                    self._waiting.append(_Waiting(chunk, generation + 1, waiting))
                free = [p for p in left if p not in waiting]
                if free:
                    return self._claim(chunk, generation + 1, free, lives)
        return None

    def _lives(self) -> list[LifeView]:
        """Read the records of tasks that stop early and of this one's own past.

        All tasks look for more rows at a run's end: if each read the records of all, a thousand
        tasks would open a million files.
        """
        tasks = stopping_tasks(self._disk, self._run.number)
        if self._life.life:
            tasks.add(self._life.task)
        return read_lives(self._disk, self._run.number, tasks) if tasks else []

    def _given_up(self, lives: Iterable[LifeView]) -> Iterator[tuple[int, int]]:
        for view in lives:
            if view.life != self._life:
                yield from view.held

    def owned(self) -> list[tuple[int, int]]:
        """Read from the disk which claims this very life holds, also some that it does not know of.

        The reply to a claim may be lost with the process that made it.
        """
        owners = self._owners(self._taken())
        return [claim for claim, owner in owners if owner == self._life]

    def _own_before(self, taken: dict[int, int]) -> Iterator[tuple[int, int]]:
        """Claims of this task's earlier lives: they are over, as Slurm started this one later."""
        if self._life.life:
            for claim, owner in self._owners(taken):
                if owner[:2] == self._life[:2] and owner.life < self._life.life:
                    yield claim

    def _owners(self, taken: dict[int, int]) -> Iterator[tuple[tuple[int, int], Life]]:
        for chunk, generation in taken.items():
            name = jobfolder.claim(self._run.number, chunk, generation)
            token = json.loads(self._disk.read(name) or b"{}")
            yield (chunk, generation), Life(*token.get("life", ("", -1, -1)))

    def _rows_in_workers(self, lives: Iterable[LifeView]) -> set[int]:
        """Rows that still run in tasks that are stopping; those of this task's past are free."""
        blocked: set[int] = set()
        for view in latest_lives(lives):
            if view.life[:2] != self._life[:2]:
                blocked.update(view.in_workers)
        return blocked


def ranges(positions: Iterable[int]) -> Iterator[range]:
    """Join positions to ascending ranges.

    Examples
    --------
    >>> list(ranges([3, 1, 2, 7]))
    [range(1, 4), range(7, 8)]
    """
    start = stop = None
    for position in sorted(positions):
        if stop is not None and position == stop:
            stop = position + 1
            continue
        if start is not None and stop is not None:
            yield range(start, stop)
        start, stop = position, position + 1
    if start is not None and stop is not None:
        yield range(start, stop)
