"""What Slurm's words mean to a person: why a task waits, why sbatch refused, what to do next.

Pure functions of text. The words are those of 22.05.8 (``squeue(1)`` JOB REASON CODES,
``slurm_errno.c``, ``job_reason_codes``), with what newer ones are known to have changed.
"""

from __future__ import annotations

import re

_RETRY = "job.retry() runs the rows that are left"
_ENDS = {
    "OUT_OF_MEMORY": f"Slurm saw the task go over its memory: ask for more with mem=; {_RETRY}.",
    "TIMEOUT": f"the time limit was reached: ask for more with time=; {_RETRY}.",
    "DEADLINE": f"the deadline of the job was reached; {_RETRY}.",
    "NODE_FAIL": f"the node failed; {_RETRY}.",
    "BOOT_FAIL": f"the node did not start; {_RETRY}.",
    "PREEMPTED": f"another job took its place, and Slurm did not queue it again; {_RETRY}.",
}
_NO_CONSOLE = (
    "Slurm could not start the script or write its console: is the job folder on a disk that"
    " every node sees, and not full?"
)
_HELD_BY_SLURM = (
    "held by Slurm after failed starts: look at the consoles with job.logs(), then"
    " `scontrol release <id>`, or ask the cluster's staff."
)
_HELD_WORDS = ("REQUEUE_HOLD", "SPECIAL_EXIT")
_WAITS_FOR_LIMIT = "waits until other jobs under the same limit have ended: nothing to do."
_NEVER_STARTS = "will never start as it is: job.cancel(), then"
_REASONS = {
    "Priority": "waits its turn behind jobs of higher priority: nothing to do.",
    "Resources": "is next in line and waits for free nodes: nothing to do.",
    "JobArrayTaskLimit": "waits because of task_limit=: nothing to do.",
    "Dependency": "waits for the jobs named in after= (or dependency): nothing to do.",
    "DependencyNeverSatisfied": "waits for a job that did not end as was asked, so it"
    f" {_NEVER_STARTS} submit without that dependency.",
    "BeginTime": "waits for its begin time. After a requeue Slurm waits two minutes: nothing to"
    " do.",
    "Cleaning": "was requeued and still ends its former life: nothing to do.",
    "PartitionTimeLimit": "asks for more time than the partition allows, so it"
    f" {_NEVER_STARTS} job.retry(time=...) with less, or another partition=.",
    "PartitionNodeLimit": "asks for more nodes than the partition allows, or they are down: see"
    " `sinfo`; another partition= may do.",
    "PartitionDown": "its partition is down: wait, or choose another partition=.",
    "PartitionInactive": "its partition takes no jobs at present: wait, or choose another"
    " partition=.",
    "BadConstraints": "no node has what was asked for, so it"
    f" {_NEVER_STARTS} submit with another constraint, mem= or cpus_per_node=.",
    "InvalidAccount": f"the account is not valid: it {_NEVER_STARTS} job.retry(account=...).",
    "AccountNotAllowed": "the account may not use this partition: it"
    f" {_NEVER_STARTS} job.retry(account=..., partition=...).",
    "InvalidQOS": "the QOS is not valid: it"
    f" {_NEVER_STARTS} job.retry(slurm_options={{'qos': ...}}).",
    "JobHeldUser": "is held by you: `scontrol release <id>` lets it start.",
    "JobHeldAdmin": "is held by an administrator or after failed starts: ask the cluster's staff,"
    " or `scontrol release <id>`.",
    "JobHoldMaxRequeue": _HELD_BY_SLURM,
    "JobLaunchFailure": _NO_CONSOLE,
    "Licenses": "waits for a licence: nothing to do.",
    "License": "waits for a licence: nothing to do.",
    "Reservation": "waits for its reservation to begin.",
    "NodeDown": "a node that it needs is down: wait, or ask the cluster's staff.",
    "Nodes_required_for_job_are_DOWN": "nodes that it needs are down, drained or reserved: wait,"
    " or choose another partition=.",
    "SystemFailure": "Slurm, its disk or its network failed: ask the cluster's staff.",
    "Prolog": "the cluster prepares the node: nothing to do.",
    "MaxMemPerLimit": "asks for more memory than the partition allows, so it"
    f" {_NEVER_STARTS} job.retry(mem=...) with less.",
}
# The many limits of associations and QOSs (slurm.schedmd.com/resource_limits.html), by their kind.
_LIMITS = (
    ("SubmitJob", "there are too many of your jobs in the queue (each array task counts): wait."),
    ("Minutes", "the account's budget of compute time is used up: ask whose account it is."),
    (
        "Wall|TimeLimit",
        f"asks for more time than is allowed: it {_NEVER_STARTS} use a smaller time=.",
    ),
    (
        "Max.*Mem.*Per(Job|Node)",
        f"asks for more memory than is allowed: it {_NEVER_STARTS} use a smaller mem=.",
    ),
    (
        "Max.*Cpu.*Per(Job|Node)",
        f"asks for more CPUs than is allowed: it {_NEVER_STARTS} use fewer cpus_per_node=.",
    ),
    ("", _WAITS_FOR_LIMIT),
)
_BUSY = "Slurm's controller does not answer: try again in a few minutes with job.submit()."
# What sbatch says, in its words (slurm_errno.c of 22.05), and the one next step.
_REFUSALS = (
    ("invalid partition|Invalid partition name", "Choose one that `sinfo` lists with partition=."),
    (
        "group not permitted to use this partition|access/permission denied",
        "You may not use this: choose another partition= or account=, or ask the cluster's staff.",
    ),
    (
        "Invalid account|account/partition combination",
        (
            "Name an account of yours with account=;"
            " `sacctmgr show associations user=$USER format=account,partition,qos` lists them."
        ),
    ),
    (
        "Invalid qos",
        (
            "Name a QOS of yours with slurm_options={'qos': ...}; `sacctmgr show"
            " associations user=$USER format=account,partition,qos` lists them."
        ),
    ),
    (
        "MaxSubmitJob|GrpSubmitJobs|job queue full|unable to accept job|job limit",
        (
            "Each array task counts as one job{tasks}: use {fewer}, or wait"
            " until some of your jobs have ended. Rows are shared out between the tasks in any"
            " case."
        ),
    ),
    (
        "MaxWallDuration|GrpWall",
        "Use a smaller time=: the account or the QOS does not allow that much.",
    ),
    (
        "violates accounting/QOS policy",
        (
            "A limit of the account or the QOS was reached, on the number of jobs (each array task"
            " counts as one{tasks}), on size or on time: use {fewer}, or a smaller time= or"
            " cpus_per_node=."
        ),
    ),
    (
        "Invalid job array specification",
        (
            "There are more array tasks{tasks} than this cluster"
            " takes: use {fewer}; rows are shared out between them in any case."
        ),
    ),
    (
        "--mem, --mem-per-cpu|mutually exclusive",
        "Keep one of the options that exclude each other (mem= is the memory of each node).",
    ),
    (
        "Memory specification can not|Invalid --mem|memory (limit|specification)",
        (
            "No node of the partition has that much memory: use a smaller mem=, fewer"
            " cpus_per_node= or another partition=."
        ),
    ),
    (
        "Time limit specification required",
        "This cluster needs a time limit: give time=, for example time='1h'.",
    ),
    (
        "time limit|Invalid --time|PartitionTimeLimit",
        (
            "Use a smaller time= or another partition=;"
            " `sinfo -o '%P %l'` shows what each partition allows."
        ),
    ),
    (
        "generic resource|gres|GPU|TRES",
        "Check gpus_per_node= and gres: `sinfo -o '%P %G'` shows what each partition has.",
    ),
    (
        "node configuration is not available|Node count|CPU count",
        (
            "No node of the partition has that many CPUs, GPUs or that much memory: ask for less"
            " with cpus_per_node=, gpus_per_node= or mem=, or choose another partition=."
        ),
    ),
    (
        "unrecognized option|option .* is ambiguous|requires an argument|doesn't allow an argument",
        "Check the names in slurm_options: `man sbatch` lists the options of this Slurm.",
    ),
    (
        "feature specification",
        (
            "Check constraint in slurm_options: `sinfo -o '%P %f'` shows the"
            " features of each partition's nodes."
        ),
    ),
    (
        "reservation is invalid",
        "Check reservation in slurm_options: `scontrol show reservation` lists them.",
    ),
    (
        "dependency",
        (
            "A job named in after= or dependency is not known to Slurm any more: leave it"
            " out if it has ended."
        ),
    ),
    ("license", "Check licenses in slurm_options: `scontrol show licenses` lists them."),
    ("node name", "Check nodelist and exclude in slurm_options: `sinfo -N` lists the nodes."),
    (
        "No cluster|can't be reached now",
        "Check clusters in slurm_options and SLURM_CLUSTERS: `sacctmgr show clusters` lists them.",
    ),
    (
        "other parameter too long",
        (
            "A path or an option is longer than Slurm takes (1024 characters"
            " for most): use a shorter one."
        ),
    ),
    (
        "configuration source|failed to fetch config|slurm\\.conf",
        (
            "Slurm's configuration was not found: are you on a"
            " login node of the cluster? SLURM_CONF may name the wrong file. A machine without a"
            ' cluster can run the rows itself: backend="local".'
        ),
    ),
    ("Unable to contact|Socket timed out|Connection refused|Zero Bytes|try again", _BUSY),
    (
        "Invalid .*specification|Invalid numeric value",
        "Check that option's value: `man sbatch` says how it is written.",
    ),
)
# After these nobody knows whether the job was taken (faults D-4: sbatch sends, and waits in vain
# for the answer). A controller that could not be reached at all gives "connect failure".
_UNCERTAIN = re.compile(
    r"Socket timed out|timed out on send/recv|receive failure|Zero Bytes were transmitted"
    r"|Unable to contact slurm controller \((?!connect)|Transport endpoint|Unexpected message"
    r"|Connection reset",
    re.IGNORECASE,
)


