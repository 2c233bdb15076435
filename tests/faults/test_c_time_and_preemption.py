"""The end of tasks before their rows: signals, time limits, preemption, dead nodes, on Slurm."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import JobAliveError, SlurmJob, slurm_apply
from tests.faults.on_slurm import (
    Task,
    apply,
    begun,
    calls,
    has_ended,
    interrupted,
    life,
    lives,
    prepare,
    slurm,
    squares,
    start_now,
    state,
    values,
    wait_until,
)
from tests.slurm_cluster import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slurm_cluster import Cluster


@pytest.fixture
def start() -> Iterator[Callable[..., Task]]:
    tasks: list[Task] = []

    def started(job: SlurmJob, task: int = 0, **how: Any) -> Task:
        tasks.append(Task(job, task, **how))
        return tasks[-1]

    yield started
    for task in tasks:
        if task.process.poll() is None:
            task.process.kill()
        task.process.communicate()


@pytest.fixture
def own_cluster(
    make_slurm_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> Cluster:
    """Start a cluster whose nodes a test may take away."""
    cluster = make_slurm_cluster(accounting=False)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.fixture
def short_kill_wait(tmp_path: Path) -> str:
    """Give a slurm.conf in which SIGKILL comes five seconds after SIGTERM."""
    path = tmp_path / "slurm.conf"
    path.write_text("ClusterName=none\nKillWait=5\n")
    return str(path)


def limit_time(job: SlurmJob, seconds: float) -> None:
    """Have the tasks of a prepared job believe in another time limit."""
    path = job.folder / "run_0" / "run.json"
    asked = path.read_text()
    assert '"time_seconds": null' in asked
    path.write_text(asked.replace('"time_seconds": null', f'"time_seconds": {seconds}'))


def ok_rows(job: SlurmJob) -> set[int]:
    table = job.table(wait=False, errors="keep")
    return set(table["row_number"][table["row_status"] == "ok"])


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.slurm
def test_C_02_a_warned_task_finishes_its_row_and_others_do_the_rest() -> None:
    job = apply([0.4] * 16, time="2min", chunksize=4)
    wait_until(lambda: begun(0))
    slurm("scancel", "--signal=USR1", "--batch", f"{job.job_id}_0")
    assert job.results() == squares(16)
    warned = life(job, 0)
    assert warned.stopping
    assert warned.end
    # Of a limit of two minutes Slurm does not warn, so this came from somebody.
    assert (warned.stopping["reason"], warned.end["reason"]) == ("SIGUSR1", "SIGUSR1")
    assert len(warned.stopping["rows"]) == 1
    # The chunk that it gave up was not done, and each row was called once all the same.
    assert (job.folder / "run_0" / "claims" / "0.1").exists()
    assert calls() == dict.fromkeys(range(16), 1)


def test_C_03_a_row_that_never_fits_is_left_by_all_tasks(
    start: Callable[..., Task], short_kill_wait: str
) -> None:
    # Row 0 takes all of seven seconds; row 2 is as long, but was begun late: it might fit.
    job = prepare([60, 2.5, 60, 0, 0], processes_per_node=2)
    limit_time(job, 7)
    first = start(job, SLURM_CONF=short_kill_wait)
    wait_until(lambda: begun(2))
    time.sleep(0.3)
    first.process.terminate()
    first.end()
    record = {each["row"]: each for each in first.records("interrupted")}
    assert {record[row]["cause"] for row in (0, 2)} == {"time_limit"}
    assert record[0]["limit"] == record[2]["limit"] == 7
    assert record[0]["seconds"] > 0.8 * 7 > record[2]["seconds"]
    assert first.records("end")[0]["reason"] == "time_limit"
    # Neither another task nor its own next life takes row 0 again.
    start(job, 1).end()
    start(job, life=1).end()
    assert calls() == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
    assert values(job)[1:] == squares(5)[1:]


def test_C_06_signals_one_after_the_other_are_one_end(start: Callable[..., Task]) -> None:
    job = prepare([0.5] * 4, nodes=1)
    task = start(job)
    wait_until(lambda: begun(0))
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
        task.process.send_signal(number)
    assert task.end() == ""
    assert [len(task.records(kind)) for kind in ("stopping", "end")] == [1, 1]
    assert calls() == {0: 1}
    start(job, life=1).end()
    assert (values(job), calls()) == (squares(4), dict.fromkeys(range(4), 1))


def test_C_07_a_stop_during_the_start_costs_no_row(start: Callable[..., Task]) -> None:
    job = prepare([0.01] * 30, nodes=1)
    for number in range(12):
        task = start(job, life=number)
        time.sleep(0.02 * number)
        task.process.terminate()
        task.end()
    start(job, life=12).end()
    assert (values(job), calls()) == (squares(30), dict.fromkeys(range(30), 1))


@pytest.mark.slurm
def test_C_07_a_requeue_during_a_setup_line_costs_no_row() -> None:
    job = apply([0.1] * 4, nodes=1, setup=["touch ../setting_up; sleep 1.5"])
    wait_until(Path("setting_up").exists)
    slurm("scontrol", "requeue", f"{job.job_id}_0")
    start_now(job.job_id)
    assert job.results() == squares(4)
    assert calls() == dict.fromkeys(range(4), 1)
    wait_until(lambda: life(job, number=1).end)


def test_C_08_sigcont_changes_nothing(start: Callable[..., Task]) -> None:
    job = prepare([0.2] * 4, nodes=1)
    task = start(job)
    while task.process.poll() is None:
        task.process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    assert not task.records("stopping")
    assert (values(job), calls()) == (squares(4), dict.fromkeys(range(4), 1))


# -- scancel -----------------------------------------------------------------------------------


@pytest.mark.slurm
def test_C_09_scancel_of_all_keeps_what_is_done() -> None:
    job = apply([0.1] * 4 + [30.0] * 6)
    wait_until(lambda: len(calls()) >= 6)
    slurm("scancel", f"{job.job_id}")
    job.wait()
    table = job.table(wait=False, errors="keep")
    assert table["row_status"].tolist() == ["ok"] * 4 + ["unfinished"] * 6
    assert job.status().counts == {"ok": 4, "unfinished": 6}
    assert job.status().state == "finished"
    assert len(calls()) == 6
    # What was cut off is named, and nothing else is run by anybody.
    causes = {row: record["cause"] for row, record in interrupted(job).items()}
    assert causes == dict.fromkeys(set(calls()) - set(range(4)), "stopped")


@pytest.mark.slurm
@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_C_10_scancel_of_one_task(schedule: str) -> None:
    job = apply([20.0] + [0.3] * 9, schedule=schedule)
    wait_until(lambda: begun(0) and len(calls()) > 1)
    slurm("scancel", f"{job.job_id}_0")
    cancelled = time.time()
    if schedule == "static":
        job.wait()
        assert job.status().counts == {"ok": 5, "unfinished": 5}
        assert ok_rows(job) == set(range(5, 10))
        assert calls() == dict.fromkeys([0, *range(5, 10)], 1)
        return
    # KillWait is 5 s here: two before its end the task ends its row and says so.
    wait_until(lambda: calls()[0] == 2)
    took = time.time() - cancelled
    assert took < 8
    assert interrupted(job)[0]["cause"] == "stopped"
    assert has_ended(job, 0)
    assert job.results() == squares(10)
    assert calls() == {0: 2} | dict.fromkeys(range(1, 10), 1)


# -- preemption, nodes -------------------------------------------------------------------------


def preempt(cluster: Cluster) -> None:
    """Submit something urgent that needs all nodes, for a moment."""
    cluster.run(["sbatch", "-p", "urgent", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 0.5"])


@pytest.mark.slurm
def test_C_04_a_preempted_task_comes_back_and_goes_on(own_cluster: Cluster) -> None:
    job = apply([0.2] * 40, nodes=1, cpus_per_node=2)
    wait_until(lambda: len(calls()) > 6)
    preempt(own_cluster)
    wait_until(lambda: has_ended(job))
    start_now(job.job_id)
    assert job.results() == squares(40)
    assert calls() == dict.fromkeys(range(40), 1)
    assert life(job, number=1).started
    assert len(job.job_ids) == 1


@pytest.mark.slurm
def test_C_05_a_preempted_task_that_is_not_requeued_leaves_rows(own_cluster: Cluster) -> None:
    job = apply([0.2] * 30, nodes=1, cpus_per_node=2, partition="cheap")
    wait_until(lambda: len(calls()) > 6)
    preempt(own_cluster)
    job.wait()
    done = set(calls())
    wait_until(lambda: state(job.job_id) == "PREEMPTED")
    assert ok_rows(job) == done
    assert job.status().counts == {"ok": len(done), "unfinished": 30 - len(done)}
    assert job.retry(partition="main").results() == squares(30)
    assert calls() == dict.fromkeys(range(30), 1)


def take_node(cluster: Cluster, job: SlurmJob) -> None:
    """Declare the node of a job's only task dead, and bring it back."""
    node = life(job).started or {}
    name = f"nodename={node['node']}"
    cluster.run(["scontrol", "update", name, "state=down", "reason=test"])
    with contextlib.suppress(ClusterError):  # it may have come back by itself
        cluster.run(["scontrol", "update", name, "state=resume"])


