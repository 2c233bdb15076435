"""Waiting: one line where somebody watches, nothing in a log file; Ctrl-C ends the waiting only."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

import slurmapply
from slurmapply import (
    InvalidArgumentError,
    JobState,
    JobStatus,
    SlurmJob,
    WaitTimeoutError,
    progress,
    slurm_apply,
)
from slurmapply.progress import Bar, check_timeout
from slurmapply.progressbar import ASCII, Style, draw, ending, rate, segments

SGR = re.compile(r"\x1b\[\d*m")
PLAIN = Style(ASCII, ())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def status(left: float | None = 17.0, state: Any = JobState.RUNNING, **counts: int) -> Any:
    return lambda: JobStatus("tuning", state, counts, seconds_left=left)


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(progress, "_REDRAW_AFTER", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(ok=3, running=2, pending=5))
    bar.show(status(ok=5, error=2, pending=3))
    bar.end(lambda: "the end")
    return stream.getvalue()


def test_a_terminal_sees_a_line_drawn_again_and_one_that_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(Terminal(), monkeypatch)
    assert "0 failed, 3/10 ok" in text
    assert "2 failed, 5/10 ok" in SGR.sub("", text)
    assert text.endswith(("\rthe end\n", "\x1b[Jthe end\n"))


def test_a_log_file_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), monkeypatch) == ""


def test_a_quick_job_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(ok=1))
    bar.end(lambda: "the end")
    assert stream.getvalue() == ""


def test_nothing_is_drawn_twice_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(ok=3, pending=4))
    drawn = len(stream.getvalue())
    bar.show(status(ok=3, pending=4))
    assert len(stream.getvalue()) == drawn
    bar.close()


def test_what_is_said_meanwhile_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(ok=3, pending=4))
    bar.write("all tasks are held")
    bar.show(status(ok=3, pending=4))
    bar.close()
    screen = Screen(80)
    screen.feed(stream.getvalue())
    assert screen.text() == "all tasks are held"


def test_a_terminal_that_went_away_ends_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(ok=3, pending=4))
    stream.close()
    bar.show(status(ok=4, pending=3))
    bar.close()


# -- the line ------------------------------------------------------------------------------------

COUNTS = [
    {"pending": 1},
    {"ok": 9},
    {"ok": 45, "error": 2, "running": 8, "pending": 45},
    {"ok": 999_999, "crashed": 1},
    {"ok": 123_456, "error": 654_321, "running": 99_999, "pending": 122_224},
    {"ok": 5, "unfinished": 3, "cancelled": 2, "out_of_memory": 1, "row_timeout": 1},
]


@pytest.mark.parametrize("style", [PLAIN, Style()], ids=["ascii", "colours"])
@pytest.mark.parametrize("counts", COUNTS)
def test_no_line_is_as_long_as_the_terminal_is_wide(counts: dict[str, int], style: Style) -> None:
    for width, left in itertools.product((1, 2, 20, 39, 40, 41, 60, 80, 200), (None, 0.4, 9e5)):
        line = SGR.sub("", draw(status(left, **counts)(), 3.0, width, style))
        assert len(line) < max(width, 2)
        assert "\n" not in line


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_failed_ok_and_time_left_stay_in_this_order(counts: dict[str, int], width: int) -> None:
    one = status(7000.0, **counts)()
    line = draw(one, 3.0, width, PLAIN)
    wanted = rf"{one.failed} failed,? {counts.get('ok', 0)}/{one.rows} ok,? 1.9 h"
    assert re.search(rf"(^|\s){wanted}", line), line


def test_a_long_or_foreign_name_harms_no_line() -> None:
    for name in ("n" * 300, "\x1b[31m\n", "\u4e2d" * 30):
        one = JobStatus(name, JobState.RUNNING, {"ok": 1, "pending": 5}, seconds_left=3.0)
        for width in (40, 80, 200):
            line = draw(one, 3.0, width, PLAIN)
            assert len(line) < width
            assert line.isascii()
            assert line.isprintable()


def test_a_job_that_does_not_run_says_so_in_place_of_the_time() -> None:
    said = [draw(status(None, state, pending=3)(), 1.0, 40, PLAIN) for state in JobState]
    assert "tuning 0 failed, 0/3 ok, queued" in said
    assert "tuning 0 failed, 0/3 ok, ? left" in said
    assert "0 failed, 0/3 ok, unknown" in " ".join(said)


def test_a_bar_shares_its_length_out() -> None:
    for counts in COUNTS:
        one = status(**counts)()
        for size in (10, 15, 50):
            parts = segments(one, size)
            assert sum(parts) == size
            assert min(parts) >= 0
            assert (parts[1] > 0) == (one.failed > 0)
            assert (parts[2] > 0) == (counts.get("running", 0) > 0)
    assert segments(JobStatus("none", JobState.FINISHED, {}), 10) == [0, 0, 0, 10]


def test_rates_are_rows_a_second_or_seconds_a_row() -> None:
    rates = [rate(status(left, ok=1, pending=10)()) for left in (0.1, 5.0, 20.0, 7200.0, None)]
    assert rates == ["100 rows/s", "2.0 rows/s", "2.0 s/row", "12 min/row", ""]
    assert rate(status(0.0, ok=1)()) == ""


def test_the_last_line_says_what_became_of_the_rows() -> None:
    assert ending(status(ok=1)(), 0.2) == "tuning: 1 row ok in 1 s"
    assert ending(status(ok=8, error=1)(), 90.0) == "tuning: 1 failed, 8/9 ok after 90 s"
    assert ending(status(unfinished=9)(), None) == "tuning: 0 failed, 0/9 ok, 9 unfinished"


# -- on terminals --------------------------------------------------------------------------------


class Screen:
    """What a terminal shows of what is written to it; it wraps and knows few escapes."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines = [""]
        self.column = 0
        self.wrapped: list[str] = []

    def feed(self, text: str) -> None:
        for piece in re.split(r"(\x1b\[\d*[A-Za-z]|[\r\n])", text):
            if piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.lines.append("")
            elif piece == "\x1b[J":
                self.lines[-1] = self.lines[-1][: self.column]
            elif piece.startswith("\x1b"):
                assert SGR.fullmatch(piece), piece
            elif piece:
                self._write(piece)

    def _write(self, piece: str) -> None:
        line = self.lines[-1].ljust(self.column)
        self.lines[-1] = line[: self.column] + piece + line[self.column + len(piece) :]
        self.column += len(piece)
        if len(self.lines[-1]) >= self.width:
            self.wrapped.append(self.lines[-1])

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


