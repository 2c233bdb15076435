"""A task's supervisor: forks the workers, hands them rows, settles what befalls them.

::

    clerk ──▶ Pool ──▶ group (start, stop, attempt, tries) ──pipe──▶ worker ──▶ outcomes file
                ▲                                                      │
                └────── positions that were not run ◀──pipe── report (start, reached)
                                                         page: the row that it is on

Rows and results never pass through the pipes. The supervisor imports nothing of the user's, so
that forking is safe (no threads, no BLAS) and a fault of the user's code cannot reach it. It
touches no disk either, so that row deadlines, signals and dead workers are looked after while
a shared disk hangs: its clerk does that.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any

from slurmapply.worker.brake import Brake, tally_of
from slurmapply.worker.casualty import Casualty, Losses
from slurmapply.worker.child import fork_clerk
from slurmapply.worker.crew import Crew
from slurmapply.worker.deadlines import Deadlines
from slurmapply.worker.longrows import LongRows
from slurmapply.worker.memory import is_lack_of_memory
from slurmapply.worker.messages import DONE, NOT_LOADED, NOT_WRITTEN, READY
from slurmapply.worker.pool import Pool
from slurmapply.worker.supply import Supply
from slurmapply.worker.traces import adopt_orphans, end_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurmapply.worker.child import Worker
    from slurmapply.worker.clerk import Clerk, Desk
    from slurmapply.worker.crew import Report
    from slurmapply.worker.history import Past
    from slurmapply.worker.process import Assignment
    from slurmapply.worker.run import Run
    from slurmapply.worker.timelimit import TaskTime

#: A worker keeps its group to itself for so long before others that are idle get the rest.
_RECALL_AFTER = 0.2
#: How often to look around where looks are all that tells; else only when something is due.
_TICK = 0.1
_SOON = 0.001
_LONGEST_PAUSE = 60.0
#: Ends of a task that its Slurm state should show as failed.
_FAULTS = ("load_failed", "no_memory", "write_failed", "no_workers", "clerk_died")


class Supervisor:
    """Runs a task to its end.

    Parameters
    ----------
    run, desk
        The run; makes what the clerk does for it, in the clerk.
    assignment
        Makes what a worker of a number works for.
    prepare
        Loads what all workers need, while the clerk is at the disk.
    workers
        How many processes.
    history
        Earlier attempts of rows, by position.
    task_time
        When the task must end.
    """

    def __init__(
        self,
        run: Run,
        desk: Callable[[], Desk],
        assignment: Callable[[int], Assignment],
        *,
        prepare: Callable[[], None],
        workers: int,
        history: Mapping[int, Past],
        task_time: TaskTime,
    ) -> None:
        self._run = run
        self._desk = desk
        self._prepare = prepare
        self._time = task_time
        self._selector = selectors.DefaultSelector()
        self._pool = Pool(run.plan, workers, static=run.static, history=history)
        self._crew = Crew(assignment, min(workers, max(1, len(run.rows))), self._selector)
        self._brake = Brake(run.max_failures, workers)
        self._deadlines = Deadlines(run.row_timeout)
        self._losses = Losses(run, self._pool, self._brake, task_time.limit)
        self._signalled = ""
        self._signal_came = False
        self._supply = Supply()
        # How it ends.
        self._stop: str | None = None
        self._message = ""
        self._told = False
        self._cancelled = False
        self._finished = False
        self._fault: tuple[str, str] | None = None
        self._clerks = 0
        self._newborn_killed = False
        self._long_rows = LongRows(run.rows)
        self._cpu_before = _cpu_of_children()  # the setup lines', whose process this was

    def run(self, stop: str = "") -> int:
        """Run rows until there are none left for this task; gives the exit status.

        Parameters
        ----------
        stop
            A signal that came while the task was being set up, or empty.
        """
        self._listen()
        self._clerk = self._hire_clerk()
        size, limit = self._crew.size, self._time.limit
        if stop:
            self._note_signal(signal.Signals[f"SIG{stop.removeprefix('SIG')}"], None)
        else:
            # Before the record: to write that takes the disk as long as to fork the workers.
            self._ask_for_more(time.monotonic())
        self._clerk.ask("start", workers=size, limit=limit, pid=os.getpid())
        self._prepare()
        adopt_orphans()
        while not self._over():
            self._wait()
            self._look_after(time.monotonic())
        self._end()
        return 1 if (self._stop in _FAULTS or not self._finished) else 0

    # -- what happens ----------------------------------------------------------------------

    def _listen(self) -> None:
        wake, woken = os.pipe()
        for descriptor in (wake, woken):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._note_signal)
        self._selector.register(wake, selectors.EVENT_READ, None)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signalled = self._signalled or signal.Signals(number).name
        if number == signal.SIGTERM:
            self._time.note_end()

    def _wait(self) -> None:
        """Wait for reports, replies, ends of workers and signals, or until something is due."""
        for key, _ in self._selector.select(timeout=self._pause(time.monotonic())):
            if key.data is None:
                self._signal_came = True
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            elif key.data is self._clerk:
                self._take_replies()
            elif report := self._crew.read(key.data):
                self._take(report)
        self._clerk.flush()

    def _pause(self, now: float) -> float:
        """Say for how many seconds nothing is due; reports, replies and signals come by themselves.

        A task of a thousand should not wake ten times a second while its rows run for hours.
        """
        if self._run.row_timeout is not None or self._signalled or self._stop:
            return _TICK
        missing = self._has_rows and len(self._crew.workers) < self._crew.size
        if missing or self._clerk.is_behind:
            return _TICK
        due = [_LONGEST_PAUSE, self._long_rows.pause(self._crew, now)]
        if self._lacks_rows and not self._one_runs_alone:
            due += [self._supply.pause(now), self._until_recall(now)]
        return max(_SOON, min(due))

    def _look_after(self, now: float) -> None:
        if self._signal_came:
            self._bury_dead()
        self._deadlines.enforce(self._crew, now)
        self._long_rows.watch(self._crew, self._clerk, now)
        self._obey_signals()
        self._mind_failures()
        self._hand_out(now)

    def _take(self, report: Report) -> None:
        worker, kind = report.worker, report.kind
        if kind == READY:
            worker.ready = True
        elif kind == DONE:
            self._take_back(worker, report)
        elif kind == NOT_LOADED:
            said = worker.page.text
            reason = "no_memory" if is_lack_of_memory(said) else "load_failed"
            self._stop_early(reason, said)
        elif kind == NOT_WRITTEN:
            self._stop_early("write_failed", worker.page.text)

    def _take_back(self, worker: Worker, report: Report) -> None:
        done = range(report.start, report.reached)
        self._pool.settle(done)
        self._pool.measured(len(done), report.seconds)
        if not self._stop:
            self._pool.give_back(range(report.reached, worker.group.positions.stop))
        worker.drop_group()
        worker.page.stop = bool(self._stop)
        self._supply.look_soon(last=not self._crew.at_work)

    # -- the clerk -------------------------------------------------------------------------

    def _hire_clerk(self) -> Clerk:
        foreign = [end for worker in self._crew for end in worker.ends]
        clerk = fork_clerk(self._desk, foreign)
        self._selector.register(clerk.replies, selectors.EVENT_READ, clerk)
        self._clerks += 1
        return clerk

    def _take_replies(self) -> None:
        replies = self._clerk.receive()
        for reply in replies or ():
            kind = reply["reply"]
            if kind == "taken":
                self._take_claim(reply)
            elif kind == "stopped" and reply["cancelled"]:
                self._cancelled = True
                self._crew.kill()
            elif kind == "finished":
                self._finished = True
            elif kind == "failed":
                message = f"the job folder could not be written: {reply['message']}"
                self._fault = "write_failed", message
        if replies is None:
            self._replace_clerk()

    def _replace_clerk(self) -> None:
        """Let another clerk do what is left, once, and take no more rows."""
        self._selector.unregister(self._clerk.replies)
        os.waitpid(self._clerk.pid, 0)
        self._clerk.close()
        if self._clerks > 1:
            self._fault = self._fault or ("clerk_died", "")
            self._supply.asking = False
            self._stop = self._stop or self._fault[0]
            self._told = self._finished = True
            return
        left = self._clerk.unanswered
        self._clerk = self._hire_clerk()
        self._supply.asking = False
        for request in left:
            self._clerk.repeat(request)
        self._stop_early(*(self._fault or ("clerk_died", "the process for the disk was killed")))

    # -- rows ------------------------------------------------------------------------------

    def _hand_out(self, now: float) -> None:
        if self._stop:
            return
        if self._has_rows:
            self._fill_up(now)
        if self._one_runs_alone:
            return
        for worker in self._crew:
            if worker.idle and (group := self._pool.next_group()):
                worker.hand(group, self._run.retries, now)
        if (self._lacks_rows or self._supply.is_due(self._pool)) and self._supply.may_ask(now):
            self._ask_for_more(now)
        if self._supply.exhausted:
            self._recall(now)
            if self._pool.has_lonely and self._crew.all_idle and not self._supply.asking:
                self._crew.workers[0].hand(self._pool.next_lonely(), self._run.retries, now)

    @property
    def _has_rows(self) -> bool:
        """Whether there is or may soon be something to hand out."""
        return bool(len(self._pool) or self._pool.has_lonely or self._supply.waiting)

    @property
    def _lacks_rows(self) -> bool:
        """Whether workers wait for rows that are not here."""
        return not len(self._pool) and (self._crew.any_idle or not self._crew.workers)

    @property
    def _one_runs_alone(self) -> bool:
        """Whether a row is in work that has all of the task's memory."""
        return any(worker.busy and worker.group.past.memory for worker in self._crew)

    def _fill_up(self, now: float) -> None:
        try:
            refusal = self._crew.fill_up(now, self._clerk.ends)
        except OSError as error:
            self._stop_early("no_workers", f"no process could be started: {error}")
            return
        if refusal:
            self._clerk.ask("note", text=refusal)

    def _ask_for_more(self, now: float) -> None:
        self._supply.asked(now)
        self._clerk.ask("take")

    def _take_claim(self, reply: Mapping[str, Any]) -> None:
        claim = self._supply.take(reply, time.monotonic())
        if claim is not None:
            self._pool.add(claim)
        if self._stop:
            self._pool.clear()
            self._tell_stop()

    def _recall(self, now: float) -> None:
        """Ask workers with long groups for the rest of them while others are idle."""
        if self._run.static or not self._crew.any_idle:
            return
        for worker in self._crew:
            if len(worker.group.positions) > 1 and now - worker.since > _RECALL_AFTER:
                worker.page.stop = True

    def _until_recall(self, now: float) -> float:
        """Say in how many seconds the first worker is to be asked for the rest of its group."""
        if not self._supply.exhausted or self._run.static:
            return math.inf
        long = (w for w in self._crew if len(w.group.positions) > 1 and not w.page.stop)
        return min((w.since + _RECALL_AFTER - now for w in long), default=math.inf)

    # -- what befalls workers --------------------------------------------------------------

    def _bury_dead(self) -> None:
        self._signal_came = False
        for worker, status in self._crew.dead():
            self._bury(worker, status)

    def _bury(self, worker: Worker, status: int) -> None:
        """Settle the row that a dead worker was on, put its others back."""
        for report in self._crew.last_reports(worker):
            self._take(report)
        self._crew.remove(worker)
        self._brake.note(tally_of(worker.page))
        if not worker.ready:
            self._mourn_newborn(Casualty(worker, status))
        elif worker.busy and not self._cancelled:
            interrupted_by = self._time.cause if self._stop and self._signalled else ""
            self._losses.settle(Casualty(worker, status, interrupted_by), self._clerk)
            if self._stop:
                self._pool.clear()

    def _mourn_newborn(self, casualty: Casualty) -> None:
        """Start another in place of one that was killed while it loaded, once."""
        page = casualty.worker.page
        from_outside = casualty.was_killed and not (page.text or page.own_hand)
        for_memory = self._losses.was_for_memory(casualty)
        if from_outside and not self._newborn_killed:
            self._newborn_killed = True
            return
        if for_memory:
            self._stop_early("no_memory", self._losses.lack_of_memory(self._crew.size))
            return
        self._stop_early("load_failed", page.text or casualty.death.name)

    def _mind_failures(self) -> None:
        """Take no more rows when they fail as `max_failures` says."""
        pages = [worker.page for worker in self._crew]
        watches = self._brake.watches(pages)
        for page in pages:
            page.probation = watches
        if watches and not self._stop and (reason := self._brake.reason(pages)):
            self._stop_early("max_failures", reason)

    # -- the end ---------------------------------------------------------------------------

    def _over(self) -> bool:
        if self._time.is_up:
            return True
        if self._supply.asking or self._crew.at_work:
            return False
        if self._stop:
            return True
        if len(self._pool) or self._pool.has_lonely or not self._supply.exhausted:
            return False
        if not self._supply.waiting:
            return True
        if self._supply.is_given_up(time.monotonic()):
            said = "rows of another task that was stopping never came out"
            self._stop_early("patience", said)
        return False

    def _obey_signals(self) -> None:
        if self._signalled and not self._stop:
            self._stop_early(self._time.reason(self._signalled), "")
        if self._time.must_end_rows:
            self._crew.kill()

    def _stop_early(self, reason: str, message: str) -> None:
        """Take no more rows. What is held is given up first, then the workers' rows finish."""
        if self._stop:
            return
        self._stop, self._message = reason, message
        self._crew.stop()
        # A worker enters a row before it looks at the flag, and we set the flag before we look at
        # its row: one of us sees the other. The pause lets both words leave the processors.
        time.sleep(0.002)
        self._pool.clear()
        if not self._supply.asking:
            self._tell_stop()

    def _tell_stop(self) -> None:
        """Have the clerk write what is given up; a claim that it has just made is known by now."""
        if self._told:
            return
        self._told = True
        begun = [(worker, p) for worker in self._crew for p in worker.unwritten]
        self._clerk.ask(
            "stop",
            reason=self._stop,
            message=self._message,
            chunks=[*self._pool.held.items(), *self._supply.waiting],
            rows=[(self._run.rows[p], worker.attempt_at(p)) for worker, p in begun],
            outcomes=[worker.outcomes for worker in self._crew],
            replaced=self._clerks > 1,
        )

    def _end(self) -> None:
        """Let the workers close their files, and have the last record written."""
        self._crew.dismiss()
        while self._crew.workers and not self._time.is_up:
            self._wait()
            self._bury_dead()
        cpu = _cpu_of_children() - self._cpu_before
        self._clerk.ask("finish", reason=self._stop or "done", cpu=cpu)
        while not (self._finished or self._time.is_up):
            self._wait()
        end_orphans()


def _cpu_of_children() -> float:
    """Give the CPU seconds of the workers that are buried, and of programs that they waited for."""
    return sum(os.times()[2:4])
