"""The worker's loop over rows: what it notes of each, when it writes, and what it costs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmapply import SlurmJob, current_row, jobfolder, outcome, slurm_apply, slurm_map
from slurmapply.disk import FolderDisk, write_all
from slurmapply.jobfolder import Life
from slurmapply.outcome import KIND_FAILURE
from slurmapply.outcome_file import FileReader, Frame, Origin
from slurmapply.rows import RowNumbers
from slurmapply.seeds import seed_of
from slurmapply.worker import loop as loop_module
from slurmapply.worker import writing
from slurmapply.worker.evaluate import evaluate, failure_of
from slurmapply.worker.loop import RowLoop
from slurmapply.worker.page import NO_ROW, Page
from slurmapply.worker.process import Assignment, Session, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[1]


class Clocks:
    """The clocks of the loop, which only pass when a test says so."""

    def __init__(self) -> None:
        self.passed = 100.0
        self.cpu = 0.0
        self.perf_counter = lambda: self.passed
        self.process_time = lambda: self.cpu
        self.time = lambda: 1_000_000.0 + self.passed

    def work(self, seconds: float, cpu: float | None = None) -> None:
        self.passed += seconds
        self.cpu += seconds if cpu is None else cpu


class Lab:
    """A loop in this process, over a job that is made and not submitted."""

    def __init__(
        self, job: SlurmJob, rows: RowNumbers | None = None, *, interruptible: bool = False
    ) -> None:
        disk = FolderDisk(job.folder)
        content = jobfolder.read_job(disk)
        self.path = Path(job.folder, Life("0", 0, 0).outcomes(0, "0"))
        self.uuid = bytes.fromhex(content["uuid"])
        assignment = Assignment(
            disk,
            content["uuid"],
            rows or RowNumbers.first(content["rows"]),
            jobfolder.function_files(jobfolder.read_run(disk, 0)),
            self.path.relative_to(job.folder).as_posix(),
            Session(content["session"]["folder"], (), (), seed_of(content)),
        )
        self.page = Page()
        self.loop = RowLoop(
            assignment, *load(assignment), self.page, console=_quiet(), clear=lambda _: "",
            interruptible=interruptible,
        )  # fmt: skip
        LABS.append(self)

    def run(self, positions: range, tries: int = 0) -> int:
        return self.loop.run(positions, 1, tries)

    def frames(self) -> list[Frame]:
        with self.path.open("rb") as file:
            reader = FileReader(Origin(0, 0, 0, self.path.name), self.uuid)
            return list(reader.read(file, self.path.stat().st_size))

    def column(self, name: str) -> list[Any]:
        return [cell for frame in self.frames() for cell in frame.columns[name]]

    def values(self) -> list[Any]:
        with self.path.open("rb") as file:
            return [
                None if frame.columns["kind"][place] == KIND_FAILURE else values.value(place)
                for frame in self.frames()
                for values in [frame.load_values(file)]
                for place in range(len(frame))
            ]

    def causes(self) -> list[str]:
        return [frame.cause(place) for frame in self.frames() for place in range(len(frame))]


def _quiet() -> Any:
    """Stand in for a console that nobody prints to."""
    return SimpleNamespace(
        length=lambda: 0, begin=lambda _: None, end=lambda _, offset: offset, mend=lambda: None
    )


def lab(function: Callable[..., Any], columns: Any, rows: RowNumbers | None = None) -> Lab:
    return Lab(slurm_apply(function, columns, submit=False, backend="local"), rows)


@pytest.fixture(autouse=True)
def close_files() -> Iterator[None]:
    yield
    while LABS:
        LABS.pop().loop.close()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(loop_module, "time", made)
    monkeypatch.setattr(sys.modules[__name__], "CLOCKS", made)
    return made


# What the functions of this module find here; they go by name, so that it is not copied.
CLOCKS = Clocks()
LABS: list[Lab] = []
VALUES = [None, True, 7, -(2**63), 2**63, 1.5, float("inf"), "text", {"a": 1}, False, 0.0, 0]


def take(seconds: float, cpu: float) -> float:
    CLOCKS.work(seconds, cpu)
    return seconds


def value_at(place: int) -> Any:
    return VALUES[place]


def asks_to_stop(x: int) -> int:
    LABS[-1].page.stop = x == 3
    return x


def fails_at_first_and_asks_to_stop(x: int) -> int:
    LABS[-1].page.stop = True
    if current_row().attempt == 1:
        raise ValueError(x)
    return 10 * x


# -- what is written, and when


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [
        ([0.0006] * 60, [17, 17, 17, 9]),
        ([0.003] * 9, [4, 4, 1]),
        ([0.02] * 3, [1, 1, 1]),
        ([0.0001] * 5 + [0.02] + [0.0001] * 5, [6, 5]),
        ([0.0] * 50, [50]),
    ],
)
def test_rows_are_written_after_ten_milliseconds_of_work(
    seconds: list[float], sizes: list[int], clocks: Clocks
) -> None:
    made = lab(take, {"seconds": seconds, "cpu": seconds})
    assert made.run(range(len(seconds))) == len(seconds)
    assert [len(frame) for frame in made.frames()] == sizes
    assert made.column("row") == list(range(len(seconds)))
    assert made.column("seconds") == pytest.approx(seconds)
    begins = [100.0 + sum(seconds[:row]) for row in range(len(seconds))]
    assert made.column("start") == pytest.approx([1_000_000.0 + each for each in begins])
    assert clocks.passed == pytest.approx(100.0 + sum(seconds))


def test_cpu_seconds_are_shared_out_by_the_millisecond(clocks: Clocks) -> None:
    # Two long rows of their own, one of them asleep; then quick ones that are busy half the time.
    seconds = [0.004, 0.005] + [0.0002] * 10
    cpu = [0.004, 0.0] + [0.0001] * 10
    made = lab(take, {"seconds": seconds, "cpu": cpu})
    made.run(range(12))
    assert clocks.cpu == pytest.approx(sum(cpu))
    assert made.column("cpu") == pytest.approx(cpu, abs=1e-9)


def test_quick_rows_share_by_their_seconds(clocks: Clocks) -> None:
    seconds, cpu = [0.0001, 0.0003, 0.0007], [0.0, 0.0005, 0.00005]
    made = lab(take, {"seconds": seconds, "cpu": cpu})
    made.run(range(3))
    assert clocks.cpu == pytest.approx(0.00055)
    assert made.column("cpu") == pytest.approx([0.00005, 0.00015, 0.00035])


def test_what_passes_between_rows_is_no_rows_time(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_clear(_row: int) -> str:
        clocks.work(0.0002)
        return ""

    def slow_write(descriptor: int, frame: bytes) -> None:
        clocks.work(5.0)
        write_all(descriptor, frame)

    made = lab(take, {"seconds": [0.02, 0.0001, 0.0003], "cpu": [0.02, 0.0001, 0.0]})
    monkeypatch.setattr(made.loop, "_clear", slow_clear)
    monkeypatch.setattr(writing, "write_all", slow_write)
    made.run(range(3))
    assert made.column("seconds") == pytest.approx([0.02, 0.0001, 0.0003])
    assert made.column("cpu") == pytest.approx([0.02, 0.000025, 0.000075])
    assert made.column("start") == pytest.approx([1_000_100.0, 1_000_105.0202, 1_000_105.0205])


def test_rows_count_as_written_when_they_are_and_no_sooner(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def write(descriptor: int, frame: bytes) -> None:
        found.append(made.page.written)
        write_all(descriptor, frame)

    made = lab(take, {"seconds": [0.02] * 3, "cpu": [0.0] * 3})
    monkeypatch.setattr(writing, "write_all", write)
    made.run(range(3))
    assert found == [0, 1, 2]
    assert made.page.written == 3
    assert clocks.passed == pytest.approx(100.06)


def test_a_worker_gives_back_what_it_has_not_begun() -> None:
    made = lab(asks_to_stop, {"x": range(10)})
    assert made.run(range(10)) == 4
    assert made.page.written == 4
    assert made.page.row.position == NO_ROW
    assert made.column("row") == [0, 1, 2, 3]


def test_tries_are_the_failed_rows_own() -> None:
    def fails_at_first(x: int) -> int:
        if x in (2, 5) and current_row().attempt <= x // 2:
            raise ValueError(x)
        return 10 * x

    made = lab(fails_at_first, {"x": range(8)})
    assert made.run(range(8), tries=2) == 8
    assert made.column("row") == list(range(8))
    assert made.column("attempt") == [1, 1, 2, 1, 1, 3, 1, 1]
    assert made.values() == [10 * x for x in range(8)]
    assert made.page.failed == 0


def test_where_outcomes_cannot_be_written_no_row_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = lab(add, {"a": range(3), "b": range(3)})
    monkeypatch.setattr(made.loop, "_write", lambda: _refuse(OSError))
    with pytest.raises(OSError, match="unreadable"):
        made.run(range(3))
    assert current_row().number is None


def test_a_row_that_failed_is_tried_again_though_the_rest_is_to_be_given_back() -> None:
    made = lab(fails_at_first_and_asks_to_stop, {"x": range(4)})
    assert made.run(range(4), tries=1) == 1
    assert made.column("attempt") == [2]
    assert made.values() == [0]


def test_a_failed_row_stands_between_those_that_are_ok() -> None:
    made = lab(lambda x: 6 / x, {"x": [1, 0, 2, 3, 0, "a"]})
    assert made.run(range(6)) == 6
    assert made.causes() == ["", "ZeroDivisionError", "", "", "ZeroDivisionError", "TypeError"]
    assert made.values() == [6.0, None, 3.0, 2.0, None, None]
    assert (made.page.failed, made.page.any_ok, made.page.written) == (3, True, 6)


def test_on_probation_a_failed_row_is_the_last() -> None:
    made = lab(lambda x: 6 / x, {"x": [1, 0, 2]})
    made.page.probation = True
    assert made.run(range(3)) == 2
    assert made.column("row") == [0, 1]


def test_values_of_all_kinds_stand_beside_each_other() -> None:
    made = Lab(slurm_map(value_at, range(len(VALUES)), submit=False))
    made.run(range(len(VALUES)))
    found = made.values()
    assert found == VALUES
    assert list(map(type, found)) == list(map(type, VALUES))


def test_a_list_that_is_changed_afterwards_was_saved_before() -> None:
    kept: list[int] = []

    def grows(x: int) -> list[int]:
        kept.append(x)
        return kept

    made = lab(grows, {"x": range(4)})
    made.run(range(4))
    assert made.values() == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_a_failure_in_a_package_of_a_like_name_is_the_users() -> None:
    theirs = f"{Path(loop_module.__file__).parents[1]}_study/model.py"
    with pytest.raises(ZeroDivisionError) as caught:
        eval(compile("1 / 0", theirs, "eval"))  # noqa: S307  # a file that need not be there
    error = caught.value.with_traceback(caught.tb.tb_next)
    assert failure_of(error).place == f"{theirs}:1"


def test_rows_that_fail_in_more_ways_than_a_frame_can_name_keep_their_causes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(x: int) -> None:
        raise type(f"Error{x}", (Exception,), {})

    monkeypatch.setattr(loop_module, "WRITE_AFTER", 1e9)
    made = lab(fails, {"x": range(300)})
    made.run(range(300))
    assert made.causes() == [f"Error{x}" for x in range(300)]
    assert [len(frame) for frame in made.frames()] == [255, 45]


# -- an interrupt from the keyboard


def interrupting(line: int) -> Callable[..., Any]:
    """Make what raises KeyboardInterrupt at a line of the loop, counted (sys.settrace)."""
    left = line

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (loop_module.__file__, outcome.__file__):
            return None
        left -= event == "line"
        if not left:
            raise KeyboardInterrupt
        return trace

    return trace


def test_an_interrupt_at_any_line_leaves_whole_frames_of_right_values() -> None:
    def text(x: int) -> str:
        if x == 1:
            raise ValueError(x)
        return str(x) * x

    job = slurm_apply(text, {"x": range(4)}, submit=False, backend="local")
    right = [None if x == 1 else text(x) for x in range(4)]
    interrupted, line, rows = True, 0, []
    while interrupted:
        made, line = Lab(job, interruptible=True), line + 1
        before = sys.gettrace()
        sys.settrace(interrupting(line))
        try:
            made.run(range(4))
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        LABS.pop().loop.close()
        rows = made.column("row")
        assert rows == list(range(len(rows)))
        assert made.values() == right[: len(rows)]
        assert made.causes() == ["ValueError" if row == 1 else "" for row in rows]
    assert rows == list(range(4))
    assert line > 50, "the loop was traced"


class Interrupting:
    """A value whose pickling is interrupted."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_an_interrupt_while_a_value_is_saved_is_the_persons_where_one_is() -> None:
    def arguments() -> Iterator[Any]:
        return iter([((), {})])

    kind, failure = evaluate(Interrupting, arguments())
    assert (kind, failure.cause) == (KIND_FAILURE, "KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupting, arguments(), interruptible=True)


# -- arguments


class Unreadable:
    """Can be pickled, and not unpickled."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _refuse, (self.error,)


def _refuse(error: type[BaseException]) -> None:
    raise error("unreadable")


@pytest.mark.parametrize("error", [ValueError, StopIteration, KeyboardInterrupt])
def test_an_argument_that_cannot_be_read_shifts_no_others(error: type[BaseException]) -> None:
    cells = [[0], Unreadable(error), [2], Unreadable(error), Unreadable(error), [5]]
    made = lab(lambda x, y: (x, y), {"x": cells, "y": range(6)})
    assert made.run(range(6)) == 6
    assert made.column("row") == list(range(6))
    assert made.values() == [([0], 0), None, ([2], 2), None, None, ([5], 5)]


def test_a_function_that_raises_stop_iteration_shifts_no_others() -> None:
    made = lab(lambda x: next(iter([x] * (x % 2))), {"x": range(6)})
    made.run(range(6))
    assert made.values() == [None, 1, None, 3, None, 5]
    assert made.causes()[::2] == ["StopIteration"] * 3


def test_rows_across_blocks_and_gaps_get_their_own_arguments() -> None:
    numbers = [*range(4090, 4100), 17, *range(8000, 8200), 9999]
    rows = RowNumbers.of(numbers)
    made = lab(lambda b, a: a - b, {"a": range(10_000), "b": range(0, 30_000, 3)}, rows)
    assert made.run(range(5)) == 5
    assert made.run(range(5, len(rows))) == len(rows)
    assert made.column("row") == sorted(numbers)
    assert made.values() == [-2 * number for number in sorted(numbers)]


@given(st.lists(st.integers(0, 60), min_size=1), st.data())
def test_numbers_between_positions_are_those_at_each(numbers: list[int], data: Any) -> None:
    rows = RowNumbers.of(numbers)
    start = data.draw(st.integers(0, len(rows)))
    positions = range(start, data.draw(st.integers(start, len(rows))))
    found = [number for piece in rows.between(positions) for number in piece]
    assert found == [rows[position] for position in positions]


def seen(*positional: Any, **named: Any) -> Any:
    return positional, named


def with_default(b: int, a: int, c: int = 5) -> Any:
    return seen(b=b, a=a, c=c)


def by_name_only(*, a: int, b: int) -> Any:
    return seen(b=b, a=a, c=5)


def others_first(c: int, a: int, b: int) -> Any:
    return seen(b=b, a=a, c=c)


def rest(a: int, **others: int) -> Any:
    return seen(a=a, **others)


@functools.wraps(with_default)
def decorated(*positional: Any, **named: Any) -> Any:
    return seen(*positional, **named)


class Callables:
    def method(self, a: int, b: int) -> Any:
        return seen(b=b, a=a, c=5)

    def __call__(self, a: int, b: int) -> Any:
        return self.method(a, b)


@pytest.mark.parametrize(
    ("function", "more"),
    [
        (with_default, {}),
        (with_default, {"c": 5}),
        (by_name_only, {}),
        (others_first, {"c": 5}),
        (rest, {"c": 5}),
        (decorated, {"c": 5}),
        (Callables().method, {}),
        (Callables(), {}),
        (functools.partial(others_first, 5), {}),
        (functools.partial(with_default, c=5), {}),
    ],
)
def test_columns_reach_every_kind_of_function_by_their_names(
    function: Callable[..., Any], more: dict[str, Any]
) -> None:
    columns = {"a": range(3), "b": range(10, 13)}
    made = Lab(slurm_apply(function, columns, more_args=more, job_name="kind", submit=False))
    made.run(range(3))
    assert made.values() == [((), {"a": a, "b": a + 10, "c": 5}) for a in range(3)]


def test_an_items_function_takes_it_first_whatever_it_is() -> None:
    for function in (seen, functools.partial(seen), lambda *items, **more: (items, more)):
        made = Lab(slurm_map(function, [[1], 2], more_args={"c": 3}, submit=False))
        made.run(range(2))
        assert made.values() == [(([1],), {"c": 3}), ((2,), {"c": 3})]


# -- what rows print and leave, on this machine


def test_rows_within_a_millisecond_have_their_own_output() -> None:
    def prints(x: int) -> int:
        import ctypes
        import logging

        if x % 7 == 0:
            print("line", x)
        elif x % 7 == 1:
            print("no end", x, end="")
        elif x % 7 == 2:
            os.write(1, b"raw %d" % x)
        elif x % 7 == 3:
            sys.stdout.buffer.write(b"bytes %d" % x)
        elif x % 7 == 4:
            logging.getLogger("row").warning("logged %d", x)
        elif x % 7 == 5:
            libc = ctypes.CDLL(None)
            libc.dprintf(2, b"from C %d", x)
        return x

    said = ["line {}\n", "no end {}", "raw {}", "bytes {}", "logged {}\n", "from C {}"]
    job = slurm_apply(prints, {"x": range(700)}, backend="local", nodes=1, cpus_per_node=1).wait(60)
    expected = [said[x % 7].format(x) if x % 7 < 6 else "" for x in range(700)]
    assert [job.logs(row=x) for x in range(700)] == expected


def test_each_row_in_the_session_may_print_as_much_as_one_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slurmapply.worker.inline.ROW_LIMIT", 100)

    def prints(x: int) -> None:
        print("x" * x)

    job = slurm_apply(prints, {"x": [80, 80, 200, 80]}, backend="inline")
    logs = [job.logs(row=x) for x in range(4)]
    assert [logs[0], logs[1], logs[3]] == ["x" * 80 + "\n"] * 3
    assert logs[2].startswith("x" * 100 + "\n[slurmapply: row 2 printed more than")


def test_a_program_that_a_later_row_forgets_is_ended_with_that_row() -> None:
    def forgets(x: int) -> int:
        import builtins
        import subprocess

        if x == 0:
            builtins.kept = subprocess.Popen(["sleep", "100"])  # type: ignore[attr-defined]
        if x == 5:
            del builtins.kept  # type: ignore[attr-defined]
        return x

    job = slurm_apply(forgets, {"x": range(8)}, backend="local", nodes=1, cpus_per_node=1).wait(60)
    logs = [job.logs(row=x) for x in range(8)]
    assert "left sleep" in logs[5]
    assert [log for row, log in enumerate(logs) if row != 5] == [""] * 7


# -- what a quick row costs, counted


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing done by the clock, so that counts are the same on any machine."""
    monkeypatch.setattr(loop_module, "_LOOK_AFTER", 1e9)
    monkeypatch.setattr(loop_module, "WRITE_AFTER", 1e9)


def add(a: int, b: int) -> int:
    return a + b


def calls_of(made: Lab, positions: range) -> Counter[str]:
    """Count the calls of functions, Python's and C's, while rows are run."""
    found: Counter[str] = Counter()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            found[frame.f_code.co_name] += 1
        elif event == "c_call":
            found[argument.__name__] += 1

    sys.setprofile(note)
    try:
        made.run(positions)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.usefixtures("no_clock")
def test_a_quick_row_makes_few_calls() -> None:
    made = lab(add, {"a": range(4000), "b": range(4000)})
    made.run(range(1000))
    more = calls_of(made, range(1000, 3000)) - calls_of(made, range(3000, 4000))
    assert more["add"] == 1000, "one call of the function for each row more"
    assert sum(more.values()) < 14.5 * 1000, more.most_common()


QUICK_ROWS = """
import sys
sys.path.insert(0, {benchmarks!r})
import worker_loop
from pathlib import Path
from slurmapply.worker import loop
loop._LOOK_AFTER = loop.WRITE_AFTER = 1e9
made = worker_loop.worker_loop(Path({folder!r}))
made.run(range(int(sys.argv[1])), 1, 0)
made.close()
"""


def system_calls(program: str, rows: int) -> int:
    command = ["strace", "-f", "-c", "-o", "counted", sys.executable, "-c", program, str(rows)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    if not Path("counted").exists() or b"ptrace" in done.stderr:
        pytest.skip(f"STRACE MAY NOT TRACE HERE: {done.stderr.decode()}")
    assert done.returncode == 0, done.stderr.decode()
    total = Path("counted").read_text().splitlines()[-1].split()
    assert total[-1] == "total"
    return int(total[3])


@pytest.mark.skipif(not shutil.which("strace"), reason="STRACE IS NOT HERE")
def test_a_quick_row_makes_one_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'src'}:{REPOSITORY}")
    columns = {"a": range(6000), "b": range(6000)}
    counts = []
    for rows in (1000, 6000):
        job = slurm_apply(add, columns, submit=False, backend="local", job_name=f"counted_{rows}")
        folder, benchmarks = str(job.folder), str(REPOSITORY / "benchmarks")
        counts.append(system_calls(QUICK_ROWS.format(folder=folder, benchmarks=benchmarks), rows))
    # Where its console ends, and nothing else: the difference is that of 5000 rows more.
    assert 5000 <= counts[1] - counts[0] <= 1.05 * 5000
