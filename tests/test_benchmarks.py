"""The benchmarks work: at toy size, on the real Slurm; what they write follows from the figures."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import lines, page, watching
from benchmarks.__main__ import chosen, merged
from benchmarks.case import CHUNKS, Case, Place
from benchmarks.contestants import PEERS, POOLS
from benchmarks.figures import Figures
from benchmarks.measurement import cut
from benchmarks.peers import local_
from benchmarks.running import last_words
from benchmarks.work import WORKS, uneven_seconds

if TYPE_CHECKING:
    from tests.slurm_cluster import Cluster

ROOT = Path(__file__).parents[1]
FLOORS = {"sbatch", "loop", lines.POOL, lines.FRESH_POOL}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT, check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"},
    )  # fmt: skip


def measured(line: str, contestant: str, rows: int, **figures: Any) -> dict[str, Any]:
    peer, _, style = contestant.partition(", ")
    return {
        "line": line, "contestant": contestant, "peer": peer, "style": style, "rows": rows,
        **figures,
    }  # fmt: skip


FIGURES = Figures(
    [
        measured("one call", "slurmapply", 1, seconds=0.9),
        measured("one call", "slurmapply", 1, seconds=0.5),
        measured("one call", "slurmapply", 1, seconds=0.6),
        measured("one call", "sbatch", 1, seconds=0.3),
        measured("one call", "submitit, a task per row", 1, seconds=1.1),
        measured("one call", "Parsl, a task per row", 1, error="no port"),
    ]
)


# -- on the real Slurm ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_line_works_at_toy_size(make_slurm_cluster: Any, tmp_path: Path) -> None:
    cluster: Cluster = make_slurm_cluster(accounting=False)
    out = tmp_path / "results.json"
    done = run("--toy", "--no-page", "--cluster", str(cluster.folder), "--json", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    figures = Figures(found["measurements"])
    assert not figures.failures()
    for name in lines.LINES:
        assert "slurmapply" in figures.contestants(name)
    for peer in found["about"]["missing"]:
        assert f"{peer} IS NOT INSTALLED" in done.stderr
    # Whatever is not a goal for a peer is measured for us; at this size no time means anything.
    assert figures.median("one call", "sbatch", 1) is not None
    (array,) = (each for each in figures.of_line("array") if each["style"] == lines.HELD)
    assert array["disk_bytes"] > 1_000_000
    assert array["workers_bytes"] > 1_000_000
    (files,) = (each for each in figures.of_line("files") if each["peer"] == "slurmapply")
    assert 10 < files["files"] < 60
    assert files["claims"] >= 1
    (start,) = figures.of_line("start")
    assert 0 < start["bare"] < 10
    assert {*start["imported"]} <= {"cloudpickle"}
    assert start["third_party"] == 0
    # Nobody's process and no job outlives it.
    assert cluster.run(["squeue", "--noheader"]) == ""


def test_of_a_failure_the_last_line_is_kept_which_names_no_path() -> None:
    said = 'Traceback:\n  File "/home/me/lib/x.py", line 1\nJobDied: no result\n\n'
    assert last_words(said) == "JobDied: no result"
    assert last_words(" \n") == "ended without a word"
    assert last_words("x" * 1000) == "x" * 160


def test_a_failure_is_a_result(slurm_cluster: Cluster, tmp_path: Path) -> None:
    from benchmarks.running import Arena

    said: list[str] = []
    arena = Arena(slurm_cluster, said.append)
    case = Case("rows", "local pool", CHUNKS, "no such work", 3)
    found = arena.run(case)
    assert "no such work" in found["error"]
    assert "seconds" not in found
    assert "no such work" in said[0]


def test_who_takes_too_long_is_given_up(slurm_cluster: Cluster) -> None:
    from benchmarks.running import Arena

    case = Case("waiting", "loop", "", "waiting", 1, timeout=0.5)
    found = Arena(slurm_cluster, print).run(case)
    assert found["error"] == "no result within 0.5 s"


# -- what needs no Slurm -------------------------------------------------------------------------


def test_every_contestant_of_every_line_is_known() -> None:
    for name, line in lines.LINES.items():
        cases = line.cases()
        assert len({case.key for case in cases}) == len(cases), f"{name} measures one thing twice"
        for case in cases:
            assert case.line == name
            assert case.peer in {*POOLS, "rslurm", lines.OURS}
            assert case.work in {*WORKS, "start"}
            # Nodes of the test cluster have 8 CPUs and 4000 MB.
            assert case.workers <= 8
            job_each = case.peer in {"submitit", "executorlib", "clusterfutures"}
            assert case.memory * (1 if job_each else case.workers) <= 4000
            assert Case.from_json(case.to_json()) == case
        assert {case.peer for case in lines.toy(cases)} == {case.peer for case in cases}
    assert {*PEERS} == {*POOLS, "rslurm"} - FLOORS
    assert {*POOLS} >= FLOORS


def test_lines_that_do_not_exist_are_refused() -> None:
    done = run("--lines", "rows,colums")
    assert done.returncode == 2
    assert "no line colums; there are one call, rows" in done.stderr


def test_uneven_rows_are_those_of_the_page() -> None:
    seconds = uneven_seconds(200, 32)
    assert max(sum(seconds) / 32, *seconds) == pytest.approx(6.0)
    assert seconds == uneven_seconds(200, 32)
    assert min(seconds) > 0
    assert max(seconds) > 10 * sorted(seconds)[100]


@pytest.mark.parametrize(("rows", "count"), [(1, 8), (8, 8), (10, 4), (100, 7)])
def test_chunks_cut_by_hand_hold_every_row_once(rows: int, count: int) -> None:
    import pandas as pd

    params = pd.DataFrame({"a": range(rows), "b": range(rows, 2 * rows)})
    chunks = cut(params, count)
    assert len(chunks) == min(rows, count)
    assert [value for chunk in chunks for value in chunk["a"]] == list(range(rows))
    assert [value for chunk in chunks for value in chunk["b"]] == list(range(rows, 2 * rows))
    sizes = [len(chunk["a"]) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1


def test_medians_and_goals_follow_from_the_measurements() -> None:
    assert FIGURES.median("one call", "slurmapply", 1) == 0.6
    assert FIGURES.median("one call", "Parsl, a task per row", 1) is None
    assert FIGURES.fastest("one call", 1, apart_from=("slurmapply", "sbatch")) == 1.1
    faster, above = lines.LINES["one call"].goals(FIGURES)
    assert faster.met
    assert [faster.value, faster.limit] == pytest.approx([0.6, 0.66])
    assert above.met
    assert [above.value, above.limit] == pytest.approx([0.6, 0.65])
    assert lines.Goal("none at all", 0.0, 0.0).met
    slower = Figures(
        [*FIGURES.measurements, *3 * [measured("one call", "slurmapply", 1, seconds=2)]]
    )
    assert [goal.met for goal in lines.LINES["one call"].goals(slower)] == [False, False]
    assert [goal.met for goal in lines.LINES["one call"].goals(Figures([]))] == [None, None]


@pytest.mark.parametrize("good", [True, False])
def test_every_goal_is_met_by_the_quick_and_missed_by_the_slow(good: bool) -> None:  # noqa: FBT001
    little, much = 1e-3, 1e9
    ours, others = (little, much) if good else (much, little)
    names = ("seconds", "session_bytes", "workers_bytes", "disk_bytes", "files", "calls")
    found = [
        {**measured(case.line, case.contestant, case.rows, third_party=0 if good else 1, claims=0),
         **dict.fromkeys(names, ours if case.peer == lines.OURS else others)}
        for line in lines.LINES.values() for case in line.cases()
    ]  # fmt: skip
    for each in found:
        if good and each["style"] == lines.FLOWING:
            each["calls"] = 0
    for name, line in lines.LINES.items():
        for goal in line.goals(Figures(found)):
            assert goal.met is good, f"{name}: {goal.text}"


def test_tuning_is_compared_with_both_pools() -> None:
    figures = Figures(
        [
            measured("boosting", "slurmapply", 9, seconds=7.0),
            measured("boosting", "local pool, a task per row", 9, seconds=5.0),
            measured("boosting", "pool of fresh processes, a task per row", 9, seconds=6.5),
        ]
    )
    forked, fresh = lines.LINES["boosting"].goals(figures)
    assert [forked.value, forked.limit, forked.met] == [7.0, pytest.approx(5.9), False]
    assert [fresh.value, fresh.limit, fresh.met] == [7.0, pytest.approx(7.4), True]
    assert "fresh" in fresh.text


def test_a_goal_is_met_when_it_is_just_reached() -> None:
    assert lines.Goal("", 1.0, 1.0).met is True
    assert lines.Goal("", 1.01, 1.0).met is False
    table = page.goals_table(FIGURES)
    assert "| at most 0.6 times the fastest peer | 0.60 | 0.66 | yes |" in table
    missed = page.goals_table(
        Figures([*FIGURES.measurements, *3 * [measured("one call", "slurmapply", 1, seconds=2)]])
    )
    assert "| at most 0.6 times the fastest peer | 1.45 | 0.66 | **no** |" in missed
    assert "| Files left | at most 6 + 3 for each worker + claims | - | - | not measured |" in table
    (said,) = (line for line in page.headline(FIGURES) if "fastest peer" in line)
    assert said.startswith("+ One call")
    assert said.endswith(": 0.60 (at most 0.66)")


def test_the_middle_of_an_even_number_is_between_two() -> None:
    figures = Figures([measured("rows", "slurmapply", 1, seconds=each) for each in (4, 1, 9, 2)])
    assert figures.median("rows", "slurmapply", 1) == 3
    assert figures.values("rows", "slurmapply", 1) == [4, 1, 9, 2]


def test_whoever_is_given_fewest_rows_comes_last_and_memory_is_of_the_most_rows() -> None:
    figures = Figures(
        [
            measured("rows", "submitit, a task per row", 100, seconds=1.0, session_bytes=7),
            measured("rows", "rslurm", 1000, seconds=20.0, session_bytes=410_000),
            measured("rows", "slurmapply", 1000, seconds=30.0, session_bytes=68_000),
            measured("rows", "slurmapply", 100, seconds=2.0, session_bytes=9_000),
        ]
    )
    assert page.rows_table(figures).splitlines() == [
        "| seconds | 100 | 1,000 |",
        "| --- | ---: | ---: |",
        "| slurmapply | 2.00 | 30 |",
        "| rslurm | - | 20 |",
        "| submitit, a task per row | 1.00 | - |",
    ]
    assert page.memory_table(figures).splitlines()[2:] == [
        "| slurmapply | 0 | 68 |",
        "| rslurm | 0 | 410 |",
    ]


def test_peers_are_repeated_as_asked_and_we_no_less_often_than_by_default() -> None:
    cases = [
        Case("rows", "submitit", CHUNKS, "add", 1, rounds=2),
        Case("rows", "slurmapply", "", "add", 1, rounds=5),
        Case("rows", "Parsl", CHUNKS, "add", 1, rounds=1),
    ]
    asked = argparse.Namespace(peers=["submitit"], repeat=4, toy=False)
    left = chosen(cases, asked, missing=[])
    assert {case.peer: case.rounds for case in left} == {"submitit": 4, "slurmapply": 5}
    asked = argparse.Namespace(peers=None, repeat=None, toy=False)
    left = chosen(cases, asked, missing=["Parsl"])
    assert {case.peer: case.rounds for case in left} == {"submitit": 2, "slurmapply": 5}


def test_lines_that_are_measured_again_replace_what_was_there() -> None:
    old, other = measured("rows", "rslurm", 1), measured("files", "rslurm", 1)
    new = measured("rows", "slurmapply", 1)
    assert merged([old, other], [new]) == [new, other]


def test_goals_are_about_what_is_measured_often() -> None:
    for name in ("one call", "rows", "uneven", "boosting"):
        for case in lines.LINES[name].cases():
            if case.peer in {lines.OURS, lines.FLOOR, lines.POOL, lines.FRESH_POOL}:
                assert case.rounds >= 5, case


def test_fresh_processes_have_nothing_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "known_here", 1, raising=False)
    place = Place(nodes=1, workers=2, memory=1, folder=tmp_path, style="")

    def known(number: int) -> tuple[int, bool, bool]:
        import os
        import sys

        return number, hasattr(sys, "known_here"), os.getpid() == session

    session = os.getpid()
    known.__module__ = "__main__"  # as users' functions are
    with local_.fresh_pool(place) as call_each:
        assert call_each(known, [3, 1]) == [(3, False, False), (1, False, False)]


def test_the_page_is_written_between_its_markers() -> None:
    text = "# Title\n<!-- figures: one call -->\nold\n<!-- end -->\nmine\n"
    written = page.filled(text, FIGURES, {})
    assert written.startswith("# Title\n<!-- figures: one call -->\n")
    assert "old" not in written
    assert "mine" in written
    assert "| slurmapply | 0.60 | 0.50 to 0.90 | 1.00 | 3 |" in written
    assert "| sbatch | 0.30 | 0.30 to 0.30 | 0.50 | 1 |" in written
    assert "Parsl, a task per row |" not in written
    assert page.filled(written, FIGURES, {}) == written


def test_a_lines_columns_are_in_their_units_and_the_last_has_a_range() -> None:
    sizes = {"disk_bytes": 512_000_000, "workers_bytes": 700_400_000}
    figures = Figures(
        [
            measured("array", "slurmapply", 64, seconds=2.0),
            measured("array", "slurmapply, held", 64, seconds=3.0, **sizes),
            measured("array", "rslurm", 64, seconds=90.0),
            measured("array", "rslurm", 64, seconds=94.0),
        ]
    )
    assert page.line_table("array", figures).splitlines() == [
        "|  | MB on disk | MB of memory | seconds | range | x slurmapply | times |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| slurmapply | - | - | 2.00 | 2.00 to 2.00 | 1.00 | 1 |",
        "| slurmapply, held | 512 | 700 | 3.00 | 3.00 to 3.00 | 1.50 | 1 |",
        "| rslurm | - | - | 92.00 | 90.00 to 94.00 | 46.00 | 2 |",
    ]


def test_the_page_says_when_the_machine_was_not_quiet() -> None:
    about = {
        "date": "2026-01-02", "minutes": 24.6, "machine": "2 processors", "load": 0.4,
        "python": "3.11.7", "slurm": "Slurm 22.05", "peers": {"submitit": "1.5.4"},
        "missing": ["Parsl"], "several_runs": False,
    }  # fmt: skip
    text = page.about_text(about)
    assert "Measured on 2026-01-02 in 25 minutes: 2 processors" in text
    assert "submitit 1.5.4. Not installed, and so left out: Parsl." in text
    assert "quiet" not in text
    noisy = page.about_text({**about, "load": 25.3, "several_runs": True})
    assert "not quiet (load 25.3" in noisy
    assert "in several runs" in noisy


def test_failures_are_named_with_what_they_said() -> None:
    assert page.failures_text(FIGURES) == "- one call: Parsl, a task per row, 1 rows: `no port`"
    assert page.failures_text(Figures([])) == "No measurement failed."


def test_the_page_has_a_place_for_every_line() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in [*lines.LINES, "about", "goals", "failures"]:
        assert text.count(f"<!-- figures: {name} -->\n") == 1


def test_calls_of_commands_are_counted_in_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "squeue").write_text('#!/bin/sh\necho "real $1"\n')
    (real / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{real}:/usr/bin:/bin")
    calls = watching.count_commands(tmp_path / "bin")
    said = subprocess.run([tmp_path / "bin" / "squeue", "x y"], check=True, capture_output=True)
    assert said.stdout == b"real x y\n"
    (line,) = calls.read_text().splitlines()
    moment = float(line.split()[0])
    assert line.split()[1] == "squeue"
    assert watching.calls_between(calls, moment, moment + 1) == 1
    assert watching.calls_between(calls, moment - 1, moment) == 0


def test_files_and_bytes_below_a_folder_are_counted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(range(256)) * 400)
    files, taken = watching.size_of(tmp_path)
    assert files == 1
    assert 100_000 <= taken <= 200_000


@pytest.mark.parametrize("command", ["sbatch", "squeue", "sacct", "scontrol", "sinfo", "scancel"])
def test_no_call_of_any_command_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / command).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    calls = watching.count_commands(tmp_path / "bin")
    begin = time.time()
    running = [subprocess.Popen([tmp_path / "bin" / command]) for _ in range(5)]
    assert [process.wait() for process in running] == [0] * 5
    assert watching.calls_between(calls, begin - 0.1, time.time() + 0.1) == 5
    assert {line.split()[1] for line in calls.read_text().splitlines()} == {command}


def test_a_call_belongs_to_the_stretch_that_it_begins(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text("10.5 squeue\n11.0 sacct\n12.0 squeue\n")
    assert watching.calls_between(tmp_path / "calls", 10.5, 12.0) == 2
    assert watching.calls_between(tmp_path / "calls", 12.0, 13.0) == 1


def test_memory_is_the_proportional_size(tmp_path: Path) -> None:
    sizes = "Rss:  4000 kB\nPss_Dirty:  500 kB\nPss:  1000 kB\nShared_Clean:  7 kB\n"
    (tmp_path / "smaps_rollup").write_text(f"55d0-7ffc ---p 0 00:00 0 [rollup]\n{sizes}")
    assert watching.pss_bytes(tmp_path) == 1000 * 1024
    assert watching.pss_bytes(Path("/proc/0")) == 0


HOLDS_A_FILE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(pages[::4096])
print("holds it", flush=True)
sys.stdin.read()
"""


def test_pages_that_jobs_share_count_once_and_other_clusters_not_at_all(tmp_path: Path) -> None:
    size = 64_000_000 // mmap.PAGESIZE * mmap.PAGESIZE
    for name in ("here", "elsewhere"):
        (tmp_path / name).write_bytes(b"x" * size)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDS_A_FILE, str(tmp_path / name)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "SLURM_JOB_ID": "1", "SLURM_CONF": f"/{name}/slurm.conf"},
        )
        for name in ("here", "here", "here", "elsewhere")
    ]  # fmt: skip
    try:
        for job in jobs:
            assert job.stdout is not None
            assert job.stdout.readline() == b"holds it\n"
        with watching.Watch(tmp_path, "/here/slurm.conf") as watch:
            until = time.monotonic() + 30
            while not watch.disk_bytes and time.monotonic() < until:
                time.sleep(0.05)
    finally:
        # They go on after they were looked at: each reads to its end and leaves.
        said = [job.communicate(timeout=30) for job in jobs]
    assert [output for output, _ in said] == [b""] * 4
    assert [job.returncode for job in jobs] == [0] * 4
    # The three interpreters take some, too.
    assert size < watch.workers_bytes < 1.7 * size
    assert watch.disk_bytes >= size
