from __future__ import annotations

import time

import pytest

from slurmapply.schedulers.base import Account, Phase
from slurmapply.schedulers.slurm_text import (
    memory_per_node,
    parse_accounts,
    parse_config,
    parse_moment,
    parse_sacct,
    parse_sbatch,
    parse_show_job,
    parse_squeue,
    phase,
)
from slurmapply.schedulers.slurm_words import (
    explain_end,
    explain_reason,
    explain_refusal,
    is_accounting_off,
    is_over_already,
    may_have_been_taken,
)

# Replies of a real 22.05.8, but for the lines that say otherwise.
SQUEUE = """\
26400043|N/A|CANCELLED||N/A|job_0a1b2c|BeginTime
26400045|0|COMPLETING|node01|N/A|job_0a1b2c|None
26400041|N/A|FAILED|node01|N/A|job_0a1b2c|JobLaunchFailure
26400040|1|OUT_OF_MEMORY|node01|N/A|job_0a1b2c|OutOfMemory
26400044|N/A|PENDING||N/A|job_0a1b2c|DependencyNeverSatisfied
26400046|3|PENDING||N/A|job_0a1b2c|Priority
26400045|1|RUNNING|node01|N/A|job_0a1b2c|None
26400055|0-2,5,20-24:2%3|PENDING||N/A|job_0a1b2c|JobHeldUser
"""
# squeue(1): with -M a line names the cluster; ReqNodeNotAvail lists nodes.
SQUEUE_DOCUMENTED = """\
*** Welcome to BIG, maintenance on Monday | see the web ***
CLUSTER: big
17|0|PENDING||N/A|job_0a1b2c|ReqNodeNotAvail, UnavailableNodes:node[01-02]|x
18|4|BRAND_NEW|node07|N/A|job_0a1b2c|None
"""
SACCT = """\
26400041|FAILED|0:53|node01|job_0a1b2c
26400042|FAILED|3:0|node01|job_0a1b2c
26400043|CANCELLED by 0|0:0|None assigned|job_0a1b2c
26400056|CANCELLED by 0|0:0|None assigned|job_0a1b2c
26400040_0|OUT_OF_MEMORY|0:125|node01|job_0a1b2c
26400045_[2-9%2]|PENDING|0:0|None assigned|job_0a1b2c
"""
# The columns of sacct(1) without -P are cut off with a plus.
SACCT_CUT_OFF = "26400040_1|OUT_OF_ME+|0:125|node01|j\n26400045_0|CANCELLED+|0:0|node01|j\n"
SHOW_JOB = (
    "JobId=26400001 ArrayJobId=26400001 ArrayTaskId=0-400%1 ArrayTaskThrottle=1 JobName=submit.sh"
    " UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=0 Nice=0 Account=root QOS=normal"
    " JobState=PENDING Reason=JobHeldUser Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1"
    " Reboot=0 ExitCode=0:0 RunTime=00:00:00 TimeLimit=01:00:00 TimeMin=N/A"
    " SubmitTime=2026-11-22T11:09:17 EligibleTime=Unknown Partition=main"
    " AllocNode:Sid=localhost:3381 NodeList= NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1"
    " ReqB:S:C:T=0:0:*:* TRES=cpu=1,mem=100M,node=1,billing=1 MinCPUsNode=1 MinMemoryCPU=100M"
    " MinTmpDiskNode=0 Command=/tmp/a Partition=fake/submit.sh WorkDir=/tmp/a Partition=fake"
    " StdOut=/tmp/run_0/slurm_4294967294.out Power=\n"
    "JobId=26400002 ArrayJobId=26400001 Partition=other\n"
)
CONFIG = """\
Configuration data as of 2026-11-22T11:09:41
AccountingStorageBackupHost = (null)
MaxArraySize            = 20001
MinJobAge               = 300 sec
SchedulerParameters     = sched_interval=1,bf_interval=1

Slurmctld(primary) at vm is UP
"""


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("PENDING", Phase.WAITING),
        ("CONFIGURING", Phase.WAITING),
        ("REQUEUED", Phase.WAITING),
        ("REQUEUE_HOLD", Phase.WAITING),
        ("SPECIAL_EXIT", Phase.WAITING),
        ("RUNNING", Phase.RUNNING),
        ("SUSPENDED", Phase.RUNNING),
        ("STOPPED", Phase.RUNNING),
        ("COMPLETING", Phase.ENDING),
        ("STAGE_OUT", Phase.ENDING),
        ("COMPLETED", Phase.ENDED),
        ("CANCELLED by 1000", Phase.ENDED),
        ("CANCELLED+", Phase.ENDED),
        ("OUT_OF_ME+", Phase.ENDED),
        ("NODE_FAIL", Phase.ENDED),
        ("RE+", Phase.UNKNOWN),  # REQUEUED, RESIZING or REVOKED
        ("RECONFIG_FAIL", Phase.UNKNOWN),
        ("COMPLETELY_NEW", Phase.UNKNOWN),
        ("completed", Phase.UNKNOWN),
        ("", Phase.UNKNOWN),
    ],
)
def test_a_word_means_what_the_table_says(word: str, expected: Phase) -> None:
    assert phase(word) is expected


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("4711\n", ("4711", None)),
        ("4711;big\n", ("4711", "big")),
        ("Welcome to BIG in 2026!\n12 nodes are down\n4711\n", ("4711", None)),
        ("job_submit/lua: took 5\n4711;big\nHave a nice day\n", ("4711", "big")),
        ("1\n2\n", ("2", None)),
        ("Submitted batch job 4711\n", None),
        ("", None),
    ],
)
def test_the_job_id_is_found_among_greetings(
    stdout: str, expected: tuple[str, str | None] | None
) -> None:
    assert parse_sbatch(stdout) == expected


