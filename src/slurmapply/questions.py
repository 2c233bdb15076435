"""When the batch system is asked: as seldom as possible, whatever the caller's loop does."""

from __future__ import annotations

from dataclasses import dataclass

from slurmapply.schedulers.base import Answer

_FIRST_QUESTION_AFTER = 2.0
_LONGEST_PAUSE = 60.0
#: How much longer each pause is than the last: so much that no minute of a wait has more than two
#: questions; less where a change is due, or the controller did not answer.
_LONGER, _LONGER_IN_DOUBT = 15.0, 2.0
#: How many looks may ask though it is not time yet, and how long until there is one more of them.
_ASIDES = 3
_ASIDE_EVERY = 300.0


@dataclass(slots=True)
class Questions:
    """When the batch system may be asked, and what it last said.

    Nothing is asked while the folder answers; else after two seconds, after half a minute, then
    once a minute. A look after two quiet seconds asks at once, but for a loop that makes a
    habit of it: whatever it does, there are at most 20 questions in ten minutes.
    """

    answer: Answer | None = None
    answered_at: float = 0.0
    _pause: float = _FIRST_QUESTION_AFTER
    _longer: float = _LONGER
    _next: float = 0.0
    _last_look: float | None = None
    _asides: float = _ASIDES
    absent_since: float | None = None

    def note_look(self, now: float, *, news: bool, waiting: bool) -> None:
        """Note a look at the job.

        Parameters
        ----------
        now
            The time, in seconds of a clock that only goes on.
        news
            The folder showed something new, so that nothing needs to be asked.
        waiting
            The look is one of many; a lone one after two quiet seconds asks at once.
        """
        first = self._last_look is None
        since = now - (self._last_look or now)
        self._last_look = now
        self._asides = min(_ASIDES, self._asides + since / _ASIDE_EVERY)
        if news or (waiting and first):
            self._next = now + self._pause
        elif not waiting and since > _FIRST_QUESTION_AFTER and not self.due(now):
            self._ask_aside(now)

    def _ask_aside(self, now: float) -> None:
        if self._asides >= 1:
            self._asides -= 1
            self._next = now

    def ask_next(self) -> None:
        """Ask at the next look, and then often at first."""
        self._pause, self._longer = _FIRST_QUESTION_AFTER / 2, _LONGER_IN_DOUBT
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return now >= self._next

    def note(self, answer: Answer, now: float) -> None:
        """Keep an answer, and ask later next time."""
        longer = self._longer if answer.known else _LONGER_IN_DOUBT
        self._pause = min(_LONGEST_PAUSE, longer * self._pause)
        self._next = now + self._pause
        if answer.known:
            self.answer, self.answered_at = answer, now
            alive = any(state.alive for state in answer.tasks)
            self.absent_since = None if alive else self.absent_since or now
        else:
            known = self.answer.tasks if self.answer else ()
            self.answer = Answer(known=False, tasks=known, error=answer.error)
