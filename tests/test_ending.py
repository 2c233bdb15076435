"""The end of a job: what it is known by, and what has to wait for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from slurmapply import RowsFailedError, SlurmJob, slurm_map
from slurmapply.disk import FolderDisk, write_all
from slurmapply.following import Follower
from slurmapply.jobfolder import Life
from slurmapply.outcome import KIND_INT, MAGIC, FrameBuilder, Measures
from slurmapply.records import TaskRecord
from slurmapply.removal import out_of_the_way

LIFE = Life("77", 0, 0)


def prepared() -> tuple[SlurmJob, FolderDisk, TaskRecord]:
    job = slurm_map(abs, [-1], nodes=1, cpus_per_node=1, job_name="ends", submit=False)
    disk = FolderDisk(job.folder)
    disk.publish("run_0/submission", b'{"kind": "slurm", "job_id": "77"}')
    record = TaskRecord(disk, 0, LIFE)
    record.start(1)
    return job, disk, record


def write_outcome(job: SlurmJob, disk: FolderDisk) -> None:
    frame = FrameBuilder(bytes.fromhex(job._content["uuid"]))
    frame.add(0, 1, KIND_INT, 1, Measures())
    with disk.create(LIFE.outcomes(0, "0")) as file:
        write_all(file.fileno(), frame.take())


def test_what_a_task_writes_before_its_end_is_read_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, disk, record = prepared()
    real = Follower._view_run

    def ends_meanwhile(self: Follower, number: int) -> Any:
        if not list((job.folder / "run_0").glob("outcomes_*")):
            write_outcome(job, disk)
            record.finish("done")  # without naming its files: the order of reading has to do
        return real(self, number)

    follower = job._follower
    follower.look(ask=False)
    monkeypatch.setattr(Follower, "_view_run", ends_meanwhile)
    state = follower.look(ask=False)
    assert (state, follower.count(state)[0]) == ("finished", {"ok": 1})


def test_an_end_is_believed_when_the_files_that_it_names_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, _, record = prepared()
    name = Path(LIFE.outcomes(0, "0")).name
    record.finish("done", {name: 100})  # as NFS shows it: the end is here, the outcomes are not
    assert job._follower.look(ask=False) == "stopping"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1000)
    assert job._follower.look(ask=False) == "finished"
    assert job._follower.count(job._follower.look(ask=False))[0] == {"unfinished": 1}


def test_a_folder_is_deleted_after_its_task_has_ended_only() -> None:
    stopped = Path("supervisor").absolute()

    def freezes_its_supervisor(x: int) -> int:
        stopped.write_text(str(os.getppid()))
        os.kill(os.getppid(), signal.SIGSTOP)
        return x

    job = slurm_map(freezes_its_supervisor, [1], backend="local", job_name="frozen")
    assert job.results() == [1]
    woken: list[float] = []

    def wake() -> None:
        woken.append(time.monotonic())
        os.kill(int(stopped.read_text()), signal.SIGCONT)

    timer = threading.Timer(0.8, wake)
    timer.start()
    job.cleanup()
    assert woken, "the folder went while its task was alive"
    timer.join()
    assert not job.folder.exists()
    assert not list(Path().glob(".*frozen*"))


def test_a_folder_comes_back_when_its_successor_does_not_come() -> None:
    folder = Path("job")
    folder.mkdir()
    (folder / "results").write_text("kept")
    with pytest.raises(OSError, match="no room"), out_of_the_way(folder):
        assert not folder.exists()
        raise OSError("no room")
    assert (folder / "results").read_text() == "kept"
    assert list(Path().iterdir()) == [folder]


def test_damaged_values_cost_their_rows_only_until_the_retry() -> None:
    def slow(x: int) -> list[int]:
        time.sleep(0.02)  # long enough for a frame of its own
        return [x]

    job = slurm_map(slow, [1, 2, 3], backend="inline", job_name="damaged")
    (outcomes,) = (job.folder / "run_0").glob("outcomes_*")
    content = bytearray(outcomes.read_bytes())
    content[content.index(MAGIC, 1) - 1] ^= 1  # the first frame's last byte
    outcomes.write_bytes(content)
    again = SlurmJob(job.folder)
    # No value has been read yet, and the tables of the frames are whole.
    assert again.status().counts == {"ok": 3}
    damaged, *others = again.results(errors="keep")
    assert (damaged.row, damaged.status) == (0, "unfinished")
    assert others == [[2], [3]]
    with pytest.raises(RowsFailedError, match=r"1 of 3 rows .* job\.retry\(\)"):
        SlurmJob(job.folder).results()
    assert SlurmJob(job.folder).retry().results() == [[1], [2], [3]]


def test_a_file_whose_end_is_torn_for_ever_keeps_no_job_open() -> None:
    job, disk, record = prepared()
    write_outcome(job, disk)
    (path,) = (job.folder / "run_0").glob("outcomes_*")
    # The beginning of a frame whose worker was killed: its task names the file as it is.
    with path.open("ab") as file:
        file.write(path.read_bytes()[:80])
    size = path.stat().st_size
    record.finish("done", {path.name: size})
    survey = job._follower.survey
    survey.update([0])
    name = f"run_0/{path.name}"
    assert (survey.has_read(name, size), survey.has_read(name, size + 1)) == (True, False)
