"""The crash matrix: what an end costs, by its kind and by its moment.

{segfault, sys.exit, os._exit, exception} at {loading the function, the call, pickling the result,
unpickling it in the session}.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import RowError, slurm_apply
from tests.faults.nodeside import causes, records, run, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ["segfault", "sys_exit", "os_exit", "exception"]
#: Cause of a row that ended so.
CAUSES = {
    "segfault": "SIGSEGV",
    "sys_exit": "SystemExit",
    "os_exit": "exit_7",
    "exception": "ValueError",
}
STATUS = {"segfault": "crashed", "sys_exit": "error", "os_exit": "crashed", "exception": "error"}


def ending(kind: str) -> Callable[..., Any]:
    """Give a function that ends its process, or tries to; it goes to the nodes as source."""

    def end(*spared: int) -> int:
        import ctypes

        if os.getpid() in spared:
            return 0
        if kind == "segfault":
            ctypes.string_at(0)
        if kind == "sys_exit":
            sys.exit(7)
        if kind == "os_exit":
            os._exit(7)
        raise ValueError("the end")

    return end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["unpickling", "initializer"])
def test_an_end_while_the_function_is_loaded_burns_no_row(kind: str, where: str) -> None:
    end, mine = ending(kind), os.getpid()

    def called(x: int, trap: Any = None) -> int:
        raise AssertionError

    if where == "initializer":
        job = run(called, 20, initializer=end, cpus_per_node=2)
    else:

        class Trap:
            def __reduce__(self) -> Any:
                return end, (mine,)  # the session may look whether it can be unpickled

        job = run(called, 20, more_args={"trap": Trap()}, cpus_per_node=2)
    (stopping,) = records(job, "stopping")
    assert stopping["reason"] == "load_failed"
    assert CAUSES[kind] in stopping["message"]
    assert stopping["rows"] == []
    assert statuses(job) == ["unfinished"] * 20
    assert job.status().completed
    assert records(job, "end")[0]["reason"] == "load_failed"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["call", "pickling"])
def test_an_end_in_a_row_costs_that_row_only(kind: str, where: str) -> None:
    end = ending(kind)

    def f(x: int) -> Any:
        if x == 2:
            return end() if where == "call" else Trap()
        return x

    class Trap:
        def __reduce__(self) -> Any:
            return end()

    job = run(f, 6, cpus_per_node=2)
    assert statuses(job) == ["ok", "ok", STATUS[kind], "ok", "ok", "ok"]
    assert causes(job)[2] == CAUSES[kind]
    assert job.results(errors="keep")[3:] == [3, 4, 5]
    assert records(job, "interrupted") == [], "it was not tried twice"


def spoilt(kind: str) -> Any:
    """Run a job of which row 2's result ends whoever unpickles it."""
    end = ending(kind)

    def f(x: int) -> Any:
        class Trap:
            def __reduce__(self) -> Any:
                return end, ()

        return Trap() if x == 2 else [x]

    return run(f, 4)


@pytest.mark.parametrize("kind", ["sys_exit", "exception"])
def test_what_is_raised_by_a_value_in_the_session_costs_that_row_only(kind: str) -> None:
    job = spoilt(kind)
    assert job.status().ok
    values = job.results(errors="keep")
    assert [*values[:2], values[3]] == [[0], [1], [3]]
    assert isinstance(values[2], RowError)
    assert (values[2].status, values[2].cause) == ("ok", "not_loaded")
    assert causes(job) == ["", "", "not_loaded", ""]
    with pytest.raises(RowError, match="row 2: its value cannot be loaded here"):
        job.results()
    with pytest.raises(RowError, match="row 2: its value cannot be loaded here"):
        job.result(2)


@pytest.mark.parametrize("kind", ["segfault", "os_exit"])
def test_a_value_that_ends_the_session_is_met_by_who_asks_for_it_only(kind: str) -> None:
    job = spoilt(kind)
    # None of these unpickles a result.
    assert job.status().counts == {"ok": 4}
    assert len(job.errors()) == 0
    assert repr(job)
    assert job.logs(row=2) == ""
    assert [job.result(row) for row in (0, 1, 3)] == [[0], [1], [3]]
    assert [job.row(row).value for row in (0, 1, 3)] == [[0], [1], [3]]
    program = f"from slurmapply import SlurmJob; SlurmJob({str(job.folder)!r}).results()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == (-signal.SIGSEGV if kind == "segfault" else 7)


def test_inline_an_exception_and_an_exit_cost_their_row_only() -> None:
    for kind in ("sys_exit", "exception"):
        end = ending(kind)

        def f(x: int, end: Any = end) -> Any:
            return end() if x == 1 else x

        job = slurm_apply(f, {"x": [0, 1, 2]}, backend="inline")
        assert statuses(job) == ["ok", "error", "ok"]
        assert causes(job)[1] == CAUSES[kind]