def test_the_queue_of_a_real_slurm() -> None:
    states = {(state.job_id, state.task): state for state in parse_squeue(SQUEUE)}
    assert len(states) == 14
    assert states["26400045", 0].phase is Phase.ENDING
    assert states["26400045", 1].phase is Phase.RUNNING
    assert (states["26400045", 1].host, states["26400045", 1].reason) == ("node01", "")
    assert states["26400043", None].phase is Phase.ENDED
    assert states["26400046", 3].explanation.startswith("waits its turn")
    assert "every node sees" in states["26400041", None].explanation
    assert "mem=" in states["26400040", 1].explanation
    assert states["26400055", 22].phase is Phase.WAITING
    assert {task for job, task in states if job == "26400055"} == {0, 1, 2, 5, 20, 22, 24}


def test_the_queue_as_it_is_documented() -> None:
    first, second = parse_squeue(SQUEUE_DOCUMENTED)
    assert first.reason == "ReqNodeNotAvail, UnavailableNodes:node[01-02]|x"
    assert "down, drained or reserved" in first.explanation
    assert (second.word, second.phase, second.alive) == ("BRAND_NEW", Phase.UNKNOWN, True)


def test_the_accounts_of_a_real_slurm() -> None:
    states = {(state.job_id, state.task): state for state in parse_sacct(SACCT)}
    assert states["26400041", None].exit_code == "0:53"
    assert "every node sees" in states["26400041", None].explanation
    assert states["26400042", None].explanation == ""
    assert states["26400043", None].word == "CANCELLED"
    assert states["26400043", None].host == ""
    assert states["26400040", 0].phase is Phase.ENDED
    assert [states["26400045", task].phase for task in range(2, 10)] == [Phase.WAITING] * 8


def test_words_that_were_cut_off() -> None:
    assert [state.word for state in parse_sacct(SACCT_CUT_OFF)] == ["OUT_OF_MEMORY", "CANCELLED"]


def test_steps_and_headings_are_no_tasks() -> None:
    text = (
        "JobID|State|ExitCode|NodeList|JobName\n26400002.batch|COMPLETED|0:0|node01|b\nnonsense\n"
    )
    assert parse_sacct(text) == ()
    assert parse_squeue("ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|NODELIST|NAME|REASON\n\nnonsense\n") == ()


def test_the_first_of_each_field_counts() -> None:
    fields = parse_show_job(SHOW_JOB)
    assert fields["Partition"] == "main"
    assert fields["TimeLimit"] == "01:00:00"
    assert fields["CPUs/Task"] == "1"
    assert parse_show_job("slurm_load_jobs error: Invalid job id specified\n") == {}


