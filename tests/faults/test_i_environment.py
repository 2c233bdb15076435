"""Environments that differ between session and node: section I of the catalogue."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from slurmapply import NotPicklableError, RowError, RowsFailedError, slurm_apply, slurm_map
from tests.faults.provocations import ONE, again

if TYPE_CHECKING:
    from tests.slurm_cluster import Cluster

DETACHED = pytest.mark.parametrize(
    "backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)]
)
HERE = sys.version_info[:2]
OF_SESSION = "{}.{}".format(*HERE)


def other_python() -> str:
    """Find a Python of another minor version that the package supports."""
    for minor in range(10, 15):
        if (3, minor) == HERE:
            continue
        found = shutil.which(f"python3.{minor}")
        for path in [found, *pyenv_pythons(minor)]:
            if path is None:
                continue
            done = subprocess.run([path, "--version"], capture_output=True, check=False)
            if f"Python 3.{minor}.".encode() in done.stdout:
                return str(path)
    pytest.skip("NO PYTHON OF ANOTHER MINOR VERSION IS HERE")


def pyenv_pythons(minor: int) -> list[Path]:
    if not shutil.which("pyenv"):
        return []
    root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout
    return sorted(Path(root.strip(), "versions").glob(f"3.{minor}.*/bin/python3"))


# Versions of Python


def test_I_01_a_node_without_the_sessions_python_says_so_and_burns_no_row() -> None:
    other = other_python()
    job = slurm_map(abs, [-1], python=other, setup="PATH=/nowhere", backend="local", **ONE).wait()
    assert job.status().counts == {"unfinished": 1}
    assert f"no Python {OF_SESSION} on" in job.logs()[0]
    assert other in job.logs()[0]
    with pytest.raises(RowsFailedError, match="never_started"):
        job.results()
    assert job.retry(python=sys.executable, setup=[]).results() == [1]


def test_I_01_the_nodes_program_refuses_another_python_before_it_loads_anything() -> None:
    other = other_python()
    job = slurm_map(abs, [-1], submit=False, job_name="versions")
    done = subprocess.run(
        [other, "worker.pyz", "--uuid", "u", "--run", "0", "--tag", "t"], cwd=job.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"this job was made with Python {OF_SESSION}, and this node's" in done.stderr
    assert "Traceback" not in done.stderr


def test_I_01_another_sessions_python_is_told_before_it_unpickles(tmp_path: Path) -> None:
    other = other_python()
    job = slurm_map(lambda x: [x], [1, 2], backend="inline", job_name="versions")
    program = """
import sys
from slurmapply import SlurmJob, UntrustedFolderError
job = SlurmJob(sys.argv[1])
print(job.status().counts)
try:
    job.results()
except UntrustedFolderError as error:
    print(error)
print(SlurmJob(sys.argv[1], trust=True).results())
"""
    import slurmapply

    said = subprocess.check_output(
        [other, "-c", program, str(job.folder)], text=True,
        env={"PYTHONPATH": str(Path(slurmapply.__file__).parents[1]), "PATH": os.environ["PATH"]},
    ).splitlines()  # fmt: skip
    assert said[0] == "{'ok': 2}"
    assert f"made with Python {OF_SESSION} and this is Python 3." in said[1]
    assert said[2] == "[[1], [2]]"


# What a function needs


@DETACHED
def test_I_02_a_module_beside_the_session_is_found_on_the_node(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    (own_folders / "beside_it.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend("")
    import beside_it  # type: ignore[import-not-found]

    job = slurm_map(beside_it.triple, [1, 2], job_name="beside", backend=backend, **ONE)
    assert job.results() == [3, 6]


@pytest.mark.slurm
def test_I_02_a_module_that_the_node_does_not_have_is_named_and_burns_no_row(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folders / "only_here.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend("")
    import only_here  # type: ignore[import-not-found]

    job = slurm_map(only_here.triple, [1, 2], job_name="gone", submit=False)
    (own_folders / "only_here.py").rename(own_folders / "kept")
    job.submit(backend="local").wait()
    assert job.status().counts == {"unfinished": 2}
    assert set(job.errors()["row_cause"]) == {"load_failed"}
    with pytest.raises(RowsFailedError, match="No module named 'only_here'"):
        job.results()
    (own_folders / "kept").rename(own_folders / "only_here.py")
    assert job.retry().results() == [3, 6]
    assert job.table(details=True)["row_attempt"].tolist() == [1, 1]


def test_I_03_a_submodule_that_is_used_by_attribute_is_there() -> None:
    import email
    import email.mime.text

    def subtype(text: str) -> str:
        return email.mime.text.MIMEText(text).get_content_subtype()

    job = slurm_map(subtype, ["a", "b"], job_name="attribute", backend="local")
    assert job.results() == ["plain", "plain"]


@DETACHED
def test_I_04_lambdas_closures_and_inner_functions_work(backend: str) -> None:
    times = 3

    def outer(x: int) -> int:
        def inner(y: int) -> int:
            return times * y

        return sum(map(lambda z: inner(z) + 1, [x, 0]))  # noqa: C417

    job = slurm_map(outer, [1, 2], job_name="inner", backend=backend, **ONE)
    assert job.results() == [5, 8]
    alone = slurm_map(lambda x: x + times, [1], job_name="lambda", backend=backend, **ONE)
    assert alone.results() == [4]


@DETACHED
def test_I_05_classes_of_a_script_come_back_in_its_session_and_in_others(
    own_folders: Path, backend: str
) -> None:
    (own_folders / "script.py").write_text(f"""
