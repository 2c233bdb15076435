"""Why a row is not ok: judged by evidence, said in one sentence, with the way on."""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import RowsFailedError, SlurmJob, slurm_map
from slurmapply.advice import sentence
from slurmapply.disk import FolderDisk, write_all
from slurmapply.endings import (
    _MOST_TELLING,
    TaskEnd,
    cause_of,
    most_telling,
    too_long,
    waits_for,
    why,
)
from slurmapply.following import Follower
from slurmapply.jobfolder import Life
from slurmapply.lastwords import LastWords
from slurmapply.leftovers import Leftovers
from slurmapply.outcome import HEADER_SIZE, KIND_INT, KIND_PICKLE, Failure, FrameBuilder, Measures
from slurmapply.outcome_file import FileReader, Origin
from slurmapply.reasons import Reasons
from slurmapply.records import LifeView, TaskRecord, never_fits, view_life
from slurmapply.schedulers.base import Answer, Phase, Submission, TaskState
from slurmapply.schedulers.slurm_words import waits_in_vain
from slurmapply.states import JobState, RowStatus
from slurmapply.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slurmapply.schedulers.base import Request
    from tests.slurm_cluster import Cluster

UUID = bytes(range(16))
ALIVE = {"PENDING": Phase.WAITING, "RUNNING": Phase.RUNNING, "COMPLETING": Phase.ENDING}
STARTED = {"record": "started", "time": 1.0, "host": "h", "node": "node03", "limit": 600}


def said(word: str, task: int | None = 0, **more: Any) -> TaskState:
    return TaskState("77", task, ALIVE.get(word, Phase.ENDED), word, **more)


def life(*records: dict[str, Any], task: int = 0) -> LifeView:
    lines = "".join(json.dumps(record) + "\n" for record in (STARTED, *records))
    return view_life(Life("77", task, 0), lines.encode())


def stopping(reason: str, message: str = "") -> dict[str, Any]:
    return {"record": "stopping", "reason": reason, "message": message, "chunks": [], "rows": []}


def end(reason: str) -> dict[str, Any]:
    return {"record": "end", "reason": reason, "files": {}}


# The rules, without a disk

TERM = life(stopping("SIGTERM"), end("SIGTERM"))
SILENT = life()
CAUSES = [
    # What the task says of its own doing is believed, whatever Slurm calls it.
    (life(stopping("load_failed", "no module"), end("load_failed")), "FAILED", "load_failed"),
    (life(stopping("no_memory", "limit 1 GB"), end("no_memory")), "OUT_OF_MEMORY", "out_of_memory"),
    (life(stopping("write_failed", "disk full"), end("write_failed")), "FAILED", "write_failed"),
    (life(stopping("no_workers", "fork"), end("no_workers")), "FAILED", "no_workers"),
    (life(stopping("max_failures", "20 of 20"), end("max_failures")), "CANCELLED", "stopped_early"),
    (life(stopping("time_limit"), end("time_limit")), "COMPLETED", "time_limit"),
    (life(stopping("time_limit")), "TIMEOUT", "time_limit"),
    # A signal has a sender that only Slurm can name.
    (TERM, "CANCELLED", "cancelled"),
    (TERM, "PREEMPTED", "preempted"),
    (TERM, "TIMEOUT", "time_limit"),
    (TERM, "DEADLINE", "time_limit"),
    (TERM, "BOOT_FAIL", "node_failed"),
    (TERM, "NODE_FAIL", "node_failed"),
    (TERM, "COMPLETED", "stopped_early"),
    (TERM, None, "stopped_early"),
    (life(stopping("SIGUSR1"), end("SIGUSR1")), "COMPLETED", "stopped_early"),
    (life(stopping("clerk_died", "")), "FAILED", "stopped_early"),
    (life(end("patience")), "COMPLETED", "stopped_early"),
    # It said nothing: it was killed, and perhaps Slurm knows by what.
    (SILENT, "NODE_FAIL", "node_failed"),
    (SILENT, "BOOT_FAIL", "node_failed"),
    (SILENT, "OUT_OF_MEMORY", "out_of_memory"),
    (SILENT, "TIMEOUT", "time_limit"),
    (SILENT, "CANCELLED", "cancelled"),
    (SILENT, "FAILED", "killed"),
    (SILENT, "A_NEW_WORD", "killed"),
    (SILENT, None, "killed"),
    # Slurm says so of a task, too, that lost one worker for memory and went on.
    (TERM, "OUT_OF_MEMORY", "stopped_early"),
    (life(stopping("SIGTERM")), "OUT_OF_MEMORY", "out_of_memory"),
    # It never began.
    (None, "FAILED", "never_started"),
    (None, "COMPLETED", "never_started"),
    (None, None, "never_started"),
    (None, "CANCELLED", "cancelled"),
    (None, "NODE_FAIL", "node_failed"),
    (None, "TIMEOUT", "time_limit"),
    # It ended well, and the outcome is not there.
    (life(end("done")), "COMPLETED", "damaged"),
    (life(end("done")), "CANCELLED", "damaged"),
]