@pytest.mark.slurm
def test_C_12_a_task_of_a_dead_node_goes_on_elsewhere(own_cluster: Cluster) -> None:
    job = apply([0.2] * 40, nodes=1, cpus_per_node=2)
    wait_until(lambda: len(calls()) > 6)
    take_node(own_cluster, job)
    start_now(job.job_id)
    assert job.results() == squares(40)
    assert life(job, number=1).started
    # Only what was in the two workers may have run twice.
    assert sum(calls().values()) <= 42


@pytest.mark.slurm
def test_C_13_a_dead_node_without_requeue_leaves_rows(own_cluster: Cluster) -> None:
    options = {"no_requeue": True}
    job = apply([0.2] * 30, nodes=1, cpus_per_node=2, slurm_options=options)
    wait_until(lambda: len(calls()) > 6)
    take_node(own_cluster, job)
    job.wait()
    wait_until(lambda: state(job.job_id) == "NODE_FAIL")
    done = ok_rows(job)
    assert 4 <= len(done) < 30
    assert job.status().counts == {"ok": len(done), "unfinished": 30 - len(done)}
    assert job.retry().results() == squares(30)
    assert sum(calls().values()) <= 32


@pytest.mark.slurm
def test_C_15_memory_too_small_for_the_task_itself(slurm_cluster: Cluster) -> None:
    if not slurm_cluster.memory_limits:
        pytest.skip("no memory limits on this machine's test Slurm")
    place = Path.cwd()

    def fatal(x: int) -> int:
        if x == 3 and not (place / "tried").exists():
            (place / "tried").touch()
            # The kernel then takes the task's main process first (proc(5)).
            Path(f"/proc/{os.getppid()}/oom_score_adj").write_text("1000")
            return len(bytearray(300 << 20))
        return x * x

    job = slurm_apply(fatal, {"x": range(6)}, nodes=1, cpus_per_node=1, mem="100M", job_name="c")
    job.wait()
    wait_until(lambda: state(job.job_id) == "OUT_OF_MEMORY")
    assert not has_ended(job)
    assert job.status().counts == {"ok": 3, "unfinished": 3}
    assert job.retry(mem="200M").results() == squares(6)


