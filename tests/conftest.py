"""What all tests share: a home of their own, and the Slurm that the suite starts."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["tests.slurm_fixtures", "tests.shims", "tests.cli_fixtures", "tests.browser"]


def pytest_configure() -> None:
    """Hear Ctrl-C: a shell has what it starts in the background ignore it, and so its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that wait for minutes begin first, so that nobody waits for them in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, with settings and job lists of its own."""
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / ".home" / variable.lower()))
    monkeypatch.setenv("MPLBACKEND", "Agg")  # a plot is drawn, and no window opened
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