@pytest.mark.parametrize(("record", "word", "cause"), CAUSES)
def test_the_cause_by_record_and_word(
    record: LifeView | None, word: str | None, cause: str
) -> None:
    task = TaskEnd(0, record, said(word) if word else None)
    assert cause_of(task) == cause
    failure = why(task)
    assert failure.cause == cause
    told = sentence(17, RowStatus.UNFINISHED, failure, {})
    assert told.startswith(("row 17 was ", "row 17 never ", "row 17 has "))
    assert "job.retry(" in told
    assert "\n" not in told


def test_a_row_that_nobody_claimed_has_the_most_telling_cause() -> None:
    ends = [
        TaskEnd(0, life(end("done"))),
        TaskEnd(1, None, None),
        TaskEnd(2, TERM, said("CANCELLED", 2)),
        TaskEnd(3, life(stopping("load_failed", ""), end("load_failed"))),
        TaskEnd(4, life(stopping("load_failed", "no module x"), end("load_failed"))),
    ]
    assert [most_telling(ends[:size]).number for size in range(1, 6)] == [0, 1, 2, 3, 4]
    told = TaskEnd(5, None, None, last_line="python: not found")
    assert "python: not found" in why(most_telling([ends[1], told])).message


def test_what_is_said_of_a_task_that_never_began() -> None:
    words = "Slurm could not start the script"
    no_console = why(TaskEnd(0, None, said("FAILED", exit_code="0:53", explanation=words)))
    assert no_console.message == f"never began: {words}"
    assert "/shared/job" in why(TaskEnd(0, folder="/shared/job")).message


@pytest.mark.parametrize(
    ("changed", "hopeless"),
    [
        ({}, True),
        ({"seconds": 480.0}, True),
        ({"seconds": 479.0}, False),
        ({"limit": None}, False),
        ({"limit": 0}, False),
        ({"cause": "SIGKILL"}, False),
        ({"cause": "stopped"}, False),
    ],
)
def test_a_row_longer_than_the_limit_is_hopeless(
    changed: dict[str, Any], *, hopeless: bool
) -> None:
    cut_short = {"record": "interrupted", "row": 1, "attempt": 1, "cause": "time_limit"}
    assert never_fits({**cut_short, "seconds": 540.0, "limit": 600, **changed}) is hopeless


