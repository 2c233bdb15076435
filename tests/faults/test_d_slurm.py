"""Part D of the faults: trouble with Slurm's controller and its accounts, as a user sees it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import SlurmJob, SubmissionError, SubmissionUnknownError, slurm_call, slurm_map
from slurmapply.schedulers.local import unshared_file_system
from tests.shims import DOWN, REAL, TIMED_OUT, gated, slurm_jobs, wait_until
from tests.test_submission import session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.shims import Shims
    from tests.slurm_cluster import Cluster

    MakeCluster = Callable[..., Cluster]

pytestmark = pytest.mark.slurm
ONE: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1}


@pytest.fixture
def private_cluster(
    make_slurm_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> MakeCluster:
    """Give a function that starts a cluster which this test's sessions use."""

    def make(**options: Any) -> Cluster:
        cluster = make_slurm_cluster(**{"accounting": False, **options})
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        return cluster

    return make


def again(job: SlurmJob) -> SlurmJob:
    """Open a job as a new session would."""
    return SlurmJob(job.folder)


def half_done(gate: Path) -> SlurmJob:
    """Start a job of which one row is done and one runs until the gate is there."""
    path = str(gate)

    def f(x: int) -> int:
        while x and not os.path.exists(path):  # noqa: PTH110
            time.sleep(0.01)
        return x

    job = slurm_map(f, [0, 1], nodes=1, cpus_per_node=2)
    wait_until(lambda: job.status().counts.get("ok") == 1)
    return job


def stop_daemon(cluster: Cluster, name: str) -> None:
    """End one daemon of a private cluster, and wait until it is gone.

    Not by SIGKILL: the controller would lose what it knows of the last seconds, and its jobs.
    """
    pid = cluster.pid(name)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in cluster.processes())


def ready_again(cluster: Cluster) -> None:
    """Start what was stopped, and wait until the controller answers."""
    cluster.revive()

    def answers() -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and "idle" in done.stdout

    wait_until(answers, 60)


def test_D_01_squeue_that_times_out_makes_nothing_finished(shims: Shims, tmp_path: Path) -> None:
    job = half_done(tmp_path / "gate")
    job = again(job)
    known = job.status()
    assert [entry["state"] for entry in known.queue] == ["RUNNING"]
    shims.add("squeue", TIMED_OUT)
    time.sleep(2.1)
    status = job.status()
    assert (status.state, status.completed) == ("unknown", False)
    assert status.counts["ok"] == 1
    assert status.queue == known.queue
    assert status.age >= 2
    assert "Socket timed out" in status.note
    assert job.results(wait=False)[0] == 0
    shims.remove("squeue")
    (tmp_path / "gate").touch()
    assert job.results() == [0, 1]


