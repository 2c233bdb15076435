"""States are judged by evidence, and the batch system is asked as seldom as possible."""

from __future__ import annotations

import itertools

import pytest

from slurmapply.questions import Questions
from slurmapply.schedulers.base import Answer, Phase, TaskState
from slurmapply.states import (
    NOT_OK,
    OVER,
    SETTLED,
    STATUS_CODES,
    STATUS_OF_CODE,
    Evidence,
    JobState,
    Presence,
    RowStatus,
    job_state,
)

NOTHING = Evidence(
    submitted=True,
    settled=False,
    cancelled=False,
    started=False,
    ended=False,
    presence=Presence.NOT_ASKED,
    files_may_come=False,
)


def changed(**what: object) -> Evidence:
    return NOTHING._replace(**what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (changed(submitted=False), JobState.PREPARED),
        (changed(), JobState.QUEUED),
        (changed(presence=Presence.WAITING), JobState.QUEUED),
        (changed(started=True), JobState.RUNNING),
        (changed(presence=Presence.RUNNING), JobState.RUNNING),
        (changed(settled=True, presence=Presence.RUNNING), JobState.FINISHED),
        (changed(settled=True, cancelled=True), JobState.FINISHED),
        (changed(ended=True, started=True), JobState.FINISHED),
        (changed(ended=True, cancelled=True), JobState.CANCELLED),
        (changed(presence=Presence.ABSENT), JobState.FINISHED),
        (changed(presence=Presence.ABSENT, files_may_come=True), JobState.STOPPING),
        (changed(presence=Presence.ABSENT, cancelled=True), JobState.CANCELLED),
        (changed(cancelled=True, presence=Presence.RUNNING), JobState.STOPPING),
        (changed(presence=Presence.NO_ANSWER), JobState.UNKNOWN),
        (changed(presence=Presence.NO_ANSWER, started=True), JobState.UNKNOWN),
        (changed(presence=Presence.NO_ANSWER, settled=True), JobState.FINISHED),
    ],
)
def test_the_table_of_states(evidence: Evidence, state: JobState) -> None:
    assert job_state(evidence) is state


def test_no_answer_never_ends_a_job_that_may_be_alive() -> None:
    flags = itertools.product([False, True], repeat=3)
    for cancelled, started, files_may_come in flags:
        for presence in set(Presence) - {Presence.ABSENT}:
            state = job_state(
                changed(
                    cancelled=cancelled,
                    started=started,
                    files_may_come=files_may_come,
                    presence=presence,
                )
            )
            assert state not in OVER


def test_every_settled_status_has_a_code_of_its_own() -> None:
    assert set(STATUS_CODES) == SETTLED
    assert {STATUS_OF_CODE[code] for code in STATUS_CODES.values()} == SETTLED
    assert set(RowStatus) - NOT_OK == {RowStatus.OK, RowStatus.PENDING, RowStatus.RUNNING}


RUNNING = Answer(known=True, tasks=(TaskState("7", 0, Phase.RUNNING, "RUNNING"),))


def ask_in_a_loop(questions: Questions, seconds: float, step: float, *, waiting: bool) -> int:
    asked = 0
    for tick in range(int(seconds / step)):
        now = 1000 + tick * step
        questions.note_look(now, news=False, waiting=waiting)
        if questions.due(now):
            questions.note(RUNNING, now)
            asked += 1
    return asked


@pytest.mark.parametrize("step", [0.01, 0.5, 1.9, 2.1, 3, 5, 7, 10, 29, 31, 59])
@pytest.mark.parametrize("waiting", [False, True])
def test_no_loop_of_ten_minutes_asks_more_than_twenty_times(step: float, waiting: bool) -> None:  # noqa: FBT001  # a parameter
    assert 5 <= ask_in_a_loop(Questions(), 600, step, waiting=waiting) <= 20


@pytest.mark.parametrize("news_every", [None, 10, 45])
def test_no_minute_of_a_wait_has_more_than_two_questions(news_every: int | None) -> None:
    questions, asked = Questions(), []
    for tick in range(6000):
        now = 1000 + tick / 10
        news = news_every is not None and tick % (10 * news_every) == 0
        questions.note_look(now, news=news, waiting=True)
        if questions.due(now):
            questions.note(RUNNING, now)
            asked.append(now)
    assert asked
    assert all(later - first >= 58 for first, later in zip(asked, asked[2:], strict=False))


def test_a_controller_that_does_not_answer_is_tried_sooner_again() -> None:
    questions = Questions()
    questions.note(Answer(known=False, error="Socket timed out"), 10)
    assert questions.due(14)
    questions.note(RUNNING, 14)
    assert not questions.due(60)


def test_where_a_change_is_due_it_is_looked_for_often_at_first() -> None:
    questions = Questions()
    questions.note(RUNNING, 10)
    questions.ask_next()
    assert questions.due(11)
    questions.note(RUNNING, 11)
    assert questions.due(13)


def test_rows_that_end_now_and_then_do_not_make_it_ask_more_often() -> None:
    questions, asked = Questions(), 0
    for tick in range(6000):
        now = 1000 + tick / 10
        questions.note_look(now, news=not tick % 200, waiting=True)
        if questions.due(now):
            questions.note(RUNNING, now)
            asked += 1
    assert asked <= 20


def test_a_wait_asks_nothing_in_its_first_two_seconds() -> None:
    assert ask_in_a_loop(Questions(), 1.9, 0.02, waiting=True) == 0


def test_a_lone_look_asks_at_once() -> None:
    questions = Questions()
    ask_in_a_loop(questions, 300, 0.1, waiting=True)
    assert not questions.due(1300.5)
    questions.note_look(1303, news=False, waiting=False)
    assert questions.due(1303)


def test_news_from_the_folder_spare_the_question() -> None:
    questions = Questions()
    for tick in range(1000):
        now = 1000 + tick
        questions.note_look(now, news=True, waiting=True)
        assert not questions.due(now)


def test_a_failed_answer_keeps_what_was_known_and_ends_nothing() -> None:
    questions = Questions()
    questions.note(RUNNING, 10)
    questions.note(Answer(known=False, error="Socket timed out"), 20)
    assert questions.answer == Answer(known=False, tasks=RUNNING.tasks, error="Socket timed out")
    assert questions.answered_at == 10
    assert questions.absent_since is None


def test_absence_counts_from_the_first_good_answer_without_the_job() -> None:
    questions = Questions()
    questions.note(RUNNING, 10)
    questions.note(Answer(known=True), 20)
    questions.note(Answer(known=True), 30)
    assert questions.absent_since == 20
