"""A job's report: what it says, what it keeps to itself, what it looks like in a real browser."""

from __future__ import annotations

import html
import itertools
import os
import re
import signal
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import pytest

from slurmapply import (
    InvalidArgumentError,
    SlurmApplyError,
    SlurmJob,
    jobfolder,
    slurm_apply,
    slurm_call,
    slurm_map,
)
from slurmapply.disk import FolderDisk
from slurmapply.durations import durations
from slurmapply.numeric import NumberColumn
from slurmapply.report import asked
from slurmapply.report.svg import durations_picture
from slurmapply.report.text import cut, shown
from slurmapply.resources import Resources
from slurmapply.states import STATUS_CODES, RowStatus
from tests import browser as browser_module

if TYPE_CHECKING:
    from tests.browser import Browser

pytest_plugins = ["pytester"]

VOID = {"meta", "link", "br", "hr", "img"}
HOSTILE = (
    "<script>document.title = 'taken'</script>\"'&<b>\x1b[31m\u202eevil\u0000</pre></table>"
    + "x" * 5000
)


class Page(HTMLParser):
    """A page taken apart; every tag must be closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text("utf-8")
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self._words.append(data)

    def rows(self) -> list[str]:
        """Give the text of each line of the last table."""
        body = self.source.rpartition("<tbody>")[2].partition("</tbody>")[0]
        plain = (re.sub(r"<[^>]+>", " ", line) for line in body.split("</tr>"))
        return [" ".join(html.unescape(line).split()) for line in plain][:-1]


def page_of(job: SlurmJob) -> Page:
    return Page(job.report(f"{job.name}.html", overwrite=True))


def shaky(x: int, mode: str) -> dict[str, Any]:
    print("at row", x, mode)
    if x % 5 == 3:
        raise ValueError(f"bad x {x}")
    return {"square": x**2, "name": f"n{x}"}


def table_of(rows: int) -> dict[str, list[Any]]:
    return {"x": [*range(rows)], "mode": ["fast"] * rows}


@pytest.fixture
def shaky_job() -> SlurmJob:
    return slurm_apply(shaky, table_of(12), job_name="shaky", backend="inline", seed=11)


# -- what it says --------------------------------------------------------------------------------


def test_a_report_says_what_was_asked_and_what_became_of_it(shaky_job: SlurmJob) -> None:
    page = page_of(shaky_job)
    for said in (
        "shaky finished", "12 rows: 10 ok, 2 failed (ValueError)", "10 ok 83.3 %", "2 error 16.7 %",
        "function shaky, once for each row of a table", "parameters x, mode", "11 (given)",
        "ValueError 2 rows: 3, 8", "row 3 raised ValueError: bad x 3: mend the function",
        "Traceback of row 3", 'raise ValueError(f"bad x {x}")', "What row 3 printed last",
        "at row 3 fast", str(shaky_job.job_id), str(shaky_job.folder),
        shaky_job.fingerprints["function"],
        f"pandas {pd.__version__}", "Python",
    ):  # fmt: skip
        assert said in page.text, said
    assert page.rows()[:3] == [
        line for line in page.rows() if line.startswith(("3 3 fast error", "8 8 fast error"))
    ] + [page.rows()[2]]
    assert re.fullmatch(r"0 0 fast ok 0 n0 \S+ [µm]?s", page.rows()[2])
    assert len(page.rows()) == 12


def test_it_is_one_page_that_asks_nothing_of_any_network(shaky_job: SlurmJob) -> None:
    page = page_of(shaky_job)
    assert not re.search(r"(?:https?:)?//\w", page.source.replace(str(shaky_job.folder), ""))
    assert "url(" not in page.source.replace("url(#queue-hatch)", "")
    assert "@import" not in page.source
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "video", "audio"}
    assert [attributes for tag, attributes in page.tags if tag == "link"] == [
        {"rel": "icon", "href": "data:,"}
    ]
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_it_can_be_read_by_those_who_hear_it(shaky_job: SlurmJob) -> None:
    page = page_of(shaky_job)
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.source.count("<table>") == page.source.count("<caption>") == 3
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert [each["role"] for each in pictures] == ["img", "img"]
    titles = {attributes.get("id") for tag, attributes in page.tags if tag == "title"}
    assert {each["aria-labelledby"] for each in pictures} <= titles
    bar = next(a for _, a in page.tags if a.get("class") == "bar")
    assert bar["aria-label"] == "10 ok, 2 error"


def test_all_that_is_the_users_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(text: str, **others: Any) -> NoReturn:
        print(text)
        raise RuntimeError(text)

    fails.__name__ = fails.__qualname__ = "<script>f</script>"
    name = "<i onclick='x'>"
    params = [{"text": HOSTILE, name: HOSTILE}, {"text": "ok", name: HOSTILE}]
    job = slurm_apply(fails, params, job_name="hostile", backend="inline")
    page = page_of(job)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "b", "i"} & set(tags)
    assert not [a for _, a in page.tags if any(key.startswith("on") for key in a)]
    assert "<script>document.title = 'taken'</script>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.source)
    assert r"\x1b[31m" in page.text
    assert len(page.source) < 200_000


def test_results_are_columns_where_they_have_fields_and_short_in_any_case() -> None:
    def different(item: int) -> Any:
        values = [
            np.zeros((3, 4)),
            "x" * 900,
            1 / 3,
            None,
            {"a": 1},
            b"\x00",
            pd.DataFrame({"a": [1]}),
        ]
        return values[item]

    job = slurm_map(different, range(7), backend="inline")
    lines = [line.split(" ok ", 1)[1].rsplit(" ", 2)[0] for line in page_of(job).rows()]
    assert lines[0] == "ndarray, 3 x 4"
    assert lines[1] == "x" * 120 + "..."
    assert lines[2:] == ["0.333333", "None", "a=1", r"b'\x00'", "DataFrame, 1 x 1"]


def test_a_value_that_is_large_or_cannot_be_shown_is_named() -> None:
    class Sly:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    job = slurm_map(lambda item: Sly() if item else bytes(50_000), [0, 1], backend="inline")
    large, sly = page_of(job).rows()
    assert "(0.05 MB)" in large
    assert "<Sly>" in sly


def test_the_function_is_shown_as_the_job_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import time\n\ndef waits(x):\n    time.sleep(0)  # <&\n    return x\n"
    path = tmp_path / "waiting.py"
    path.write_text(source)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, path, "exec"), names)  # noqa: S102
    job = slurm_map(names["waits"], [1], job_name="waiting", backend="inline")
    assert "time.sleep(0) # <&" in page_of(job).text
    path.write_text(source.replace("sleep(0)", "sleep(1)"))
    edited = page_of(SlurmJob.open("waiting")).text
    assert "sleep(" not in edited
    assert "function waits" in edited


def test_a_job_that_goes_on_has_a_report_of_this_moment(tmp_path: Path) -> None:
    def waits(item: int, until: str) -> int:
        while item and not Path(until).exists():
            time.sleep(0.01)
        return item

    stop = tmp_path / "stop"
    job = slurm_map(waits, range(6), backend="local", more_args={"until": str(stop)})
    while not job.status().counts.get("running"):
        time.sleep(0.05)
    page = page_of(job)
    stop.touch()
    assert "a look at a job that goes on: it was running" in page.text
    assert "s-running" in page.source
    assert [line for line in page.rows() if line.startswith("0 0 ok")]
    assert [line for line in page.rows() if re.match(r"\d \d running", line)]
    job.wait()
    assert "goes on" not in page_of(job).text


def test_jobs_without_rows_or_without_a_start_have_one_too() -> None:
    empty = slurm_map(abs, [], job_name="empty", backend="inline")
    assert "The job has no rows." in page_of(empty).text
    prepared = slurm_map(abs, [1, 2], job_name="later", submit=False)
    page = page_of(prepared)
    assert "2 rows: prepared, not submitted" in page.text
    assert "Nothing has run yet." in page.text
    assert "No row has ended yet." in page.text


def test_a_call_and_a_retry_are_told(shaky_job: SlurmJob) -> None:
    def mended(x: int, mode: str) -> dict[str, Any]:
        return {"square": x**2, "name": mode}

    shaky_job.retry(f=mended, row_timeout=9).wait()
    page = page_of(shaky_job)
    assert "12 rows: 12 ok" in page.text
    assert "went wrong" not in page.text
    assert "another function, row_timeout=9" in page.text
    assert len(shaky_job.job_ids) == 2
    assert all(job_id in page.text for job_id in shaky_job.job_ids)
    assert "run 0, task 0" in page.text
    assert "run 1, task 0" in page.text
    assert "the session itself, 1 row at a time" in page.text
    once = slurm_call(shaky, {"x": 1, "mode": "m"}, job_name="once", backend="inline")
    assert "shaky, once" in page_of(once).text


def test_whatever_was_asked_for_is_told() -> None:
    always = {"nodes", "cpus_per_node", "processes_per_node", "time", "mem"}
    where = {"python"}  # told with the versions
    plain = Resources().plain()
    assert {*asked.SELDOM} | always | where == {*plain}
    for name, default in asked.SELDOM.items():
        assert plain[name] == default
    job = slurm_map(
        abs, [-1], backend="inline", packages=("json",), setup="echo '<x>'", retries=2,
        slurm_options={"constraint": "big&fast"},
    )  # fmt: skip
    text = page_of(job).text
    for said in ("packages json", "setup echo '<x>'", "retries 2", "constraint=big&fast"):
        assert said in text
    assert "task_limit" not in text


def test_a_killed_row_has_its_cause_and_its_way_on() -> None:
    def dies(item: int) -> int:
        if item == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        return item

    page = page_of(slurm_map(dies, range(5), backend="local").wait())
    assert "Traceback of row 2" in page.text
    assert "printed last" not in page.text  # which was that traceback
    assert re.search(r"SIGSEGV 1 row: 2 row 2 crashed.*job.retry\(rows=\"crashed\"\)", page.text)
    assert "s-crashed" in page.source


def test_many_rows_are_a_short_page_with_the_failed_ones_first() -> None:
    def tiny(item: int) -> float:
        if item % 199 == 7:
            raise KeyError(item)
        return item / 2

    rows = 60_000
    job = slurm_map(tiny, range(rows), backend="local", max_failures=None).wait()
    page = page_of(job)
    assert len(page.source) < 300_000
    assert len(page.rows()) == 200
    assert [int(line.split()[0]) for line in page.rows()[:3]] == [7, 206, 405]
    assert page.rows()[-1].startswith("20 20 ok 10 ")
    assert "200 of 60,000 rows, those that are not ok first" in page.text
    assert "301 error" in page.text or "302 error" in page.text


def test_what_was_used_is_told_with_advice(shaky_job: SlurmJob) -> None:
    text = page_of(shaky_job).text
    usage = shaky_job.usage()
    assert usage.facts
    assert usage.missing
    for line in [*usage.facts, *usage.missing, *usage.advice]:
        assert line.partition(":")[2].strip() in text, line
    assert re.search(r"Asked for, and used \w.*\. Tasks run task host workers", text)
    assert re.search(r" elapsed busy cpu idle .*ended 0 0 \S+ 1 .* [\d.]+ [µm]?s \d+% .*done", text)


class Usage:
    """What `job.usage()` gives, as far as a report looks at it."""

    facts = ("queue: a task waited 3 s at most",)
    advice = ('you asked for 8 GB, the largest row used 0.6 GB: ask for less (mem="1G")',)
    missing = ("why task 3 waited",)
    tasks = pd.DataFrame({
        "task": [0, 1], "host": ["<b>node1", "node2"], "busy_seconds": [90.0, float("nan")],
        "idle_share": [0.25, 0.5], "peak_mb": [612.4, None], "ended": [None, None],
    })  # fmt: skip


def test_cells_of_tasks_have_units_and_what_is_not_known_is_left_out(
    shaky_job: SlurmJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmJob, "usage", lambda _: Usage())
    page = page_of(shaky_job)
    for said in (
        'You asked for 8 GB, the largest row used 0.6 GB: ask for less (mem="1G").',
        "Queue: a task waited 3 s at most. Not known: why task 3 waited.",
        "task host busy idle peak 0 <b>node1 90 s 25% 612 MB 1 node2 50%",
    ):
        assert said in page.text, said


def test_what_cannot_be_looked_at_is_said_and_costs_no_more(
    shaky_job: SlurmJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: SlurmJob) -> NoReturn:
        raise SlurmApplyError("the folder is not yours")

    monkeypatch.setattr(SlurmJob, "usage", refuses)
    text = page_of(shaky_job).text
    assert "Asked for, and used Not shown: the folder is not yours. Rows" in text


# -- what it keeps to itself ---------------------------------------------------------------------


class Trap:
    """Unpickling it leaves a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (self.path,)