PROGRAM = """
import fcntl, os, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that a typed Ctrl-C reaches it

def row(x):
    import time
    time.sleep({seconds})
    return 1 // (x != 5)

from slurmapply import slurm_apply
sys.stdout = open(os.devnull, "w")  # the lines at submission are as long as they are
job = slurm_apply(row, {{"x": range(12)}}, job_name="tuning", backend="local", cpus_per_node=2)
try:
    job.wait()
except KeyboardInterrupt:
    os.write(2, b"interrupted\\n")
    job.cancel()
"""


def watched(width: int, typed: bytes = b"", **environment: str) -> tuple[str, Screen]:
    """Wait for a job on a terminal; gives what was written to it and what it shows in the end."""
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    source = str(Path(slurmapply.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(seconds=60 if typed else 0.2)],
        env=os.environ | {"PYTHONPATH": source, "TERM": "xterm"} | environment,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(ours, 65536):
            written += data
            if typed and b"ok" in data:
                os.write(ours, typed)
                typed = b""
    os.close(ours)
    assert process.wait(30) == 0, written
    text = written.decode()
    screen = Screen(width)
    screen.feed(text.replace("\r\n", "\n\r"))
    return text, screen


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_nothing_wraps_and_one_line_stays(width: int) -> None:
    text, screen = watched(width, NO_COLOR="")
    assert screen.wrapped == []
    assert re.fullmatch(r"tuning: 1 failed, 11/12 ok after \d+ s", screen.text())
    assert text.endswith("\n")
    assert "\x1b[31m1 failed\x1b[0m" in text


def test_a_terminal_without_colours_escapes_and_letters() -> None:
    text, screen = watched(60, TERM="dumb", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "\x1b" not in text
    assert text.isascii()
    assert "|#" in text
    assert screen.wrapped == []
    assert re.fullmatch(r"tuning: 1 failed, 11/12 ok after \d+ s", screen.text())


def test_colours_can_be_switched_off() -> None:
    text, _ = watched(80, NO_COLOR="1")
    assert not SGR.search(text)
    assert "█" in text


def test_ctrl_c_on_a_terminal_leaves_a_clean_line() -> None:
    text, screen = watched(80, typed=b"\x03")
    assert "^C" in text
    assert screen.text().splitlines() == [
        "stopped waiting for tuning; the job itself goes on (job.cancel() ends it)",
        "interrupted",
    ]


# -- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_what_a_job_waits_for_is_said_with_and_without_a_bar(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar()
    bar.show(status(pending=10))
    bar.write("")
    bar.write("its tasks are held")
    bar.close()
    assert "its tasks are held\n" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


class Clock:
    """Time passes in sleep only; each look takes 20 seconds of the processor."""

    def __init__(self) -> None:
        self.now, self.used = 100.0, 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def look(self, *, waiting: bool) -> JobState:
        assert waiting
        self.used += 20.0
        return JobState.RUNNING


def test_a_wait_rests_after_dear_looks_and_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    follower: Any = clock
    with pytest.raises(WaitTimeoutError, match="within 100 s; it is running"):
        list(progress.looks(follower, 100.0))
    assert clock.slept == [30.0, 30.0, 30.0, 10.0]


def sleeps(x: int) -> int:
    time.sleep(1.5)
    return x


def test_ctrl_c_ends_the_waiting_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = slurm_apply(sleeps, {"x": [1]}, job_name="kept", backend="local")
    real = time.sleep

    def interrupted(seconds: float) -> None:
        monkeypatch.setattr(time, "sleep", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert "the job itself goes on (job.cancel() ends it)" in capsys.readouterr().err
    assert SlurmJob.open("kept").results() == [1]


@pytest.mark.parametrize("timeout", [-1, math.nan, "10", True, [1]])
def test_a_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        check_timeout(timeout)


def test_a_timeout_is_a_timeout_error_and_names_the_job() -> None:
    job = slurm_apply(sleeps, {"x": [1]}, job_name="slow", backend="local")
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"job\.cancel") as caught:
        job.wait(timeout=0.1)
    assert time.monotonic() - begin < 1
    assert caught.value.job is job  # type: ignore[attr-defined]
    assert job.wait().status().ok
