"""What becomes of a row whose worker died: the rules, case by case."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from slurmapply.jobfolder import Life
from slurmapply.records import LifeView
from slurmapply.states import RowStatus
from slurmapply.worker.history import NEW, Death, Past, histories, hopeless_rows, judge

KILLED = Death(signal.SIGKILL)
OUT_OF_MEMORY = Death(signal.SIGKILL, memory=True)
LIFE = Life("77", 0, 0)


def verdict(death: Death, past: Past = NEW, retries: int = 0, memory: str = "") -> tuple[Any, ...]:
    found = judge(death, past, retries, memory, 60.0)
    return found.status, found.cause, found.past, found.failure


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (signal.SIGSEGV, "SIGSEGV"),
        (signal.SIGABRT | 0x80, "SIGABRT"),  # with a core file
        (40, "signal_40"),
        (0, "exit_0"),
        (3 << 8, "exit_3"),
    ],
)
def test_a_death_has_a_name(status: int, name: str) -> None:
    assert Death(status).name == name
    assert verdict(Death(status)) == (RowStatus.CRASHED, name, Past(failures=1), True)


def test_a_kill_from_outside_is_tried_once_more() -> None:
    assert verdict(KILLED) == (None, "SIGKILL", Past(killed=True), False)
    again = Past(attempts=2, killed=True)
    assert verdict(KILLED, again)[:2] == (RowStatus.CRASHED, "SIGKILL")
    assert judge(KILLED, again, 0, "", None).message.endswith("as when it was tried before)")


def test_a_kill_by_its_own_hand_is_final() -> None:
    death = Death(signal.SIGKILL, own_hand=True)
    assert verdict(death)[:2] == (RowStatus.CRASHED, "SIGKILL")
    assert "killed itself" in judge(death, NEW, 0, "", None).message


def test_a_kill_for_memory_is_tried_once_more_whatever_was_before() -> None:
    for past in (NEW, Past(killed=True), Past(attempts=3, failures=2)):
        expected = None, "out_of_memory", past._replace(memory=True), False
        assert verdict(OUT_OF_MEMORY, past) == expected
    sizes = "limit 150 MB, peak 149 MB"
    found = judge(OUT_OF_MEMORY, Past(attempts=2, memory=True), 0, sizes, None)
    assert found.status is RowStatus.OUT_OF_MEMORY
    assert found.message == f"ran out of memory ({sizes}), also when it was tried alone"
    # Where nothing is known of the limit, nothing is said of it.
    assert judge(OUT_OF_MEMORY, NEW, 0, "", None).message == "ran out of memory"


def test_only_a_sigkill_is_for_memory() -> None:
    assert verdict(Death(signal.SIGSEGV, memory=True))[:2] == (RowStatus.CRASHED, "SIGSEGV")


def test_a_row_that_took_too_long_is_no_kill_from_outside() -> None:
    death = Death(signal.SIGKILL, timeout=True)
    found = judge(death, NEW, 0, "", 90.0)
    assert (found.status, found.cause) == (RowStatus.ROW_TIMEOUT, "row_timeout")
    assert found.message == "was stopped after 90 s (row_timeout)"


@pytest.mark.parametrize(
    "death",
    [
        Death(signal.SIGSEGV),
        Death(1 << 8),
        Death(signal.SIGKILL, timeout=True),
        Death(signal.SIGKILL, own_hand=True),
    ],
)
def test_retries_are_for_what_a_row_did_to_itself(death: Death) -> None:
    past, tried = NEW, 0
    while (found := judge(death, past, 2, "", 1.0)).status is None:
        past, tried = found.past, tried + 1
        assert found.failure
    assert (tried, found.past.failures) == (2, 3)


def test_kills_from_outside_do_not_use_retries_up() -> None:
    past = judge(KILLED, NEW, 1, "", None).past
    past = judge(OUT_OF_MEMORY, past, 1, "", None).past
    assert past == Past(killed=True, memory=True)
    assert verdict(KILLED, past, retries=1)[0] is None, "the one retry is still there"


def test_histories_join_what_all_lives_tell() -> None:
    first, second = LifeView(LIFE), LifeView(LIFE._replace(life=1))
    first.running = {4: {"attempt": 1}, 5: {"attempt": 2}}
    first.interrupted = [
        {"row": 1, "attempt": 1, "cause": "SIGKILL"},
        {"row": 2, "attempt": 1, "cause": "SIGSEGV", "failure": True},
        {"row": 3, "attempt": 1, "cause": "SIGKILL", "failure": True},
        {"row": 6, "attempt": 1, "cause": "stopped"},
    ]
    second.stopping = {"rows": [4], "attempts": [3]}
    second.interrupted = [
        {"row": 1, "attempt": 2, "cause": "out_of_memory"},
        {"row": 2, "attempt": 2, "cause": "exit_1", "failure": True},
    ]
    assert histories([first, second]) == {
        1: Past(2, killed=True, memory=True),
        2: Past(2, failures=2),
        3: Past(1, failures=1),  # its own hand: a kill from outside is still free
        4: Past(3),
        5: Past(2),
        6: Past(1),
    }
    assert histories([]) == {}


def test_a_row_that_used_all_of_a_time_limit_is_hopeless() -> None:
    view = LifeView(LIFE)
    view.interrupted = [
        {"row": 1, "cause": "time_limit", "seconds": 95.0, "limit": 100.0},
        {"row": 2, "cause": "time_limit", "seconds": 50.0, "limit": 100.0},
        {"row": 3, "cause": "stopped", "seconds": 99.0, "limit": 100.0},
        {"row": 4, "cause": "SIGKILL", "seconds": 99.0},
    ]
    assert hopeless_rows([view]) == {1}