from dataclasses import dataclass
from slurmapply import slurm_map
@dataclass
class Point:
    x: int
    def double(self):
        return Point(2 * self.x)
def make(x):
    return Point(x).double()
if __name__ == "__main__":
    job = slurm_map(make, [1, 2], job_name="points", backend={backend!r}, nodes=1)
    made = job.results()
    print([isinstance(point, Point) for point in made], made)
""")
    said = subprocess.check_output([sys.executable, "script.py"], cwd=own_folders, text=True)
    assert said.splitlines()[-1] == "[True, True] [Point(x=2), Point(x=4)]"
    program = (
        "from slurmapply import SlurmJob; print(SlurmJob.open('points').results()[1].double())"
    )
    said = subprocess.check_output([sys.executable, "-c", program], cwd=own_folders, text=True)
    assert said == "Point(x=8)\n"


@DETACHED
def test_I_06_a_package_that_is_missing_burns_no_row(backend: str) -> None:
    def uses(x: int) -> int:
        Path("begun").touch()
        return x

    job = slurm_map(uses, [1, 2], packages=["json", "no_such_package"], job_name="lacks",
                    backend=backend, **ONE).wait()  # fmt: skip
    assert job.status().counts == {"unfinished": 2}
    with pytest.raises(RowsFailedError, match=r"2 x load_failed: .*No module named"):
        job.results()
    assert not Path("begun").exists()
    assert job.retry(packages="json").results() == [1, 2]


def test_I_07_a_value_that_cannot_be_loaded_here_is_kept_and_named(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folders / "of_node.py").write_text("class Value:\n    pass\n")

    def make(x: int) -> Any:
        return __import__("of_node").Value() if x else x

    job = slurm_map(make, [0, 1], job_name="loads", sys_path=[own_folders], backend="local").wait()
    (own_folders / "of_node.py").rename(own_folders / "kept")
    kept = again(job).results(errors="keep")
    assert kept[0] == 0
    assert isinstance(kept[1], RowError)
    assert "cannot be loaded here (ModuleNotFoundError" in str(kept[1])
    (own_folders / "kept").rename(own_folders / "of_node.py")
    monkeypatch.syspath_prepend(str(own_folders))
    assert type(again(job).results()[1]).__name__ == "Value"


# Where and how it runs


@DETACHED
def test_I_08_relative_paths_are_those_of_the_session(own_folders: Path, backend: str) -> None:
    (own_folders / "data").mkdir()
    (own_folders / "data/x.csv").write_text("1,2")
    job = slurm_map(lambda name: Path(name).read_text(), ["data/x.csv"], job_name="relative",
                    backend=backend, **ONE)  # fmt: skip
    assert job.results() == ["1,2"]


def test_I_08_a_working_folder_that_the_node_lacks_is_said_to_be_missing(
    own_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    job = slurm_map(lambda _: str(Path.cwd()), [1], jobs_folder=own_folders, submit=False)
    monkeypatch.chdir(own_folders)
    gone.rmdir()
    assert job.submit(backend="local").results() == [str(own_folders)]
    assert f"the session's folder {gone} is not on this machine" in job.logs()[0]


def test_I_09_consoles_have_a_folder_before_anything_is_submitted(slurm_cluster: Cluster) -> None:
    job = slurm_map(abs, [-1], job_name="console", slurm_options={"hold": True}, **ONE)
    shown = slurm_cluster.run(["scontrol", "show", "job", str(job.job_id)])
    (output,) = [line.split("=", 1)[1] for line in shown.splitlines() if "StdOut=" in line]
    assert Path(output).parent == job.folder / "run_0"
    assert Path(output).parent.is_dir()
    slurm_cluster.run(["scontrol", "release", str(job.job_id)])
    assert job.results() == [1]
    assert (job.folder / "run_0/slurm_0.out").exists()


def test_I_10_a_row_can_submit_a_job_of_its_own(slurm_cluster: Cluster, own_folders: Path) -> None:
    def submit_more(x: int) -> list[str]:
        from slurmapply import slurm_map

        os.environ["SLURM_CPU_BIND"] = "mask_cpu:0x1"

        def seen(_: int) -> str:
            names = ("SLURM_CPUS_PER_TASK", "SLURM_ARRAY_TASK_COUNT", "SLURM_CPU_BIND")
            return " ".join(os.environ.get(name, "-") for name in names)

        inner = slurm_map(seen, [1, 2], job_name=f"inner{x}", nodes=2, cpus_per_node=1)
        return list(inner.results())

    job = slurm_map(submit_more, [7], job_name="outer", nodes=1, cpus_per_node=2,
                    processes_per_node=1)  # fmt: skip
    assert job.results() == [["1 2 -", "1 2 -"]]


def test_I_11_what_is_asked_for_beats_the_users_variables(
    slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("SBATCH_PARTITION", "urgent"), ("SBATCH_TIMELIMIT", "7"), ("SBATCH_ARRAY_INX", "0-9"),
        ("SBATCH_JOB_NAME", "else"), ("SBATCH_OPEN_MODE", "truncate"), ("SLURM_CPUS_PER_TASK", "7"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    job = slurm_map(abs, [-1], partition="main", time="30min", job_name="asked",
                    slurm_options={"hold": True}, **ONE)  # fmt: skip
    shown = slurm_cluster.run(["scontrol", "show", "job", str(job.job_id)])
    for fact in ("Partition=main", "TimeLimit=00:30:00", "JobName=asked_", "ArrayTaskId=0 ",
                 "NumCPUs=1 "):  # fmt: skip
        assert fact in shown, shown
    job.cancel()
    standing = slurm_map(abs, [-1], job_name="standing", slurm_options={"hold": True}, **ONE)
    shown = slurm_cluster.run(["scontrol", "show", "job", str(standing.job_id)])
    assert "Partition=urgent" in shown
    standing.cancel()


@pytest.mark.slurm
@pytest.mark.parametrize("how", ["variable", "option"])
def test_I_12_nothing_is_needed_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path, how: str
) -> None:
    (own_folders / "beside_too.py").write_text("VALUE = 3\n")
    options = {"export": "NONE"} if how == "option" else {}
    if how == "variable":
        monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.syspath_prepend(str(own_folders))

    def f(x: int) -> tuple[int, str, bool]:
        return x * __import__("beside_too").VALUE, str(Path.cwd()), np.ones(3).sum() == 3

    job = slurm_map(f, [1, 2], job_name="bare", slurm_options=options, **ONE)
    assert job.results() == [(3, str(own_folders), True), (6, str(own_folders), True)]


def test_I_13_limits_of_the_login_node_do_not_hold_on_the_nodes(
    slurm_cluster: Cluster, own_folders: Path
) -> None:
    program = """
