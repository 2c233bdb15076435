"""What rows and tasks printed, cut out of the workers' consoles; at once, or as it comes."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, NamedTuple

from slurmapply import jobfolder
from slurmapply.states import OVER, JobState, RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower

#: What is handed on at a time; a worker's console may hold a gigabyte.
_PIECE = 1 << 20
#: Of a line that has not ended, as long as its console is one of several.
_LONGEST_HELD = 4096


class Part(NamedTuple):
    """Where what a row printed stands.

    Attributes
    ----------
    console, begin
        The file, and where it begins there.
    end
        Where it ends; None where nobody wrote that down, as of a row that is running.
    """

    console: str
    begin: int
    end: int | None


class Consoles:
    """Reads the consoles of a job.

    Parameters
    ----------
    disk, follower
        The folder; knows where each row ran.
    """

    def __init__(self, disk: FolderDisk, follower: Follower) -> None:
        self._disk = disk
        self._follower = follower

    def of_row(self, row: int) -> str:
        """Give exactly what a row printed; of one that is running or was cut short, so far.

        Of several attempts it is the one that counts: what `job.result(row)` and `job.row(row)`
        are of. Attempts that followed each other in one worker (``retries=``) stand together.
        """
        while True:
            part = self._part(row)
            if part is None:
                return ""
            text = _read(self._disk, part.console, part.begin, part.end)
            if part.end is not None:
                return text
            # It may have ended since the last look, and the next rows may have printed.
            self._follower.look(ask=False)
            if self._part(row) == part:
                return text

    def _part(self, row: int) -> Part | None:
        """Say where a row's output stands: of the attempt that runs, else of the one that counts.

        A row that is being run again shows what it prints now, not what it printed before.
        """
        run, outcomes = self._follower.run, self._follower.outcomes
        if outcomes.last_run(row) < run.number:
            for view in run.latest:
                if view.end is None and row in view.running:
                    return _recorded(view.running[row], run.number)
        found = outcomes.find(row)
        if found is not None:
            frame, index = found
            measures = frame.measures(index)
            begin = measures.log_offset
            console = jobfolder.console_of(frame.origin.file)
            return Part(console, begin, begin + measures.log_length)
        return self._part_cut_short(row)

    def _part_cut_short(self, row: int) -> Part | None:
        """Say where the last attempt of a row stands that has no outcome."""
        run = self._follower.run
        records = [
            record
            for view in run.lives
            for record in (*view.running.values(), *view.interrupted)
            if record["row"] == row
        ]
        records.sort(key=lambda record: record["attempt"])
        return _recorded(records[-1], run.number) if records else None

    def of_tasks(self, limit: int | None = None) -> dict[int, str]:
        """Give what each task of the latest run printed, its own console first."""
        consoles: dict[int, list[str]] = {}
        for task, name in self._names():
            consoles.setdefault(task, []).append(_read(self._disk, name, 0, None, limit))
        return {task: "".join(texts) for task, texts in sorted(consoles.items())}

    def _names(self) -> Iterator[tuple[int, str]]:
        """Name the consoles of the latest run, each with its task; a task's own comes first."""
        folder = jobfolder.run_folder(self._follower.run.number)
        for name in sorted(self._disk.names(folder), key=jobfolder.console_order):
            task = jobfolder.parse_console(name)
            if task is not None:
                yield task, f"{folder}/{name}"

    # -- as it comes -----------------------------------------------------------------------

    def follow_row(self, row: int, states: Iterable[JobState]) -> Iterator[str]:
        """Give what a row prints as it comes, until the row has ended.

        Parameters
        ----------
        row
            Its number.
        states
            The job's at each look.

        Yields
        ------
        str
            What is new since the last look.
        """
        tail: _Tail | None = None
        for state in states:
            status = self._follower.row_status(row, state)
            part = None if status is RowStatus.PENDING else self._part(row)
            ended = status is not RowStatus.RUNNING and status is not RowStatus.PENDING
            if part is not None:
                if tail is None or (tail.name, tail.begin) != part[:2]:
                    if tail is not None:
                        yield f"\n[slurmapply: row {row} began again]\n"
                    tail = _Tail(self._disk, part.console, part.begin)
                tail.look(part.end)
                # As in `of_row`: what was read may be another row's by now.
                if not ended:
                    self._follower.look(ask=False)
                if ended or self._part(row) == part:
                    yield from tail.take(final=ended)
            if ended:
                return

    def follow_tasks(self, task: int | None, states: Iterable[JobState]) -> Iterator[str]:
        """Give what a task prints as it comes, or all tasks, until the task or the job has ended.

        Parameters
        ----------
        task
            Its number; None: all, a line before each change telling whose it is.
        states
            The job's at each look.

        Yields
        ------
        str
            Whole lines: several workers may be printing.
        """
        tails: dict[str, _Tail] = {}
        submission = self._follower.run.submission
        alone = submission is not None and submission.kind != "slurm"
        told = 0 if alone else task  # without a Slurm there is one task only
        for state in states:
            ended = state in OVER or self._has_ended(task)
            for each, name in self._names():
                if task not in (None, each):
                    continue
                tail = tails.setdefault(name, _Tail(self._disk, name, 0))
                tail.look(None)
                for text in tail.take(final=ended, lines=True):
                    yield text if told == each else f"==> task {each} <==\n{text}"
                    told = each
            if ended:
                return

    def _has_ended(self, task: int | None) -> bool:
        run = self._follower.run
        ends = [view.end for view in run.latest if view.life.task == task]
        return any(ends) and not run.may_come_back