ASKED = {"time_seconds": 600, "row_timeout": 60.0, "resources": {"mem": "4G", "time": "00:10:00"}}
BARE = {"resources": {"mem": None, "time": None}}
HIT = Failure("time_limit", "was left when its task reached its time limit of 90 min")
LONG = too_long({"seconds": 540.0, "limit": 600})
OOM = Failure("out_of_memory", "ran out of memory (limit 150 MB, peak 149 MB)")
KILLED = "crashed: SIGKILL (the process was killed from outside, twice)"
OLD = "the process died of SIGSEGV (signal 11)"
SLOW = Failure("row_timeout", "was stopped after 60 s (row_timeout)")
MEND = "mend the function and job.retry(f=...), or job.retry() as it is"
SENTENCES = [
    ("unfinished", LONG, ASKED, ("row 7 ran for 9 min, and the time limit of its task is 10 min: "
     'no task tries it again: job.retry(time="20m")')),
    ("unfinished", LONG, BARE, ("row 7 ran for 9 min, and the time limit of its task is 10 min: "
     'no task tries it again: job.retry(time="20m")')),
    ("unfinished", HIT, BARE, ('row 7 was left when its task reached its time limit of 90 min: '
     'job.retry(time="3h")')),
    ("unfinished", HIT._replace(message="was left"), BARE, "row 7 was left: job.retry(time=...)"),
    ("out_of_memory", OOM, ASKED, ("row 7 ran out of memory (limit 150 MB, peak 149 MB): "
     'job.retry(rows="out_of_memory", mem="8G")')),
    ("out_of_memory", OOM, BARE, ("row 7 ran out of memory (limit 150 MB, peak 149 MB): "
     'job.retry(rows="out_of_memory", mem="300M")')),
    ("out_of_memory", OOM._replace(message="ran out of memory (limit 4.0 GB)"), BARE,
     'row 7 ran out of memory (limit 4.0 GB): job.retry(rows="out_of_memory", mem="8G")'),
    ("out_of_memory", OOM._replace(message="ran out of memory"), BARE,
     'row 7 ran out of memory: job.retry(rows="out_of_memory", mem=...)'),
    ("out_of_memory", OOM._replace(message="ran out of memory"), {**ASKED, "backend": "local"},
     'row 7 ran out of memory: job.retry(rows="out_of_memory", processes_per_node=1)'),
    ("unfinished", Failure("out_of_memory", "was left"), ASKED,
     'row 7 was left: job.retry(mem="8G")'),
    ("row_timeout", SLOW, ASKED, ("row 7 was stopped after 60 s (row_timeout): "
     'job.retry(rows="row_timeout", row_timeout=120)')),
    ("crashed", Failure("SIGKILL", KILLED), ASKED, f'row 7 {KILLED}: job.retry(rows="crashed")'),
    ("crashed", Failure("SIGSEGV", OLD), ASKED, (f"row 7 crashed: SIGSEGV ({OLD}): "
     'mend the function, then job.retry(rows="crashed")')),
    ("error", Failure("ValueError", "boom\nat home"), ASKED,
     f"row 7 raised ValueError: boom: {MEND}"),
    ("error", Failure("KeyError", ""), {}, f"row 7 raised KeyError: {MEND}"),
    ("error", Failure("damaged", "has an outcome that cannot be read"), {},
     "row 7 has an outcome that cannot be read: job.retry()"),
    ("cancelled", Failure("cancelled", "was cancelled with the job before it ran"), {},
     "row 7 was cancelled with the job before it ran: job.retry()"),
    ("unfinished", Failure("stopped_early", "was left", place="max_failures"), {},
     f"row 7 was left: {MEND}"),
    ("unfinished", Failure("stopped_early", "was left", place="SIGTERM"), {},
     "row 7 was left: job.retry()"),
    ("pending", waits_for(said("PENDING", reason="JobHeldUser", explanation="is held by you")), {},
     "row 7 waits in vain: its task is held (JobHeldUser): scontrol release 77, or job.cancel()"),
    ("pending", waits_for(said("PENDING", reason="Bad", explanation="no node has it, so it will "
     "never start as it is: job.cancel(), then ask for less.")), {}, ("row 7 waits in vain (Bad): "
     "no node has it, so it will never start as it is: job.cancel(), then ask for less")),
    ("error", Failure("Val\x1bue", "\x1b[31mred\x9b"), {},
     f"row 7 raised Val\\x1bue: \\x1b[31mred\\x9b: {MEND}"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "failure", "asked", "told"), SENTENCES)
def test_the_sentence_with_its_fix(
    status: str, failure: Failure, asked: dict[str, Any], told: str
) -> None:
    assert sentence(7, RowStatus(status), failure, asked) == told


# What a folder shows: whose the rows were, and what Slurm says when it is asked


