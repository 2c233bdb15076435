"""Workers that the system does not let us start: how long a task goes on trying."""

from __future__ import annotations

import errno
import os
import selectors
import signal
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply.worker import crew as crew_module
from slurmapply.worker.casualty import Casualty
from slurmapply.worker.child import Worker
from slurmapply.worker.crew import Crew
from slurmapply.worker.history import NEW
from slurmapply.worker.page import Page
from slurmapply.worker.pool import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSAL = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class System:
    """Lets so many workers be started, and no more."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.asked = 0
        self.descriptors: list[int] = []

    def fork(self, number: int, _assignment: object, _foreign: object) -> Worker:
        self.asked += 1
        if number >= self.allowed:
            raise REFUSAL
        ends = [*os.pipe(), os.dup(1)]
        self.descriptors += ends
        return Worker(
            number, Page(), f"outcomes_{number}.rec", 10**9,
            groups=ends[1], reports=ends[0], trace=ends[2],
        )  # fmt: skip


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System(0)
    monkeypatch.setattr(crew_module, "fork_worker", made.fork)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


@pytest.fixture
def crew() -> Iterator[Crew]:
    def assignment(number: int) -> Any:
        return number

    with selectors.DefaultSelector() as selector:
        yield Crew(assignment, 4, selector)


def test_a_worker_killed_before_it_begins_loses_nothing_of_its_group(
    crew: Crew, system: System
) -> None:
    system.allowed = 1
    crew.fill_up(0.0, [])
    (worker,) = crew
    worker.page.written = 30  # its last group began there, and was given back whole
    worker.hand(Group(range(20, 40), NEW), 0, now=1.0)
    casualty = Casualty(worker, signal.SIGKILL)
    assert casualty.row is None
    assert casualty.written == 20


def test_all_are_started_at_once(crew: Crew, system: System) -> None:
    system.allowed = 4
    assert crew.fill_up(0.0, []) is None
    assert [worker.number for worker in crew] == [0, 1, 2, 3]
    assert crew.fill_up(0.1, []) is None
    assert system.asked == 4


def test_a_refusal_is_told_once_and_tried_again_every_second(crew: Crew, system: System) -> None:
    system.allowed = 2
    said = [crew.fill_up(now / 10, []) for now in range(1, 101)]
    assert [text for text in said if text] == [
        "only 2 of 4 workers could be started: [Errno 11] Resource temporarily unavailable"
    ]
    assert len(crew.workers) == 2
    assert system.asked == 2 + 10


def test_what_is_missing_is_started_when_the_system_lets_us(crew: Crew, system: System) -> None:
    system.allowed = 1
    assert crew.fill_up(0.0, [])
    system.allowed = 4
    assert crew.fill_up(2.0, []) is None
    assert [worker.number for worker in crew] == [0, 1, 2, 3]


def test_a_task_with_few_workers_is_never_given_up(crew: Crew, system: System) -> None:
    system.allowed = 1
    for now in range(1, 1000):
        crew.fill_up(float(now), [])
    assert len(crew.workers) == 1


def test_a_task_without_a_single_worker_is_given_up_after_half_a_minute(
    crew: Crew, system: System
) -> None:
    tried = []
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        for now in range(1, 100):
            tried.append(now)
            crew.fill_up(float(now), [])
    assert 30 <= tried[-1] <= 33
