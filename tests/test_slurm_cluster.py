"""The test Slurm itself: a suite that runs on it has to know that it is real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import slurm_fixtures
from tests.slurm_cluster import Cluster, ClusterError, packages, processes
from tests.slurm_cluster.layout import LONGEST_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

HOG = f"{sys.executable} -c 'x = bytearray(400_000_000); import time; time.sleep(30)'; echo after"


def wait_until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def submit(cluster: Cluster, script: str, *options: str) -> str:
    command = ["sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", script]
    return cluster.run(command).strip()


def state(cluster: Cluster, job: str) -> str:
    found = re.search(
        r"JobState=(\w+)", cluster.run(["scontrol", "--oneliner", "show", "job", job])
    )
    return found[1] if found else ""


def test_four_nodes_are_idle_after_the_start(make_slurm_cluster: Callable[..., Cluster]) -> None:
    cluster = make_slurm_cluster(accounting=False)
    said = cluster.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N %T %c %m %G"])
    assert said.splitlines() == [f"node0{number} idle 8 4000 gpu:2" for number in range(1, 5)]
    assert cluster.run(["sinfo", "-h", "-o", "%P %L"]).split("\n")[:2] == [
        "main* 1:00:00",
        "urgent 1:00:00",
    ]


def test_an_array_runs_on_several_nodes_and_stays_in_the_accounting(
    slurm_cluster: Cluster,
) -> None:
    job = submit(slurm_cluster, "sleep 1", "--array=0-7", "--cpus-per-task=4")

    def rows() -> list[list[str]]:
        command = ["sacct", "-n", "-P", "-X", "-j", job, "-o", "JobID,State,NodeList"]
        return [line.split("|") for line in slurm_cluster.run(command).splitlines()]

    wait_until(lambda: [row[1] for row in rows()] == ["COMPLETED"] * 8)
    assert {row[0] for row in rows()} == {f"{job}_{index}" for index in range(8)}
    assert len({row[2] for row in rows()}) > 1


def test_a_process_over_its_memory_is_killed(slurm_cluster: Cluster, tmp_path: Path) -> None:
    if not slurm_cluster.memory_limits:
        pytest.skip("no cgroups (version 1) that this account may write")
    job = submit(slurm_cluster, HOG, "--mem=100", f"--output={tmp_path}/log")
    wait_until(lambda: state(slurm_cluster, job) == "OUT_OF_MEMORY")
    assert "after" in (tmp_path / "log").read_text()


def test_gpus_are_handed_out(slurm_cluster: Cluster) -> None:
    said = slurm_cluster.run(["srun", "--gres=gpu:1", "env"])
    assert re.search(r"^CUDA_VISIBLE_DEVICES=[01]$", said, re.MULTILINE)


def test_a_job_of_the_urgent_partition_sends_another_back_to_the_queue(
    make_slurm_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    everything = ("--nodes=4", "--exclusive")
    patient = submit(cluster, "sleep 100", "--requeue", *everything)
    wait_until(lambda: state(cluster, patient) == "RUNNING")
    urgent = submit(cluster, "true", "--partition=urgent", *everything)
    wait_until(lambda: state(cluster, urgent) == "COMPLETED")
    assert state(cluster, patient) == "PENDING"
    assert "Restarts=1" in cluster.run(["scontrol", "show", "job", patient])


def test_a_daemon_that_was_killed_can_be_started_again(
    make_slurm_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    first = cluster.pid("node01")
    processes.send([first], signal.SIGKILL)
    wait_until(lambda: not processes.is_running(first))
    cluster.revive()
    wait_until(lambda: cluster.pid("node01") != first)
    assert cluster.run(["srun", "--nodelist=node01", "echo", "back"]) == "back\n"


def test_stop_leaves_no_process_not_even_a_stubborn_job(
    make_slurm_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    job = submit(cluster, "trap '' TERM; (setsid sleep 1000 &); sleep 1000")
    wait_until(lambda: len(sleepers(cluster)) == 2)
    cluster.stop()
    assert cluster.processes() == []
    assert not cluster.is_running()
    assert list(Path("/sys/fs/cgroup").glob(f"*/slurm_*/uid_*/job_{job}")) == []


def sleepers(cluster: Cluster) -> list[int]:
    return [pid for pid in cluster.processes() if processes.name_of(pid) == "sleep 1000"]


def test_the_cluster_ends_with_the_process_that_it_was_started_for(
    make_slurm_cluster: Callable[..., Cluster],
) -> None:
    with subprocess.Popen(["sleep", "1000"]) as owner:
        cluster = make_slurm_cluster(accounting=False, owner=owner.pid)
        owner.kill()
    wait_until(lambda: cluster.processes() == [], 20)


def test_what_a_killed_supervisor_left_is_found(
    make_slurm_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    submit(cluster, "sleep 1000")
    wait_until(lambda: len(sleepers(cluster)) == 1)
    processes.send([cluster.pid("supervisor")], signal.SIGKILL)
    wait_until(lambda: not cluster.is_running())
    cluster.stop()
    assert cluster.processes() == []


@pytest.mark.slurm
def test_a_marked_test_finds_slurm_by_its_usual_variable() -> None:
    said = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=True).stdout
    assert "main" in said
    assert "node01" in said or "node[01" in said
    assert Path(os.environ["SLURM_CONF"]).exists()


def test_a_second_start_in_one_folder_is_refused(slurm_cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"runs in .* already"):
        Cluster(slurm_cluster.folder).start()


def test_a_folder_too_deep_for_sockets_is_refused(slurm_cluster: Cluster, tmp_path: Path) -> None:
    del slurm_cluster
    with pytest.raises(ClusterError, match="too long"):
        Cluster(tmp_path / ("x" * LONGEST_FOLDER)).start()


def test_a_failed_command_says_why(slurm_cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no-such-partition.*code 1.*invalid partition"):
        slurm_cluster.run(["sbatch", "-p", "no-such-partition", "--wrap", "true"])


@pytest.mark.parametrize("rule", [None, "#!/bin/sh\nexit 0\n"])
def test_no_service_is_started_by_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str | None
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)
    if rule is not None:
        policy.write_text(rule)
    with packages.no_services():
        assert policy.read_text() == rule or subprocess.run([policy], check=False).returncode == 101
    assert (policy.read_text() if policy.exists() else None) == rule


@pytest.mark.parametrize("required", [True, False])
def test_without_slurm_marked_tests_fail_or_are_skipped_loudly(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *, required: bool
) -> None:
    monkeypatch.setitem(packages.COMMANDS, "no-such-command", "no-such-package")
    monkeypatch.setattr(slurm_fixtures, "is_required", lambda: required)
    monkeypatch.delenv(slurm_fixtures.GIVEN_CLUSTER, raising=False)
    pytester.makepyfile(
        "import pytest\n\n@pytest.mark.slurm\ndef test_one(): pass\n\ndef test_two(): pass\n"
    )
    pytester.makeini("[pytest]\nmarkers = slurm: needs Slurm\n")
    result = pytester.runpytest_inprocess("-p", "tests.slurm_fixtures", "-p", "no:xdist")
    result.assert_outcomes(passed=1, errors=int(required), skipped=int(not required))
    result.stdout.fnmatch_lines(
        [
            "!*1 TESTS ON SLURM DID NOT RUN*",
            "There is no Slurm to test on. Not installed: no-such-package. *apt-get install *",
        ]
    )