class Told:
    """A batch system that gives prepared answers, and counts the questions."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked = 0

    def states(self, submissions: Sequence[Submission]) -> Answer:
        self.asked += 1
        assert [each.job_id for each in submissions] == ["77"]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def submit(self, request: Request) -> Submission:
        raise NotImplementedError

    def recover(self, request: Request) -> Submission | None:
        raise NotImplementedError

    def cancel(self, submission: Submission) -> None:
        raise NotImplementedError

    def describe(self, submission: Submission) -> str:
        raise NotImplementedError


def answer(*states: TaskState) -> Answer:
    return Answer(known=True, tasks=states)


class Lab:
    """A job whose tasks are played: two tasks, six rows, six chunks."""

    def __init__(self, told: Told, **keywords: Any) -> None:
        keywords = {"nodes": 2, "cpus_per_node": 1, "chunksize": 1, **keywords}
        self.job = slurm_map(abs, range(6), job_name="played", submit=False, **keywords)
        self.disk = FolderDisk(self.job.folder)
        self.disk.publish("run_0/submission", b'{"kind": "slurm", "job_id": "77"}')
        self.disk.publish("run_0/rows", json.dumps({"ranges": [[0, 6]]}).encode())
        self.disk.make_folder("run_0/claims")
        self.told = told
        self.follower = Follower(self.disk, self.job._content, lambda _: told)
        self.leftovers = Leftovers(self.disk, self.job._content, self.follower)

    def task(self, number: int, *records: dict[str, Any], generation: int = 0) -> TaskRecord:
        record = TaskRecord(self.disk, 0, Life("77", number, generation))
        for content in (STARTED, *records):
            record.append(content["record"], **{k: content[k] for k in content if k != "record"})
        return record

    def claim(self, chunk: int, generation: int, task: int, *, of_life: int = 0) -> None:
        token = json.dumps({"life": ["77", task, of_life], "random": "0"}).encode()
        self.disk.publish(f"run_0/claims/{chunk}.{generation}", token)

    def causes(self) -> list[str]:
        self.follower.look(ask=False)
        return [self.leftovers.why(row).cause for row in range(6)]


def test_a_row_belongs_to_the_task_that_claimed_it_last() -> None:
    lab = Lab(Told(answer(said("PREEMPTED", 0), said("COMPLETED", 1))))
    lab.task(0, stopping("SIGTERM"), end("SIGTERM"))
    lab.task(1, stopping("max_failures", "20 of 20 rows"), end("max_failures"))
    lab.claim(0, 0, task=0)
    lab.claim(1, 0, task=1)
    lab.claim(2, 0, task=1)
    lab.claim(2, 9, task=1)
    lab.claim(2, 10, task=0)  # the latest by number, not by name
    assert lab.causes()[:3] == ["preempted", "stopped_early", "preempted"]
    assert lab.causes()[3:] == ["preempted"] * 3  # nobody's: the most telling of all
    assert lab.told.asked == 1


def test_a_static_share_is_its_tasks_own_also_when_that_never_began() -> None:
    lab = Lab(Told(answer(said("CANCELLED", 0), said("FAILED", 1))), schedule="static")
    (lab.job.folder / "run_0/slurm_1.out").write_text("loading\npython3: \x1b[1mnot found\n\n")
    assert lab.causes() == ["cancelled"] * 3 + ["never_started"] * 3
    assert lab.leftovers.why(5).message.endswith("python3: \x1b[1mnot found")


def test_nobody_is_asked_where_the_records_say_all() -> None:
    lab = Lab(Told(Answer(known=False)))
    lab.task(0, stopping("load_failed", "no module"), end("load_failed"))
    lab.task(1, stopping("time_limit"), end("time_limit"))
    assert lab.causes() == ["load_failed"] * 6
    assert lab.told.asked == 0


def test_without_slurms_word_the_record_counts() -> None:
    lab = Lab(Told(Answer(known=False, error="Socket timed out")))
    lab.task(0, stopping("SIGTERM"), end("SIGTERM"))
    lab.claim(0, 0, task=0)
    for _ in range(3):
        assert lab.causes()[0] == "stopped_early"
    assert lab.told.asked == 1  # not at each look


def test_rows_that_need_more_than_the_limit_are_told_apart() -> None:
    cut = {"record": "interrupted", "row": 1, "attempt": 1, "start": 0.0, "cause": "time_limit",
           "limit": 600, "seconds": 590.0, "message": ""}  # fmt: skip
    lab = Lab(Told(answer(said("TIMEOUT", 0), said("TIMEOUT", 1))))
    lab.task(0, cut, {**cut, "row": 2, "seconds": 30.0}, stopping("time_limit"), end("time_limit"))
    assert set(lab.causes()) == {"time_limit"}
    told = [lab.leftovers.why(row).message for row in range(3)]
    limit = "was left when its task reached its time limit of 10 min"
    assert told[0] == told[2] == limit
    assert told[1].startswith("ran for 10 min, and the time limit of its task is 10 min")
    groups = Reasons(lab.follower, lab.leftovers).by_cause(JobState.FINISHED)
    assert [group.partition(" was")[0] for group in groups][:1] == ["5 x time_limit: row 0"]
    assert groups[1].startswith("1 x time_limit: row 1 ran for 10 min")


def test_the_cancelled_mark_comes_before_all_else() -> None:
    lab = Lab(Told(answer(said("CANCELLED", 0))))
    running = {"record": "running", "row": 2, "attempt": 1, "start": 0.0, "console": "",
               "log_offset": 0}  # fmt: skip
    lab.task(0, running, stopping("load_failed"))
    lab.disk.publish("run_0/cancelled", b"")
    assert lab.causes() == ["cancelled"] * 6
    assert lab.leftovers.why(1).message == "was cancelled with the job before it ran"
    assert lab.leftovers.why(2).message == "was cancelled with the job while it ran"


def test_an_interrupted_row_is_not_a_running_one() -> None:
    lab = Lab(Told(answer(said("RUNNING", 0))))
    row = {"attempt": 1, "start": 0.0, "console": "", "log_offset": 0}
    running = [{"record": "running", "row": number, **row} for number in (1, 2)]
    lab.task(
        0, *running, {**running[1], "record": "interrupted", "cause": "SIGKILL", "seconds": 1.0}
    )
    lab.follower.look(ask=False)
    assert lab.follower.running_rows() == {1}


def test_a_row_that_was_not_retried_keeps_the_cause_of_its_own_run() -> None:
    lab = Lab(Told(answer(said("NODE_FAIL", 0))))
    lab.task(0)
    lab.claim(5, 0, task=0)
    asked = json.loads((lab.job.folder / "run_0/run.json").read_text())
    lab.disk.make_folder("run_1")
    lab.disk.publish("run_1/run.json", json.dumps({**asked, "run": 1, "rule": [[0, 2]]}).encode())
    lab.disk.publish("run_1/submission", b'{"kind": "local", "job_id": "local-1"}')
    record = TaskRecord(lab.disk, 1, Life("local-1", 0, 0))
    record.start(1)
    record.stop("load_failed", "no module", chunks=(), rows=())
    assert [lab.causes()[row] for row in (0, 5)] == ["load_failed", "node_failed"]


# When Slurm is asked for its last word


SLURM = Submission("slurm", "77")


def test_an_answer_from_after_the_end_is_enough() -> None:
    told = Told(Answer(known=False))
    heard = answer(said("PREEMPTED", 0))
    words = LastWords(lambda _: told)
    assert words.of(SLURM, heard)[0].word == "PREEMPTED"
    assert words.of(SLURM)[0].word == "PREEMPTED"
    assert told.asked == 0


def test_slurm_is_asked_once_and_again_only_for_what_it_did_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    ending = answer(said("COMPLETING", 0), said("CANCELLED", 1))
    told = Told(ending, ending, Answer(known=True), answer(said("CANCELLED", 0)))
    words = LastWords(lambda _: told)
    old = answer(said("RUNNING", 0))
    assert list(words.of(SLURM, old)) == [1]  # of what is still ending there is no word yet
    assert told.asked == 2
    assert list(words.of(SLURM, old)) == [1]
    assert told.asked == 2
    now = time.monotonic()
    for later, expected in ((61, []), (122, [0]), (183, [0])):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        assert list(words.of(SLURM, old)) == expected
    assert told.asked == 4


def test_other_backends_are_not_asked() -> None:
    words = LastWords(lambda kind: pytest.fail(f"asked {kind}"))
    assert words.of(Submission("local", "local-1")) == {}
    assert words.of(None) == {}


# Waiting for nothing


@pytest.mark.parametrize(
    ("word", "reason", "in_vain"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHeldAdmin", True),
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "DependencyNeverSatisfied", True),
        ("PENDING", "PartitionTimeLimit", True),
        ("REQUEUE_HOLD", "", True),
        ("PENDING", "Priority", False),
        ("PENDING", "BeginTime", False),
        ("PENDING", "Dependency", False),
        ("RUNNING", "", False),
        ("PENDING", "ANewReason", False),
    ],
)
def test_what_waits_in_vain(word: str, reason: str, *, in_vain: bool) -> None:
    assert waits_in_vain(word, reason) is in_vain


def held(task: int) -> TaskState:
    words = "is held by you: `scontrol release <id>` lets it start."
    return said("PENDING", task, reason="JobHeldUser", explanation=words)


def test_a_job_waits_in_vain_only_when_no_task_goes_on() -> None:
    lab = Lab(
        Told(answer(held(0), said("PENDING", 1, reason="Priority")), answer(held(0), held(1)))
    )
    assert lab.follower.look() is JobState.QUEUED
    assert lab.follower.note_in_vain(JobState.QUEUED) == ""
    lab.follower.expect_change()
    state = lab.follower.look()
    note = lab.follower.note_in_vain(state)
    assert note == (
        "nothing of played starts by itself: Slurm job 77 is held by you: `scontrol release 77` "
        "lets it start (JobHeldUser). job.cancel() ends it."
    )
    assert note in str(lab.follower.status(state, dict))
    assert lab.follower.note_in_vain(JobState.FINISHED) == ""


# Damage is not final at the first look


def frames(rows: int) -> list[bytes]:
    made = []
    for row in range(rows):
        builder = FrameBuilder(UUID)
        builder.add(row, 1, KIND_PICKLE, pickle.dumps([row]), Measures())
        made.append(builder.take())
    return made


def test_a_table_that_came_late_is_read_all_the_same() -> None:
    first, second, third = frames(3)
    path = Path("outcomes.rec")
    torn = second[:HEADER_SIZE] + bytes(len(second) - HEADER_SIZE)
    reader = FileReader(Origin(0, 0, 0, str(path)), UUID)

    def read(content: bytes) -> list[int]:
        path.write_bytes(content)
        with path.open("rb") as file:
            return [frame.columns["row"][0] for frame in reader.read(file, len(content))]

    assert read(first + torn + third) == [0, 2]
    assert reader.damaged_frames == 1
    assert read(first + torn + third) == []
    assert reader.damaged_frames == 1
    assert read(first + second + third) == [1]
    assert reader.damaged_frames == 0
    assert read(first + second + third) == []


class LateDisk(FolderDisk):
    """A disk that shows a file's values as zeros until it was opened a few times."""

    def __init__(self, path: Path, late: int) -> None:
        super().__init__(path)
        self.late = late

    def open(self, name: str, *, looks: int = 1) -> Any:
        self.late -= 1
        real = self.path / name
        if self.late < 0 or not real.exists():
            return super().open(name, looks=looks)
        shown = self.path / f"late_{self.late}"
        content = real.read_bytes()
        shown.write_bytes(content[:-8] + bytes(8))
        return shown.open("rb")