def explain_end(word: str, reason: str = "", exit_code: str = "") -> str:
    """Return what an end means that was not the task's own, with what to do; "" for the others.

    Examples
    --------
    >>> explain_end("TIMEOUT").partition(":")[0]
    'the time limit was reached'
    """
    # 0:53: the console could not be opened (tried on 22.05.8).
    if word == "FAILED" and (exit_code == "0:53" or reason == "JobLaunchFailure"):
        return _NO_CONSOLE
    return _ENDS.get(word, "")


def explain_reason(reason: str) -> str:
    """Return why a task waits, in plain words with what to do; "" for a reason that says nothing.

    Examples
    --------
    >>> explain_reason("Priority")
    'waits its turn behind jobs of higher priority: nothing to do.'
    """
    word = re.split(r"[\s,(:]", reason.strip(), maxsplit=1)[0]
    if word in _REASONS:
        return _REASONS[word]
    if reason.startswith(("ReqNodeNotAvail", "Nodes required for job")):
        return (
            "a node that it needs is down, drained or reserved (maintenance?): wait, shorten time="
            " so that it ends before, or choose other nodes."
        )
    if "launch failed" in reason:
        return _HELD_BY_SLURM
    if "in held state" in reason:
        return "was requeued and is held: `scontrol release <id>` lets it start."
    if word.startswith(("QOS", "Assoc")):
        return next(text for kind, text in _LIMITS if re.search(kind, word))
    return ""


