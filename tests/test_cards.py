"""What notebooks show: escaped, short, and never at the price of an error or of a question."""

from __future__ import annotations

import json
import pickle
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    JobState,
    JobStatus,
    RowError,
    RowReport,
    RowsFailedError,
    SlurmJob,
    slurm_apply,
    slurm_map,
)
from slurmapply.cards import line_card, progress_card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPT = "<script>alert('x')</script>"
LIMIT = 20_000


class Page(HTMLParser):
    """Takes HTML apart: its elements, its text without the style sheet; all must be closed."""

    def __init__(self, html: str | None) -> None:
        super().__init__()
        assert html is not None
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data


def page_of(shown: Any) -> Page:
    page = Page(shown._repr_html_())
    assert set(page.elements) <= {
        "div", "style", "b", "i", "span", "ul", "li", "code", "pre", "table", "tr", "th", "td",
        "details", "summary",
    }  # fmt: skip
    assert page.attributes <= {"class", "style", "aria-hidden", "open"}
    return page


def words(page: Page) -> str:
    return " ".join(page.text.split())


def hostile(x: int) -> Any:
    print(SCRIPT, x)
    if x % 4 == 1:
        raise ValueError(f"{SCRIPT} \x1b[31m {x}")
    if x % 4 == 2:
        raise type(f"Odd{SCRIPT}", (Exception,), {})(x)
    return SCRIPT


def test_a_job_is_shown_with_its_causes_and_the_next_call() -> None:
    job = slurm_apply(hostile, {"x": range(8)}, job_name="hostile", backend="local").wait()
    page = page_of(job)
    said = words(page)
    assert said.startswith("hostile is finished: 8 rows: 4 ok, 4 failed (")
    assert "4 ok 4 error" in said
    assert f"2 x ValueError: row 1 raised ValueError: {SCRIPT} \\x1b[31m 1" in said
    assert f"2 x Odd{SCRIPT}: row 2 raised Odd{SCRIPT}: 2" in said
    assert "Next: job.errors() is a table of the rows that are not ok; job.retry() runs" in said
    assert str(job.folder) in said


def test_a_status_says_what_its_text_says() -> None:
    job = slurm_apply(hostile, {"x": range(8)}, job_name="hostile", backend="local").wait()
    said = words(page_of(job.status()))
    assert f"2 x ValueError: row 1 raised ValueError: {SCRIPT}" in said
    assert "job.retry()" in said


def test_the_tasks_of_a_status_and_its_note_are_shown() -> None:
    entry = {"job_id": "7", "task": 3, "state": "PENDING", "reason": "Priority", "host": ""}
    queue = [{**entry, "explanation": f"others <b>{SCRIPT}</b>"}] * 30
    status = JobStatus("q", JobState.QUEUED, {"pending": 30}, {}, queue, note=f"note {SCRIPT}")
    said = words(page_of(status))
    assert f"7 task 3: PENDING (Priority): others <b>{SCRIPT}</b>" in said
    assert said.count("PENDING") == 8
    assert "... and 22 more tasks" in said
    assert f"note {SCRIPT}" in said
    assert "Next: job.wait() waits for its end" in said


def test_a_row_is_shown_with_all_that_is_known() -> None:
    params = {"x": [1], SCRIPT: [SCRIPT]}
    job = slurm_apply(
        lambda **columns: hostile(columns["x"]), params, job_name="row", backend="local"
    )
    page = page_of(job.wait().row(0))
    said = words(page)
    assert said.startswith("row 0: error, ")
    assert f"{SCRIPT} {SCRIPT!r}" in said
    assert "Traceback (most recent call last):" in said
    assert f"ValueError: {SCRIPT} \\x1b[31m 1" in said
    assert f"what it printed {SCRIPT} 1" in said
    assert "Next: job.run_row(0) calls it here, for a debugger; job.retry([0]) runs it" in said


