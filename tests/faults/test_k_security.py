"""Security: section K of the catalogue."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from slurmapply import (
    InvalidArgumentError,
    JobExistsError,
    JobFolderError,
    RowsFailedError,
    SlurmApplyError,
    SlurmJob,
    UntrustedFolderError,
    list_jobs,
    slurm_apply,
    slurm_map,
)
from slurmapply.outcome import CHECKSUM, HEADER, KIND_PICKLE, FrameBuilder, Measures
from tests.faults.provocations import ONE, again, gated, outcomes_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster import Cluster

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="ONLY ROOT CAN GIVE FILES AWAY")


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "it_went_off"


@pytest.fixture
def mined(trace: Path) -> SlurmJob:
    """Give a job in which every pickle is a bomb: function, parameters, a value, an exception."""

    def f(x: int) -> Any:
        print("row", x)
        return [x] if x else [][x]

    job = slurm_apply(f, {"x": [0, 1, 2]}, job_name="mined", backend="inline")
    bomb = pickle.dumps(Bomb(trace))
    for name in ("function.pkl", "rows.frame"):
        (job.folder / name).write_bytes(bomb)
    rows = job.folder / "rows.bin"
    rows.write_bytes(bomb)
    index = json.loads((job.folder / "rows.json").read_text())
    index["blocks"] = [[0, 0, len(bomb), zlib.crc32(bomb)]]
    (job.folder / "rows.json").write_text(json.dumps(index))
    uuid = bytes.fromhex(json.loads((job.folder / "job.json").read_text())["uuid"])
    frame = FrameBuilder(uuid)
    frame.add(1, 1, KIND_PICKLE, bomb, Measures())
    frame.add(2, 1, KIND_PICKLE, bomb, Measures())
    outcomes_of(job).write_bytes(frame.take())
    return job


# What must not be unpickled


def look(job: SlurmJob) -> list[Any]:
    """Ask a job all that needs no values."""
    return [
        job.name, job.job_id, job.job_ids, len(job), job.nodes, repr(job), job._repr_html_(),
        job.status(), str(job.status()), job.logs(), job.logs(row=1), job.logs(task=0),
        [repr(one) for one in list_jobs()], repr(list_jobs()), SlurmJob.open("mined").name,
    ]  # fmt: skip


def test_K_01_looking_at_a_job_runs_nothing_of_it(mined: SlurmJob, trace: Path) -> None:
    seen = look(again(mined))
    assert "2 ok" in seen[5]
    again(mined).cancel()
    again(mined).cleanup()
    assert not trace.exists()


@pytest.mark.parametrize(
    "ask",
    [
        lambda job: job.results(errors="keep"), lambda job: job.table(errors="keep"),
        lambda job: job.result(1), lambda job: job.row(1), lambda job: job.errors(),
        lambda job: job.run_row(1), lambda job: list(job.as_completed("keep")),
        lambda job: job.retry([0], f=abs),
    ],
)  # fmt: skip
def test_K_01_values_of_a_folder_that_others_can_write_are_refused(
    mined: SlurmJob, trace: Path, ask: Callable[[SlurmJob], Any]
) -> None:
    mined.folder.chmod(0o770)
    look(again(mined))
    with pytest.raises(UntrustedFolderError, match=r"chmod -R go-w .*trust=True"):
        ask(again(mined))
    assert not trace.exists()
    with contextlib.suppress(Exception):
        ask(SlurmJob(mined.folder, trust=True))
    assert trace.exists()  # the mine was live


def test_K_01_a_node_does_not_load_a_function_that_others_could_have_written(
    mined: SlurmJob, trace: Path
) -> None:
    job = slurm_map(abs, [-1], job_name="node", submit=False)
    shutil.copy(mined.folder / "function.pkl", job.folder / "function.pkl")
    (job.folder / "function.pkl").chmod(0o620)
    job = again(job).submit(backend="local").wait()
    assert job.status().counts == {"unfinished": 1}
    assert "can be written by others" in job.errors()["message"][0]
    assert not trace.exists()


# Places that others prepare


@pytest.mark.parametrize("what", ["folder", "link to a folder", "link to nothing", "file"])
def test_K_02_a_place_that_was_taken_before_is_not_written_to(
    own_folders: Path, tmp_path: Path, what: str
) -> None:
    target, place = tmp_path / "theirs", own_folders / "_slurmapply_known"
    if what == "file":
        place.write_text("theirs")
    elif what == "folder":
        place.mkdir()
        (place / "theirs").touch()
    else:
        place.symlink_to(target)
        if what == "link to a folder":
            target.mkdir(mode=0o777)
    for if_exists in ("fail", "replace", "open"):
        with pytest.raises((JobExistsError, JobFolderError)):
            slurm_map(abs, [1], job_name="known", backend="inline", if_exists=if_exists)
    assert [path.name for path in own_folders.iterdir()] == ["_slurmapply_known"]
    assert not target.exists() or not list(target.iterdir())


def test_K_02_a_handle_keeps_to_the_folder_that_it_opened(trace: Path, own_folders: Path) -> None:
    job = slurm_map(lambda x: [x], [1, 2], job_name="swapped", backend="inline")
    handle = again(job)
    job.folder.rename(own_folders / "moved")
    shutil.copytree(own_folders / "moved", job.folder)
    for name in ("function.pkl", "rows.frame"):
        (job.folder / name).write_bytes(pickle.dumps(Bomb(trace)))
    assert handle.results() == [[1], [2]]
    assert handle.run_row(1) == [2]
    assert not trace.exists()


@needs_root
@pytest.mark.parametrize(
    "name", [".", "function.pkl", "rows.bin", "rows.json", "rows.frame", "job.json", "outcomes"]
)
def test_K_03_what_belongs_to_another_user_is_refused(name: str) -> None:
    job = slurm_apply(lambda x: [x], {"x": [1, 2]}, job_name="of_bob", backend="inline")
    path = outcomes_of(job) if name == "outcomes" else job.folder / name
    os.chown(path, NOBODY, NOBODY)
    assert again(job).status().counts == {"ok": 2}
    with pytest.raises(UntrustedFolderError) as caught:
        (again(job).run_row(0), again(job).table(), again(job).row(0))
    assert f"belongs to another user (uid {NOBODY})" in str(caught.value)
    assert "trust=True" in str(caught.value)
    assert SlurmJob(job.folder, trust=True).results() == [[1], [2]]


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o722, 0o777])
def test_K_03_a_folder_that_others_can_write_to_is_refused(mode: int) -> None:
    job = slurm_apply(lambda x: [x], {"x": [1]}, job_name="shared", backend="inline")
    job.folder.chmod(mode)
    with pytest.raises(UntrustedFolderError, match=f"chmod -R go-w '{job.folder}'"):
        again(job).results()
    subprocess.run(["chmod", "-R", "go-w", str(job.folder)], check=True)
    assert again(job).results() == [[1]]


@pytest.mark.parametrize("backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_K_04_whatever_the_umask_a_job_is_for_its_user_alone(
    tmp_path: Path, own_folders: Path, backend: str
) -> None:
    before = os.umask(0)
    try:
        job = slurm_map(lambda x: 1 // x, [0, 1], job_name="open", backend=backend, **ONE).wait()
        job.retry(f=lambda x: x).wait()
    finally:
        os.umask(before)
    job.end_tasks()  # until then consoles without a word go away
    home = [path for path in (tmp_path / ".home").rglob("*") if path.is_file()]
    for path in [job.folder, *job.folder.rglob("*"), *home]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.name.startswith("slurm_"):
            continue  # Slurm's or the shell's own, inside a closed folder and never unpickled
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert list(own_folders.iterdir()) == [job.folder]


# Shell and directives

HOSTILE = st.text(
    st.one_of(
        st.sampled_from("\n\r\0\"'`$(){};&|#\\ %!~*<>=-./\u2028\x1b"),
        st.sampled_from("abXYZ019_é☃"),
    ),
    min_size=1, max_size=40,
)  # fmt: skip
LINES = "x\n#SBATCH --uid=0"
RUNS = '$(touch pwned)`touch pwned`";touch pwned;#'
KEYWORDS: dict[str, Callable[[str], Any]] = {
    "job_name": str,
    "partition": str,
    "account": str,
    "python": str,
    "sys_path": lambda text: [text],
    "packages": lambda text: [text],
    "slurm_options": lambda text: {"comment": text},
    "time": str,
    "mem": str,
}


def directives_of(script: str) -> list[str]:
    """Give the lines that sbatch reads: up to the first command."""
    lines = script.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip() and line[0] != "#")
    return [line for line in lines[:first] if line.startswith("#SBATCH")]


def names_in(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH --").partition("=")[0] for line in directives_of(script)]


@pytest.mark.parametrize("keyword", KEYWORDS)
@settings(max_examples=12, derandomize=True, deadline=None)
@example(LINES)
@example(RUNS)
@example("--wrap=id")
@given(HOSTILE)
def test_K_05_no_text_gets_into_the_shell_or_among_the_directives(keyword: str, text: str) -> None:
    assume(not (keyword == "python" and "\0" in text))
    assume(not (keyword == "sys_path" and text.startswith("~")))
    shutil.rmtree("_slurmapply_plain", ignore_errors=True)
    given = {"job_name": "plain", keyword: KEYWORDS[keyword](text)}
    with contextlib.suppress(InvalidArgumentError):
        check_script(slurm_map(abs, [1], submit=False, backend="slurm", **given))


def check_script(job: SlurmJob) -> None:
    script = (job.folder / "submit.sh").read_bytes()
    assert b"\0" not in script
    names = names_in(script.decode())
    allowed = {"partition", "account", "comment", "time", "mem", "signal"}
    plain = ["job-name", "array", "cpus-per-task", "output", "open-mode", "requeue", "propagate"]
    assert sorted({*names} - allowed) == sorted(plain)
    assert len(names) == len({*names})
    subprocess.run(["bash", "-n", "submit.sh"], cwd=job.folder, check=True)
    # Run it as far as it looks for an interpreter, on a PATH where there is none.
    end = script.replace(b"exec ", b"exit 0 # ")
    subprocess.run(
        ["/bin/bash", "-c", end.decode()], cwd=job.folder, env={"PATH": "/nowhere"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert not list(Path().rglob("pwned"))
    shutil.rmtree(job.folder)


def test_K_05_a_nul_is_refused_in_the_name_of_the_interpreter() -> None:
    with pytest.raises(InvalidArgumentError, match="python"):
        slurm_map(abs, [1], submit=False, python="a\0b")


def test_K_05_the_home_of_an_unknown_user_is_refused_in_words() -> None:
    with pytest.raises(InvalidArgumentError, match="sys_path"):
        slurm_map(abs, [1], submit=False, sys_path=["~no_such_user/lib"])


def test_K_05_sbatch_gets_each_text_as_one_argument(
    tmp_path: Path, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, place = tmp_path / "bin", own_folders / RUNS.replace("/", "")
    programs.mkdir()
    place.mkdir()
    sbatch = programs / "sbatch"
    sbatch.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" >'{tmp_path}/argv'\necho 12\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    job = slurm_map(
        abs, [1], job_name=f"a {LINES}", partition=RUNS, slurm_options={"comment": RUNS},
        jobs_folder=place, backend="slurm", **ONE,
    )  # fmt: skip
    argv = (tmp_path / "argv").read_bytes().decode().split("\0")
    assert f"--partition={RUNS}" in argv
    assert f"--comment={RUNS}" in argv
    assert f"--chdir={job.folder}" in argv
    assert re.fullmatch(r"--job-name=a_x_SBATCH_uid0_[0-9a-f]{6}", argv[2])
    assert not list(tmp_path.rglob("pwned"))


# Secrets


def holding(folder: Path, secret: bytes) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in paths if secret in path.read_bytes()]


@pytest.mark.parametrize("backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_K_06_no_variable_of_the_environment_is_written_down(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path, tmp_path: Path, backend: str
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "swordfish-4711")

    def fail(x: int) -> int:
        assert os.environ["SECRET_TOKEN"]
        return 1 // x

    job = slurm_map(fail, [0, 1], job_name="secret", backend=backend, **ONE).wait()
    assert job.status().counts == {"ok": 1, "error": 1}
    job.retry(packages="no_such_package").wait()
    assert holding(own_folders, b"swordfish") == []
    assert holding(tmp_path / ".home", b"swordfish") == []


def test_K_07_other_users_see_no_values_on_slurm(slurm_cluster: Cluster) -> None:
    secret = "swordfish-4711"  # noqa: S105  # it is the test's own
    job = slurm_apply(
        lambda x, key: [x, key], {"x": [secret]}, more_args={"key": secret}, job_name="seen",
        slurm_options={"hold": True}, **ONE,
    )  # fmt: skip
    shown = slurm_cluster.run(["scontrol", "-dd", "show", "job", str(job.job_id)])
    shown += slurm_cluster.run(["squeue", "-o", "%all", "-j", str(job.job_id)])
    assert job.name in shown
    assert secret not in shown
    assert secret not in (job.folder / "submit.sh").read_text()
    job.cancel()


def test_K_07_other_users_see_no_values_among_the_processes(tmp_path: Path) -> None:
    secret = "swordfish-4711"  # noqa: S105  # it is the test's own
    gate = gated(tmp_path / "gate")
    job = slurm_apply(lambda x, key: [gate(1), x, key], {"x": [secret]}, more_args={"key": secret},
                      backend="local", job_name="seen", **ONE)  # fmt: skip
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    (tmp_path / "gate").touch()
    job.wait()
    assert any(b"worker.pyz" in line for line in lines)
    assert not [line for line in lines if secret.encode() in line]


# Folders that come from elsewhere and lie


@pytest.fixture
def outside(tmp_path: Path, trace: Path) -> Path:
    """Put a pickle and a text beside the folder that the job folder is in."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("function.pkl", "data.bin", "rows.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(trace)))
    (folder / "text").write_text("root:x:0:0:secret\n")
    return folder


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def add_record(job: SlurmJob, **record: Any) -> None:
    line = json.dumps(record) + "\n"
    (job.folder / "run_0/task_77_0_0.jsonl").write_text(
        '{"record": "started", "time": 1, "host": "h", "node": "n", "pid": 1, "workers": 1}\n'
        + line
    )