@pytest.mark.parametrize(("late", "good"), [(0, True), (1, True), (2, False)])
def test_values_that_came_late_are_read_once_more(
    late: int, monkeypatch: pytest.MonkeyPatch, *, good: bool
) -> None:
    slept: list[float] = []
    Path("run_0").mkdir()
    Path("run_0/outcomes_0_0_0_ab.rec").write_bytes(frames(1)[0])
    for ask in ("values", "verify"):
        monkeypatch.setattr(time, "sleep", slept.append)
        disk = LateDisk(Path().absolute(), 0)
        survey = Survey(disk, UUID.hex(), 1, second_look=0.3)
        survey.update([0])
        disk.late = late
        slept.clear()
        if ask == "verify":
            survey.verify()
        elif good:
            assert survey.values(survey.outcomes.frames[0]).value(0) == [0]
        else:
            with pytest.raises(Exception, match="damaged"):
                survey.values(survey.outcomes.frames[0])
        assert survey.outcomes.status_code(0) == int(good)
        assert slept == ([0.3] if late else [])


def test_a_job_is_not_over_while_its_last_bytes_may_be_on_their_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Lab(Told(answer(said("COMPLETED", 0), said("COMPLETED", 1))))
    builder = FrameBuilder(bytes.fromhex(lab.job._content["uuid"]))
    for row in range(6):
        builder.add(row, 1, KIND_INT, row, Measures())
    frame = builder.take()
    name = "outcomes_0_0_0_ab.rec"
    path = lab.job.folder / "run_0" / name
    path.write_bytes(frame[:HEADER_SIZE] + bytes(len(frame) - HEADER_SIZE))
    for task, files in enumerate(({name: len(frame)}, {})):
        lab.task(task, {**end("done"), "files": files})
    assert lab.follower.look(ask=False) is JobState.STOPPING
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now + 2.5)
        assert lab.follower.look(ask=False) is JobState.FINISHED
        assert "1 damaged frames" in str(lab.follower.status(JobState.FINISHED, dict))
    path.write_bytes(frame)
    state = lab.follower.look(ask=False)
    assert lab.follower.count(state)[0] == {"ok": 6}