def test_a_row_that_is_ok_shows_its_value() -> None:
    job = slurm_map(lambda x: {"a": [x] * 100}, [1], job_name="fine", backend="local").wait()
    said = words(page_of(job.row(0)))
    assert "returned {'a': [1, 1, 1," in said
    assert "..." in said
    assert "Next" not in said
    assert "traceback" not in said


def report(**changed: Any) -> RowReport:
    fields: dict[str, Any] = {
        "number": 7, "status": "error", "cause": "ValueError", "parameters": {"x": 1},
        "value": None, "message": "", "traceback": "", "log": "", "seconds": 1.0,
        "cpu_seconds": 1.0, "peak_mb": 12.0, "host": "n1", "attempt": 2,
    }  # fmt: skip
    return RowReport(**(fields | changed))


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "changed",
    [
        {"traceback": "<&\"'>" * 100_000},
        {"traceback": "a line\n" * 100_000, "log": "b\n" * 5_000_000},
        {"log": "\x00\x1b]0;title\x07\ud800" * 5000},
        {"parameters": {f"p{n}": "'" * 10_000 for n in range(500)}},
        {"parameters": {"x" * 10_000: Rude()}},
        {"status": "ok", "cause": "", "value": {n: ["<" * 1000] * 1000 for n in range(100)}},
        {"status": "ok", "cause": "", "value": Rude()},
        {"sentence": "<" * 100_000, "host": "&" * 100_000},
        {"seconds": None, "cpu_seconds": None, "peak_mb": None, "host": "", "attempt": 0},
    ],
)  # fmt: skip
def test_no_row_makes_a_large_card_or_an_error(changed: dict[str, Any]) -> None:
    one = report(**changed)
    page_of(one)
    assert len(str(one._repr_html_())) < LIMIT


def test_the_text_of_a_row_is_bounded_too() -> None:
    one = report(log="b\n" * 5_000_000, traceback="a\n" * 10_000, parameters={"x": Rude()})
    text = str(one)
    assert repr(one) == text
    assert len(text) < LIMIT
    assert "... the last of 10000000 characters:" in text
    assert "x = <Rude instance at" in text
    ok = report(status="ok", cause="", value=[list(range(10_000))] * 1000)
    assert "returned [[0, 1, 2," in str(ok)
    assert len(str(ok)) < LIMIT


def test_the_last_of_a_long_traceback_is_shown() -> None:
    said = words(page_of(report(traceback="frame\n" * 10_000 + "ValueError: the end")))
    assert "ValueError: the end" in said
    assert "... the last of 60019 characters" in said


def test_a_million_rows_with_thousands_of_failures_make_a_small_card() -> None:
    causes = {f"Cause{n}{'&' * 100}": 10 for n in range(1000)}
    counts = {"ok": 900_000, "error": 10_000, "crashed": 5, "running": 10, "pending": 89_985}
    status = JobStatus(
        "n" * 5000, JobState.RUNNING, counts, causes, seconds_left=1e9, note="<" * 10_000,
        read_reasons=lambda: [f"10 x {cause}: {'<' * 5000}" for cause in causes],
    )  # fmt: skip
    page_of(status)
    assert len(str(status._repr_html_())) < LIMIT
    assert len(progress_card(status, 3.0)) < LIMIT
    assert len(line_card("<" * 100_000)) < LIMIT


def test_thousands_of_failures_of_a_job_make_a_small_card() -> None:
    def fails(x: int) -> None:
        raise type(f"Error{x % 50}", (Exception,), {})("<" * 1000)

    job = slurm_apply(
        fails, {"x": range(3000)}, job_name="all", backend="inline", max_failures=None
    )
    page = page_of(job)
    assert len(str(job._repr_html_())) < LIMIT
    assert words(page).count("60 x Error") == 8


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (JobStatus("a", JobState.PREPARED, {"pending": 1}), "job.submit() starts it"),
        (JobStatus("a", JobState.UNKNOWN, {"pending": 1}), "job.status() asks again"),
        (JobStatus("a", JobState.QUEUED, {"pending": 1}), "Next: job.wait()"),
        (JobStatus("a", JobState.RUNNING, {"error": 1, "running": 1}), "; job.wait()"),
        (JobStatus("a", JobState.FINISHED, {"ok": 1}), "job.table() has the results"),
        (JobStatus("a", JobState.CANCELLED, {"cancelled": 1}), "; job.retry() runs them"),
        (JobStatus("a", JobState.FINISHED, {}), "job.table()"),
    ],
)
def test_the_next_call_follows_from_the_state(status: JobStatus, wanted: str) -> None:
    assert wanted in words(page_of(status))