def test_settings_of_the_cluster() -> None:
    config = parse_config(CONFIG)
    assert config["MaxArraySize"] == "20001"
    assert config["SchedulerParameters"] == "sched_interval=1,bf_interval=1"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"MinMemoryCPU": "100M", "CPUs/Task": "3"}, "300 MB"),
        ({"MinMemoryCPU": "2G", "CPUs/Task": "4"}, "8 GB"),
        ({"MinMemoryNode": "1.50G", "CPUs/Task": "4"}, "1.5 GB"),
        ({"MinMemoryNode": "0"}, "all memory"),
        ({"MinMemoryNode": "1T"}, "1024 GB"),
        ({}, ""),
    ],
)
def test_memory_of_a_node(fields: dict[str, str], expected: str) -> None:
    assert memory_per_node(fields) == expected


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Priority", "nothing to do"),
        ("Resources", "nothing to do"),
        ("BeginTime", "two minutes"),
        ("JobArrayTaskLimit", "task_limit="),
        ("PartitionTimeLimit", r"job.retry(time=...)"),
        ("QOSMaxSubmitJobPerUserLimit", "each array task counts"),
        ("QOSMaxCpuPerUserLimit", "under the same limit"),
        ("QOSMaxMemoryPerJob", "mem="),
        ("QOSMaxWallDurationPerJobLimit", "time="),
        ("AssocGrpCPUMinutesLimit", "budget"),
        ("AssocGrpCpuLimit", "under the same limit"),
        ("AssocMaxCpuPerJobLimit", "cpus_per_node="),
        ("ReqNodeNotAvail, UnavailableNodes:node[01-02]", "down, drained or reserved"),
        ("ReqNodeNotAvail(Unavailable:node01)", "down, drained or reserved"),
        (
            (
                "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority"
                " partitions"
            ),
            "down, drained or reserved",
        ),
        ("JobHeldUser", "scontrol release"),
        ("launch failed requeued held", "failed starts"),
        ("(launch failed requeued held)", "failed starts"),
        ("DependencyNeverSatisfied", "never start"),
    ],
)
def test_a_reason_is_said_in_plain_words(reason: str, said: str) -> None:
    assert said in explain_reason(reason)


@pytest.mark.parametrize("reason", ["None", "", "SomethingNew", "WaitingForScheduling"])
def test_a_reason_that_says_nothing_is_left_alone(reason: str) -> None:
    assert explain_reason(reason) == ""


@pytest.mark.parametrize("word", ["TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"])
def test_an_end_that_was_not_the_tasks_own_names_the_way_on(word: str) -> None:
    assert "job.retry()" in explain_end(word)


@pytest.mark.parametrize("word", ["COMPLETED", "CANCELLED", "NEW"])
def test_other_ends_speak_for_themselves(word: str) -> None:
    assert explain_end(word) == ""


# What 22.05.8 said when it was made to refuse; the limits are from slurm_errno.c.
@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            (
                "sbatch: error: invalid partition specified: nosuch\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified"
            ),
            "partition=",
        ),
        ("Invalid account or account/partition combination specified", "account="),
        ("User's group not permitted to use this partition", "another partition="),
        ("Invalid qos specification", "'qos'"),
        ("Batch job submission failed: Invalid job array specification", "(here 30) than this"),
        (
            (
                "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission"
                " failed: Job violates accounting/QOS policy (job submit limit, user's size and/or"
                " time limits)"
            ),
            "counts as one job (here 30): use fewer nodes=",
        ),
        (
            (
                "sbatch: error: AssocMaxWallDurationPerJobLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
            ),
            "does not allow that much",
        ),
        ("Job violates accounting/QOS policy (job submit limit, user's", "fewer nodes="),
        (
            (
                "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job"
                " submission failed: Requested node configuration is not available"
            ),
            "smaller mem=",
        ),
        ("Requested node configuration is not available", "cpus_per_node="),
        ("sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", "Keep"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "time="),
        ("Time limit specification required, but not provided", "time='1h'"),
        ("sbatch: error: Invalid generic resource (gres) specification", "gpus_per_node="),
        ("sbatch: unrecognized option '--foo=1'", "slurm_options"),
        ("sbatch: error: Batch job submission failed: Job dependency problem", "after="),
        ("Batch job submission failed: Invalid feature specification", "constraint"),
        ("Batch job submission failed: Requested reservation is invalid", "reservation"),
        ("Batch job submission failed: Invalid node name specified", "nodelist"),
        ("sbatch: error: No cluster 'nosuch' known by database.", "SLURM_CLUSTERS"),
        ("Pathname of a file, directory or other parameter too long", "shorter"),
        ("sbatch: fatal: Could not establish a configuration source", "login node"),
        ("Unable to contact slurm controller (connect failure)", "few minutes"),
        ("sbatch: error: Invalid --mail-type specification", "man sbatch"),
        ("something else", "job.submit"),
    ],
)
def test_a_refusal_names_one_next_step(stderr: str, said: str) -> None:
    assert said in explain_refusal(stderr, tasks=30)


