"""The command line on terminals of every kind: narrow, colourless, without UTF-8, gone."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slurmapply import JobState, JobStatus, RowStatus, SlurmJob, slurm_map
from slurmapply.cli.screen import counts_line, picture
from slurmapply.cli.tables import cells_wide
from slurmapply.cli.terminal import ConsoleText, LivePicture, Terminal, painted
from slurmapply.cli.watching import for_shells
from slurmapply.progressbar import segments
from tests.cli_fixtures import COMMAND, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurmapply.cli.screen import Line
    from tests.cli_fixtures import Screen

    OnScreen = Callable[..., Screen]

SGR = re.compile(r"\x1b\[[\d;:]*m")


def nap(x: int) -> int:
    time.sleep(0.15)
    if x == 1:
        raise ValueError("one is ill")
    return x


def held(x: int) -> int:
    """Half of twelve rows end at once, one of them badly; the others wait for a file."""
    time.sleep(0.02)
    if x == 1:
        raise ValueError("one is ill")
    while x > 5 and not os.path.exists("gate"):  # noqa: PTH110  # goes to the nodes by value
        time.sleep(0.02)
    return x


HALF_DONE = "5/12 ok"


def plain(line: Line) -> str:
    return painted(line, colour=False)


# -- the picture ---------------------------------------------------------------------------------

QUEUE = [
    {"job_id": "4711", "task": 3, "state": "PENDING", "reason": "Priority", "host": "",
     "explanation": "others go first\x1b[2J"},
]  # fmt: skip
statuses = st.builds(
    JobStatus,
    name=st.text(min_size=1, max_size=100),
    state=st.sampled_from(JobState),
    counts=st.dictionaries(st.sampled_from([each.value for each in RowStatus]),
                           st.integers(1, 10**9)),
    causes=st.dictionaries(st.text(max_size=30), st.integers(1, 10**6), max_size=8),
    queue=st.sampled_from([[], QUEUE, QUEUE * 9]),
    seconds_left=st.none() | st.floats(0.1, 1e6),
    note=st.text(max_size=200),
)  # fmt: skip


@given(status=statuses, width=st.integers(1, 200), height=st.integers(3, 50), unicode=st.booleans())
def test_no_line_is_wider_than_the_terminal(
    status: JobStatus, width: int, height: int, *, unicode: bool
) -> None:
    lines = picture(status, width, height, unicode=unicode)
    assert len(lines) < height
    for line in map(plain, lines):
        assert cells_wide(line) <= width
        assert line.isprintable()
        assert unicode or not re.search("[█▒▓░]", line)


@given(statuses)
@example(JobStatus("x", JobState.RUNNING, {"ok": 10**9, "error": 10**9}, seconds_left=1e6))
def test_forty_columns_have_failed_ok_and_time_left(status: JobStatus) -> None:
    line = plain(counts_line(status, 39))
    wanted = r"\S+ failed  \S+/\S+ ok" + (r"  \S+ (s|min|h) left" if status.seconds_left else "")
    assert re.match(wanted, line), line


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "12 failed  4000/10000 ok  12 min left  16 running  5972 pending"),
        (60, "12 failed  4000/10000 ok  12 min left  16 running"),
        (40, "12 failed  4000/10000 ok  12 min left"),
        (36, "12 failed  4k/10k ok  12 min left"),
        (20, "12 failed  4k/10k ok"),
        (15, "12 failed  4k/."),
    ],
)
def test_what_has_no_room_is_left_out(width: int, line: str) -> None:
    counts = {"ok": 4000, "error": 12, "running": 16, "pending": 5972}
    status = JobStatus("tuning", JobState.RUNNING, counts, seconds_left=720.0)
    assert plain(counts_line(status, width)) == line


def test_the_picture_in_full() -> None:
    counts = {"ok": 40, "error": 2, "running": 8, "pending": 50}
    causes = {"ValueError": 2}
    status = JobStatus("tuning", JobState.RUNNING, counts, causes, QUEUE, note="first\nsecond")
    assert [plain(line) for line in picture(status, 60, unicode=False)] == [
        "tuning  running  " + "#" * 15 + "x" + "=" * 3 + "." * 19 + "  42%",
        "2 failed  40/100 ok  8 running  50 pending",
        "  2 x ValueError",
        "  4711 task 3 PENDING (Priority): others go first\\x1b[2J",
        "first",
        "second",
    ]


def test_a_start_that_slurm_expects_comes_first() -> None:
    entry = {**QUEUE[0], "expected_start": 1000.0 + 600, "explanation": "job.cancel() ends it"}
    status = JobStatus("tuning", JobState.QUEUED, {"pending": 1}, queue=[entry], note="job.wait()")
    shown = for_shells(status, 1000.0)
    line = plain(picture(shown, 120)[2])
    assert re.search(r"\(Priority\): Slurm expects it to start about \S+ \(in 10 min\)\. ", line)
    assert line.endswith("slurmapply cancel tuning ends it")
    assert shown.note == "slurmapply watch tuning"


@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4), st.integers(5, 60))
def test_a_bar_is_full_and_shows_what_is_there(numbers: list[int], size: int) -> None:
    words = ("ok", "error", "running", "pending")
    status = JobStatus("x", JobState.RUNNING, dict(zip(words, numbers, strict=True)))
    parts = segments(status, size)
    assert sum(parts) == size
    assert all(part for part, number in zip(parts[1:3], numbers[1:3], strict=True) if number)


def test_a_narrower_terminal_is_drawn_over_whole() -> None:
    out = io.StringIO()
    drawing = LivePicture(out)
    wide = Terminal(79, 24, colour=False, unicode=True, live=True)
    drawing.draw([[("x" * 79, "")], [("short", "")]], wide)
    narrow = Terminal(39, 24, colour=False, unicode=True, live=True)
    drawing.draw([[("y", "")]], narrow)
    # 79 letters are two lines of 40 columns by now, and one more is below them.
    assert out.getvalue().endswith("short\n\x1b[3A\r\x1b[Jy\n")


# -- what jobs print -----------------------------------------------------------------------------


def test_a_jobs_output_keeps_colours_and_nothing_else() -> None:
    text = "a\x1b[31mred\x1b[0m\tb\r\nc\rd\x1b[2J\x1b[1A\x1b]0;title\x07\x1bc\x9b1A\x07e"
    fit = ConsoleText(colour=True)
    assert fit.feed(text) == "a\x1b[31mred\x1b[0m\tb\nc\nd\\x9b1A\\x07e\x1b[0m"
    assert ConsoleText(colour=False).feed(text) == "ared\tb\nc\nd\\x9b1A\\x07e"


@given(st.text("a\n\r\t\x1b[0;31mJ]\x07\x9bP\\"), st.lists(st.integers(0, 40)))
def test_output_in_pieces_is_as_harmless_as_at_once(text: str, cuts: list[int]) -> None:
    fit = ConsoleText(colour=True)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [fit.feed(text[a:b]) for a, b in itertools.pairwise(places)]
    shown = "".join([*pieces, fit.feed("", last=True)])
    rest = SGR.sub("", shown)
    assert not {letter for letter in rest if not letter.isprintable()} - {"\n", "\t"}


# -- real terminals ------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_watching_at_a_width(project: Path, screen: OnScreen, columns: int) -> None:
    slurm_map(held, range(12), job_name="rows_that_are_held", backend="local")
    shown = screen("watch", "rows_that_are_held", columns=columns)
    shown.wait_for(HALF_DONE)
    (project / "gate").touch()
    assert shown.end() == 1
    drawn, _, told = shown.seen.rpartition("\x1b[J")
    last, _, words = told.partition("1 x ")
    assert "row 1 raised ValueError: one is ill" in words
    for frame in drawn.split("\x1b[J"):
        for line in SGR.sub("", frame).splitlines():
            assert cells_wide(re.sub(r"\x1b\[\d+A", "", line)) < columns
    if columns >= 40:
        assert re.search(r"1 failed  \d+/12 ok  \d+ s left", SGR.sub("", drawn))
        assert "1 failed  11/12 ok" in SGR.sub("", last)
        assert "█" in drawn


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [({"NO_COLOR": "1"}, {"A", "J"}), ({"TERM": "dumb"}, set()), ({}, {"A", "J", "m"})],
)
def test_colours_and_drawing_only_where_they_are_wanted(
    project: Path, screen: OnScreen, environment: dict[str, str], allowed: set[str]
) -> None:
    slurm_map(held, range(12), job_name="rows")
    shown = screen("watch", "rows", **environment)
    shown.wait_for("rows is running" if environment.get("TERM") == "dumb" else HALF_DONE)
    (project / "gate").touch()
    assert shown.end() == 1
    assert set(re.findall(r"\x1b\[[\d;]*([A-Za-z])", shown.seen)) == allowed
    assert ("\x1b" in shown.seen) is bool(allowed)
    assert "11/12 ok" in shown.seen or "11 ok, 1 failed" in shown.seen


def test_a_resized_terminal(project: Path, screen: OnScreen) -> None:
    slurm_map(held, range(12), job_name="rows")
    shown = screen("watch", "rows", columns=100)
    shown.wait_for(HALF_DONE)
    shown.resize(40)
    shown.seen = ""
    for _ in range(2):  # what was being drawn, and a picture more
        shown.wait_for(HALF_DONE)
        shown.seen = shown.seen.partition(HALF_DONE)[2]
    (project / "gate").touch()
    shown.wait_for("11/12 ok")
    for line in SGR.sub("", shown.seen).partition("11/12 ok")[0].splitlines():
        assert cells_wide(re.sub(r"\x1b\[(\d+A|J)", "", line)) < 40


def test_ctrl_c_ends_the_watching_only(project: Path, screen: OnScreen) -> None:
    job = slurm_map(held, range(12), job_name="rows")
    shown = screen("watch", "rows")
    shown.wait_for(HALF_DONE)
    shown.type("\x03")
    assert shown.end() == 130
    assert "stopped watching rows; the job itself goes on (slurmapply cancel rows ends it)" in (
        shown.seen.replace("\r\n", "\n")
    )
    assert "Traceback" not in shown.seen
    (project / "gate").touch()
    assert job.wait().status().counts == {"ok": 11, "error": 1}


def test_ctrl_c_ends_the_waiting_of_run_only(project: Path, screen: OnScreen) -> None:
    (project / "held.py").write_text(
        "import os, time\n\ndef wait(x):\n    while not os.path.exists('gate'):\n"
        "        time.sleep(0.02)\n    return x\n"
    )
    shown = screen("run", "held.py:wait", "good.csv", "--name", "slow", "--wait")
    shown.wait_for("0/2 ok")
    shown.type("\x03")
    assert shown.end() == 130
    assert "the job itself goes on" in shown.seen
    assert "Traceback" not in shown.seen
    (project / "gate").touch()
    assert SlurmJob.open("slow").wait().status().ok


def test_ctrl_c_ends_the_following_only(project: Path, screen: OnScreen) -> None:
    def talk(_: int) -> None:
        print("talking", flush=True)
        while not os.path.exists("gate"):  # noqa: PTH110  # goes to the nodes by value
            time.sleep(0.02)

    job = slurm_map(talk, [1], job_name="talks")
    shown = screen("logs", "talks", "--follow")
    shown.wait_for("talking")
    shown.type("\x03")
    assert shown.end() == 130
    assert "stopped following talks; the job itself goes on" in shown.seen
    (project / "gate").touch()
    assert job.wait().status().ok


def test_a_log_file_is_told_little(project: Path) -> None:
    slurm_map(nap, range(20), job_name="naps")
    lines = run("watch", "naps").out.splitlines()
    assert len(lines) <= 4
    assert lines[-1] == "naps is finished. 20 rows: 19 ok, 1 failed (ValueError)"


def test_tables_fit_a_terminal_and_are_whole_in_a_pipe(project: Path, screen: OnScreen) -> None:
    slurm_map(lambda x: {"number": x, "text": "y" * 90}, range(100), backend="inline",
              job_name="long")  # fmt: skip
    shown = screen("results", "long", columns=40)
    assert shown.end() == 0
    assert max(map(len, shown.lines())) < 40
    assert "... 60 rows" in shown.lines()
    whole = run("results", "long").out.splitlines()
    assert len(whole) == 101
    assert whole[100].split() == ["99", "y" * 90]


@pytest.mark.parametrize("columns", [30, 40])
def test_listing_fits_a_narrow_terminal(project: Path, screen: OnScreen, columns: int) -> None:
    slurm_map(abs, [-1], job_name="a_name_of_some_length", backend="inline")
    shown = screen("ls", columns=columns)
    assert shown.end() == 0
    assert max(map(len, shown.lines())) < columns
    assert shown.lines()[0].split()[:2] == ["name", "state"]


def test_a_terminal_is_not_steered_by_logs(project: Path, screen: OnScreen) -> None:
    def steer(_: int) -> None:
        print("before\x1b[2J\x1b]0;owned\x07\x1b[32mgreen\x1b[0m after")

    slurm_map(steer, [0], job_name="evil").wait()
    shown = screen("logs", "--row", "0")
    assert shown.end() == 0
    assert shown.seen == "before\x1b[32mgreen\x1b[0m after\r\n\x1b[0m"
    shown = screen("logs", "--row", "0", NO_COLOR="1")
    shown.end()
    assert shown.seen == "beforegreen after\r\n"
    exact = subprocess.run([*COMMAND, "logs", "--row", "0"], capture_output=True, check=True)
    assert exact.stdout == b"before\x1b[2J\x1b]0;owned\x07\x1b[32mgreen\x1b[0m after\n"


def test_without_utf_8(project: Path, screen: OnScreen) -> None:
    slurm_map(lambda x: f"{x} é 深", ["ü"], job_name="letters", backend="inline")
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for verb in ("results", "status", "ls", "errors", "watch"):
        said = run(verb, *(["letters"] if verb != "ls" else []), **ascii_only)
        assert said.code == 0, said.err
        assert (said.out + said.err).isascii()
    assert r"\xfc \xe9 \u6df1" in run("results", "letters", **ascii_only).out
    shown = screen("watch", "letters", **ascii_only)
    assert shown.end() == 0
    assert "####" in shown.seen


def test_a_closed_pipe_ends_the_program_as_it_ends_others(project: Path) -> None:
    slurm_map(lambda x: f"{x:010000}", range(100), job_name="long", backend="inline")
    program = subprocess.Popen(
        [*COMMAND, "results", "long"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout
    assert program.stderr
    assert program.stdout.readline().strip() == b"result"
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait(30) == -signal.SIGPIPE
    program.stderr.close()


@pytest.mark.parametrize("arguments", [("ls",), ("--help",), ("run", "--help"), ("status",)])
def test_a_pipe_that_is_closed_from_the_start(project: Path, arguments: tuple[str, ...]) -> None:
    slurm_map(abs, [-1], job_name="one", backend="inline")
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode == -signal.SIGPIPE


def test_cleanup_asks_on_a_terminal(project: Path, screen: OnScreen) -> None:
    job = slurm_map(abs, [-1], job_name="one", backend="inline")
    shown = screen("cleanup", "one")
    shown.wait_for("[y/N]")
    assert "with 1 row: 1 ok?" in shown.seen
    shown.type("n\n")
    assert shown.end() == 5
    assert job.folder.exists()
    shown = screen("cleanup", "one")
    shown.wait_for("[y/N]")
    shown.type("y\n")
    assert shown.end() == 0
    assert not job.folder.exists()


# -- what is loaded ------------------------------------------------------------------------------

LOADED = """
import sys
from slurmapply.cli.program import main
try:
    main()
except SystemExit:
    pass
print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", ["--help", "ls", "status", "logs", "cancel one", "watch"])
def test_looking_loads_no_frames(project: Path, arguments: str) -> None:
    slurm_map(abs, [-1], job_name="one", backend="local").wait()
    said = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments.split()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(said.stderr.splitlines()[-1].split())
    assert "slurmapply" in loaded
    assert not loaded & {"pandas", "numpy", "narwhals", "rich", "tqdm", "pyarrow", "cloudpickle"}
