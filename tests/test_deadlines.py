"""When a row is late, and when long: the rules, with a clock of the tests' own."""

from __future__ import annotations

import signal
import time
from typing import Any

from slurmapply.rows import RowNumbers
from slurmapply.worker.birth import DUMP
from slurmapply.worker.deadlines import Deadlines
from slurmapply.worker.longrows import LongRows
from slurmapply.worker.page import Page


class FakeWorker:
    """What the deadlines see of a worker."""

    def __init__(self) -> None:
        self.page = Page()
        self.busy = True
        self.late = 0.0
        self.pardon = (0.0, 0.0)
        self.got: list[int] = []
        self.named = 0.0
        self.outcomes = f"outcomes_{id(self)}.rec"

    def begin(self, now: float) -> None:
        self.page.enter(0, now)
        self.page.calling = True

    def signal(self, number: int) -> None:
        self.got.append(number)


def watched(row_timeout: float | None, until: float, **how: Any) -> list[tuple[float, int]]:
    """Watch a row every tenth of a second; gives when which signal came."""
    start = time.monotonic()
    worker, deadlines = FakeWorker(), Deadlines(row_timeout)
    worker.begin(start)
    came = []
    paused = how.get("suspended", (0.0, 0.0))
    for tick in range(round(until * 10)):
        now = start + tick / 10
        if paused[0] < tick / 10 < paused[1]:
            continue
        worker.busy, worker.page.calling = how.get("busy", True), how.get("calling", True)
        deadlines.enforce([worker], now)  # type: ignore[list-item]
        came += [(tick / 10, number) for number in worker.got]
        worker.got.clear()
    return came


def test_a_late_row_is_asked_where_it_is_and_then_ended() -> None:
    came = watched(2.0, 2.5)
    assert [number for _, number in came] == [DUMP] + [signal.SIGKILL] * (len(came) - 1)
    assert 2.0 <= came[0][0] <= 2.2
    assert 2.2 <= came[1][0] <= 2.4


def test_without_a_limit_nothing_is_late() -> None:
    assert watched(None, 100) == []


def test_a_row_in_time_an_idle_worker_and_a_disk_that_waits_are_left_alone() -> None:
    assert watched(10, 9.9) == []
    assert watched(1, 5, busy=False) == []
    assert watched(1, 5, calling=False) == []


def test_a_suspension_is_no_time_of_the_row() -> None:
    came = watched(3.0, 12, suspended=(1.0, 7.0))
    assert 8.9 <= came[0][0] <= 9.2


def test_a_short_hiccup_counts() -> None:
    came = watched(3.0, 4, suspended=(1.0, 2.5))
    assert 3.0 <= came[0][0] <= 3.2


def test_a_pardon_is_for_one_row() -> None:
    start = time.monotonic()
    worker, deadlines = FakeWorker(), Deadlines(1.0)
    worker.begin(start)
    deadlines.enforce([worker], start + 5)  # type: ignore[list-item]
    assert worker.got == []
    worker.begin(start + 5.5)
    for tick in range(12):
        deadlines.enforce([worker], start + 5.5 + tick / 10)  # type: ignore[list-item]
    assert worker.got == [DUMP]
    assert worker.page.late == worker.late == start + 5.5


class FakeClerk:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def ask(self, what: str, **fields: Any) -> None:
        self.asked.append((what, fields["outcomes"]))

    ask_once = ask


def test_what_each_long_row_prints_is_looked_at_every_second() -> None:
    start = time.monotonic()
    workers, clerk = [FakeWorker() for _ in range(3)], FakeClerk()
    long_rows = LongRows(RowNumbers.first(1))
    for worker in workers:
        worker.begin(start)
    for tick in range(60):
        long_rows.watch(workers, clerk, start + tick / 10)  # type: ignore[arg-type]
    for worker in workers:
        kinds = [what for what, outcomes in clerk.asked if outcomes == worker.outcomes]
        assert kinds[0] == "running"
        assert kinds[1:] == ["trim"] * (len(kinds) - 1)
        assert 3 <= len(kinds[1:]) <= 4