def test_D_02_results_are_there_while_the_controller_is_not(
    private_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = private_cluster()
    done = slurm_map(abs, [-1, -2], **ONE).wait()
    job = half_done(tmp_path / "gate")
    stop_daemon(cluster, "slurmctld")
    assert again(done).results() == [1, 2]
    assert again(done).status().state == "finished"
    (tmp_path / "gate").touch()
    # The rest is done, and read, without the controller.
    assert again(job).results() == [0, 1]


@pytest.mark.usefixtures("impatient")
def test_D_03_a_command_that_hangs_is_ended(shims: Shims, tmp_path: Path) -> None:
    job = half_done(tmp_path / "gate")
    shims.add("squeue", f"echo $$ >>{tmp_path}/pids; sleep 600")
    started = time.monotonic()
    status = again(job).status()
    assert time.monotonic() - started < 6
    assert status.state == "unknown"
    assert "no answer within 2 s, so the command was stopped" in status.note
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
    shims.add("sbatch", "sleep 600")
    with pytest.raises(SubmissionUnknownError, match="no answer within 4 s"):
        slurm_map(abs, [1], **ONE)
    shims.remove("squeue")
    (tmp_path / "gate").touch()
    assert job.results() == [0, 1]


def test_D_04_sbatch_times_out_but_the_job_exists(shims: Shims) -> None:
    shims.add("sbatch", f'"$real" "$@" >/dev/null; {TIMED_OUT}')
    before = slurm_jobs("lost")
    job = slurm_map(abs, [-1, -2], job_name="lost", **ONE)
    assert job.results() == [1, 2]
    assert slurm_jobs("lost") - before == {job.job_id}
    assert shims.calls("sbatch") == 1


def test_D_04_sbatch_times_out_and_there_is_no_job(shims: Shims, impatient: None) -> None:
    shims.add("sbatch", TIMED_OUT)
    with pytest.raises(SubmissionError, match="Socket timed out") as caught:
        slurm_map(abs, [-1, -2], job_name="not_there", **ONE)
    assert not isinstance(caught.value, SubmissionUnknownError)
    shims.remove("sbatch")
    assert caught.value.job.submit().results() == [1, 2]
    assert len(slurm_jobs("not_there")) == 1


def test_D_05_a_limit_on_submitted_jobs_is_named_with_the_number_to_use(
    private_cluster: MakeCluster,
) -> None:
    cluster = private_cluster(accounting=True, settings={"AccountingStorageEnforce": "limits,qos"})
    cluster.run(["sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=3"])
    many: dict[str, Any] = {"nodes": 5, "cpus_per_node": 1}

    def refused(job_name: str, said: str) -> SlurmJob:
        with pytest.raises(SubmissionError) as caught:
            slurm_map(abs, list(range(5)), job_name=job_name, **many)
        assert "Each array task counts as one job (here 5): use nodes=" in str(caught.value)
        assert said in str(caught.value)
        job: SlurmJob = caught.value.job
        return job

    limits = ["scontrol", "show", "assoc_mgr", "flags=assoc,qos"]
    # The controller hears of a limit a moment after sacctmgr has said it.
    wait_until(lambda: "MaxSubmitJobs=3" in cluster.run(limits))
    job = refused("by_account", "use nodes=3 at most")
    assert job.submit(nodes=3).results() == [0, 1, 2, 3, 4]
    cluster.run(["sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1"])
    cluster.run(["sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxSubmitJobsPerUser=2"])
    wait_until(lambda: "MaxSubmitJobs=3" not in cluster.run(limits))
    time.sleep(1)
    job = refused("by_qos", "use nodes=2 at most")
    assert job.submit(nodes=2).results() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "setting", [{"MaxArraySize": "4"}, {"SchedulerParameters": "max_array_tasks=4"}]
)
def test_D_06_an_array_that_is_too_large_is_told_the_number_to_use(
    setting: dict[str, str], private_cluster: MakeCluster
) -> None:
    private_cluster(settings=setting)
    with pytest.raises(SubmissionError, match=r"\(here 5\).*: use nodes=4 at most; rows") as caught:
        slurm_map(abs, list(range(5)), nodes=5, cpus_per_node=1)
    assert caught.value.job.submit(nodes=4).results() == [0, 1, 2, 3, 4]


def test_D_07_a_time_limit_above_the_partitions_is_a_reason_in_words(
    private_cluster: MakeCluster,
) -> None:
    cluster = private_cluster()
    cluster.run(["scontrol", "update", "partitionname=main", "maxtime=10"])
    job = slurm_map(abs, [-1], time="1h", **ONE)
    wait_until(lambda: again(job).status().queue[0]["reason"] == "PartitionTimeLimit")
    text = str(again(job).status())
    assert "asks for more time than the partition allows, so it will never start" in text
    job.cancel()
    job.wait(timeout=30)
    assert job.retry(time="5m").results() == [1]


def test_D_08_an_account_that_slurm_took_for_another_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = slurm_map(abs, [-1], account="no_such_account", **ONE)
    assert ", account root\n" in capsys.readouterr().out
    assert job.results() == [1]


def test_D_09_without_accounts_everything_works_and_they_are_asked_for_once(
    private_cluster: MakeCluster, shims: Shims, tmp_path: Path
) -> None:
    private_cluster()
    shims.add("sacct", REAL)
    job = slurm_map(gated(tmp_path / "gate"), [1, 2], nodes=2, cpus_per_node=1)
    # As if the queue had forgotten the second task already.
    shims.add("squeue", """"$real" "$@" | grep -v '|1|RUNNING'""")
    job = again(job)
    for _ in range(3):
        time.sleep(2.1)  # a look after two quiet seconds asks
        assert job.status().state in ("queued", "running")
        assert job.status().note == ""
    assert shims.calls("squeue") >= 3
    assert shims.calls("sacct") == 1
    (tmp_path / "gate").touch()
    assert job.results() == [1, 4]