import resource
from slurmapply import slurm_map
resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
def limit(_):
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(slurm_map(limit, [1], job_name="limits", nodes=1).results()[0])
"""
    said = subprocess.check_output([sys.executable, "-c", program], cwd=own_folders, text=True)
    assert said.split()[-1] != "321"


@DETACHED
def test_I_14_noise_of_login_shells_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    for name in (".bashrc", ".bash_profile", ".profile", ".bash_login"):
        (tmp_path / name).write_text("echo 'Welcome to the cluster!'; cd /; exit 3\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    job = slurm_map(lambda x: (print("row"), -x)[1], [1], job_name="quiet", backend=backend, **ONE)
    assert job.results() == [-1]
    assert job.logs(row=0) == "row\n"
    assert "Welcome" not in job.logs()[0]


CAPS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
        "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "LOKY_MAX_CPU_COUNT"]  # fmt: skip


@DETACHED
def test_I_15_libraries_get_as_many_threads_as_a_worker_has_processors(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    for name in CAPS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")  # the user's own choice
    job = slurm_map(lambda names: [os.environ[name] for name in names], [CAPS], job_name="threads",
                    nodes=1, cpus_per_node=4, processes_per_node=2, backend=backend)  # fmt: skip
    assert dict(zip(CAPS, job.result(), strict=True)) == dict.fromkeys(CAPS, "2") | {
        "MKL_NUM_THREADS": "7"
    }


def test_I_16_no_more_workers_than_processors_that_are_allowed_here(own_folders: Path) -> None:
    program = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from slurmapply import slurm_map
def worker(_):
    time.sleep(0.05)
    return os.getpid()
print(len(set(slurm_map(worker, range(6), backend="local", nodes=2, cpus_per_node=4).results())))
"""
    said = subprocess.check_output([sys.executable, "-c", program], cwd=own_folders, text=True)
    assert "6 rows, 1 at a time, on this machine" in said
    assert said.split()[-1] == "1"


