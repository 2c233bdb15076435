"""A small soak: `benchmarks/soak.py` runs the same for minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import soak

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.slurm_cluster import Cluster


def test_no_row_is_lost_or_wrong_whatever_is_done_to_the_tasks(
    make_slurm_cluster: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "soak"
    folder.mkdir()
    report, job = soak.soak(cluster, folder, rows=400, seconds=6, seed=3, pause=0.1)
    assert (report.lost, report.wrong) == (0, 0), f"{report}"
    assert job.results() == [soak.expected(row) for row in range(400)]
    # What is left for a retry was killed twice, never forgotten.
    assert set(report.retried) <= {"SIGKILL"}, f"{report}"
    assert sum(report.harm.values()) >= 8, f"{report}"
    assert report.lives > soak.NODES, f"no task was started again:\n{report}"
    # A row that was finished is run again only where its worker died within 10 ms of its end.
    assert report.ended_again <= 6, f"{report}"
    assert report.duplicates <= 2, f"{report}"


def test_notes_tell_begins_from_ends(own_folders: Path) -> None:
    evaluate = soak.noting(own_folders, [0.0])
    assert [evaluate(row=row) for row in (0, 5, 5)] == [soak.expected(row) for row in (0, 5, 5)]
    assert soak.read_notes(own_folders) == ({0: 1, 5: 2}, {0: 1, 5: 2})