# Where the sentence stands


def test_rows_that_ran_twice_are_counted() -> None:
    lab = Lab(Told(answer(said("COMPLETED", 0))))
    for number in range(2):
        builder = FrameBuilder(bytes.fromhex(lab.job._content["uuid"]))
        for row in range(4):
            builder.add(row, 1, KIND_INT, row, Measures())
        with lab.disk.create(f"run_0/outcomes_0_{number}_0_ab.rec") as file:
            write_all(file.fileno(), builder.take())
    status = lab.job.status()
    assert (status.duplicates, status.counts["ok"]) == (4, 4)
    assert "4 outcomes are second ones of their rows" in str(status)


def fails(x: int) -> int:
    if x == 1:
        raise ValueError("\x1b]0;boom\x07\nand more")
    if x > 2:
        raise KeyError(x)
    return x


def test_one_sentence_wherever_a_row_is_told_of() -> None:
    job = slurm_map(fails, range(6), job_name="told", backend="inline")
    told = f"row 1 raised ValueError: \\x1b]0;boom\\x07: {MEND}"
    report = job.row(1)
    assert report.sentence == told
    assert str(report).splitlines()[0] == told
    assert report.message == "\\x1b]0;boom\\x07\nand more"
    assert str(job.row(0)).splitlines()[0] == "row 0: ok"
    status = job.status()
    assert status.reasons == [
        f"3 x KeyError: row 3 raised KeyError: 3: {MEND}",
        f"1 x ValueError: {told}",
    ]
    assert all(f"  {reason}\n" in str(status) for reason in status.reasons)
    error = job.results(errors="keep")[1]
    assert str(error) == told.replace("row 1", "row 1 (1)")
    with pytest.raises(RowsFailedError) as caught:
        job.results()
    assert (
        "3 x KeyError: 3 (first: row 3); 1 x ValueError: \\x1b]0;boom\\x07 (first: row 1). Look"
        in (str(caught.value))
    )
    assert job.errors()["message"].tolist()[0] == report.message
    shown = [status, report, error, caught.value, job.errors().to_string(), job, error.traceback]
    assert not any("\x1b" in str(each) for each in shown)
    # The real exception is what it was.
    assert str(error.exception) == "\x1b]0;boom\x07\nand more"