@pytest.mark.slow
@pytest.mark.slurm
def test_C_17_a_node_that_reboots_costs_the_row_in_work(own_cluster: Cluster) -> None:
    job = apply([0.1] * 5 + [3.0, 0.1, 0.1], nodes=1)
    wait_until(lambda: begun(5))
    node = life(job).started or {}
    kill_node(own_cluster, node["pid"], node["node"])
    # SlurmdTimeout is 10 s here; then the node is down, and Slurm queues its task again.
    start_now(job.job_id, seconds=60)
    assert job.results() == squares(8)
    assert calls() == dict.fromkeys(range(8), 1) | {5: 2}
    assert not has_ended(job)


def kill_node(cluster: Cluster, supervisor: int, node: str) -> None:
    """Kill what a reboot takes: the node's daemon, its step, the task and its workers."""
    step = int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (cluster.pid(node), step, supervisor):
        os.kill(pid, signal.SIGKILL)


# -- two lives at once -------------------------------------------------------------------------


def duplicates(job: SlurmJob) -> int:
    job = SlurmJob(job.folder)
    job.status()
    return job._follower.outcomes.duplicates


def test_E_18_the_same_life_twice_gives_each_row_one_result(start: Callable[..., Task]) -> None:
    job = prepare([0.05] * 20, nodes=1)
    twins = [start(job), start(job)]
    assert [twin.end() for twin in twins] == ["", ""]
    assert values(job) == squares(20)
    twice = sum(calls().values()) - 20
    assert duplicates(job) == twice


def test_E_18_an_old_life_goes_on_beside_the_next(start: Callable[..., Task]) -> None:
    job = prepare([0.1] * 20, nodes=1, chunksize=20)
    old = start(job)
    wait_until(lambda: len(calls()) > 4)
    old.process.send_signal(signal.SIGSTOP)  # its worker goes on, until its group is done
    new = start(job, life=1)
    wait_until(lambda: len(calls()) > 8)
    old.process.send_signal(signal.SIGCONT)
    assert [old.end(), new.end()] == ["", ""]
    assert values(job) == squares(20)
    twice = sum(calls().values()) - 20
    assert duplicates(job) == twice > 0


# -- a kill while the function is loaded ---------------------------------------------------------