def test_of_a_folder_that_others_could_write_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    job = slurm_map(lambda item: Trap(str(mark)) if item else 0.25, [0, 1], backend="inline")
    (job.folder / jobfolder.JOB).chmod(0o666)
    page = page_of(SlurmJob.open(job.folder))
    assert not mark.exists()
    assert "Parameters and results are not shown: " in page.text
    assert "chmod -R go-w" in page.text
    assert "2 rows: 2 ok" in page.text
    assert len(page.rows()) == 2
    assert not [line for line in page.rows() if "0.25" in line]
    page_of(SlurmJob.open(job.folder, trust=True))
    assert mark.exists()  # what trust=True is for


def test_a_value_that_cannot_be_loaded_here_is_said() -> None:
    class Gone:
        def __reduce__(self) -> tuple[Any, ...]:
            return int, ("no number",)

    (line,) = page_of(slurm_map(lambda _: Gone(), [0], backend="inline")).rows()
    assert "(cannot be loaded here)" in line


def test_a_damaged_file_costs_its_rows_alone(shaky_job: SlurmJob) -> None:
    for path in shaky_job.folder.glob("run_0/outcomes_*.rec"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 0xFF
        path.write_bytes(data)
    page = page_of(SlurmJob.open(shaky_job.folder))
    assert "is damaged" in page.text
    ok = [line for line in page.rows() if " fast ok " in line]
    assert f"12 rows: {len(ok)} ok" in page.text
    assert len(ok) < 10
    assert len(page.rows()) == 12


# -- where it goes -------------------------------------------------------------------------------


def test_no_file_is_replaced_unasked(shaky_job: SlurmJob) -> None:
    path = shaky_job.report()
    assert path == Path("report.html").absolute()
    Path("report.html").write_text("mine")
    with pytest.raises(InvalidArgumentError, match=r"report.html exists.*overwrite=True"):
        shaky_job.report()
    assert Path("report.html").read_text() == "mine"
    assert shaky_job.report("report.html", overwrite=True) == path
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert sorted(p.name for p in Path().iterdir() if p.is_file()) == ["report.html"]


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        (".", InvalidArgumentError, r"is a folder; name a file in it, as '.*report.html'"),
        (None, InvalidArgumentError, r"a path is needed.*not None"),
        ("missing/report.html", SlurmApplyError, r"could not be written to .*No such file"),
        ("report.html/report.html", SlurmApplyError, r"could not be written to .*Not a directory"),
    ],
)
def test_a_path_that_cannot_be_is_refused(
    shaky_job: SlurmJob, path: Any, error: type[Exception], said: str
) -> None:
    Path("report.html").write_text("mine")
    with pytest.raises(error, match=said):
        shaky_job.report(path)
    assert Path("report.html").read_text() == "mine"