def test_rows_that_did_not_raise_are_told_of_in_sentences() -> None:
    job = slurm_map(
        abs, range(4), job_name="unloaded", backend="inline", packages="no_such_package"
    )
    start = "was not begun: the function could not be loaded on the node: "
    messages = job.errors()["message"].tolist()
    assert [message.partition(start)[0] for message in messages] == [f"row {r} " for r in range(4)]
    assert all("no_such_package" in message for message in messages)
    assert job.status().reasons == [f"4 x load_failed: {messages[0]}"]
    with pytest.raises(RowsFailedError) as caught:
        job.results()
    assert f"4 x load_failed: {messages[0]}. Look with job.errors() or job.row(0); take" in (
        str(caught.value)
    )
    assert job.row(2).message == job.row(2).sentence == messages[2]


def test_counting_reads_no_values_and_repr_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    job = slurm_map(fails, range(6), job_name="told", backend="inline")

    def refused(*_: object) -> None:
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr(Survey, "values", refused)
        patch.setattr(Leftovers, "why", refused)
        status = SlurmJob(job.folder).status()
        assert status.counts == {"ok": 2, "error": 4}
        assert repr(SlurmJob(job.folder)) == "6 rows: 2 ok, 4 failed (KeyError, ValueError)"
    assert len(status.reasons) == 2


class BombError(ValueError):
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled").absolute(),))


def explodes(x: int) -> int:
    raise BombError("boom")


def test_a_printed_status_unpickles_nothing_of_anothers_folder() -> None:
    job = slurm_map(explodes, [1], job_name="foreign", backend="inline")
    Path("unpickled").unlink(missing_ok=True)
    job.folder.chmod(0o777)
    again = SlurmJob(job.folder)
    assert "1 x BombError: row 0 raised BombError: boom: mend the function" in str(again.status())
    assert not Path("unpickled").exists()


def test_every_cause_is_in_the_table_of_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs/states.md").read_text()
    causes = {cause for _, _, cause in CAUSES}
    assert causes == {*_MOST_TELLING}
    for cause in causes:
        assert f"\n| `{cause}` |" in page, cause


def test_many_causes_are_cut_short() -> None:
    def each_its_own(x: int) -> int:
        raise type(f"Fault{x}", (Exception,), {})("no")

    job = slurm_map(each_its_own, range(12), job_name="many", backend="inline")
    reasons = job.status().reasons
    assert len(reasons) == 9
    assert reasons[-1] == "... and 4 more causes"


def test_rows_whose_later_outcome_is_ok_are_ok() -> None:
    lab = Lab(Told(answer(said("COMPLETED", 0))))
    survey = Survey(lab.disk, UUID.hex(), 4)
    for number, status in enumerate((RowStatus.CRASHED, RowStatus.OK)):
        builder = FrameBuilder(UUID)
        for row in range(3):
            if status is RowStatus.OK and row < 2:
                builder.add(row, 2, KIND_INT, row, Measures())
            elif status is not RowStatus.OK:
                builder.add_failure(row, 1, status, Failure("SIGSEGV", ""), Measures())
        with lab.disk.create(f"run_0/outcomes_0_{number}_0_ab.rec") as file:
            write_all(file.fileno(), builder.take())
    survey.update([0])
    assert survey.outcomes.not_ok() == [2, 3]


def test_rows_that_are_not_ok_are_found_quickly() -> None:
    lab = Lab(Told(answer(said("COMPLETED", 0))))
    builder = FrameBuilder(UUID)
    survey = Survey(lab.disk, UUID.hex(), 300_000)
    for row in range(300_000):
        if row == 277_777:
            builder.add_failure(row, 1, RowStatus.ERROR, Failure("ValueError", ""), Measures())
        else:
            builder.add(row, 1, KIND_INT, row, Measures())
    with lab.disk.create("run_0/outcomes_0_0_0_ab.rec") as file:
        write_all(file.fileno(), builder.take())
    survey.update([0])
    begin = time.process_time()
    assert survey.outcomes.not_ok() == [277_777]
    assert time.process_time() - begin < 0.5


# On a real Slurm