def submitted(job: SlurmJob, **content: Any) -> None:
    (job.folder / "run_0/submission").write_text(json.dumps(content))


RUNNING = {"record": "running", "row": 0, "attempt": 1, "start": 1.0, "log_offset": 0}
END = {"record": "end", "reason": "done", "time": 1.0}
LIES: dict[str, Callable[[SlurmJob], None]] = {
    "function elsewhere": lambda job: edit(
        job.folder / "run_0/run.json", function_of_run="0/../../../outside"
    ),
    "function at the root": lambda job: edit(
        job.folder / "run_0/run.json", function_of_run="/../../../../etc"
    ),
    "console elsewhere": lambda job: add_record(job, console="../../outside/text", **RUNNING),
    "console at the root": lambda job: add_record(job, console="/etc/passwd", **RUNNING),
    "files elsewhere": lambda job: add_record(job, files={"../../../outside/text": 5}, **END),
    "submission elsewhere": lambda job: submitted(
        job, kind="slurm", job_id="../../outside; touch pwned"
    ),
    "name elsewhere": lambda job: edit(job.folder / "job.json", name="../../outside"),
    "uuid elsewhere": lambda job: edit(job.folder / "job.json", uuid="../../outside"),
    "rows a path": lambda job: edit(job.folder / "job.json", rows="../../outside"),
    "rows below zero": lambda job: edit(job.folder / "job.json", rows=-3),
    "rows without end": lambda job: edit(job.folder / "job.json", rows=10**18),
    "tasks a path": lambda job: edit(job.folder / "run_0/run.json", tasks="../../outside"),
    "rule a path": lambda job: edit(job.folder / "run_0/run.json", rule="../../outside"),
    "rule of rows that are not": lambda job: edit(job.folder / "run_0/run.json", rule=[[-9, 99]]),
    "no run": lambda job: edit(job.folder / "run_0/run.json", function_of_run=99),
    "task of a huge number": lambda job: (
        job.folder / f"run_0/task_7_{'9' * 100}_{'9' * 100}.jsonl"
    ).touch(),
    "outcomes of a huge number": lambda job: (
        job.folder / f"run_0/outcomes_{'9' * 100}_0_0_ab.rec"
    ).touch(),
    "row that is not": lambda job: add_record(
        job, console="x", **(RUNNING | {"row": 10**12})
    ),
    "row a path": lambda job: add_record(job, console="x", **(RUNNING | {"row": "../../outside"})),
    "running of nothing": lambda job: add_record(job, record="running"),
    "stopping of nothing": lambda job: add_record(job, record="stopping"),
    "end of nothing": lambda job: add_record(job, record="end"),
    "started of nothing": lambda job: add_record(job, record="started"),
    "submission of nothing": submitted,
    "submission of no kind": lambda job: submitted(job, kind="../../outside", job_id="7"),
}  # fmt: skip
ASKED: list[Callable[[SlurmJob], Any]] = [
    lambda job: str(job.status()), lambda job: job.logs(row=0), lambda job: str(job.logs()),
    lambda job: str(job.results(wait=False, errors="keep")), lambda job: job.run_row(0),
    lambda job: str(job.errors()), lambda job: job.table(wait=False, errors="keep", details=True),
    lambda job: job.row(0), lambda job: job.job_ids,
]  # fmt: skip