def test_I_17_a_function_is_loaded_in_the_workers_and_not_before_them() -> None:
    # What is initialised at import (CUDA, BLAS) must be so in each worker, after the fork.
    def initialized_in(_: int) -> tuple[int, int]:
        import time

        time.sleep(0.2)
        return int(os.environ["INITIALIZED_IN"]), os.getpid()

    def initialize() -> None:
        os.environ["INITIALIZED_IN"] = str(os.getpid())

    job = slurm_map(initialized_in, range(4), initializer=initialize, backend="local", nodes=1,
                    cpus_per_node=2, job_name="device")  # fmt: skip
    assert all(of_import == of_row for of_import, of_row in job.results())


def test_I_18_an_extensions_object_that_holds_a_device_is_named() -> None:
    device = mmap.mmap(-1, 4096)
    with pytest.raises(NotPicklableError, match=r"f uses `device` \(mmap\.mmap\)") as caught:
        slurm_map(lambda x: (device, x), [1])
    assert caught.value.variable == "device"
    device.close()


LOCALES = [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@DETACHED
@pytest.mark.parametrize("locale", LOCALES[:2], ids=["C", "C without UTF-8"])
def test_I_19_texts_of_all_scripts_survive_a_node_without_a_locale(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, backend: str, locale: dict[str, str]
) -> None:
    place = own_folders / "Ünï ☃"
    place.mkdir()
    (place / "words_of_it.py").write_text("WORD = 'Größe'\n", encoding="utf-8")
    monkeypatch.chdir(place)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)

    def f(text: str) -> str:
        print(text, "☃", chr(0xDCFF))
        if text == "schlecht":
            raise ValueError("ungültig ☃")
        return f"{text}{__import__('words_of_it').WORD}"

    job = slurm_apply(f, {"text": ["naïve", "☃", "schlecht"]}, job_name="texts", backend=backend,
                      sys_path=[place], **ONE).wait()  # fmt: skip
    assert job.results(errors="keep")[:2] == ["naïveGröße", "☃Größe"]
    assert job.errors()["message"].tolist() == ["ungültig ☃"]
    assert job.logs(row=1) == "☃ ☃ \\udcff\n"


@pytest.mark.parametrize("locale", LOCALES, ids=["C", "C without UTF-8"])
def test_I_19_a_session_without_a_locale_works_too(
    own_folders: Path, locale: dict[str, str]
) -> None:
    place = own_folders / "plain"
    place.mkdir()
    program = """
from slurmapply import SlurmJob, list_jobs, slurm_map
job = slurm_map(lambda x: x + chr(0x2603), ["a"], job_name="texts", backend="local").wait()
print(ascii(job.results()), ascii(str(job.row(0))), len(list_jobs()))
"""
    said = subprocess.check_output(
        [sys.executable, "-c", program], cwd=place, text=True, env=dict(os.environ) | locale
    )
    assert "['a\\u2603']" in said