def waits_in_vain(word: str, reason: str) -> bool:
    """Whether a waiting task will not start by itself: it is held, or asks for what cannot be.

    Examples
    --------
    >>> waits_in_vain("PENDING", "JobHeldUser"), waits_in_vain("PENDING", "Priority")
    (True, False)
    """
    said = explain_reason(reason)
    return word in _HELD_WORDS or "held by" in said or _NEVER_STARTS in said


def explain_refusal(stderr: str, *, tasks: int | None = None, most_tasks: int | None = None) -> str:
    """Return the one next step after sbatch refused a job, from its own words.

    Parameters
    ----------
    stderr
        What sbatch said.
    tasks
        How many array tasks were asked for.
    most_tasks
        How many there may be, where that is known.

    Examples
    --------
    >>> explain_refusal("sbatch: error: invalid partition specified: nosuch")
    'Choose one that `sinfo` lists with partition=.'
    """
    for pattern, advice in _REFUSALS:
        if re.search(pattern, stderr, re.IGNORECASE):
            return advice.replace("{tasks}", f" (here {tasks})" if tasks else "").replace(
                "{fewer}", f"nodes={most_tasks} at most" if most_tasks else "fewer nodes="
            )
    return "Change what sbatch complains about, then job.submit(...) with it."


def may_have_been_taken(output: str) -> bool:
    """Whether sbatch failed in a way after which the job may exist all the same."""
    return _UNCERTAIN.search(output) is not None


def is_unknown_job(output: str) -> bool:
    """Whether Slurm says that it does not know a job (any more): it was purged."""
    return "Invalid job id" in output


def is_over_already(output: str) -> bool:
    """Whether Slurm could not end a job because there is nothing left to end."""
    return is_unknown_job(output) or "already completing or completed" in output


def is_accounting_off(output: str) -> bool:
    """Whether sacct says that this cluster keeps no accounts."""
    return "accounting storage is disabled" in output
