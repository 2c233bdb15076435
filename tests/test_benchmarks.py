"""The benchmarks work: at toy size, on the real Slurm; what they write follows from the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import lines, page, watching
from benchmarks.case import CHUNKS, Case
from benchmarks.contestants import PEERS, POOLS
from benchmarks.figures import Figures
from benchmarks.measurement import cut
from benchmarks.work import WORKS, uneven_seconds

if TYPE_CHECKING:
    from tests.slurm_cluster import Cluster

ROOT = Path(__file__).parents[1]


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
        measured("one call", "Parsl, a task per row", 1, error="a\nno port"),
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
    assert {*PEERS} == {*POOLS, "rslurm"} - {"sbatch", "loop", "local pool"}


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


def test_shared_pages_count_once() -> None:
    own = watching.pss_bytes(Path("/proc/self"))
    assert 1_000_000 < own < 10_000_000_000
    assert watching.pss_bytes(Path("/proc/0")) == 0
