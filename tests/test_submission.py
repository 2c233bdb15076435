"""Sessions that are cut short while they submit: killed, interrupted, left without an answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    InvalidArgumentError,
    JobAliveError,
    JobExistsError,
    SlurmApplyError,
    SlurmJob,
    SubmissionError,
    SubmissionUnknownError,
    slurm_map,
)
from slurmapply.disk import FolderDisk
from slurmapply.intents import read_intents
from tests.shims import DOWN, slurm_jobs, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.shims import Shims
    from tests.slurm_cluster import Cluster

ITEMS = [-1, -2, -3]
BOTH = pytest.mark.parametrize("backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])

# What a session runs, until it is cut short at a step.
SESSION = """
import os, sys, threading
from slurmapply import SlurmJob, preparing, slurm_map, starting, submitting
from slurmapply.schedulers.local import LocalScheduler
from slurmapply.schedulers.slurm import SlurmScheduler
step, how, backend = sys.argv[1:]
def cut(*arguments, **keywords):
    if how == "killed":
        os._exit(9)
    raise KeyboardInterrupt
def cut_before(owner, name):
    setattr(owner, name, cut)
def cut_after(owner, name):
    whole = getattr(owner, name)
    setattr(owner, name, lambda *a, **k: (whole(*a, **k), cut()))
scheduler = {"slurm": SlurmScheduler, "local": LocalScheduler}[backend]
if step == "before the folder":
    cut_before(preparing.os, "rename")
elif step == "before the intent":
    cut_before(SlurmJob, "submit")
elif step == "before sbatch":
    cut_before(scheduler, "submit")
elif step == "after sbatch":
    cut_after(scheduler, "submit")
elif step == "after the submission":
    cut_after(submitting, "_write_down")
elif step == "while announcing":
    cut_before(starting, "_say_started")
try:
    slurm_map(abs, [-1, -2, -3], job_name="cut", backend=backend, nodes=2, cpus_per_node=1)
except KeyboardInterrupt:
    # The session itself lives on, as in a notebook, and would be asked for nothing.
    sys.exit(9)
"""
NOT_PREPARED = {"queued", "running", "stopping", "finished"}
STEPS = [
    "before the folder",
    "before the intent",
    "before sbatch",
    "after sbatch",
    "after the submission",
    "while announcing",
]


def session(step: str, how: str, backend: str) -> subprocess.CompletedProcess[str]:
    """Run a session of its own that is cut short at a step."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SESSION, step, how, backend],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def go_on(backend: str, **keywords: Any) -> SlurmJob:
    """Do what a person does in a new session: look, and submit what is not submitted."""
    try:
        job = SlurmJob.open("cut")
    except SlurmApplyError:
        return slurm_map(abs, ITEMS, job_name="cut", backend=backend, nodes=2, cpus_per_node=1)
    if job.status().state == "prepared":
        job.submit(**keywords)
    return job


# Cut short at each step


@BOTH
@pytest.mark.parametrize("how", ["killed", "interrupted"])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_step_a_session_is_cut_short_at_there_is_one_submission(
    step: str, how: str, backend: str
) -> None:
    before = slurm_jobs("cut") if backend == "slurm" else set()
    done = session(step, how, backend)
    assert done.returncode == 9, done.stderr
    job = go_on(backend)
    assert job.results() == [1, 2, 3]
    assert job.status().state == "finished"
    if backend == "slurm":
        assert slurm_jobs("cut") - before == {job.job_id}
    assert len(job.job_ids) == 1
    assert {view.life.submission for view in job._follower.run.lives} == {job.job_id}


