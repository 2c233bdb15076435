"""Slurm, through its own commands: the only class that knows which of them to run.

Asking is polite: one ``squeue`` for all submissions, and ``sacct`` only for tasks that the
controller has forgotten. A question that fails is "not known", never "over".
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply.errors import (
    SchedulerError,
    SchedulerNotFoundError,
    SubmissionError,
    SubmissionUnknownError,
)
from slurmapply.schedulers.base import Answer, Submission
from slurmapply.schedulers.command import failure, run, user_environment
from slurmapply.schedulers.options import arguments
from slurmapply.schedulers.slurm_site import config, most_tasks, partitions
from slurmapply.schedulers.slurm_text import (
    ACCOUNTS_FORMAT,
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    memory_per_node,
    parse_accounts,
    parse_sacct,
    parse_sbatch,
    parse_show_job,
    parse_squeue,
)
from slurmapply.schedulers.slurm_words import (
    explain_refusal,
    is_accounting_off,
    is_over_already,
    is_unknown_job,
    may_have_been_taken,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurmapply.schedulers.base import Account, Request, TaskState
    from slurmapply.schedulers.command import Completed

_DESCRIBE_TIMEOUT = 10.0

_TRACE_PATHS = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/opt/slurm/etc/slurm.conf",
    "/run/slurm",
)
_TRACE_VARIABLES = ("SLURM_CONF", "SLURM_JOB_ID")
_TRACE_COMMANDS = ("squeue", "sinfo", "scontrol", "srun")


@dataclass
class SlurmScheduler:
    """Submits to, asks and tells a Slurm.

    Attributes
    ----------
    timeout
        Seconds that a question may take.
    submit_timeout
        Seconds that sbatch may take. A busy controller answers late (large sites set
        MessageTimeout to 100 s), and an sbatch that is stopped leaves the question whether the
        job exists.
    pauses
        Seconds to wait before each look for a submission whose answer was lost.
    """

    timeout: float = 30.0
    submit_timeout: float = 120.0
    pauses: Sequence[float] = (0.0, 2.0, 5.0)
    _accounting: bool = field(default=True, init=False)
    _own_cluster: str | None = field(default=None, init=False)

    def submit(self, request: Request) -> Submission:
        """Run sbatch, and find the submission by its tag when the answer was lost.

        Raises
        ------
        SubmissionError
            Slurm refused it.
        SubmissionUnknownError
            Slurm may have taken it.
        """
        _refuse_backslash(request)
        purpose = f"submitting {request.slurm_name}"
        try:
            completed = run(
                _sbatch(request),
                purpose=purpose,
                cwd=request.folder,
                timeout=self.submit_timeout,
                check=False,
                environment=user_environment(),
            )
        except SchedulerNotFoundError:
            raise
        except SchedulerError as error:
            if isinstance(error.__cause__, OSError):  # it could not even be started
                raise _changed(SubmissionError, error) from error
            return self._recovered(request, error)
        taken = parse_sbatch(completed.stdout)
        if taken and completed.exit_code == 0:
            return _submission(request, *taken)
        refusal = failure(completed, purpose=purpose, advice=self._advice(completed, request))
        if taken or completed.exit_code == 0 or may_have_been_taken(completed.output):
            return self._recovered(request, refusal)
        raise _changed(SubmissionError, refusal)

    def recover(self, request: Request) -> Submission | None:
        """Find a submission by its name, in the queue and in the accounts."""
        cluster = _text(request.options.as_dict().get("clusters"))
        job_id = self.find(request.slurm_name, cluster=cluster)
        return _submission(request, job_id, cluster) if job_id else None

    def find(self, slurm_name: str, *, cluster: str | None = None) -> str | None:
        """Return the id of a submission by its name with the tag, None when there is none.

        Only the queue can say that there is none: the accounts lag behind it.

        Raises
        ------
        SchedulerError
            The queue could not be asked, and the accounts do not have it.
        """
        squeue = ["squeue", "--noheader", "--all", "--states=all", "--format=%F|%j"]
        sacct = ["sacct", "-n", "-P", "-X", "--format=JobID,JobName", "--starttime=now-1days"]
        unanswered = None
        for argv in (squeue, sacct):
            question = [*argv, f"--name={slurm_name}", *_on(cluster)]
            try:
                text = run(question, purpose=f"looking for {slurm_name}", timeout=self.timeout)
            except SchedulerError as error:
                unanswered = error if argv is squeue else unanswered
                continue
            found = _id_by_name(text.stdout, slurm_name)
            if found:
                return found
        if unanswered:
            raise unanswered
        return None

    def states(self, submissions: Sequence[Submission]) -> Answer:
        """Ask squeue once per cluster, then sacct for what squeue does not know any more."""
        by_cluster: dict[str | None, list[Submission]] = {}
        try:
            for submission in submissions:
                by_cluster.setdefault(self._cluster(submission), []).append(submission)
            answers = [self._states(cluster, group) for cluster, group in by_cluster.items()]
        except SchedulerError as error:
            return Answer(known=False, error=str(error))
        return Answer(
            known=True,
            tasks=tuple(state for answer in answers for state in answer.tasks),
            error="; ".join(dict.fromkeys(answer.error for answer in answers if answer.error)),
        )

    def cancel(self, submission: Submission) -> None:
        """Run scancel for all tasks of a submission, wherever they are.

        Raises
        ------
        SchedulerError
            Slurm could not be told.
        """
        purpose = f"cancelling Slurm job {submission.job_id}"
        argv = ["scancel", *_on(self._cluster(submission)), *_named(submission), submission.job_id]
        completed = run(argv, purpose=purpose, timeout=self.timeout, check=False)
        if completed.exit_code != 0 and not is_over_already(completed.output):
            advice = "Its tasks may still run: cancel again in a few minutes."
            raise failure(completed, purpose=purpose, advice=advice)

    def describe(self, submission: Submission) -> str:
        """Say what Slurm made of a submission; its bare id when Slurm does not answer."""
        text = f"Slurm job {submission.job_id}"
        try:
            cluster = self._cluster(submission)
            text += f" on {cluster}" if cluster else ""
            argv = ["scontrol", *_on(cluster), "-o", "show", "job", submission.job_id]
            answer = run(argv, timeout=_DESCRIBE_TIMEOUT).stdout
        except SchedulerError:
            return text
        asked = submission.details.get("options", {})
        return ", ".join([text, *_described(parse_show_job(answer), asked)])

    def accounts(self, submissions: Sequence[Submission]) -> dict[tuple[str, int], Account]:
        """Ask sacct what the tasks of submissions used; nothing where there are no accounts.

        Raises
        ------
        SchedulerError
            sacct did not answer.
        """
        by_cluster: dict[str | None, list[Submission]] = {}
        for submission in submissions if self._accounting else ():
            by_cluster.setdefault(self._cluster(submission), []).append(submission)
        found: dict[tuple[str, int], Account] = {}
        for cluster, group in by_cluster.items():
            argv = ["sacct", "-n", "-P", *_on(cluster), f"--format={ACCOUNTS_FORMAT}"]
            try:
                answer = run(
                    [*argv, f"--jobs={_ids(group)}"],
                    purpose="asking for the accounts",
                    timeout=self.timeout,
                )
            except SchedulerError as error:
                if not is_accounting_off(error.output):
                    raise
                self._accounting = False
                return found
            found |= parse_accounts(answer.stdout)
        return found

    def _cluster(self, submission: Submission) -> str | None:
        """Name the cluster to ask, None for this machine's own.

        A task always knows the name of its cluster. That is no reason to ask by it: ``-M`` needs
        accounting, which a cluster may not have.
        """
        cluster = _text(submission.details.get("cluster"))
        if cluster is None or not submission.details.get("by_task"):
            return cluster
        if self._own_cluster is None:
            self._own_cluster = config().get("ClusterName", "")
        return None if cluster == self._own_cluster else cluster

    def _states(self, cluster: str | None, group: Sequence[Submission]) -> Answer:
        argv = ["squeue", "--noheader", "--array", "--all", "--states=all"]
        argv += [*_on(cluster), f"--format={SQUEUE_FORMAT}", f"--jobs={_ids(group)}"]
        asked = run(argv, purpose="asking for the queue", timeout=self.timeout, check=False)
        # Only for a single id: with several, squeue leaves out those that it does not know.
        if asked.exit_code != 0 and not is_unknown_job(asked.output):
            raise failure(asked, purpose="asking for the queue")
        names = {item.job_id: item.details.get("name") for item in group}
        states = _alive_first(_ours(parse_squeue(asked.stdout), names))
        forgotten = [item for item in group if not _is_covered(item, states)]
        recorded, note = self._recorded(cluster, forgotten)
        seen = {(state.job_id, state.task) for state in states}
        # What the queue does not know is over, whatever the accounts, which lag, still say.
        states += [
            state
            for state in _ours(recorded, names)
            if not state.alive and (state.job_id, state.task) not in seen
        ]
        return Answer(known=True, tasks=tuple(states), error=note)

    def _recorded(
        self, cluster: str | None, forgotten: Sequence[Submission]
    ) -> tuple[tuple[TaskState, ...], str]:
        if not forgotten or not self._accounting:
            return (), ""
        argv = ["sacct", "-n", "-P", "-X", *_on(cluster)]
        argv += [f"--format={SACCT_FORMAT}", f"--jobs={_ids(forgotten)}"]
        try:
            answer = run(argv, purpose="asking for the accounts", timeout=self.timeout)
        except SchedulerError as error:
            self._accounting = not is_accounting_off(error.output)
            return (), str(error) if self._accounting else ""
        return parse_sacct(answer.stdout), ""

    def _recovered(self, request: Request, error: SchedulerError) -> Submission:
        cluster = _text(request.options.as_dict().get("clusters"))
        try:
            job_id, answered = self._look_again(request.slurm_name, cluster), True
        except SchedulerError:
            job_id, answered = None, False
        if job_id:
            return _submission(request, job_id, cluster)
        # An sbatch that ended well without an id (a site's wrapper?) did not refuse.
        if answered and error.exit_code != 0:
            raise _changed(SubmissionError, error)
        raise _changed(
            SubmissionUnknownError,
            error,
            f" Whether Slurm took the submission is unknown; its name is {request.slurm_name}."
            " job.status() looks for it, and so does job.submit(); job.submit(force=True) submits"
            " anew whatever became of it.",
        )

    def _look_again(self, slurm_name: str, cluster: str | None) -> str | None:
        unanswered: SchedulerError | None = None
        for pause in self.pauses:
            time.sleep(pause)
            try:
                found = self.find(slurm_name, cluster=cluster)
            except SchedulerError as error:
                unanswered = error
                continue
            unanswered = None
            if found:
                return found
        if unanswered:
            raise unanswered
        return None

    def _advice(self, completed: Completed, request: Request) -> str:
        said = completed.output
        most = most_tasks(said, qos=request.options.as_dict().get("qos"))
        advice = explain_refusal(said, tasks=request.tasks, most_tasks=most)
        return advice + (partitions() if "partition" in said else "")


def is_available() -> bool:
    """Whether sbatch is on PATH."""
    return shutil.which("sbatch") is not None


def traces() -> str:
    """Return what on this machine hints at a Slurm, for one without sbatch on PATH.

    Returns
    -------
    str
        ``"SLURM_CONF, /etc/slurm/slurm.conf"``, empty when there is no trace.
    """
    return ", ".join(
        [
            *(name for name in _TRACE_VARIABLES if os.environ.get(name)),
            *(f"{name} on PATH" for name in _TRACE_COMMANDS if shutil.which(name)),
            *(path for path in _TRACE_PATHS if Path(path).exists()),
            *_modules(),
        ]
    )


def _modules() -> list[str]:
    folders = filter(None, os.environ.get("MODULEPATH", "").split(":"))
    return [
        f"module {path}" for path in (Path(folder, "slurm") for folder in folders) if path.exists()
    ]


def _sbatch(request: Request) -> list[str]:
    # The folder by the name that the session uses: sbatch by itself takes getcwd(), which on
    # automounted disks is a path that the nodes do not have.
    argv = ["sbatch", "--parsable", f"--chdir={request.folder}", *arguments(request.options)]
    output = request.options.as_dict().get("output")
    if "%" in str(request.folder) and isinstance(output, str):
        # sbatch puts the folder before a relative pattern and replaces %-symbols in both (tried
        # on 22.05.8); the later of two options counts.
        argv.append(f"--output={str(request.folder).replace('%', '%%')}/{output}")
    return [*argv, request.script]


def _refuse_backslash(request: Request) -> None:
    """Refuse a path in which Slurm drops letters (tried on 22.05.8: 0:53, no console)."""
    if "\\" in str(request.folder):
        raise SubmissionError(
            f"submitting {request.slurm_name}: the path {request.folder} holds a backslash, which "
            "Slurm drops from the path of a task's console, so that no task could start. Move the "
            "folder, or choose another place with jobs_folder=."
        )


def _submission(request: Request, job_id: str, cluster: str | None) -> Submission:
    return Submission(
        kind="slurm",
        job_id=job_id,
        details={
            "cluster": cluster,
            "name": request.slurm_name,
            "tasks": request.tasks,
            "options": request.options.as_dict(),
        },
    )


def _changed(
    kind: type[SubmissionError], error: SchedulerError, advice: str = ""
) -> SubmissionError:
    return kind(
        f"{error}{advice}",
        command=error.command,
        exit_code=error.exit_code,
        output=error.output,
    )


def _described(fields: Mapping[str, str], asked: Mapping[str, object]) -> Iterable[str]:
    if "Partition" in fields:
        yield f"partition {fields['Partition']}"
    limit = fields.get("TimeLimit", "")
    if limit == "UNLIMITED":
        yield "no time limit"
    elif limit:
        limit = "the partition's" if limit == "Partition_Limit" else limit.removeprefix("0")
        yield f"time limit {limit}" + ("" if "time" in asked else " (cluster's default)")
    memory = memory_per_node(fields)
    if memory:
        yield f"{memory} per node"
    # Where accounts are not checked, Slurm takes another for one that it does not know.
    if "account" in asked and fields.get("Account", "(null)") != "(null)":
        yield f"account {fields['Account']}"


def _alive_first(states: Iterable[TaskState]) -> list[TaskState]:
    # A federation shows a task once for each cluster that it was offered to.
    chosen: dict[tuple[str, int | None], TaskState] = {}
    for state in states:
        key = (state.job_id, state.task)
        if key not in chosen or not chosen[key].alive:
            chosen[key] = state
    return list(chosen.values())


def _is_covered(submission: Submission, states: Iterable[TaskState]) -> bool:
    seen = {state.task for state in states if state.job_id == submission.job_id}
    return bool(seen) and (None in seen or seen >= set(range(submission.details.get("tasks", 1))))


def _id_by_name(text: str, slurm_name: str) -> str | None:
    for line in text.splitlines():
        job_id, _, name = line.strip().partition("|")
        if name == slurm_name:
            return job_id.partition("_")[0]
    return None


def _ids(submissions: Iterable[Submission]) -> str:
    return ",".join(submission.job_id for submission in submissions)


def _named(submission: Submission) -> list[str]:
    # An id may have become another job's, when a controller lost its state.
    name = _text(submission.details.get("name"))
    return [f"--name={name}"] if name else []


def _ours(states: Iterable[TaskState], names: Mapping[str, object]) -> list[TaskState]:
    """Leave out jobs that have got an id of ours after a controller lost its state."""
    return [state for state in states if names.get(state.job_id) in (None, state.name)]


def _on(cluster: str | None) -> list[str]:
    return [f"--clusters={cluster}"] if cluster else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