class _Tail:
    """Reads on in a console, and decodes what it holds over the borders of what was read.

    Parameters
    ----------
    disk, name, begin
        The folder, the file, where to begin.
    """

    def __init__(self, disk: FolderDisk, name: str, begin: int) -> None:
        self.name = name
        self.begin = begin
        self._disk = disk
        self._place = begin
        self._until = begin
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def look(self, end: int | None) -> None:
        """See how far the console goes, or should be read: to `end`, if there is one."""
        file = self._disk.open(self.name)
        if file is None:
            return
        with file:
            size = file.seek(0, 2)
        self._until = size if end is None else min(end, size)
        # A flood was cut off meanwhile.
        self._place = min(self._place, self._until)

    def take(self, *, final: bool, lines: bool = False) -> Iterator[str]:
        """Give what is new since the last time, up to where `look` has seen.

        Parameters
        ----------
        final
            Nothing comes after it.
        lines
            Hold back a line that has not ended.
        """
        while self._place < self._until:
            data = _read_bytes(
                self._disk, self.name, self._place, min(_PIECE, self._until - self._place)
            )
            if not data:
                break
            self._place += len(data)
            text = self._held + self._decoder.decode(data)
            # Bars that are drawn again and again end their lines by a carriage return.
            cut = max(text.rfind("\n"), text.rfind("\r")) + 1
            if not lines or len(text) - cut > _LONGEST_HELD:
                cut = len(text)
            self._held = text[cut:]
            if cut:
                yield text[:cut]
        if final:
            rest = self._held + self._decoder.decode(b"", final=True)
            self._held = ""
            if rest:
                yield rest


def _recorded(record: Mapping[str, Any], run: int) -> Part | None:
    """Say where a task's record has the output of a row begin; None where it does not say."""
    console, begin = str(record.get("console")).rpartition("/")[2], record.get("log_offset")
    # A folder may come from elsewhere: nothing outside of it is read.
    if jobfolder.parse_console(console) is None or not isinstance(begin, int) or begin < 0:
        return None
    return Part(f"{jobfolder.run_folder(run)}/{console}", begin, None)


def _read(
    disk: FolderDisk, name: str, begin: int, end: int | None, limit: int | None = None
) -> str:
    data = _read_bytes(disk, name, begin, None if end is None else end - begin, limit)
    return data.decode("utf-8", "replace")


def _read_bytes(
    disk: FolderDisk, name: str, begin: int, length: int | None, limit: int | None = None
) -> bytes:
    file = disk.open(name)
    if file is None:
        return b""
    with file:
        if limit is not None:
            begin = max(begin, file.seek(0, 2) - limit)
        file.seek(begin)
        return file.read(-1 if length is None else length)
