"""What a row printed, by whatever way; at once, while it runs, and of which attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    InvalidArgumentError,
    JobState,
    RowStatus,
    SlurmApplyError,
    SlurmJob,
    consoles,
    current_row,
    slurm_apply,
    slurm_map,
)
from slurmapply.consoles import Consoles
from slurmapply.disk import FolderDisk
from slurmapply.jobfolder import Life
from slurmapply.records import LifeView

if TYPE_CHECKING:
    from collections.abc import Callable


def run(f: Callable[..., Any], rows: int, **keywords: Any) -> SlurmJob:
    """Begin a job whose rows follow each other in one worker."""
    settings: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1, "backend": "local"}
    return slurm_apply(f, {"x": range(rows)}, **(settings | keywords))


def quiet(x: int) -> int:
    return x


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something that comes."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# -- by whatever way -----------------------------------------------------------------------------


def test_each_row_has_what_c_code_printed_flushed_or_not() -> None:
    def prints(x: int) -> int:
        import ctypes

        libc = ctypes.CDLL(None)
        if x % 3 == 0:
            libc.printf(b"not flushed %d", x)
        elif x % 3 == 1:
            libc.puts(b"a line")
            libc.fflush(None)
        return x

    job = run(prints, 300).wait(60)
    expected = {0: "not flushed {}", 1: "a line\n", 2: ""}
    assert [job.logs(row=x) for x in range(300)] == [expected[x % 3].format(x) for x in range(300)]


def test_each_row_has_its_own_text_whatever_wrote_it() -> None:
    def prints(x: int) -> int:
        if x == 0:
            subprocess.run(["sh", "-c", "echo out; echo err >&2"], check=True)
        elif x == 1:
            from tqdm import tqdm

            for _ in tqdm(range(3), file=sys.stderr, desc="inner"):
                pass
        elif x == 2:
            warnings.warn("deprecated thing", stacklevel=1)
        elif x == 3:
            os.write(1, b"\xff\xfe\xc3")
        elif x == 4:
            os.write(1, b"\xa9 and \xc3\xa9")
        elif x == 5:
            print("\x00\x1b[31mred\r\nend", end="")
        elif x == 6:
            os.write(2, b"carriage\r")
        return x

    job = run(prints, 8).wait(60)
    logs = [job.logs(row=x) for x in range(8)]
    assert logs[0] == "out\nerr\n"
    assert logs[1].startswith("\rinner")
    assert logs[1].endswith("\n")
    assert "3/3" in logs[1]
    assert "UserWarning: deprecated thing" in logs[2]
    assert logs[3:] == ["\ufffd\ufffd\ufffd", "\ufffd and é", "\x00\x1b[31mred\r\nend",
                        "carriage\r", ""]  # fmt: skip


def test_a_thread_that_outlives_its_row_prints_into_the_row_that_runs_then() -> None:
    def prints(x: int) -> int:
        if x == 0:
            begun = threading.Event()

            def late() -> None:
                begun.set()
                time.sleep(0.3)
                print("late")

            threading.Thread(target=late).start()
            begun.wait()
            print("first")
        elif x == 2:
            time.sleep(0.8)
        return x

    job = run(prints, 4).wait(60)
    assert [job.logs(row=x) for x in range(4)] == ["first\n", "", "late\n", ""]


# -- of which attempt ----------------------------------------------------------------------------


def waits_for_a_file(x: int) -> int:
    print("begun", x)
    while not Path(f"go_{x}").exists():
        time.sleep(0.02)
    print("gone on", x)
    return x


def test_a_running_row_shows_what_it_printed_so_far() -> None:
    job = run(waits_for_a_file, 2)
    until(lambda: job.logs(row=0))
    assert job.logs(row=0) == "begun 0\n"
    assert job.logs(row=1) == ""
    Path("go_1").touch()
    Path("go_0").touch()
    job.wait(30)
    assert [job.logs(row=x) for x in range(2)] == ["begun 0\ngone on 0\n", "begun 1\ngone on 1\n"]


def test_a_row_that_was_cut_short_shows_what_it_printed() -> None:
    job = run(waits_for_a_file, 2)
    until(lambda: job.logs(row=0))
    job.cancel()
    job.wait(30)
    assert job.row(0).status == "cancelled"
    assert job.logs(row=0) == job.row(0).log == "begun 0\n"


def test_attempts_in_one_worker_stand_together() -> None:
    def fails_once(x: int) -> int:
        print("attempt", current_row().attempt)
        return 1 // (current_row().attempt - 1)

    lines = run(fails_once, 1, retries=1).wait(60).logs(row=0).splitlines()
    assert lines[0] == "attempt 1"
    assert "slurmapply: attempt 1 of row 0 failed, once more:" in lines
    assert lines[-1] == "attempt 2"


def killed_once(x: int) -> int:
    attempt = current_row().attempt
    print("attempt", attempt)
    if attempt == 1 and x == 0:
        until(lambda: Path("seen").exists())
        # By another process: what a row does to itself is its own.
        subprocess.run(["sh", "-c", f"kill -9 {os.getpid()}"], check=False)
    return x


def test_of_attempts_in_different_workers_the_one_that_counts_is_shown() -> None:
    Path("seen").touch()
    job = run(killed_once, 2).wait(60)
    assert [job.logs(row=x) for x in range(2)] == ["attempt 2\n", "attempt 1\n"]
    assert job.logs(task=0).count("attempt 1\n") == 2


def test_a_row_that_is_run_again_shows_its_new_attempt_once_it_runs() -> None:
    def first(x: int) -> int:
        print("the first run")
        raise ValueError(x)

    job = run(first, 1).wait(60)
    assert job.logs(row=0) == "the first run\n"
    job.retry(f=waits_for_a_file)
    until(lambda: job.logs(row=0) == "begun 0\n")
    Path("go_0").touch()
    job.wait(30)
    assert job.logs(row=0) == "begun 0\ngone on 0\n"


def test_rows_in_the_session_have_what_python_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def prints(x: int) -> None:
        print("row", x)
        print("error", x, file=sys.stderr)

    job = run(prints, 2, backend="inline")
    assert [job.logs(row=x) for x in range(2)] == ["row 0\nerror 0\n", "row 1\nerror 1\n"]
    assert "row 1" in capsys.readouterr().out


# -- as it comes ---------------------------------------------------------------------------------


def test_a_row_is_followed_while_it_runs_to_its_very_end() -> None:
    job = run(waits_for_a_file, 2)
    Path("go_1").touch()
    pieces = job.follow_logs(row=0)
    assert next(pieces) == "begun 0\n"
    Path("go_0").touch()
    assert "".join(pieces) == "gone on 0\n"
    assert "".join(job.follow_logs(row=1)) == job.logs(row=1) == "begun 1\ngone on 1\n"


def test_a_row_that_waits_is_waited_for_and_a_silent_one_ends() -> None:
    def late(x: int) -> int:
        if x == 0:
            time.sleep(1)
        elif x == 1:
            print("one")
        return x

    job = run(late, 3)
    assert [*job.follow_logs(row=1)] == ["one\n"]
    assert [*job.follow_logs(row=2)] == []


def test_who_follows_a_row_is_told_that_it_began_again() -> None:
    job = run(killed_once, 2)
    pieces = job.follow_logs(row=0)
    assert next(pieces) == "attempt 1\n"
    Path("seen").touch()
    assert "".join(pieces) == "\n[slurmapply: row 0 began again]\nattempt 2\n"


def test_a_row_that_is_to_run_again_is_followed_in_its_new_run() -> None:
    def first(x: int) -> int:
        print("old")
        return 1 // x

    job = run(first, 1).wait(60)
    job.retry(f=waits_for_a_file)
    Path("go_0").touch()
    assert "".join(job.follow_logs(row=0)) == "begun 0\ngone on 0\n"


def test_a_cancelled_row_ends_its_following() -> None:
    job = run(waits_for_a_file, 2)
    pieces = job.follow_logs(row=0)
    assert next(pieces) == "begun 0\n"
    job.cancel()
    assert [*pieces] == []
    assert [*job.follow_logs(row=0)] == ["begun 0\n"]


def test_a_task_is_followed_in_whole_lines() -> None:
    def prints(x: int) -> int:
        for part in ("a", "b", "c\n"):
            print(part, end="", flush=True)
            time.sleep(0.05)
        print("no end", x, end="")
        return x

    job = run(prints, 4, cpus_per_node=2)
    pieces = [*job.follow_logs(task=0)]
    assert "".join(pieces).count("abc\n") == 4
    assert sorted("".join(pieces)) == sorted(job.logs(task=0))
    everything = "".join(job.follow_logs())
    assert sorted(everything) == sorted(job.logs(task=0))


def test_bytes_of_one_letter_that_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def prints(x: int) -> None:
        print("é☃", x)

    job = run(prints, 1).wait(60)
    monkeypatch.setattr(consoles, "_PIECE", 1)
    assert "".join(job.follow_logs(row=0)) == "é☃ 0\n"
    assert "".join(job.follow_logs(task=0)) == "é☃ 0\n"


def test_a_flood_that_was_cut_is_followed_to_the_end() -> None:
    def floods(x: int) -> int:
        os.write(1, b"y" * (11 << 20))
        return x

    job = run(floods, 1).wait(60)
    text = "".join(job.follow_logs(row=0))
    assert text == job.logs(row=0)
    assert text.endswith("printed more than 10 MB; the rest was dropped]\n")


@pytest.mark.slurm
def test_tasks_of_a_slurm_job_are_told_apart() -> None:
    def prints(x: int) -> int:
        print("row", x)
        time.sleep(0.5)
        return x

    job = slurm_apply(prints, {"x": range(6)}, nodes=2, cpus_per_node=1, backend="slurm")
    text = "".join(job.follow_logs())
    assert text.startswith("==> task ")
    assert {"==> task 0 <==\n", "==> task 1 <==\n"} <= {*text.splitlines(keepends=True)}
    assert "".join(job.follow_logs(task=1)) == job.logs(task=1)
    rows = [line for line in text.splitlines() if line.startswith("row")]
    assert sorted(rows) == [f"row {x}" for x in range(6)]


class EndsMeanwhile:
    """A follower to whom a row runs until a second look, when it has ended."""

    def __init__(self) -> None:
        life = LifeView(Life("s", 0, 0))
        console = "run_0/console_0_0_0_aa.txt"
        life.running = {0: {"row": 0, "attempt": 1, "console": console, "log_offset": 0}}
        self.run = SimpleNamespace(number=0, latest=[life], lives=[life], submission=None)
        self.outcomes = self
        self.ended = False

    def look(self, *, ask: bool) -> None:
        assert not ask
        self.ended = True

    def last_run(self, _row: int) -> int:
        return 0 if self.ended else -1

    def row_status(self, _row: int, _state: JobState) -> RowStatus:
        return RowStatus.OK if self.ended else RowStatus.RUNNING

    def find(self, _row: int) -> Any:
        measures = SimpleNamespace(log_offset=0, log_length=4)
        origin = SimpleNamespace(file="run_0/outcomes_0_0_0_aa.rec")
        frame = SimpleNamespace(measures=lambda _index: measures, origin=origin)
        return (frame, 0) if self.ended else None


def test_a_row_that_ends_between_two_looks_shows_nothing_of_the_next() -> None:
    Path("run_0").mkdir()
    Path("run_0/console_0_0_0_aa.txt").write_text("mine" + "the next row's")
    follower: Any = EndsMeanwhile()
    assert Consoles(FolderDisk(Path.cwd()), follower).of_row(0) == "mine"
    follower = EndsMeanwhile()
    states = [JobState.RUNNING] * 3
    assert [*Consoles(FolderDisk(Path.cwd()), follower).follow_row(0, states)] == ["mine"]


def test_a_console_that_is_cut_while_it_is_followed_goes_on_from_its_new_end() -> None:
    console = Path("console.txt")
    tail = consoles._Tail(FolderDisk(Path.cwd()), "console.txt", 0)
    tail.look(None)
    assert [*tail.take(final=False)] == []
    console.write_text("y" * 10)
    tail.look(None)
    assert [*tail.take(final=False)] == ["y" * 10]
    console.write_text("yyyy")
    tail.look(None)
    assert [*tail.take(final=False)] == []
    console.write_text("yyyymore")
    tail.look(None)
    assert [*tail.take(final=True)] == ["more"]


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["logs", "follow_logs"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"row": 2}, "there is no row 2; asked has rows 0 to 1"),
        ({"row": -1}, "there is no row -1"),
        ({"row": "a"}, "a row's number is needed, not 'a'"),
        ({"task": 1}, "there is no task 1; asked has tasks 0 to 0"),
        ({"task": True}, "a task's number is needed, not True"),
        ({"task": "0"}, "a task's number is needed, not '0'"),
        ({"row": 0, "task": 0}, "one of the two is needed, not both"),
    ],
)
def test_outputs_that_there_are_none_of(method: str, asked: dict[str, Any], said: str) -> None:
    job = run(quiet, 2, job_name="asked", backend="inline")
    with pytest.raises(InvalidArgumentError, match=said):
        getattr(job, method)(**asked)


def test_a_job_without_rows_has_no_output() -> None:
    job = run(quiet, 0, job_name="none")
    assert job.logs() == {}
    assert [*job.follow_logs()] == []
    with pytest.raises(InvalidArgumentError, match="has no rows, and no tasks"):
        job.logs(task=0)


def test_a_job_that_was_never_submitted_is_not_followed() -> None:
    job = slurm_map(abs, [1], submit=False)
    with pytest.raises(SlurmApplyError, match="never submitted"):
        job.follow_logs()


def test_a_record_from_elsewhere_shows_no_other_file() -> None:
    job = run(waits_for_a_file, 1)
    until(lambda: job.logs(row=0))
    job.cancel()
    job.wait(30)
    Path("secret.txt").write_text("secret")
    (job.folder / "run_0/secret.txt").write_text("secret")
    (record,) = (job.folder / "run_0").glob("task_*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()]

    def shown(**changed: Any) -> str:
        new = [line | changed if line["record"] == "running" else line for line in lines]
        record.write_text("".join(json.dumps(line) + "\n" for line in new))
        return str(SlurmJob(job.folder).logs(row=0))

    interrupted = {"record": "interrupted", "seconds": 3.0, "cause": "time_limit"}
    assert shown() == shown(**interrupted) == "begun 0\n"
    for changed in (
        {"console": "../../secret.txt"}, {"console": "secret.txt"}, {"console": 7},
        {"log_offset": -1}, {"log_offset": "0"}, {"log_offset": None},
    ):  # fmt: skip
        assert shown(**changed) == shown(**interrupted, **changed) == "", changed
