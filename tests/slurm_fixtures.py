"""The test Slurm as pytest fixtures: a plugin that the conftest names in ``pytest_plugins``.

``slurm_cluster`` is one cluster for the whole run, also where pytest-xdist spreads it over several
processes: the first process that needs it starts it in a folder that the controller chose, and
the controller ends it. It is what every test marked ``slurm`` runs on.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.slurm_cluster import Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.terminal import TerminalReporter

# Names the folder of a cluster that runs already, to be used instead of one of our own.
GIVEN_CLUSTER = "SLURMAPPLY_TEST_CLUSTER"
NO_SLURM = "There is no Slurm to test on"

# The folder of the run's cluster and the process that it must not outlive, in the order of a pair
# that xdist can send to its workers.
CLUSTER_KEY = pytest.StashKey[tuple[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder once for all processes of this run."""
    sent: dict[str, Any] | None = getattr(config, "workerinput", None)
    if sent is None:
        # Short, because sockets below it must have short names.
        config.stash[CLUSTER_KEY] = (tempfile.mkdtemp(prefix="slurm-"), os.getpid())
    else:
        folder, owner = sent["slurm_cluster"]
        config.stash[CLUSTER_KEY] = (folder, owner)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the choice to a worker of xdist."""
    node.workerinput["slurm_cluster"] = node.config.stash[CLUSTER_KEY]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's cluster, in the process that chose its folder."""
    folder, owner = config.stash.get(CLUSTER_KEY, ("", 0))
    if owner == os.getpid():
        Cluster(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what asks for the cluster, so that ``-m "not slurm"`` leaves it out."""
    if {"slurm_cluster", "make_slurm_cluster"} & set(getattr(item, "fixturenames", ())):
        item.add_marker("slurm")


@pytest.fixture(scope="session")
def slurm_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give the run's cluster; while the session lasts, ``SLURM_CONF`` names it."""
    try:
        cluster = find_cluster(*request.config.stash[CLUSTER_KEY])
    except ClusterError as error:
        give_up(f"{error}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def make_slurm_cluster(slurm_cluster: Cluster) -> Iterator[Callable[..., Cluster]]:
    """Give a function that starts a cluster for one test, whose daemons the test may end.

    It takes ``Cluster``'s keywords; ``accounting=False`` starts in a third of a second. The
    cluster's ``environment`` is not set: that is the test's own choice.
    """
    del slurm_cluster  # asked for because it gives up in the one right way
    started: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        started.append(Cluster(tempfile.mkdtemp(prefix="slurm-"), **options))
        started[-1].start()
        return started[-1]

    yield make
    for cluster in started:
        cluster.stop()
        shutil.rmtree(cluster.folder)


@pytest.fixture(autouse=True)
def _slurm_for_marked_tests(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slurm"):
        request.getfixturevalue("slurm_cluster")


def find_cluster(folder: str, owner: int) -> Cluster:
    """Give the cluster that was named from outside, or the run's own, started where needed."""
    if given := os.environ.get(GIVEN_CLUSTER):
        cluster = Cluster(given)
        if not cluster.is_running():
            raise ClusterError(f"{GIVEN_CLUSTER} names {given}, where no cluster runs")
        return cluster
    cluster = Cluster(folder, owner=owner)
    with Path(folder, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start_once(cluster, Path(folder, "failure"))
    return cluster


def start_once(cluster: Cluster, failure: Path) -> None:
    """Start it unless another process did, or failed to."""
    if failure.exists():
        raise ClusterError(failure.read_text())
    if not cluster.is_running():
        try:
            cluster.start()
        except ClusterError as error:
            failure.write_text(f"{error}")
            raise


def give_up(reason: str) -> NoReturn:
    """Skip a test, or fail it where nothing excuses the lack of a Slurm."""
    message = f"{NO_SLURM}. {reason}"
    if is_required():
        raise pytest.fail.Exception(message, pytrace=False) from None
    raise pytest.skip.Exception(message) from None


def is_required() -> bool:
    """Tell whether the packages could have been installed: on CI, and for root."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"} or os.getuid() == 0


# Outermost, so that it comes after pytest's own short summary.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Iterator[None]:
    """Say loudly, at the very end, that the tests on Slurm did not run."""
    yield
    tests_that_did_not_run(terminalreporter, NO_SLURM, "ON SLURM")


def tests_that_did_not_run(reporter: TerminalReporter, why: str, where: str) -> None:
    """Say how many tests were skipped or failed for want of something, in words that name it."""
    reports = [
        (outcome, str(report.longrepr))
        for outcome in ("skipped", "error")
        for report in reporter.stats.get(outcome, [])
        if why in str(report.longrepr)
    ]
    if reports:
        outcome, said = reports[0]
        reason = said[said.index(why) :].rstrip("')\n")
        number = f"{len(reports)} TESTS {where} DID NOT RUN"
        reporter.section(f"{number} ({outcome})", sep="!", red=True, bold=True)
        reporter.line(reason)