@pytest.mark.parametrize("lie", list(LIES))
def test_K_08_a_folder_that_lies_leads_nowhere_outside_of_it(
    lie: str, outside: Path, trace: Path
) -> None:
    job = slurm_map(abs, [-1, -2], job_name="lies", submit=False, backend="local")
    LIES[lie](job)
    seen = []
    for ask in ASKED:
        # Refusals are sentences; any other exception is a fault.
        with contextlib.suppress(SlurmApplyError):
            seen.append(str(ask(again(job))))
    assert not trace.exists()
    assert "root:x:0:0" not in "".join(seen)
    assert not list(outside.parent.rglob("pwned"))


@pytest.mark.timeout(2)
def test_K_08_a_run_of_a_huge_number_does_not_hold_the_session_up() -> None:
    job = slurm_map(abs, [-1], job_name="huge", backend="inline")
    (job.folder / f"run_{10**12}").mkdir()
    with contextlib.suppress(SlurmApplyError):
        again(job).status()


@pytest.mark.parametrize("field", ["rows", "table", "causes", "values"])
def test_K_09_lengths_that_cannot_be_are_not_believed(field: str) -> None:
    program = """
import resource, sys
from slurmapply import SlurmJob
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
job = SlurmJob(sys.argv[1])
print(job.status().counts, job.results(wait=False))
"""
    job = slurm_map(abs, [-1, -2], job_name="bomb", backend="inline")
    path = outcomes_of(job)
    whole = path.read_bytes()
    head = list(HEADER.unpack_from(whole))
    head[["rows", "table", "causes", "values"].index(field) + 4] = (
        2**32 - 1 if field in ("rows", "causes") else 2**60
    )
    if field == "rows":
        head[2] = 2**12 - 1  # all columns are one cell each, also the last
        table = b"\1" * (head[5] + head[6])
        head[8] = zlib.crc32(table)
        whole = whole[: HEADER.size + CHECKSUM.size] + table
    header = HEADER.pack(*head)
    frame = header + CHECKSUM.pack(zlib.crc32(header)) + whole[len(header) + CHECKSUM.size :]
    path.write_bytes(frame)
    said = subprocess.run(
        [sys.executable, "-c", program, str(job.folder)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert said.stdout == "{'unfinished': 2} [None, None]\n", said.stderr[-300:]


TITLE = "\x1b]0;owned\x07\x1b[2Jclear \x9b31m"


def test_K_10_what_rows_print_does_not_steer_the_terminal() -> None:
    def shout(x: str) -> None:
        print(TITLE)
        raise ValueError(TITLE)

    job = slurm_map(shout, [TITLE], job_name="shouts", backend="local", **ONE).wait()
    with pytest.raises(RowsFailedError) as caught:
        job.results()
    (error,) = job.results(errors="keep")
    shown = [str(job.status()), repr(job), str(job.row(0)), str(caught.value), str(error)]
    for text in shown:
        assert not {"\x1b", "\x07", "\x9b"} & {*text}, text
    assert "\\x1b]0;owned\\x07" in shown[2]
    assert job.logs(row=0) == TITLE + "\n"  # what it printed, for those who want it


def test_K_11_outcomes_of_another_job_do_not_count() -> None:
    other = slurm_map(lambda x: -x, [1, 2], job_name="other", backend="inline")
    job = slurm_map(lambda x: x, [1, 2], job_name="mine", backend="inline")
    mine, theirs = outcomes_of(job), outcomes_of(other)
    shutil.copy(theirs, job.folder / "run_0" / theirs.name.replace("_0_0_", "_0_1_"))
    assert again(job).results() == [1, 2]
    shutil.copy(theirs, mine)
    job = again(job)
    assert job.results(wait=False) == [None, None]
    assert "not everything could be read" in str(job.status())
    assert job.retry().results() == [1, 2]


LOADED = ["csv", "json", "pickle", "struct", "select", "signal", "selectors", "random", "zipfile",
          "dataclasses", "encodings", "cloudpickle", "slurmapply", "array", "ctypes"]  # fmt: skip


@pytest.mark.parametrize("backend", ["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_K_12_modules_that_lie_around_do_not_replace_what_the_node_needs(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, trace: Path, backend: str
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # Last, as for this process; the workers look there too, and csv is not loaded before that.
    monkeypatch.setattr(sys, "path", [*sys.path, str(own_folders)])
    job = slurm_map(lambda x: __import__("csv").list_dialects()[0] * x, [1, 2],
                    job_name="hijack", submit=False, **ONE)  # fmt: skip
    for folder in (own_folders, own_folders.parent, job.folder, job.folder / "run_0"):
        for name in LOADED:
            (folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write(__file__)\n")
    assert job.submit(backend=backend).results() == ["excel", "excelexcel"]
    assert not trace.exists(), trace.read_text()
