"""When a task takes no more rows because they fail: the rules."""

from __future__ import annotations

import pytest

from slurmapply.worker.brake import Brake, Tally, fault_number, tally_of
from slurmapply.worker.page import MIXED, Page

HERE = "NameError at f.py:1"


def page(*, failures: int = 0, text: str = HERE, ok: bool = False) -> Page:
    made = Page()
    made.any_ok = ok
    for _ in range(failures):
        made.note_failure(fault_number(text), text)
    return made


@pytest.mark.parametrize(("workers", "enough"), [(1, 20), (10, 20), (16, 32)])
def test_auto_waits_for_twenty_or_two_for_each_worker(workers: int, enough: int) -> None:
    brake = Brake("auto", workers)
    almost = [page(failures=enough // 2), page(failures=enough - enough // 2 - 1)]
    assert brake.watches(almost)
    assert brake.reason(almost) == ""
    almost[0].note_failure(fault_number(HERE), HERE)
    assert brake.reason(almost) == f"all {enough} rows that ended failed with {HERE}"


def test_auto_goes_on_after_one_row_that_is_ok() -> None:
    brake = Brake("auto", 1)
    pages = [page(failures=50), page(ok=True)]
    assert not brake.watches(pages)
    assert brake.reason(pages) == ""


@pytest.mark.parametrize("text", ["NameError at f.py:2", "ValueError at f.py:1"])
def test_auto_goes_on_where_failures_differ(text: str) -> None:
    brake = Brake("auto", 1)
    assert brake.reason([page(failures=30), page(failures=1, text=text)]) == ""
    mixed = page(failures=30)
    mixed.note_failure(fault_number(text), text)
    assert mixed.fault == MIXED
    assert brake.reason([mixed]) == ""


def test_what_the_dead_counted_is_not_forgotten() -> None:
    brake = Brake("auto", 1)
    for _ in range(19):
        brake.note(Tally(1, fault_number("SIGSEGV"), "SIGSEGV"))
    assert brake.reason([]) == ""
    brake.note(Tally(1, fault_number("SIGSEGV"), "SIGSEGV"))
    assert brake.reason([]) == "all 20 rows that ended failed with SIGSEGV"
    brake.note(tally_of(page(ok=True)))
    assert brake.reason([]) == ""


def test_a_number_counts_all_failures() -> None:
    brake = Brake(3, 8)
    pages = [page(failures=1, ok=True), page(failures=1, text="ValueError at g.py:9", ok=True)]
    assert brake.watches(pages)
    assert brake.reason(pages) == ""
    brake.note(Tally(1, fault_number("exit_1"), "exit_1"))
    assert brake.reason(pages) == "3 rows failed (max_failures=3), the first with exit_1"


def test_none_never_stops() -> None:
    brake = Brake(None, 1)
    assert not brake.watches([page(failures=1000)])
    assert brake.reason([page(failures=1000)]) == ""


def test_a_long_text_is_cut_at_the_end_of_its_place() -> None:
    made = page(failures=1, text="é" * 5000)
    assert set(made.fault_text) <= {"é", "\ufffd"}
    assert len(made.fault_text) > 500