def test_a_report_needs_no_matplotlib(shaky_job: SlurmJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert page_of(shaky_job).text


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "True"), (np.float64(2.5), "2.5"), (np.int64(3), "3"), ([1, 2], "[1, 2]"), ("", "''")],
)
def test_cells_are_shown_plainly(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_long_text_keeps_both_ends() -> None:
    text = cut("a" * 500 + "z" * 500, 200)
    assert text == "a" * 100 + " ... " + "z" * 100


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture
def full_page(shaky_job: SlurmJob) -> Path:
    """Give a report with all that a report can have: wide cells, several runs, causes, notes."""
    shaky_job.retry(nodes=2).wait()
    return shaky_job.report("full.html")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_it_fits_and_can_be_read(full_page: Path, browser: Browser, width: int, dark: bool) -> None:  # noqa: FBT001
    found = browser.measure(full_page, width=width, dark=dark)
    assert found["crossing"] == [], "labels of a picture"
    assert (found["width"], found["dark"]) == (width, dark)
    assert found["scroll"] <= width
    assert found["outside"] == []
    assert found["count"] > 150
    assert found["worst"]["ratio"] >= 4.5, found["worst"]
    assert found["headings"][0] == 1
    assert found["requests"] == []
    assert found["scripts"] == 1  # the one that measures
    assert [name for name, *_ in found["pictures"]] == ["timeline", "durations"]
    assert all(wide > 300 and high > 60 for _, wide, high in found["pictures"])
    assert {name for name, *_ in found["drawn"]} == {"s-ok", "s-error"}
    assert all(wide > 0 and high > 0 for _, wide, high in found["drawn"])
    assert 'raise ValueError(f"bad x {x}")' in found["text"]


def test_labels_of_a_histogram_stand_apart(browser: Browser, tmp_path: Path) -> None:
    ok = STATUS_CODES[RowStatus.OK]
    spans = [(0.1, 0.9), (1, 10), (0.05, 1.0), (3, 59), (1, 100), (300, 3600), (0.001, 5000)]
    columns = [NumberColumn(np.linspace(*span, 50), np.zeros(50, bool)) for span in spans]
    pictures = [durations_picture(durations(each, bytes([ok]) * 50))["svg"] for each in columns]
    page = tmp_path / "page.html"
    page.write_text(f"<html><body>{''.join(pictures)}</body></html>")
    found = browser.measure(page, width=900)
    assert found["crossing"] == []
    assert len(found["pictures"]) == len(spans)


def test_the_browser_has_nothing_to_complain_of(full_page: Path, browser: Browser) -> None:
    assert browser.complaints(full_page) == []
    full_page.write_text(
        full_page.read_text().replace("</body>", "<script>x</script><img src=//a.invalid></body>")
    )
    said = "\n".join(browser.complaints(full_page))
    assert "Content Security Policy" in said  # so that silence means something
    assert "a.invalid" in said


def test_hostile_text_does_not_widen_the_page_or_run(browser: Browser) -> None:
    def fails(text: str) -> NoReturn:
        raise RuntimeError(text)

    long_name = "v" * 300
    params = [{"text": HOSTILE}, {"text": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 " * 60}]
    job = slurm_apply(
        lambda text, **_: fails(text),
        [{**each, long_name: "w" * 400} for each in params],
        job_name="n" * 60,
        backend="inline",
    )
    path = job.report("hostile.html")
    found = browser.measure(path, width=360)
    assert found["scroll"] <= 360
    assert found["scripts"] == 1
    assert browser.complaints(path) == []


def test_pictures_of_it_differ_by_scheme(full_page: Path, browser: Browser, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    shades = []
    for dark in (False, True):
        target = browser.picture(
            full_page, tmp_path / f"{dark}.png", width=800, height=600, dark=dark
        )
        with image.open(target) as picture:
            assert picture.size == (800, 600)
            colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
            shades.append(sum(max(colours)[1]) / 3)
    assert shades[0] > 240
    assert shades[1] < 60


@pytest.mark.parametrize("required", [True, False])
def test_without_a_browser_its_tests_fail_or_are_skipped_loudly(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *, required: bool
) -> None:
    monkeypatch.setattr(browser_module, "COMMANDS", ("no-such-browser",))
    monkeypatch.setattr(browser_module, "is_required", lambda: required)
    pytester.makepyfile("def test_one(browser): pass\n\ndef test_two(): pass\n")
    result = pytester.runpytest_inprocess("-p", "tests.browser", "-p", "no:xdist")
    result.assert_outcomes(passed=1, errors=int(required), skipped=int(not required))
    result.stdout.fnmatch_lines(
        ["!*1 TESTS IN A BROWSER DID NOT RUN*", "There is no browser to test in.*apt-get install *"]
    )


def test_the_folder_is_as_it_was(shaky_job: SlurmJob) -> None:
    def files() -> dict[str, int]:
        return {p.as_posix(): p.stat().st_size for p in shaky_job.folder.rglob("*")}

    before = files()
    page_of(shaky_job)
    assert files() == before
    assert FolderDisk(shaky_job.folder).names(".")
