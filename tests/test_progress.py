"""Waiting: a bar where somebody watches, nothing in a log file; Ctrl-C ends the waiting only."""

from __future__ import annotations

import io
import math
import sys
import time
from typing import Any

import pytest

from slurmapply import (
    InvalidArgumentError,
    JobState,
    SlurmJob,
    WaitTimeoutError,
    progress,
    slurm_apply,
)
from slurmapply.progress import Bar, check_timeout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar("tuning", 10)
    bar.show(lambda: {"ok": 3, "running": 2, "pending": 5})
    bar.show(lambda: {"ok": 5, "error": 2, "pending": 3})
    bar.close()
    return stream.getvalue()


def test_a_terminal_sees_a_bar_with_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), monkeypatch)
    assert "tuning:" in text
    assert "3/10" in text
    assert "7/10" in text
    assert "2 failed" in text


def test_a_log_file_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), monkeypatch) == ""


def test_a_quick_job_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar("quick", 1)
    bar.show(lambda: {"ok": 1})
    bar.close()
    assert stream.getvalue() == ""


def test_nothing_is_drawn_twice_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar("tuning", 10)
    bar.show(lambda: {"ok": 3})
    drawn = len(stream.getvalue())
    bar.show(lambda: {"ok": 3})
    assert len(stream.getvalue()) == drawn
    bar.close()


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_what_a_job_waits_for_is_said_with_and_without_a_bar(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_NO_BAR_BEFORE", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = Bar("tuning", 10)
    bar.show(lambda: {"pending": 10})
    bar.write("")
    bar.write("its tasks are held")
    bar.close()
    assert "its tasks are held\n" in stream.getvalue()
    assert stream.getvalue().count("\n") == (1 if stream.isatty() is False else 2)


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
