"""Slurm's commands as small programs on PATH where a real Slurm cannot be made to misbehave."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply.errors import (
    SchedulerError,
    SchedulerNotFoundError,
    SubmissionError,
    SubmissionUnknownError,
)
from slurmapply.schedulers import slurm
from slurmapply.schedulers.base import Phase, Request, Submission
from slurmapply.schedulers.command import (
    boot_id,
    process_start_time,
    run,
    start_detached,
    user_environment,
)
from slurmapply.schedulers.options import Options, directives, run_options
from slurmapply.schedulers.slurm import SlurmScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster import Cluster

NAME = "job_0a1b2c"
SLOW = "sleep 60"
TIMED_OUT = (
    "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation'"
    " >&2; exit 1"
)
NO_ACCOUNTS = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
NO_DATABASE = "echo 'sacct: error: slurm_persist_conn_open: Connection refused' >&2; exit 1"
PURGED = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
DOWN = (
    "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2;exit 1"
)
HOSTILE = 'it\'s "x" $(touch pwned) `touch pwned` \\ %j ; exit 3 #'


class Fakes:
    """Programs in a folder of their own, which write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, body: str) -> None:
        """Make a program; its body is bash."""
        path = self.folder / name
        path.write_text(
            f'#!/bin/bash\n(printf \'%s\\n\' "$@" \'cwd=\'"$PWD"; env) >"$0.call.$$.$RANDOM"\n'
            f"{body}\n"
        )
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """Give the lines of each call: arguments, working folder, environment."""
        found = sorted(self.folder.glob(f"{name}.call.*"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_text().splitlines() for path in found]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Give a Slurm that knows nothing, in front of all other programs."""
    made = Fakes(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo"):
        made.add(name, "exit 0")
    return made


@pytest.fixture
def scheduler() -> SlurmScheduler:
    return SlurmScheduler(timeout=10, submit_timeout=10, pauses=(0.0, 0.0))


def request(folder: Path, **changed: Any) -> Request:
    plain: dict[str, Any] = {
        "folder": folder,
        "script": "submit.sh",
        "slurm_name": NAME,
        "options": Options((("job-name", NAME), ("array", "0-1"), ("output", "slurm_%a.out"))),
        "tasks": 2,
        "console": "run_0/slurm_0.out",
        "uuid": "u",
        "run": 0,
        "tag": "0a1b2c",
    }
    return Request(**(plain | changed))


def submission(job_id: str, tasks: int = 2, cluster: str | None = None) -> Submission:
    return Submission("slurm", job_id, {"cluster": cluster, "tasks": tasks, "options": {}})


# Starting programs


def test_a_command_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    done = run(["printf", "%s|", HOSTILE, "", "a b"], cwd=tmp_path)
    assert done.stdout == f"{HOSTILE}||a b|"
    assert not (tmp_path / "pwned").exists()


def test_a_failure_tells_what_was_done_and_what_came_back() -> None:
    with pytest.raises(SchedulerError) as caught:
        run(["bash", "-c", "echo out; echo oops >&2; exit 3"], purpose="asking")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.exit_code, error.command[0], error.output) == (3, "bash", "oops\nout")
    assert str(error).startswith("asking with bash: exit status 3.\n    oops\n    out\n")


def test_a_failure_may_be_looked_at() -> None:
    assert run(["bash", "-c", "exit 3"], check=False).exit_code == 3
    assert run(["bash", "-c", "kill -9 $$"], check=False).exit_code == -signal.SIGKILL


def test_a_missing_command_is_named() -> None:
    with pytest.raises(SchedulerNotFoundError, match="there is no nosuch on this machine"):
        run(["nosuch"])


def test_a_missing_folder_is_not_a_missing_command(tmp_path: Path) -> None:
    with pytest.raises(SchedulerError, match="could not be started") as caught:
        run(["true"], cwd=tmp_path / "gone")
    assert not isinstance(caught.value, SchedulerNotFoundError)


def test_a_variable_that_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_TOO_LARGE", "x" * 200_000)
    with pytest.raises(SchedulerError, match="FAR_TOO_LARGE has 200000 characters"):
        run(["true"])


def test_a_slow_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SchedulerError, match=r"no answer within 0\.5 s") as caught:
        run(["bash", "-c", "sleep 61 & echo $! >pid; echo said; wait"], cwd=tmp_path, timeout=0.5)
    assert time.monotonic() - started < 5
    assert caught.value.exit_code is None
    assert caught.value.output == "said"
    wait_until(lambda: process_start_time(int((tmp_path / "pid").read_text())) is None)


def test_what_left_the_group_is_not_waited_for() -> None:
    started = time.monotonic()
    with pytest.raises(SchedulerError, match="no answer"):
        run(["setsid", "--wait", "sleep", "4"], timeout=0.3)
    assert time.monotonic() - started < 3


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert run(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_a_command_reads_nothing() -> None:
    code = "from slurmapply.schedulers.command import run; print(repr(run(['cat']).stdout))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="typed",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "''\n"


SCRUBBED = (
    "SLURM_JOB_ID", "SLURM_CPU_BIND", "SLURMD_NODENAME", "SBATCH_ARRAY_INX", "SBATCH_TIMELIMIT",
    "SBATCH_WAIT", "SRUN_DEBUG", "SQUEUE_FORMAT", "SACCT_FORMAT", "SLURM_TIME_FORMAT",
    "SCONTROL_ALL", "SINFO_FORMAT", "PMI_RANK", "PMIX_RANK",
)  # fmt: skip
KEPT = (
    "SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SLURMAPPLY_PYTHON",
    "TOKEN",
)  # fmt: skip


def test_the_environment_is_the_users_without_slurms(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SCRUBBED, *KEPT):
        monkeypatch.setenv(name, "x")
    names = {line.partition("=")[0] for line in run(["env"]).stdout.splitlines()}
    assert names.isdisjoint(SCRUBBED)
    assert names.issuperset(KEPT)


def test_questions_are_asked_in_a_neutral_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    asked = run(["env"]).stdout.splitlines()
    assert "LC_ALL=C.UTF-8" in asked
    assert "SLURM_BITSTR_LEN=0" in asked
    assert user_environment()["LC_ALL"] == "de_DE.UTF-8"


def test_a_detached_process_is_on_its_own(tmp_path: Path) -> None:
    output = tmp_path / "the output"
    output.write_text("before\n")
    code = (
        "import os, sys, time; print(sys.argv[1:], os.getsid(0) == os.getsid(int(sys.argv[2])),"
        " os.getcwd(), os.environ['A'], repr(sys.stdin.read()), flush=True);"
        "print('oops', file=sys.stderr, flush=True); time.sleep(60)"
    )
    pid = start_detached(
        [sys.executable, "-c", code, HOSTILE, str(os.getpid())],
        cwd=tmp_path,
        output=output,
        environment={"A": "1", "PATH": os.environ["PATH"]},
    )
    try:
        wait_until(lambda: "oops" in output.read_text())
        said = [HOSTILE, str(os.getpid())]
        assert output.read_text() == f"before\n{said} False {tmp_path} 1 ''\noops\n"
        assert not (tmp_path / "pwned").exists()
        assert process_start_time(pid) is not None
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process_start_time(pid) is None)


def test_a_detached_process_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchedulerNotFoundError, match="nosuch"):
        start_detached(["nosuch"], cwd=tmp_path, output=tmp_path / "out")


def test_a_process_is_known_by_its_start(tmp_path: Path) -> None:
    mine = process_start_time(os.getpid())
    assert mine is not None
    assert mine == process_start_time(os.getpid())
    odd = tmp_path / "a ) R 1 ("
    odd.write_bytes(Path("/bin/sleep").read_bytes())
    odd.chmod(0o755)
    process = subprocess.Popen([odd, "60"])
    later = process_start_time(process.pid)
    process.kill()
    wait_until(lambda: process_start_time(process.pid) is None)  # a zombie, not waited for yet
    process.wait()
    assert later is not None
    assert later >= mine
    assert process_start_time(process.pid) is None
    assert len(boot_id()) == 36


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Submitting


def test_sbatch_gets_the_options_in_the_job_folder(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    fakes.add("sbatch", "echo 4711")
    taken = scheduler.submit(request(tmp_path))
    assert (taken.kind, taken.job_id) == ("slurm", "4711")
    assert taken.details["tasks"] == 2
    assert taken.details["name"] == NAME
    (call,) = fakes.calls("sbatch")
    assert call[: call.index(f"cwd={tmp_path}")] == [
        "--parsable",
        f"--chdir={tmp_path}",
        f"--job-name={NAME}",
        "--array=0-1",
        "--output=slurm_%a.out",
        "submit.sh",
    ]
    assert "LC_ALL=C" in call  # what sbatch sees is what the job gets
    assert not fakes.calls("squeue")


def test_greetings_and_a_cluster_are_understood(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    fakes.add("sbatch", "echo 'Welcome 2026'; echo '4711;big'; echo 'sbatch: info' >&2")
    taken = scheduler.submit(request(tmp_path))
    assert (taken.job_id, taken.details["cluster"]) == ("4711", "big")
    scheduler.cancel(taken)
    scheduler.states([taken])
    scheduler.describe(taken)
    for name in ("scancel", "squeue", "sacct", "scontrol"):
        assert "--clusters=big" in fakes.calls(name)[0]


def test_a_refusal_is_quoted_with_the_next_step(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    said = "sbatch: error: invalid partition specified: nosuch"
    fakes.add("sbatch", f"echo '{said}' >&2; exit 1")
    fakes.add("sinfo", "echo main; echo urgent; echo main")
    with pytest.raises(SubmissionError) as caught:
        scheduler.submit(request(tmp_path))
    error = caught.value
    assert not isinstance(error, SubmissionUnknownError)
    assert (error.exit_code, error.command[0], error.output) == (1, "sbatch", said)
    assert f"    {said}\n" in str(error)
    assert str(error).endswith("with partition=. Here are: main, urgent.")
    assert len(fakes.calls("sbatch")) == 1
    assert not fakes.calls("squeue")


def test_too_many_tasks_are_told_the_limit(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    fakes.add("sbatch", "echo 'sbatch: error: Invalid job array specification' >&2; exit 1")
    fakes.add("scontrol", "echo 'MaxArraySize            = 1001'")
    with pytest.raises(SubmissionError, match=r"\(here 2\) than .* use nodes=1001 at most"):
        scheduler.submit(request(tmp_path))


@pytest.mark.parametrize("body", [TIMED_OUT, SLOW, "exit 0", "echo 4711; exit 1"])
def test_a_submission_whose_answer_was_lost_is_found_by_its_name(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path, body: str
) -> None:
    scheduler.submit_timeout = 0.5
    fakes.add("sbatch", body)
    fakes.add("squeue", f"echo '1|other_000000'; echo '4711|{NAME}'")
    assert scheduler.submit(request(tmp_path)).job_id == "4711"
    assert len(fakes.calls("sbatch")) == 1
    assert f"--name={NAME}" in fakes.calls("squeue")[0]


def test_a_submission_is_looked_for_again(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    fakes.add("sbatch", TIMED_OUT)
    once = tmp_path / "once"
    fakes.add("squeue", f"[ -e {once} ] && echo '4711|{NAME}'; touch {once}")
    assert scheduler.submit(request(tmp_path)).job_id == "4711"


def test_a_submission_is_found_in_the_accounts(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    fakes.add("sbatch", TIMED_OUT)
    fakes.add("squeue", DOWN)
    fakes.add("sacct", f"echo '4711_[0-1]|{NAME}'")
    assert scheduler.submit(request(tmp_path)).job_id == "4711"


def test_a_lost_answer_that_the_queue_does_not_know_is_a_refusal(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path
) -> None:
    fakes.add("sbatch", TIMED_OUT)
    fakes.add("sacct", NO_ACCOUNTS)
    with pytest.raises(SubmissionError, match="try again in a few minutes") as caught:
        scheduler.submit(request(tmp_path))
    assert not isinstance(caught.value, SubmissionUnknownError)


@pytest.mark.parametrize(
    ("sbatch", "squeue"), [(TIMED_OUT, DOWN), (SLOW, SLOW), ("exit 0", "exit 0")]
)
def test_when_nobody_knows_it_says_so(
    fakes: Fakes, scheduler: SlurmScheduler, tmp_path: Path, sbatch: str, squeue: str
) -> None:
    scheduler.submit_timeout = scheduler.timeout = 0.5
    fakes.add("sbatch", sbatch)
    fakes.add("squeue", squeue)
    with pytest.raises(SubmissionUnknownError, match=f"unknown; its name is {NAME}") as caught:
        scheduler.submit(request(tmp_path))
    assert pickle.loads(pickle.dumps(caught.value)).unknown is True


def test_without_sbatch_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm.is_available()
    with pytest.raises(SchedulerNotFoundError, match="no sbatch"):
        SlurmScheduler().submit(request(tmp_path))


# Asking and telling


def test_one_question_for_all_submissions(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add(
        "squeue",
        "echo '1|0|RUNNING|n1|N/A|a_b|None'; echo '1|1|PENDING||N/A|a_b|Priority'; "
        "echo '2|0|NEW||N/A|a_b|x'",
    )
    answer = scheduler.states([submission("1"), submission("2", tasks=1)])
    assert answer.known
    assert [state.phase for state in answer.of("1")] == [Phase.RUNNING, Phase.WAITING]
    assert [state.phase for state in answer.of("2")] == [Phase.UNKNOWN]
    (call,) = fakes.calls("squeue")
    assert "--jobs=1,2" in call
    assert not fakes.calls("sacct")


def test_each_cluster_is_asked_once(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    scheduler.states([submission("1"), submission("2", cluster="big"), submission("3")])
    asked = [call for call in fakes.calls("squeue") if "--clusters=big" in call]
    assert len(fakes.calls("squeue")) == 2
    assert len(asked) == 1
    assert "--jobs=2" in asked[0]


def test_nothing_is_asked_about_nothing(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    assert scheduler.states([]).known
    assert not fakes.calls("squeue")


@pytest.mark.parametrize("body", [DOWN, TIMED_OUT, SLOW, "exit 1"])
def test_a_failed_question_is_not_an_answer(
    fakes: Fakes, scheduler: SlurmScheduler, body: str
) -> None:
    scheduler.timeout = 0.5
    fakes.add("squeue", body)
    answer = scheduler.states([submission("1")])
    assert not answer.known
    assert "squeue" in answer.error
    assert not fakes.calls("sacct")


def test_without_squeue_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = SlurmScheduler().states([submission("1")])
    assert not answer.known
    assert "no squeue" in answer.error


def test_a_purged_job_is_known_to_be_gone(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add("squeue", PURGED)
    answer = scheduler.states([submission("1")])
    assert (answer.known, answer.tasks, answer.error) == (True, (), "")


def test_the_accounts_know_what_the_queue_forgot(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add("squeue", "echo '1|0|RUNNING|n1|N/A|a_b|None'")
    fakes.add(
        "sacct",
        "printf '%s|a_b\\n' '1_0|PREEMPTED|0:0|n1' '1_1|TIMEOUT|0:0|n2' '2|RUNNING|0:0|n3'",
    )
    answer = scheduler.states([submission("1"), submission("2", tasks=1)])
    assert [(state.task, state.word) for state in answer.of("1")] == [
        (0, "RUNNING"),
        (1, "TIMEOUT"),
    ]
    assert answer.of("2") == ()  # the accounts lag: what the queue does not know is over
    assert "--jobs=1,2" in fakes.calls("sacct")[0]


def test_a_task_that_lives_on_another_cluster_is_alive(
    fakes: Fakes, scheduler: SlurmScheduler
) -> None:
    fakes.add(
        "squeue",
        "echo '1|0|REVOKED||N/A|a_b|None'; echo '1|0|RUNNING|n1|N/A|a_b|None'; "
        "echo '1|0|REVOKED||N/A|a_b|'",
    )
    (state,) = scheduler.states([submission("1", tasks=1)]).tasks
    assert state.phase is Phase.RUNNING


def test_a_job_that_has_got_the_same_id_is_not_ours(
    fakes: Fakes, scheduler: SlurmScheduler
) -> None:
    fakes.add("squeue", "echo '1|0|RUNNING|n1|N/A|a|b|None'; echo '2|0|RUNNING|n1|N/A|mine_1|None'")
    fakes.add("sacct", "echo '1_0|FAILED|0:0|n1|theirs'")
    named = [
        Submission("slurm", job_id, {"tasks": 1, "name": "mine_1", "options": {}})
        for job_id in "12"
    ]
    answer = scheduler.states(named)
    assert answer.known
    assert [(state.job_id, state.name) for state in answer.tasks] == [("2", "mine_1")]
    scheduler.cancel(named[0])
    assert fakes.calls("scancel")[0][:2] == ["--name=mine_1", "1"]


def test_a_cluster_without_accounts_is_asked_for_them_once(
    fakes: Fakes, scheduler: SlurmScheduler
) -> None:
    fakes.add("sacct", NO_ACCOUNTS)
    for _ in range(3):
        answer = scheduler.states([submission("1")])
        assert (answer.known, answer.tasks, answer.error) == (True, (), "")
    assert len(fakes.calls("sacct")) == 1


def test_accounts_that_do_not_answer_are_a_note(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add("sacct", NO_DATABASE)
    for _ in range(2):
        answer = scheduler.states([submission("1")])
        assert answer.known
        assert "Connection refused" in answer.error
    assert len(fakes.calls("sacct")) == 2


@pytest.mark.parametrize("said", ["Invalid job id specified", "Job/step already completing"])
def test_cancelling_what_is_over_is_no_error(
    fakes: Fakes, scheduler: SlurmScheduler, said: str
) -> None:
    fakes.add(
        "scancel",
        f"echo 'scancel: error: Kill job error on job id 1: {said} or completed' >&2; exit 1",
    )
    scheduler.cancel(submission("1"))
    assert fakes.calls("scancel")[0][0] == "1"


def test_cancelling_that_failed_says_so(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add("scancel", DOWN)
    with pytest.raises(SchedulerError, match=r"cancelling Slurm job 1 .*\n.*\n.*cancel again"):
        scheduler.cancel(submission("1"))


@pytest.mark.parametrize("body", [DOWN, "exit 0", "echo nonsense"])
def test_describing_never_fails(fakes: Fakes, scheduler: SlurmScheduler, body: str) -> None:
    fakes.add("scontrol", body)
    assert scheduler.describe(submission("1", cluster="big")) == "Slurm job 1 on big"


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("01:00:00", "1:00:00"),
        ("12:00:00", "12:00:00"),
        ("2-00:00:00", "2-00:00:00"),
        ("Partition_Limit", "the partition's"),
    ],
)
def test_the_time_limit_is_described(
    fakes: Fakes, scheduler: SlurmScheduler, limit: str, said: str
) -> None:
    fakes.add("scontrol", f"echo 'JobId=1 TimeLimit={limit} Partition=main MinMemoryNode=2G'")
    asked = Submission("slurm", "1", {"options": {"time": "x"}})
    assert scheduler.describe(asked) == (
        f"Slurm job 1, partition main, time limit {said}, 2 GB per node"
    )
    default = scheduler.describe(submission("1"))
    assert f"time limit {said} (cluster's default)," in default


def test_no_time_limit_is_described(fakes: Fakes, scheduler: SlurmScheduler) -> None:
    fakes.add("scontrol", "echo 'JobId=1 TimeLimit=UNLIMITED'")
    assert scheduler.describe(submission("1")) == "Slurm job 1, no time limit"


def test_traces_of_a_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MODULEPATH", f":{tmp_path}")
    monkeypatch.setattr(slurm, "_TRACE_PATHS", (str(tmp_path / "slurm.conf"),))
    for name in ("SLURM_CONF", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert slurm.traces() == ""
    (tmp_path / "sinfo").touch(mode=0o755)
    (tmp_path / "slurm.conf").touch()
    (tmp_path / "slurm").mkdir()
    monkeypatch.setenv("SLURM_CONF", "x")
    assert slurm.traces() == (
        f"SLURM_CONF, sinfo on PATH, {tmp_path}/slurm.conf, module {tmp_path}/slurm"
    )


# A real Slurm


def prepared(folder: Path, script: str, **changed: Any) -> Request:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run_0").mkdir(exist_ok=True)
    name = f"real_{os.urandom(3).hex()}"
    options = run_options(
        slurm_name=name, tasks=2, console="run_0/slurm_%a.out", cpus_per_node=2, **changed
    )
    lines = "\n".join(["#!/bin/bash", *directives(options), script, ""])
    (folder / "submit.sh").write_text(lines)
    return request(folder, slurm_name=name, options=options)


def words(scheduler: SlurmScheduler, taken: Submission) -> list[str]:
    return [state.word for state in scheduler.states([taken]).tasks]


@pytest.mark.slurm
@pytest.mark.parametrize("name", ["plain", '50%a of it\'s "job" %j'])
def test_a_real_slurm_runs_it_and_knows_its_end(
    slurm_cluster: Cluster, tmp_path: Path, name: str
) -> None:
    scheduler = SlurmScheduler()
    asked = prepared(tmp_path / name, 'echo "$PWD $SLURM_JOB_NAME ${LC_ALL-unset}"')
    taken = scheduler.submit(asked)
    assert scheduler.find(asked.slurm_name) == taken.job_id
    wait_until(lambda: words(scheduler, taken) == ["COMPLETED"] * 2)
    local = os.environ.get("LC_ALL", "unset")
    for task in range(2):
        console = asked.folder / "run_0" / f"slurm_{task}.out"
        assert console.read_text() == f"{asked.folder} {asked.slurm_name} {local}\n"


@pytest.mark.slurm
def test_a_real_slurm_describes_it_and_ends_it(slurm_cluster: Cluster, tmp_path: Path) -> None:
    scheduler = SlurmScheduler()
    asked = prepared(tmp_path, "sleep 60", mem="200M", slurm_options={"hold": True})
    taken = scheduler.submit(asked)
    assert scheduler.describe(taken) == (
        f"Slurm job {taken.job_id}, partition main, time limit 1:00:00 (cluster's default),"
        " 200 MB per node"
    )
    states = scheduler.states([taken]).tasks
    assert [(state.task, state.phase, state.reason) for state in states] == [
        (0, Phase.WAITING, "JobHeldUser"),
        (1, Phase.WAITING, "JobHeldUser"),
    ]
    scheduler.cancel(taken)
    wait_until(lambda: not any(state.alive for state in scheduler.states([taken]).tasks))
    scheduler.cancel(taken)


@pytest.mark.slurm
def test_a_real_slurm_forgets_and_refuses(slurm_cluster: Cluster, tmp_path: Path) -> None:
    scheduler = SlurmScheduler()
    assert scheduler.states([submission("99")]).known
    assert scheduler.states([submission("99"), submission("98")]).tasks == ()
    assert scheduler.find("nosuch") is None
    for changed, said in (
        ({"partition": "nosuch"}, r"Here are: main, urgent, cheap\."),
        ({"mem": "999G"}, "smaller mem="),
        ({"slurm_options": {"foo": 1}}, "man sbatch"),
    ):
        with pytest.raises(SubmissionError, match=said):
            scheduler.submit(prepared(tmp_path, "true", **changed))


@pytest.mark.slurm
@pytest.mark.parametrize(
    "value",
    [
        HOSTILE,
        "a b",
        "a\tb",
        "#x",
        "'",
        '"',
        "\\",
        'a\\"b #c',
        " both ends ",
        "é ü",
        "%j",
        "--wait",
    ],
)
def test_a_real_sbatch_reads_both_renderings_alike(
    slurm_cluster: Cluster, tmp_path: Path, value: str
) -> None:
    script = tmp_path / "submit.sh"
    option = Options((("comment", value), ("job-name", "after_it")))
    script.write_text("\n".join(["#!/bin/bash", *directives(option), "true", ""]))
    verbose = run(["sbatch", "-v", "--test-only", str(script)]).stderr.splitlines()
    assert f"sbatch: comment             : {value}" in verbose
    assert "sbatch: job-name            : after_it" in verbose


@pytest.mark.slurm
def test_a_real_slurm_warns_the_script_itself(slurm_cluster: Cluster, tmp_path: Path) -> None:
    scheduler = SlurmScheduler()
    code = (
        "import signal, time;"
        " signal.signal(signal.SIGUSR1, lambda *_: print('warned', flush=True));"
        " print('ready', flush=True); time.sleep(1); time.sleep(60)"
    )
    (tmp_path / "worker.py").write_text(code)
    taken = scheduler.submit(prepared(tmp_path, f"exec {sys.executable} worker.py"))
    console = tmp_path / "run_0" / "slurm_0.out"
    wait_until(lambda: console.exists() and "ready" in console.read_text())
    run(["scancel", "--signal=USR1", "--batch", f"{taken.job_id}_0"])
    wait_until(lambda: "warned" in console.read_text())
    scheduler.cancel(taken)