def wait_until(condition: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gated(gate: Path) -> Callable[[int], int]:
    place = str(gate)

    def wait_for_gate(x: int) -> int:
        import os
        import time

        print("begun", flush=True)
        while not os.path.exists(place):  # noqa: PTH110  # goes by value to the nodes
            time.sleep(0.05)
        return x

    return wait_for_gate


def begun(job: SlurmJob) -> int:
    return sum(path.stat().st_size > 0 for path in job.folder.glob("run_*/console_*"))


ONE: dict[str, Any] = {"nodes": 1, "cpus_per_node": 1}


def test_a_task_that_is_cancelled_alone_leaves_its_share(
    slurm_cluster: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = slurm_map(gated(gate), range(6), nodes=2, cpus_per_node=1, schedule="static")
    wait_until(lambda: begun(job) == 2)
    slurm_cluster.run(["scancel", f"{job.job_id}_1"])
    wait_until(lambda: len(list(job.folder.glob("run_0/task_*_1_0.jsonl"))) == 1)
    record = next(job.folder.glob("run_0/task_*_1_0.jsonl"))
    wait_until(lambda: '"stopping"' in record.read_text())
    gate.touch()
    job.wait()
    errors = job.errors()
    assert set(errors["row_status"]) == {"unfinished"}
    assert set(errors["row_cause"]) == {"cancelled"}
    assert set(errors["row_number"]) <= {3, 4, 5}
    assert 5 in set(errors["row_number"])
    assert "was ended with scancel, not by job.cancel(): job.retry()" in job.row(5).sentence
    assert job.retry("cancelled").results() == list(range(6))


@pytest.mark.slurm
def test_a_held_job_says_so_while_it_is_waited_for(
    capsys: pytest.CaptureFixture[str], slurm_cluster: Cluster
) -> None:
    job = slurm_map(abs, [-1, -2], slurm_options={"hold": True}, **ONE)
    with pytest.raises(TimeoutError):
        job.wait(timeout=6)
    told = (
        f"Slurm job {job.job_id} is held by you: `scontrol release {job.job_id}` lets it start "
        "(JobHeldUser). job.cancel() ends it."
    )
    assert capsys.readouterr().err.count(told) == 1
    assert told in str(job.status())
    report = job.row(1)
    assert (report.status, report.cause) == ("pending", "held")
    assert f"scontrol release {job.job_id}, or job.cancel()" in str(report)
    slurm_cluster.run(["scontrol", "release", str(job.job_id)])
    assert job.results() == [1, 2]


def on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slurm
def test_a_task_that_is_preempted_and_not_queued_again(
    make_slurm_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    on(cluster, monkeypatch)
    options = {"no-requeue": True, "exclusive": True, "nodelist": "node01"}
    job = slurm_map(gated(tmp_path / "gate"), range(3), slurm_options=options, **ONE)
    wait_until(lambda: begun(job))
    cluster.run(
        ["sbatch", "--partition=urgent", "--nodelist=node01", "--exclusive", "--wrap=sleep 1",
         "--output=/dev/null"]
    )  # fmt: skip
    job.wait(timeout=40)
    assert set(job.errors()["row_cause"]) == {"preempted"}
    assert "another job took the place of its task" in job.row(0).sentence


@pytest.mark.slurm
def test_a_task_whose_node_failed(
    make_slurm_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = make_slurm_cluster(accounting=False)
    on(cluster, monkeypatch)
    options = {"no-requeue": True, "nodelist": "node02"}
    job = slurm_map(gated(tmp_path / "gate"), range(3), slurm_options=options, **ONE)
    wait_until(lambda: begun(job))
    cluster.run(["scontrol", "update", "nodename=node02", "state=down", "reason=test"])
    job.wait(timeout=60)
    assert set(job.errors()["row_cause"]) == {"node_failed"}
    assert "the node of its task failed (node02): job.retry()" in job.row(0).sentence


@pytest.mark.slurm
def test_a_task_that_is_killed_for_memory_as_a_whole(slurm_cluster: Cluster) -> None:
    if not slurm_cluster.memory_limits:
        pytest.skip("no cgroups (version 1) that this account may write")
    # The interpreter itself does not fit, so that the script is what the kernel ends.
    setup = [f"exec {sys.executable} -c 'x = bytearray(400_000_000)'"]
    job = slurm_map(abs, [-1], mem="30M", setup=setup, **ONE).wait(timeout=60)
    (cause,) = job.errors()["row_cause"]
    assert cause == "out_of_memory"
    assert job.row(0).sentence.endswith(': job.retry(mem="60M")')


def test_a_task_that_reaches_its_time_limit(slurm_cluster: Cluster, tmp_path: Path) -> None:
    job = slurm_map(gated(tmp_path / "gate"), range(2), time="5m", **ONE)
    wait_until(lambda: begun(job))
    # Slurm looks for tasks over their time twice a minute, and at once when it is changed.
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
    slurm_cluster.run(["scontrol", "update", f"jobid={job.job_id}_0", f"EndTime={soon}"])
    job.wait(timeout=90)
    assert set(job.errors()["row_cause"]) == {"time_limit"}
    assert job.row(1).sentence.endswith(': job.retry(time="10m")')