def test_a_card_never_raises_and_the_text_stands_in(tmp_path: Path) -> None:
    job = slurm_map(abs, [1], job_name="gone", backend="local").wait()
    status, row = job.status(), job.row(0)
    job.cleanup()
    assert job._repr_html_() is None
    assert "gone" in repr(job)
    page_of(row)
    page_of(status)

    def raises() -> list[str]:
        raise OSError("no disk")

    assert JobStatus("a", JobState.FINISHED, {"ok": 1}, read_reasons=raises)._repr_html_() is None


def test_a_job_that_waits_or_was_cut_short_is_shown_without_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("Slurm was asked")

    prepared = slurm_map(abs, [1, 2], job_name="prepared", submit=False)
    submission = {"kind": "slurm", "job_id": "1234", "tasks": 1, "options": {}}
    (prepared.folder / "run_0/submission").write_text(json.dumps(submission))
    cut_short = slurm_map(abs, [1, 2], job_name="cut", submit=False)
    (cut_short.folder / "run_0/submission").write_text(json.dumps(submission))
    (cut_short.folder / "run_0/cancelled").write_text("")
    task = {"record": "started", "time": 1.0, "host": "n1", "node": ""}
    end = {"record": "end", "reason": "SIGTERM", "files": {}}
    record = "".join(json.dumps(each) + "\n" for each in (task, end))
    (cut_short.folder / "run_0/task_1234_0_0.jsonl").write_text(record)
    monkeypatch.setattr("subprocess.Popen", asked)
    assert "prepared is queued" in words(page_of(SlurmJob(prepared.folder)))
    said = words(page_of(SlurmJob(cut_short.folder)))
    assert "2 cancelled" in said
    assert "job.retry()" in said


def test_colours_are_the_notebooks_own_or_follow_the_system() -> None:
    html = line_card("a")
    assert "var(--jp-content-font-color1," in html
    assert "prefers-color-scheme:dark" in html
    assert "http" not in html


# -- errors in a notebook ------------------------------------------------------------------------


def raised(act: Callable[[], Any], kind: type[BaseException]) -> Any:
    with pytest.raises(kind) as caught:
        act()
    return caught.value


def test_failed_rows_are_told_in_a_few_lines() -> None:
    job = slurm_apply(hostile, {"x": range(8)}, job_name="hostile", backend="local")
    error = raised(job.table, RowsFailedError)
    lines = error._render_traceback_()
    assert "act()" in lines[-6]
    assert lines[-5:-2] == [
        "",
        "RowsFailedError: 4 of 8 rows of hostile are not ok:",
        f"  2 x ValueError: {SCRIPT} \\x1b[31m 1 (first: row 1)",
    ]
    assert lines[-1].startswith("Look with job.errors() or job.row(1)")
    assert not any("slurmapply/job.py" in line for line in lines)
    assert " ".join(" ".join(lines).split()).count("rows of hostile are not ok") == 1
    again = pickle.loads(pickle.dumps(RowsFailedError("a: b", lines=["a:", "  b"])))
    assert again._render_traceback_() == ["", "RowsFailedError: a:", "  b"]


def test_a_rows_error_has_the_nodes_traceback() -> None:
    job = slurm_apply(hostile, {"x": [1]}, job_name="hostile", backend="local")
    error = raised(lambda: list(job.as_completed()), RowError)
    text = "\n".join(error._render_traceback_())
    assert "RowError: row 0 (x=1) raised ValueError" in text
    assert "in hostile" in text
    assert RowError("plain")._render_traceback_() == ["", "RowError: plain"]