@pytest.mark.parametrize(("kills", "ends"), [(1, "done"), (2, "load_failed")])
def test_B_01_a_worker_that_is_killed_while_it_loads_is_replaced_once(
    start: Callable[..., Task], kills: int, ends: str
) -> None:
    place = Path.cwd()

    def load() -> None:
        (place / f"loading_{os.getpid()}").touch()
        while len(list(place.glob("loading_*"))) <= kills:
            time.sleep(0.01)

    job = prepare([0.0] * 4, nodes=1, initializer=load)
    task = start(job)
    killed: set[int] = set()
    while len(killed) < kills:
        loading = {int(path.name.split("_")[1]) for path in place.glob("loading_*")} - killed
        for pid in loading:
            os.kill(pid, signal.SIGKILL)
        killed |= loading
        time.sleep(0.01)
    task.end()
    assert task.records("end")[0]["reason"] == ends
    assert len(calls()) == (4 if ends == "done" else 0)


# -- retry -------------------------------------------------------------------------------------


@pytest.mark.slurm
def test_C_09_a_job_that_is_alive_is_not_retried() -> None:
    job = apply([30.0], nodes=1)
    wait_until(lambda: begun(0))
    with pytest.raises(JobAliveError, match=r"(?s)running.*wait|cancel"):
        job.retry()
    assert not (job.folder / "run_1").exists()
    job.cancel()


@pytest.mark.slurm
def test_C_04_a_requeue_of_an_ended_job_changes_nothing() -> None:
    job = apply([0.0] * 4, nodes=1)
    job.wait()
    wait_until(lambda: state(job.job_id) == "COMPLETED")
    files = {path.name: path.stat().st_size for path in job.folder.glob("run_0/outcomes_*")}
    slurm("scontrol", "requeue", f"{job.job_id}_0")
    start_now(job.job_id)
    wait_until(lambda: state(job.job_id) == "COMPLETED" and has_ended(job, number=1))
    after = {path.name: path.stat().st_size for path in job.folder.glob("run_0/outcomes_*")}
    assert {name: after[name] for name in files} == files
    assert sum(after.values()) == sum(files.values())
    assert SlurmJob(job.folder).results() == squares(4)
    assert calls() == dict.fromkeys(range(4), 1)


@pytest.mark.slurm
def test_C_09_a_revived_task_of_an_earlier_run_changes_nothing() -> None:
    job = apply([0.0, 0.0, 8.0], nodes=1)
    wait_until(lambda: begun(2))
    first = job.job_id
    slurm("scancel", f"{first}")
    job.wait()
    job.retry()
    wait_until((job.folder / "run_1" / "rows").exists)
    before = sorted(path.name for path in (job.folder / "run_0").iterdir())
    slurm("scontrol", "requeue", f"{first}_0")
    start_now(first)
    wait_until(lambda: state(first) == "COMPLETED")
    assert sorted(path.name for path in (job.folder / "run_0").iterdir()) == before
    assert "followed by a later one" in (job.folder / "run_0" / "slurm_0.out").read_text()
    assert job.results() == squares(3)
    assert calls() == {0: 1, 1: 1, 2: 2}


@pytest.mark.slurm
def test_C_01_what_a_retry_changes_reaches_slurm() -> None:
    job = apply([0.0] * 6, mem="100M")
    job.wait()
    job.retry(
        rows=range(6), nodes=3, mem="150M", time="7min", slurm_options={"comment": "a word"}
    ).wait()
    told = slurm("scontrol", "show", "job", f"{job.job_id}")
    assert told.count("JobState=") == 3
    for said in ("MinMemoryNode=150M", "TimeLimit=00:07:00", "Comment=a word"):
        assert told.count(said) == 3
    assert job.results() == squares(6)


# -- the time limit itself: Slurm looks every thirty seconds -----------------------------------


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_C_01_a_time_limit_costs_the_rows_in_work_only() -> None:
    seconds = [600 if x in (6, 7) else 0 for x in range(12)]
    job = apply(seconds, chunksize=1, time="1min")
    job.wait()
    wait_until(lambda: state(job.job_id) == "TIMEOUT")
    records = interrupted(job)
    assert {row: record["cause"] for row, record in records.items()} == {
        6: "time_limit",
        7: "time_limit",
    }
    assert all(record["limit"] == 60 < record["seconds"] + 5 for record in records.values())
    for view in lives(job):
        assert view.started
        assert view.stopping
        assert view.end
        assert (view.started["limit"], view.end["reason"]) == (60, "time_limit")
        assert view.stopping["rows"] in ([6], [7])
    assert ok_rows(job) == set(range(6))
    assert job.status().counts == {"ok": 6, "unfinished": 6}
    assert job.retry(time="5min").results() == squares(12)
    assert calls() == dict.fromkeys(range(12), 1) | {6: 2, 7: 2}
    assert job.table(details=True)["row_attempt"].tolist()[5:9] == [1, 2, 2, 1]
