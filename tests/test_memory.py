"""The kernel's memory counters, from folders made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmapply.worker.memory import TaskMemory, find, in_words

ABOUT_NO_LIMIT = 9223372036854771712


def group(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")
    return folder


def version_1(folder: Path, limit: int, peak: int = 0, kills: int = 0) -> Path:
    control = f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}"
    return group(folder, limit_in_bytes=limit, max_usage_in_bytes=peak, oom_control=control)


def version_2(folder: Path, limit: object, peak: int = 0, kills: int = 0) -> Path:
    events = f"low 0\nhigh 0\nmax 4\noom 1\noom_kill {kills}\noom_group_kill 0"
    return group(folder, max=limit, peak=peak, events=events)


def memory(cgroups: str, mount: Path) -> TaskMemory:
    process, machine = Path("cgroup"), Path("vmstat")
    process.write_text(cgroups)
    if not machine.exists():
        machine.write_text("nr_free_pages 17\noom_kill 3\n")
    return TaskMemory(find(process, mount), machine)


@pytest.fixture
def slurm_1(tmp_path: Path) -> tuple[TaskMemory, Path, Path]:
    """Version 1 as Slurm lays it out: limits of the job and the step, kills at the task."""
    top = version_1(tmp_path / "memory", ABOUT_NO_LIMIT, kills=7)
    job = version_1(top / "slurm/uid_0/job_9", 150 << 20, 149 << 20)
    version_1(top / "slurm/uid_0", ABOUT_NO_LIMIT)
    version_1(top / "slurm", ABOUT_NO_LIMIT)
    step = version_1(job / "step_batch", 150 << 20, 148 << 20)
    task = version_1(step / "task_0", ABOUT_NO_LIMIT, 1)
    text = "9:name=systemd:/x\n4:memory:/slurm/uid_0/job_9/step_batch/task_0\n0::/\n"
    return memory(text, tmp_path), task, step


def test_version_1_finds_the_limit_above_and_its_peak(
    slurm_1: tuple[TaskMemory, Path, Path],
) -> None:
    found, _, _ = slurm_1
    assert (found.limit(), found.peak()) == (150 << 20, 148 << 20)


def test_version_1_counts_the_kills_of_the_task_alone(
    slurm_1: tuple[TaskMemory, Path, Path],
) -> None:
    found, task, step = slurm_1
    assert not found.take_kill(), "what was before the task is not its own"
    version_1(task, ABOUT_NO_LIMIT, kills=2)
    assert [found.take_kill() for _ in range(3)] == [True, True, False]
    version_1(step, 150 << 20, kills=1)  # somebody else in the same step
    assert not found.take_kill()


def test_version_2(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()  # a name that version 1 would have
    slice_ = version_2(tmp_path / "system.slice", "max")
    job = version_2(slice_ / "slurmstepd.scope/job_9", 4 << 30, (3 << 30) + 1)
    version_2(slice_ / "slurmstepd.scope", "max", 5 << 30)
    task = version_2(job / "step_batch/user/task_0", "max", 1)
    version_2(task.parent, "max")
    version_2(job / "step_batch", "max")
    found = memory("0::/system.slice/slurmstepd.scope/job_9/step_batch/user/task_0\n", tmp_path)
    assert (found.limit(), found.peak()) == (4 << 30, (3 << 30) + 1)
    assert not found.take_kill()


def test_version_2_counts_one_kill_once_though_every_level_counts_it(tmp_path: Path) -> None:
    job = version_2(tmp_path / "job_9", 1 << 20)
    task = version_2(job / "task_0", "max")
    found = memory("0::/job_9/task_0\n", tmp_path)
    version_2(task, "max", kills=1)
    version_2(job, 1 << 20, kills=1)  # memory.events adds up towards the root (cgroup-v2)
    assert found.take_kill()
    assert not found.take_kill()


def test_version_2_before_there_was_a_peak(tmp_path: Path) -> None:
    job = version_2(tmp_path / "job_9", 1 << 30)
    (job / "memory.peak").unlink()  # Linux before 5.19
    found = memory("0::/job_9\n", tmp_path)
    assert (found.limit(), found.peak()) == (1 << 30, None)


def test_in_a_container_the_path_is_the_hosts(tmp_path: Path) -> None:
    version_1(tmp_path / "memory", 2 << 30, 1 << 30, kills=1)
    found = memory("4:memory:/docker/0123/nowhere\n", tmp_path)
    assert (found.limit(), found.peak()) == (2 << 30, 1 << 30)
    version_1(tmp_path / "memory", 2 << 30, 1 << 30, kills=2)
    assert found.take_kill()


@pytest.mark.parametrize("text", ["", "0::/\n", "1:cpu:/x\n"])
def test_without_a_group_the_machine_counts(text: str, tmp_path: Path) -> None:
    found = memory(text, tmp_path)
    assert (found.limit(), found.peak()) == (None, None)
    assert not found.take_kill()
    Path("vmstat").write_text("oom_kill 4\n")
    assert [found.take_kill(), found.take_kill()] == [True, False]


def test_without_anything_nothing_is_known(tmp_path: Path) -> None:
    found = TaskMemory(find(tmp_path / "nowhere", tmp_path), tmp_path / "nowhere")
    assert (found.limit(), found.peak(), found.take_kill()) == (None, None, False)


def test_a_group_without_a_limit_has_none(tmp_path: Path) -> None:
    version_1(tmp_path / "memory", ABOUT_NO_LIMIT, 1 << 20)
    found = memory("4:memory:/\n", tmp_path)
    assert (found.limit(), found.peak()) == (None, None)


def test_spoilt_files_are_as_good_as_none(tmp_path: Path) -> None:
    version_2(tmp_path / "job", "much", kills=1)
    (tmp_path / "job/memory.events").write_text("oom_kill often\n")
    found = memory("0::/job\n", tmp_path)
    assert (found.limit(), found.take_kill()) == (None, False)


def test_this_machines_own_counters_can_be_read() -> None:
    found = TaskMemory()
    assert not found.take_kill()
    assert found.limit() is None or found.limit() > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("size", "words"),
    [(150 << 20, "150 MB"), ((1 << 30) - 1, "1024 MB"), (1 << 30, "1.0 GB"), (0, "0 MB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