def test_D_10_a_database_that_is_down_changes_nothing_but_a_note(
    private_cluster: MakeCluster, shims: Shims, tmp_path: Path
) -> None:
    cluster = private_cluster(accounting=True)
    stop_daemon(cluster, "slurmdbd")
    assert slurm_map(abs, [-1, -2], **ONE).results() == [1, 2]
    job = half_done(tmp_path / "gate")
    shims.add("sacct", REAL)
    # As after a purge: only the accounts could know what became of it.
    cluster.run(["scancel", str(job.job_id)])
    shims.add("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    job = again(job)
    status = job.status()
    assert (status.state, status.queue, shims.calls("sacct")) == ("stopping", [], 1)
    assert status.note.startswith("asking for the accounts with sacct: exit status 1.")
    assert status.note.count("with sacct") == 1
    assert job.wait(20).status().counts == {"ok": 1, "unfinished": 1}
    shims.remove("squeue")
    (tmp_path / "gate").touch()
    assert job.retry().results() == [0, 1]


def test_D_11_accounts_that_know_nothing_end_nothing(shims: Shims, tmp_path: Path) -> None:
    job = half_done(tmp_path / "gate")
    shims.add("squeue", DOWN)
    shims.add("sacct", "exit 0")
    assert again(job).status().state == "unknown"
    shims.add("squeue", REAL)
    assert again(job).status().state == "running"
    (tmp_path / "gate").touch()
    assert job.results() == [0, 1]


def test_D_12_a_purged_job_is_judged_by_its_records(
    private_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = private_cluster(settings={"MinJobAge": "2"})
    job = half_done(tmp_path / "gate")
    waiting = slurm_map(abs, [-1], slurm_options={"begin": "now+1hour"}, **ONE)
    cluster.run(["scancel", str(job.job_id), str(waiting.job_id)])

    def purged() -> bool:
        asked = ["squeue", "-h", "--states=all", "-j", f"{job.job_id},{waiting.job_id}"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return not done.stdout.strip()

    wait_until(purged, 150)
    wait_until(lambda: job.status().completed)
    assert again(job).wait(20).status().counts == {"ok": 1, "unfinished": 1}
    assert job.row(1).cause in ("killed", "stopped_early")
    assert waiting.wait(20).status().counts == {"unfinished": 1}
    assert waiting.row(0).cause == "never_started"
    (tmp_path / "gate").touch()
    assert job.retry().results() == [0, 1]


def test_D_13_an_id_that_became_another_jobs_is_not_ours(private_cluster: MakeCluster) -> None:
    cluster = private_cluster()
    job = slurm_map(
        abs, [-1], job_name="first_of_its_id", slurm_options={"begin": "now+1hour"}, **ONE
    )
    lose_state(cluster)
    # Three ids are given anew: by then ours is another's.
    others = [
        cluster.run(["sbatch", "--parsable", "--begin=now+1hour", "--wrap=true"]).strip()
        for _ in range(3)
    ]
    assert job.job_id in others
    again(job).cancel()
    status = job.wait(20).status()
    assert (status.state, status.counts) == ("cancelled", {"cancelled": 1})
    queue = cluster.run(["squeue", "-h", "-o", "%i"]).split()
    assert sorted(queue) == sorted(others)
    assert job.retry(slurm_options={"begin": None}).results() == [1]


def lose_state(cluster: Cluster) -> None:
    """Stop the controller, delete all that it knows, and start it again."""
    stop_daemon(cluster, "slurmctld")
    for path in cluster.layout.state.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ready_again(cluster)


def test_D_14_tasks_that_stand_in_one_line_are_all_seen(shims: Shims) -> None:
    items = list(range(40))
    job = slurm_map(abs, items, nodes=40, cpus_per_node=1, slurm_options={"begin": "now+1hour"})
    # As if this squeue knew no --array: then it prints the waiting tasks in one line.
    shims.add("squeue", 'a=("$@"); exec "$real" "${a[@]/--array/--noheader}"')
    queue = again(job).status().queue
    assert sorted(entry["task"] for entry in queue) == items
    assert {entry["state"] for entry in queue} == {"PENDING"}
    shims.add(
        "squeue", f"echo '{job.job_id}|1,3,5-9:2,11-39%2|PENDING||N/A|{name_of(job)}|Priority'"
    )
    queue = again(job).status().queue
    assert [entry["task"] for entry in queue] == [1, 3, 5, 7, 9, *range(11, 40)]
    shims.remove("squeue")
    job.cancel()


def name_of(job: SlurmJob) -> str:
    submission = job._follower.run.submission
    assert submission is not None
    return str(submission.details["name"])


def test_D_15_formats_in_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "SQUEUE_FORMAT": "%all", "SQUEUE_FORMAT2": "jobid", "SQUEUE_STATES": "PENDING",
        "SQUEUE_USERS": "nobody", "SQUEUE_SORT": "-i", "SACCT_FORMAT": "User",
        "SLURM_TIME_FORMAT": "%s",
        "SINFO_FORMAT": "%n", "SBATCH_OUTPUT": "/nowhere/x", "SBATCH_WAIT": "1", "LC_ALL": "C",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    job = half_done(tmp_path / "gate")
    (entry,) = again(job).status().queue
    assert (entry["job_id"], entry["task"], entry["state"]) == (job.job_id, 0, "RUNNING")
    subprocess.run(["scancel", str(job.job_id)], check=True)
    assert job.wait(20).status().counts == {"ok": 1, "unfinished": 1}
    (tmp_path / "gate").touch()
    assert job.retry().results() == [0, 1]


@pytest.mark.parametrize("word", ["BRAND_NEW", "LAUNCH_FAILED", "COMPLETE_D", "?"])
def test_D_16_a_state_that_is_not_known_is_no_end(shims: Shims, tmp_path: Path, word: str) -> None:
    job = slurm_map(gated(tmp_path / "gate"), [2], **ONE)
    shims.add("squeue", f"echo '{job.job_id}|0|{word}|node01|N/A|{name_of(job)}|None'")
    shims.add("sacct", f"echo '{job.job_id}_0|{word}|0:0|node01|{name_of(job)}'")
    status = again(job).status()
    assert status.state in ("queued", "running")
    assert [entry["state"] for entry in status.queue] == [word]
    assert word in str(status)
    (tmp_path / "gate").touch()
    assert job.results() == [4]


def test_D_16_a_state_with_a_suffix_is_known(shims: Shims, tmp_path: Path) -> None:
    job = slurm_map(abs, [2], slurm_options={"begin": "now+1hour"}, **ONE)
    shims.add("squeue", "exit 0")
    shims.add("sacct", f"echo '{job.job_id}|CANCELLED by 1000|0:0|None assigned|{name_of(job)}'")
    assert again(job).wait(20).status().counts == {"unfinished": 1}
    subprocess.run(["scancel", str(job.job_id)], check=True)


def test_D_17_greetings_around_the_id_are_passed_over(shims: Shims) -> None:
    shims.add(
        "sbatch",
        'echo "Welcome to BIG: 2 messages"; echo "*** maintenance ***" >&2; "$real" "$@";'
        ' echo "Your quota: 17 GB"',
    )
    job = slurm_map(abs, [-1, -2], job_name="greeted", **ONE)
    assert {job.job_id} <= slurm_jobs("greeted")
    assert job.results() == [1, 2]


def test_D_18_a_node_needs_no_command_of_slurm(own_folders: Path) -> None:
    def commands() -> list[Any]:
        return [shutil.which(name) for name in ("scontrol", "squeue", "srun", "sbatch", "ls")]

    job = slurm_call(commands, setup="export PATH=/nowhere")
    assert job.result() == [None] * 5


def test_D_19_a_job_that_may_not_be_requeued_is_retried(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    path = str(tmp_path / "gate")

    def f(x: int) -> int:
        while x and not os.path.exists(path):  # noqa: PTH110
            time.sleep(0.01)
        return x

    job = slurm_map(f, [0, 1], nodes=1, cpus_per_node=2, slurm_options={"no-requeue": True})
    wait_until(lambda: job.status().counts.get("ok") == 1)
    refused = subprocess.run(
        ["scontrol", "requeue", f"{job.job_id}_0"], capture_output=True, text=True, check=False
    )
    assert "disabled" in refused.stderr
    slurm_cluster.run(["scancel", str(job.job_id)])
    job.wait(20)
    (tmp_path / "gate").touch()
    job.retry()
    assert job.results() == [0, 1]
    assert job.row(0).attempt == 1


def test_D_20_slow_answers_are_not_asked_for_more_often(shims: Shims, tmp_path: Path) -> None:
    job = again(half_done(tmp_path / "gate"))
    shims.add("squeue", f"sleep 1; {REAL}")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert job.status().state == "running"
    assert 1 <= shims.calls("squeue") <= 2
    (tmp_path / "gate").touch()
    assert job.results() == [0, 1]


def test_D_21_a_tight_loop_asks_as_seldom_as_a_patient_one(shims: Shims, tmp_path: Path) -> None:
    job = again(half_done(tmp_path / "gate"))
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        shims.add(name, REAL)
    deadline, looks = time.monotonic() + 20, 0
    while time.monotonic() < deadline:
        assert job.status().state == "running"
        assert len(repr(job)) > 0
        looks += 1
    calls = {name: shims.calls(name) for name in ("squeue", "sacct", "scontrol", "sinfo")}
    print(looks, calls)
    assert looks > 200
    # After 2 s; the next one is half a minute later.
    assert 1 <= calls["squeue"] <= 2
    assert {*calls.values()} == {calls["squeue"], 0}
    (tmp_path / "gate").touch()
    assert job.results() == [0, 1]


def test_D_22_an_id_with_its_cluster_is_asked_for_there(
    shims: Shims, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "slurmapply")
    job = slurm_map(gated(tmp_path / "gate"), [2], **ONE)
    monkeypatch.delenv("SLURM_CLUSTERS")
    shims.add("squeue", f'echo "$@" >>{tmp_path}/asked; {REAL}')
    shims.add("scancel", f'echo "$@" >>{tmp_path}/told; {REAL}')
    wait_until(lambda: again(job).status().state == "running")
    assert job.job_id is not None
    assert job.job_id.isdigit()
    assert "--clusters=slurmapply" in (tmp_path / "asked").read_text()
    again(job).cancel()
    assert "--clusters=slurmapply" in (tmp_path / "told").read_text()
    assert job.wait(30).status().counts == {"cancelled": 1}


def test_D_23_a_controller_that_restarts_in_the_middle_of_a_wait(
    private_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = private_cluster()
    job = half_done(tmp_path / "gate")
    states: list[str] = []
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.extend(again(job).results()))
    waiting.start()
    stop_daemon(cluster, "slurmctld")
    job._follower.expect_change()
    states.append(job.status().state)
    ready_again(cluster)
    wait_until(lambda: again(job).status().state == "running")
    (tmp_path / "gate").touch()
    waiting.join(150)  # Slurm holds a job for two minutes that a controller starts again
    assert found == [0, 1]
    assert set(states) <= {"unknown", "running"}


def test_D_23_a_controller_that_lost_a_job(private_cluster: MakeCluster) -> None:
    cluster = private_cluster()
    job = slurm_map(abs, [-1, -2], slurm_options={"begin": "now+1hour"}, **ONE)
    lose_state(cluster)
    job = again(job).wait(20)
    assert job.status().counts == {"unfinished": 2}
    assert job.row(0).cause == "never_started"
    assert "Slurm never started one" in str(job.row(0).message)
    assert job.retry(slurm_options={"begin": None}).results() == [1, 2]


# What leaks in from outside


def test_I_10_a_job_is_submitted_from_inside_another(
    slurm_cluster: Cluster, own_folders: Path
) -> None:
    program = own_folders / "inner.py"
    program.write_text(
        "import os\n"
        "from slurmapply import slurm_map\n"
        "def f(x):\n"
        "    names = ('SLURM_CPU_BIND', 'SLURM_ARRAY_TASK_ID', 'SLURM_MEM_PER_NODE')\n"
        "    return x, [os.environ.get(name) for name in names]\n"
        "job = slurm_map(f, [1, 2], job_name='inner', nodes=2, cpus_per_node=1, mem='50M')\n"
        "print(job.results())\n"
    )
    leaks = "SLURM_CPU_BIND=quiet,SBATCH_ARRAY_INX=0-99,SBATCH_TIMELIMIT=1,SBATCH_EXCLUSIVE=1"
    text = slurm_cluster.run(
        ["sbatch", "--parsable", "--wait", "--array=7-7", "--cpus-per-task=3", "--mem=300M",
         f"--export=ALL,{leaks}", "--output=outer.out",
         f"--wrap={sys.executable} {program}"],
        timeout_seconds=60,
    )  # fmt: skip
    assert text.strip().isdigit()
    said = Path("outer.out").read_text()
    row = r"\[None, '[01]', '50'\]\)"
    assert re.search(rf"\[\(1, {row}, \(2, {row}\]", said), said


def test_I_11_the_users_own_defaults_do_not_beat_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "SBATCH_ARRAY_INX": "0-99", "SBATCH_JOB_NAME": "theirs", "SBATCH_TIMELIMIT": "1",
        "SBATCH_OUTPUT": "/nowhere/x", "SBATCH_PARTITION": "urgent",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    standing = slurm_map(abs, [-1], job_name="standing", **ONE)
    # The partition is a standing choice, and stays; what nobody chose for this job does not.
    assert "partition urgent, time limit 1:00:00" in capsys.readouterr().out
    ours = slurm_map(abs, [-1], job_name="ours", partition="main", **ONE)
    assert "partition main" in capsys.readouterr().out
    assert (standing.results(), ours.results()) == ([1], [1])


# A folder that the nodes do not see

SINFO = """case "$*" in *--Node*) printf '%s\\n' {nodes};; *) exec "$real" "$@";; esac"""


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("'n1|n1|10.0.0.1' 'n2|n2|10.0.0.2'", "2 nodes are elsewhere"),
        ("'n1|n1|10.0.0.1' 'n2|localhost|127.0.0.1'", "node n1 is elsewhere"),
        ("'n1|n1|127.0.0.1' 'n2|n2|::1'", None),
        ("", None),
    ],
)
def test_E_23_a_folder_on_a_disk_of_this_machine_alone_is_told_at_once(
    shims: Shims, capsys: pytest.CaptureFixture[str], nodes: str, said: str | None
) -> None:
    shims.add("sinfo", SINFO.format(nodes=nodes))
    job = slurm_map(abs, [-1], **ONE)
    lines = capsys.readouterr().out.splitlines()
    if said is None:
        assert len(lines) == 2
    else:
        assert lines[2].startswith("warning: the job folder is on a disk of this machine alone (")
        assert said in lines[2]
        assert "jobs_folder=" in lines[2]
    assert shims.calls("sinfo") == 1
    assert job.results() == [1]


def test_E_23_nodes_of_this_machine_see_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert slurm_map(abs, [-1], **ONE).results() == [1]
    assert "warning" not in capsys.readouterr().out


def test_E_23_sinfo_is_not_asked_about_a_shared_disk(
    shims: Shims, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shims.add("sinfo", SINFO.format(nodes="'n1|n1|10.0.0.1'"))
    monkeypatch.setattr("slurmapply.schedulers.local.file_system", lambda _: "nfs4")
    slurm_map(abs, [-1], **ONE).wait()
    monkeypatch.undo()
    assert shims.calls("sinfo") == 0
    assert "warning" not in capsys.readouterr().out


def test_E_23_a_file_server_of_its_own_is_no_lonely_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "etab"
    table.write_text(f"{tmp_path}\t10.0.0.0/24(rw,sync)\n")
    assert unshared_file_system(tmp_path / "x")
    monkeypatch.setattr("slurmapply.schedulers.local._EXPORTS", (str(table),))
    assert unshared_file_system(tmp_path / "x") == ""
    assert unshared_file_system(tmp_path.parent)


# The session itself


def test_F_03_ctrl_c_while_submitting() -> None:
    done = session("before sbatch", "interrupted", "slurm")
    assert done.returncode == 9
    assert SlurmJob.open("cut").submit().results() == [1, 2, 3]


def test_F_04_a_session_that_dies_before_it_wrote_down_the_id() -> None:
    before = slurm_jobs("cut")
    assert session("after sbatch", "killed", "slurm").returncode == 9
    job = SlurmJob.open("cut")
    assert job.results() == [1, 2, 3]
    assert slurm_jobs("cut") - before == {job.job_id}