@pytest.mark.slurm
def test_a_submission_that_ends_after_its_session_is_waited_for(shims: Shims) -> None:
    shims.add("sbatch", 'sleep 3; exec $real "$@"')
    killed_while_waiting = """
import os, threading
from slurmapply import slurm_map
threading.Timer(1.0, os._exit, [9]).start()
slurm_map(abs, [-1, -2, -3], job_name="cut", nodes=1, cpus_per_node=1)
"""
    before = slurm_jobs("cut")
    subprocess.run([sys.executable, "-c", killed_while_waiting], check=False, timeout=60)
    job = SlurmJob.open("cut")
    assert job.status().state == "unknown"
    assert re.search(r"sbatch \(process \d+\) is still submitting it", job.status().note)
    with pytest.raises(SubmissionUnknownError, match=r"is still submitting it.*force=True"):
        SlurmJob.open("cut").submit()
    assert job.wait(timeout=60).results() == [1, 2, 3]
    assert slurm_jobs("cut") - before == {job.job_id}


@pytest.mark.slurm
def test_an_interrupted_notebook_goes_on_by_itself(shims: Shims) -> None:
    # Ctrl-C while sbatch hangs, before and after Slurm took the job.
    before = slurm_jobs("cut")
    for body, states in (("sleep 60", {"prepared"}), ('"$real" "$@"; sleep 60', NOT_PREPARED)):
        shims.add("sbatch", body)
        threading.Timer(2.0, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            slurm_map(abs, ITEMS, job_name="cut", nodes=1, cpus_per_node=1, if_exists="replace")
        shims.remove("sbatch")
        assert SlurmJob.open("cut").status().state in states
    job = SlurmJob.open("cut")
    assert job.results() == [1, 2, 3]
    assert slurm_jobs("cut") - before == {job.job_id}


@BOTH
def test_a_session_that_was_interrupted_and_lives_on_is_not_waited_for(
    backend: str, own_folders: Path
) -> None:
    program = SESSION.replace("sys.exit(9)", "print(flush=True); sys.stdin.read()")
    process = subprocess.Popen(
        [sys.executable, "-c", program, "before sbatch", "interrupted", backend],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    job = SlurmJob.open("cut")
    assert job.status().state == "prepared"
    assert process.poll() is None
    assert job.submit().results() == [1, 2, 3]
    process.communicate(timeout=20)


@pytest.mark.slurm
def test_ctrl_c_says_what_to_do_next(shims: Shims, capsys: pytest.CaptureFixture[str]) -> None:
    shims.add("sbatch", "sleep 60")
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        slurm_map(abs, ITEMS, job_name="cut", nodes=1, cpus_per_node=1)
    assert capsys.readouterr().err == (
        'stopped submitting cut. Whether it was submitted: SlurmJob.open("cut").status() looks; '
        ".submit() goes on from there\n"
    )


def test_ctrl_c_in_this_process_is_about_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    def stop(x: int) -> int:
        if x:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        slurm_map(stop, [0, 1], job_name="cut", backend="inline")
    assert capsys.readouterr().err == ""
    assert SlurmJob.open("cut").status().counts == {"ok": 1, "unfinished": 1}


# When nobody answers


def silence(shims: Shims) -> None:
    """Take Slurm's answers away: sbatch takes a job and does not say so, nobody knows of it."""
    shims.add("sbatch", '"$real" "$@" >/dev/null; echo "Socket timed out" >&2; exit 1')
    shims.add("squeue", DOWN)
    shims.add("sacct", DOWN)


@pytest.mark.slurm
@pytest.mark.usefixtures("impatient")
def test_a_submission_that_nobody_answered_is_found_when_slurm_is_back(
    slurm_cluster: Cluster, shims: Shims, capsys: pytest.CaptureFixture[str]
) -> None:
    before = slurm_jobs("cut")
    silence(shims)
    with pytest.raises(SubmissionUnknownError, match=r"submit\(force=True\)") as caught:
        slurm_map(
            abs, ITEMS, job_name="cut", nodes=1, cpus_per_node=1,
            slurm_options={"begin": "now+1hour"},
        )  # fmt: skip
    folder = caught.value.job.folder
    job = SlurmJob(folder)
    status = job.status()
    assert (status.state, status.completed, status.age) == ("unknown", False, 0.0)
    assert "whether it was submitted is not known" in status.note
    assert "connect failure" in status.note
    with pytest.raises(SubmissionUnknownError, match="was not submitted again") as caught:
        job.submit()
    assert caught.value.job is job
    with pytest.raises(JobExistsError, match="it is unknown"):
        slurm_map(abs, ITEMS, job_name="cut", nodes=1, if_exists="replace")
    with pytest.raises(JobAliveError, match="it is unknown"):
        job.cleanup(wait=False)
    with pytest.raises(InvalidArgumentError, match="not known yet"):
        slurm_map(abs, ITEMS, job_name="later", nodes=1, after=job)
    for name in ("sbatch", "squeue", "sacct"):
        shims.remove(name)
    found = SlurmJob(folder)
    capsys.readouterr()
    assert found.submit() is found
    assert f"cut: 3 rows, 1 at a time (1 node x 1 process), Slurm job {found.job_id}" in (
        capsys.readouterr().out
    )
    assert slurm_jobs("cut") - before == {found.job_id}
    assert json.loads((folder / "run_0/submission").read_text())["name"].startswith("cut_")
    with pytest.raises(JobAliveError, match="was submitted already"):
        SlurmJob(folder).submit(mem="1G")
    slurm_cluster.run(["scontrol", "update", f"jobid={found.job_id}", "starttime=now"])
    assert found.results() == [1, 2, 3]


@pytest.mark.slurm
@pytest.mark.usefixtures("impatient")
def test_a_forced_submission_leaves_nothing_to_an_earlier_one(
    slurm_cluster: Cluster, shims: Shims
) -> None:
    before = slurm_jobs("cut")
    silence(shims)
    with pytest.raises(SubmissionUnknownError) as caught:
        slurm_map(
            abs, ITEMS, job_name="cut", nodes=1, cpus_per_node=1,
            slurm_options={"begin": "now+1hour"},
        )  # fmt: skip
    shims.remove("sbatch")
    job = caught.value.job.submit(force=True)
    shims.remove("squeue")
    shims.remove("sacct")
    (first,) = slurm_jobs("cut") - before - {job.job_id}
    # The first is the first to start, and ends at once without touching anything.
    slurm_cluster.run(["scontrol", "update", f"jobid={first}", "starttime=now"])
    wait_until(lambda: first not in slurm_cluster.run(["squeue", "-h", "-o", "%F"]))
    assert job.status().counts == {"pending": 3}
    assert "is not the one that this script was written for" in job.logs(task=0)
    slurm_cluster.run(["scontrol", "update", f"jobid={job.job_id}", "starttime=now"])
    assert job.results() == [1, 2, 3]
    assert len(job._follower.run.lives) == 1


@pytest.mark.slurm
@pytest.mark.usefixtures("impatient")
def test_a_refusal_leaves_no_doubt(shims: Shims) -> None:
    with pytest.raises(SubmissionError, match="that much memory") as caught:
        slurm_map(abs, ITEMS, job_name="cut", nodes=1, cpus_per_node=1, mem="999G")
    job = caught.value.job
    assert not isinstance(caught.value, SubmissionUnknownError)
    assert read_intents(FolderDisk(job.folder), 0) == ()
    shims.add("squeue", 'exec $real "$@"')
    assert SlurmJob(job.folder).status().state == "prepared"
    assert shims.calls("squeue") == 0
    assert job.submit(mem="100M").results() == [1, 2, 3]


@pytest.mark.slurm
@pytest.mark.usefixtures("impatient")
def test_looking_for_a_submission_is_within_the_budget(shims: Shims) -> None:
    session("before sbatch", "killed", "slurm")
    shims.add("squeue", DOWN)
    shims.add("sacct", 'exec $real "$@"')
    job = SlurmJob.open("cut")
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        assert job.status().state == "unknown"
        assert "3 rows: 0 ok, 3 pending" in repr(job)
    assert 2 <= shims.calls("squeue") == shims.calls("sacct") <= 4
    shims.remove("squeue")
    wait_until(lambda: job.status().state == "prepared", 10)
    assert job.submit().results() == [1, 2, 3]


@pytest.mark.slurm
def test_waiting_for_what_was_never_submitted_says_so() -> None:
    session("before sbatch", "killed", "slurm")
    for what in (SlurmJob.wait, SlurmJob.table, SlurmJob.retry):
        with pytest.raises(SlurmApplyError, match="was prepared, but never submitted"):
            what(SlurmJob.open("cut"))
    job = SlurmJob.open("cut")
    job.cancel()
    assert job.submit().results() == [1, 2, 3]


@pytest.mark.slurm
@pytest.mark.usefixtures("impatient")
def test_a_cancelled_attempt_is_not_submitted_again_but_retried(shims: Shims) -> None:
    session("before sbatch", "killed", "slurm")
    shims.add("squeue", DOWN)
    job = SlurmJob.open("cut")
    job.cancel()
    shims.remove("squeue")
    job = SlurmJob.open("cut")
    status = job.status()
    assert (status.state, status.counts) == ("cancelled", {"cancelled": 3})
    assert job.retry().results() == [1, 2, 3]


# Several sessions


SUBMIT = """
import sys
from pathlib import Path
from slurmapply import JobAliveError, SlurmJob, SubmissionUnknownError
job = SlurmJob.open("cut")
assert job.status().state == "prepared"
Path(sys.argv[1]).touch()
while not Path("go").exists():
    pass
try:
    job.submit()
    print("submitted", job.job_id)
except (JobAliveError, SubmissionUnknownError) as error:
    print(error)
"""


@BOTH
@pytest.mark.parametrize("cut_before", [False, True])
def test_of_two_sessions_that_submit_at_once_one_does(cut_before: bool, backend: str) -> None:  # noqa: FBT001
    before = slurm_jobs("cut") if backend == "slurm" else set()
    session("before sbatch" if cut_before else "before the intent", "killed", backend)
    both = [
        subprocess.Popen([sys.executable, "-c", SUBMIT, name], stdout=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    wait_until(lambda: Path("first").exists() and Path("second").exists())
    Path("go").touch()
    said = [process.communicate(timeout=60)[0] for process in both]
    job = SlurmJob.open("cut")
    assert job.results() == [1, 2, 3]
    if backend == "slurm":
        assert slurm_jobs("cut") - before == {job.job_id}
    (lost,) = (text for text in said if f"submitted {job.job_id}" not in text)
    refusals = "another session is submitting|was submitted already|is submitting it"
    assert re.search(refusals, lost)


@BOTH
def test_a_session_that_submits_at_this_moment_is_told_of(backend: str, tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from slurmapply import slurm_map
from slurmapply.schedulers.local import LocalScheduler
from slurmapply.schedulers.slurm import SlurmScheduler
for scheduler in (LocalScheduler, SlurmScheduler):
    def submit(self, request, whole=scheduler.submit):
        Path({str(tmp_path / "there")!r}).touch()
        time.sleep(2)
        return whole(self, request)
    scheduler.submit = submit
slurm_map(abs, [-1, -2, -3], job_name="cut", backend={backend!r}, nodes=1, cpus_per_node=1)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "there").exists)
    job = SlurmJob.open("cut")
    status = job.status()
    assert status.state == "unknown"
    who = f"process {process.pid} of this machine is submitting it"
    assert status.note == f"it is being submitted: {who}."
    with pytest.raises(SubmissionUnknownError, match="is being submitted"):
        job.submit()
    assert process.wait(timeout=30) == 0
    assert job.results() == [1, 2, 3]


@pytest.mark.slurm
def test_a_session_on_another_machine_gets_its_time() -> None:
    session("before sbatch", "killed", "slurm")
    intent = Path("_slurmapply_cut/run_0/intent.0")
    content = json.loads(intent.read_text()) | {"host": "elsewhere"}
    intent.write_text(json.dumps(content | {"time": time.time() - 20}))
    status = SlurmJob.open("cut").status()
    assert status.state == "unknown"
    assert re.search("a session on elsewhere began to submit it 2. s ago", status.note)
    intent.write_text(json.dumps(content | {"time": time.time() - 400}))
    assert SlurmJob.open("cut").status().state == "prepared"
    intent.write_text(json.dumps(content | {"pid": 0}))
    assert SlurmJob.open("cut").status().state == "prepared"


@pytest.mark.parametrize("content", [b"", b'{"time": 1', b"[]", b"{}"])
def test_a_damaged_intent_is_an_attempt_of_which_nothing_is_left(content: bytes) -> None:
    session("before sbatch", "killed", "local")
    Path("_slurmapply_cut/run_0/intent.0").write_bytes(content)
    job = SlurmJob.open("cut")
    assert job.status().state == "prepared"
    assert job.submit().results() == [1, 2, 3]


# On this machine


def test_a_local_job_that_has_not_begun_is_found_by_its_process() -> None:
    program = SESSION.replace('job_name="cut"', 'job_name="cut", setup="sleep 2"')
    subprocess.run(
        [sys.executable, "-c", program, "after sbatch", "killed", "local"],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    assert not Path("_slurmapply_cut/run_0/submission").exists()
    job = SlurmJob.open("cut")
    assert job.status().state == "running"
    assert Path("_slurmapply_cut/run_0/submission").exists()
    with pytest.raises(JobAliveError, match="was submitted already"):
        job.submit()
    assert job.results() == [1, 2, 3]
    assert len(job._follower.run.lives) == 1


@pytest.mark.parametrize(
    ("field", "state"), [("host", "unknown"), ("boot_id", "prepared"), ("pid", "prepared")]
)
def test_a_local_attempt_counts_where_and_while_it_could_live(field: str, state: str) -> None:
    session("before sbatch", "killed", "local")
    intent = Path("_slurmapply_cut/run_0/intent.0")
    intent.write_text(json.dumps(json.loads(intent.read_text()) | {field: 1, "time": 0}))
    job = SlurmJob.open("cut")
    assert job.status().state == state
    if state == "unknown":
        with pytest.raises(SubmissionUnknownError, match="was to be started on 1; look"):
            job.submit()
    assert job.submit(force=True).results() == [1, 2, 3]


# What a task wrote down must do


@pytest.mark.parametrize("accounting", [False, True])
def test_a_task_that_was_first_to_write_the_submission_down_is_as_good(
    accounting: bool,  # noqa: FBT001
    slurm_cluster: Cluster,
    make_slurm_cluster: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cluster = slurm_cluster if accounting else make_slurm_cluster(accounting=False)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    gate = str(tmp_path / "gate")

    def wait_for_gate(x: int) -> int:
        while not os.path.exists(gate):  # noqa: PTH110
            time.sleep(0.01)
        return x

    job = slurm_map(wait_for_gate, [1, 2, 3], nodes=3, cpus_per_node=1, submit=False, time="1h")
    job_id = cluster.run(
        ["sbatch", "--parsable", f"--chdir={job.folder}", str(job.folder / "submit.sh")]
    ).strip()
    wait_until(lambda: len(list((job.folder / "run_0").glob("task_*"))) == 3)
    written = json.loads((job.folder / "run_0/submission").read_text())
    assert set(written) == {"kind", "job_id", "cluster"}
    job = SlurmJob(job.folder)
    status = job.status()
    assert (status.state, job.job_id, status.note) == ("running", job_id, "")
    assert [(entry["task"], entry["state"]) for entry in status.queue] == [
        (0, "RUNNING"), (1, "RUNNING"), (2, "RUNNING"),
    ]  # fmt: skip
    submission = job._follower.run.submission
    assert submission is not None
    described = job._follower._scheduler("slurm").describe(submission)
    assert described.startswith(f"Slurm job {job_id}, partition main, time limit 1:00:00, ")
    job.cancel()
    assert job.wait(timeout=30).status().counts == {"cancelled": 3}
    Path(gate).touch()
    assert job.retry().results() == [1, 2, 3]