def test_the_largest_array_is_named_where_it_is_known() -> None:
    text = "Invalid job array specification"
    assert "use nodes=1001 at most" in explain_refusal(text, most_tasks=1001)
    assert "{" not in explain_refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Batch job submission failed: Socket timed out on send/recv operation", True),
        ("Unable to contact slurm controller (receive failure)", True),
        ("Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("Unable to contact slurm controller (connect failure)", False),
        ("Invalid partition name specified", False),
    ],
)
def test_after_which_failures_the_job_may_exist(text: str, expected: bool) -> None:  # noqa: FBT001
    assert may_have_been_taken(text) is expected


def test_what_is_over_and_what_is_off() -> None:
    assert is_over_already("scancel: error: Kill job error on job id 7: Invalid job id specified")
    assert is_over_already("Job/step already completing or completed")
    assert not is_over_already("Access/permission denied")
    assert is_accounting_off("Slurm accounting storage is disabled\n")
    assert not is_accounting_off("sacct: error: Connection refused")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_times_are_those_of_the_machine_that_asks(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    moment = parse_moment("2026-07-01T12:00:00")
    shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))
    monkeypatch.undo()
    time.tzset()
    assert shown == "2026-07-01T12:00:00"


@pytest.mark.parametrize(
    "text", ["", "N/A", "Unknown", "None", "NONE", "14:20", "2026-13-01T00:00:00"]
)
def test_what_is_no_time_is_not_known(text: str) -> None:
    assert parse_moment(text) is None


def test_slurms_own_estimate_is_read_for_waiting_tasks_alone() -> None:
    waiting, running, unknown, two, more = parse_squeue(
        "7|0|PENDING||2026-11-22T14:20:00|j_0a1b2c|Resources\n"
        "7|1|RUNNING|node01|2026-11-22T13:20:00|j_0a1b2c|None\n"
        "7|2|PENDING||N/A|j_0a1b2c|Priority\n"
        "7|3-4|PENDING||2026-11-22T14:20:00|j_0a1b2c|Resources\n"
    )
    assert waiting.expected_start == parse_moment("2026-11-22T14:20:00")
    assert (waiting.reason, waiting.name) == ("Resources", "j_0a1b2c")
    assert (running.expected_start, unknown.expected_start) == (None, None)
    assert two.expected_start == more.expected_start == waiting.expected_start


# sacct of 22.05.8; the suffixes of ReqMem are those of 20.11, and MaxRSS without a unit is bytes.
ACCOUNTS = """\
Welcome | to BIG
26400045_0|2026-11-22T11:09:17|2026-11-22T11:10:17|2026-11-22T11:20:17|300M|2|
26400045_0.batch|2026-11-22T11:10:17|2026-11-22T11:10:17|2026-11-22T11:20:17||2|153600K
26400045_0.extern|2026-11-22T11:10:17|2026-11-22T11:10:17|2026-11-22T11:20:17||2|1048576
26400045_1|2026-11-22T11:09:17|Unknown|Unknown|100Mc|4|
26400045_2|2026-11-22T11:09:17|2026-11-22T11:10:17|Unknown|4Gn|4|
26400045_2.batch|2026-11-22T11:10:17|2026-11-22T11:10:17|Unknown||4|0
26400045_[3-9%2]|2026-11-22T11:09:17|Unknown|Unknown|300M|2|
"""


def test_the_accounts_of_tasks() -> None:
    found = parse_accounts(ACCOUNTS)
    submitted, started, ended = map(
        parse_moment, ("2026-11-22T11:09:17", "2026-11-22T11:10:17", "2026-11-22T11:20:17")
    )
    assert found == {
        ("26400045", 0): Account(submitted, started, ended, 300.0, 150.0),
        ("26400045", 1): Account(submitted, None, None, 400.0, None),
        ("26400045", 2): Account(submitted, started, None, 4096.0, None),
    }
    assert parse_accounts("Slurm accounting storage is disabled\n") == {}
