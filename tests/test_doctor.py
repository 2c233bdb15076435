"""The doctor: on a real Slurm, on one whose commands misbehave, and where there is none."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import (
    Check,
    Diagnosis,
    InvalidArgumentError,
    SlurmJob,
    doctor,
    list_jobs,
    set_defaults,
)
from slurmapply.checkup import machine, trial
from slurmapply.checkup.diagnosis import Findings, Verdict
from slurmapply.errors import SchedulerError
from slurmapply.schedulers import slurm_site
from slurmapply.schedulers.command import processes_with_variable
from slurmapply.schedulers.slurm_text import parse_sinfo
from tests.shims import DOWN, REAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.shims import Shims
    from tests.slurm_cluster import Cluster


@pytest.fixture(autouse=True)
def nothing_is_left(own_folders: Path) -> Iterator[None]:
    """Hold every diagnosis to leaving nothing behind, but a file of settings."""
    yield
    left = [path.name for path in own_folders.iterdir() if path.name != "slurmapply.toml"]
    assert left == []


def verdicts(diagnosis: Diagnosis) -> dict[str, str]:
    return {check.name: check.verdict.value for check in diagnosis.checks}


def message(diagnosis: Diagnosis, name: str) -> str:
    return next(check.message for check in diagnosis.checks if check.name == name)


def without_slurm(monkeypatch: pytest.MonkeyPatch, folder: Path, *kept: str) -> None:
    """Leave on PATH the commands that a local job needs, and these."""
    commands = folder / "commands"
    commands.mkdir()
    for name in ("bash", "env", "python3", *kept):
        (commands / name).symlink_to(shutil.which(name) or f"/no/{name}")
    monkeypatch.setenv("PATH", str(commands))
    for variable in ("SLURM_CONF", "SLURM_JOB_ID", "MODULEPATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("slurmapply.schedulers.slurm._TRACE_PATHS", ())


# -- without a Slurm -----------------------------------------------------------------------------


def test_without_a_slurm_it_says_so_and_tries_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_slurm(monkeypatch, tmp_path)
    diagnosis = doctor(packages=["json", "no_such_module"])
    found = verdicts(diagnosis)
    assert "none is used here" in message(diagnosis, "Slurm")
    for name in ("python", "packages", "settings", "folder", "writing", "permissions", "links",
                 "space", "clock", "test job", "node: folder", "node: python", "node: clock",
                 "node: tmp", "node: memory"):  # fmt: skip
        assert found[name] == "ok", f"{name}: {message(diagnosis, name)}"
    assert found["node: packages"] == "failed"
    assert "no_such_module (ModuleNotFoundError" in message(diagnosis, "node: packages")
    assert "json" not in message(diagnosis, "node: packages")
    assert found["your packages"] == "warning"
    assert not diagnosis.ok
    assert "node: signals" not in found  # Slurm's
    assert list_jobs() == []


def test_printed_it_is_one_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = doctor(backend="local")
    lines = str(diagnosis).splitlines()
    assert len(lines) == len(diagnosis.checks) + 1
    assert lines[0].startswith("ok  python: 3.")
    assert lines[-1] == f"all well: {sum(c.verdict == 'ok' for c in diagnosis.checks)} checks"
    assert diagnosis.ok
    # Nor does the test job say anything of its own.
    assert capsys.readouterr().out == ""


def test_a_login_node_without_slurms_commands_is_not_computed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_slurm(monkeypatch, tmp_path)
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    diagnosis = doctor()
    assert verdicts(diagnosis)["Slurm"] == "failed"
    assert "module load slurm" in message(diagnosis, "Slurm")
    assert verdicts(diagnosis)["test job"] == "skipped"


def test_no_test_job_where_none_is_asked_for() -> None:
    diagnosis = doctor(backend="local", test_job=False)
    assert message(diagnosis, "test job") == "not asked for (test_job=False)"
    assert not [check for check in diagnosis.checks if check.name.startswith("node: ")]
    assert diagnosis.ok


def test_broken_settings_are_named_with_their_line_and_nothing_is_submitted() -> None:
    Path("slurmapply.toml").write_text('nodes = 2\nacount = "x"\n')
    diagnosis = doctor(backend="local")
    assert verdicts(diagnosis)["settings"] == "failed"
    assert "slurmapply.toml, line 2: no default 'acount'" in message(diagnosis, "settings")
    assert message(diagnosis, "test job") == "the settings cannot be read"


def test_settings_that_are_read_are_counted() -> None:
    Path("slurmapply.toml").write_text('nodes = 2\nmem = "1G"\nbackend = "local"\n')
    diagnosis = doctor(test_job=False)
    assert message(diagnosis, "settings").startswith("3 defaults from ")
    assert verdicts(diagnosis)["Slurm"] == "ok"  # the backend of the file


def test_a_folder_that_is_none_or_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnosis = doctor(backend="local", jobs_folder=tmp_path / "nowhere")
    assert verdicts(diagnosis)["folder"] == "failed"
    assert message(diagnosis, "test job") == "its folder could not be made"

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    diagnosis = doctor(backend="local")
    assert "Read-only file system" in message(diagnosis, "writing")
    assert "jobs_folder=" in message(diagnosis, "writing")
    assert not diagnosis.ok


def test_a_disk_without_hard_links_or_modes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    findings = Findings()
    machine.check_writing(findings, place)
    found = verdicts(findings.diagnosis())
    assert found["links"] == "warning"
    assert "soft ones" in message(findings.diagnosis(), "links")
    assert found["permissions"] == "failed"
    assert "can be written by others" in message(findings.diagnosis(), "permissions")


@pytest.mark.parametrize(
    ("free", "files", "verdict"),
    [(2**20, 10**6, "failed"), (2**29, 10**6, "warning"), (2**40, 12, "warning"),
     (2**40, 10**6, "ok")],
)  # fmt: skip
def test_little_space_is_told(
    free: int, files: int, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Found:
        f_frsize, f_files = 4096, 10**7
        f_bavail, f_favail = free // 4096, files

    monkeypatch.setattr(os, "statvfs", lambda _: Found)
    findings = Findings()
    machine.check_space(findings, tmp_path)
    assert verdicts(findings.diagnosis()) == {"space": verdict}


def test_a_disk_whose_clock_is_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    findings = Findings()
    machine.check_writing(findings, tmp_path)
    diagnosis = findings.diagnosis()
    assert verdicts(diagnosis)["clock"] == "warning"
    assert "90 s behind this machine" in message(diagnosis, "clock")


def test_a_missing_package_comes_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", ("cloudpickle", "no-such-distribution"))
    diagnosis = doctor(backend="local", test_job=False)
    assert "python -m pip install no-such-distribution" in message(diagnosis, "packages")
    assert not diagnosis.ok


def test_conda_and_modules_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda/envs/x")
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:openmpi/4.1")
    said = message(doctor(backend="local", test_job=False), "python")
    assert "conda environment /opt/conda/envs/x" in said
    assert "modules gcc/12, openmpi/4.1" in said


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="patience"):
        doctor(patience=0)
    with pytest.raises(InvalidArgumentError, match="backend: auto, slurm or local, not 'inline'"):
        doctor(backend="inline")


def test_a_python_that_is_not_there_is_the_test_jobs_failure() -> None:
    Path("slurmapply.toml").write_text('setup = "exit 3"\n')
    diagnosis = doctor(backend="local")
    assert verdicts(diagnosis)["test job"] == "failed"
    assert "a setup line ended the script" in message(diagnosis, "test job")


def test_every_check_is_in_the_table_of_the_page() -> None:
    package = Path(machine.__file__).parent
    named = re.compile(r"\.(?:ok|warn|fail|skip|watch)\(\s*\"([^\"]+)\"|name = \"([^\"]+)\"")
    source = "".join(path.read_text() for path in package.glob("*.py"))
    page = (package.parents[2] / "docs/how-to/check-a-cluster.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}
    checks = {first or second for first, second in named.findall(source)}
    assert len(checks) > 20
    assert checks - listed == set()


def test_an_interruption_ends_the_test_job_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []

    def interrupt(_: trial.Trial, job: SlurmJob) -> None:
        started.append(str(job.job_id))
        raise KeyboardInterrupt

    monkeypatch.setattr(trial.Trial, "_wait_for_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        doctor(backend="local")
    # That the folder is gone, the fixture sees.
    assert processes_with_variable("SLURMAPPLY_SUBMISSION", started[0]) == []


def test_a_job_that_cannot_be_ended_is_named_with_what_to_delete(
    monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    def refuse(self: SlurmJob, **_: object) -> None:
        raise SchedulerError(f"{self.name}: no answer")

    monkeypatch.setattr(SlurmJob, "cleanup", refuse)
    diagnosis = doctor(backend="local")
    (left,) = own_folders.iterdir()
    assert f"then delete {left}" in message(diagnosis, "clean up")
    assert diagnosis.ok
    shutil.rmtree(left)


# -- judgements ----------------------------------------------------------------------------------


FOUND: dict[str, Any] = {
    "time": 0.0, "host": "n1", "python": [3, 11, 1], "executable": "/x", "cpus": 2, "memory": None,
    "seen": "", "linked": "", "temporary": {"folder": "/t", "free": 2**40}, "packages": {},
}  # fmt: skip


class Answers:
    """A job that is over and brought this."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def result(self) -> dict[str, Any]:
        return self.found


@pytest.mark.parametrize(
    ("changed", "name", "verdict", "words"),
    [
        ({"seen": "FileNotFoundError: x"}, "node: folder", "failed", "does not see"),
        ({"linked": "cannot link: OSError: x"}, "node: folder", "warning", "Soft links"),
        ({"linked": "cannot write: OSError: x"}, "node: folder", "failed", "cannot write"),
        ({"python": [2, 7, 18]}, "node: python", "failed", "another minor version"),
        ({"ahead": 100.0}, "node: clock", "warning", "99 s ahead of"),
        ({"ahead": -100.0}, "node: clock", "warning", "99 s behind"),
        ({"temporary": {"error": "FileNotFoundError: x"}}, "node: tmp", "warning", "TMPDIR"),
        ({"temporary": {"folder": "/t", "free": 2**20}}, "node: tmp", "warning", "1 MB free"),
        ({"memory": 4 * 2**30}, "node: memory", "ok", "limited to 4 GB"),
        ({"packages": {"a": "", "b": "ImportError: x"}}, "node: packages", "failed", "b (Imp"),
        ({"packages": {"a": ""}}, "node: packages", "ok", "a can be imported"),
    ],
)
def test_what_a_node_says_is_judged(
    changed: dict[str, Any], name: str, verdict: str, words: str, tmp_path: Path
) -> None:
    findings = Findings()
    tried = trial.Trial(findings, tmp_path, [], 60)
    now = time.time()
    tried._submitted = now - 2
    found = {**FOUND, "seen": tried._word, "time": now - 1 + changed.pop("ahead", 0), **changed}
    tried._judge(Answers(found))  # type: ignore[arg-type]
    check = next(check for check in findings.diagnosis().checks if check.name == name)
    assert check.verdict == verdict
    assert words in check.message
    if verdict != "failed":
        assert findings.diagnosis().ok


def test_a_check_that_goes_wrong_is_a_finding() -> None:
    findings = Findings()
    with findings.watch("a"):
        raise OSError(errno.EIO, "Input/output error")
    with findings.watch("b"):
        raise SchedulerError("no answer\x1b[2J\nat all")
    assert verdicts(findings.diagnosis()) == {"a": "failed", "b": "failed"}
    assert str(findings.diagnosis().checks[1]) == r"!!  b: no answer\x1b[2J at all"


def test_checks_can_be_written_as_json() -> None:
    check = Check("links", Verdict.OK, "hard links work")
    assert json.loads(json.dumps({"verdict": check.verdict})) == {"verdict": "ok"}


def test_partitions_are_read_with_their_nodes() -> None:
    alike = ("main*|up|1-00:00:00|4000+|8|1/2/1/4", "main*|up|1-00:00:00|64000|8|0/1/0/1")
    first, second = parse_sinfo("\n".join(["welcome!", *alike, "bad|up"]))
    assert (first.name, first.default, first.usable, first.nodes) == ("main", True, 3, 4)
    assert (second.memory, second.cpus) == ("64000", "8")


# -- on a Slurm ----------------------------------------------------------------------------------


@pytest.mark.slurm
def test_on_a_slurm_all_is_looked_at_and_slurm_is_asked_seldom(shims: Shims) -> None:
    commands = ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct")
    for name in commands:
        shims.add(name, REAL)
    diagnosis = doctor(packages="json")
    found = verdicts(diagnosis)
    assert {name for name, word in found.items() if word != "ok"} == set(), str(diagnosis)
    for name in ("version", "controller", "arrays", "partition", "other partitions", "accounting",
                 "test job", "node: folder", "node: python", "node: packages", "node: clock",
                 "node: tmp", "node: memory", "node: signals"):  # fmt: skip
        assert name in found
    assert message(diagnosis, "partition").startswith("main (default): up, no time limit, ")
    assert "limited to" in message(diagnosis, "node: memory")
    assert sum(map(shims.calls, commands)) <= 12


@pytest.mark.slurm
def test_a_partition_that_does_not_exist_is_named_with_the_nearest() -> None:
    diagnosis = doctor(partition="mian", test_job=False)
    assert "there is no 'mian': did you mean 'main'?" in message(diagnosis, "partition")
    assert not diagnosis.ok


@pytest.mark.slurm
def test_a_refused_test_job_is_a_finding_and_leaves_nothing() -> None:
    diagnosis = doctor(partition="nowhere")
    assert verdicts(diagnosis)["test job"] == "failed"
    assert "Choose one that `sinfo` lists" in message(diagnosis, "test job")


@pytest.mark.slurm
def test_a_test_job_that_waits_is_cancelled_with_slurms_reason() -> None:
    set_defaults(slurm_options={"begin": "now+1hour"})
    try:
        diagnosis = doctor(patience=3)
    finally:
        set_defaults(slurm_options=None)
    assert verdicts(diagnosis)["test job"] == "warning"
    assert "BeginTime" in message(diagnosis, "test job")
    assert "clean up" not in verdicts(diagnosis)
    assert diagnosis.ok


@pytest.mark.slurm
def test_a_test_job_that_cannot_start_is_told_at_once() -> None:
    before = time.monotonic()
    diagnosis = doctor(slurm_options={"hold": True}, patience=50)
    assert verdicts(diagnosis)["test job"] == "failed"
    assert "is held by you" in message(diagnosis, "test job")
    assert time.monotonic() - before < 30


@pytest.mark.slurm
def test_a_controller_that_is_down_is_one_finding(shims: Shims) -> None:
    for name in ("squeue", "sinfo", "scontrol", "sacct", "scancel"):
        shims.add(name, DOWN)
    diagnosis = doctor()
    assert "Unable to contact slurm controller" in message(diagnosis, "controller")
    assert verdicts(diagnosis)["partitions"] == "skipped"
    assert message(diagnosis, "test job") == "nothing can be submitted"


@pytest.mark.slurm
def test_commands_that_hang_are_given_up(shims: Shims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_site, "_TIMEOUT", 0.5)
    shims.add("scontrol", "sleep 60")
    diagnosis = doctor()
    assert "no answer within 0.5 s" in message(diagnosis, "controller")


@pytest.mark.slurm
def test_accounts_that_do_not_answer_are_a_warning_or_none(shims: Shims) -> None:
    shims.add("sacct", DOWN)
    assert verdicts(doctor(test_job=False))["accounting"] == "warning"
    shims.add("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    diagnosis = doctor(test_job=False)
    assert verdicts(diagnosis)["accounting"] == "ok"
    assert "keeps no accounts" in message(diagnosis, "accounting")


@pytest.mark.slurm
def test_a_site_with_odd_answers(shims: Shims) -> None:
    shims.add("sbatch", "echo slurm 19.05.2")
    shims.add("sinfo", "echo 'down*|down|1:00:00|100|1|0/1/0/1'")
    shims.add("scontrol", "echo 'MaxArraySize            = 0'")
    diagnosis = doctor(test_job=False)
    assert "older than the oldest" in message(diagnosis, "version")
    assert "takes no job arrays" in message(diagnosis, "arrays")
    assert "it starts no jobs now" in message(diagnosis, "partition")
    shims.add("sbatch", "echo hello")
    shims.add("sinfo", "echo 'main|up|1:00:00|100|1|0/0/1/1'")
    diagnosis = doctor(test_job=False)
    assert "no version was found" in message(diagnosis, "version")
    assert "no default partition: say partition= (main)" in message(diagnosis, "partitions")
    assert "jobs will wait until a node" in message(doctor(partition="main", test_job=False),
                                                    "partition")  # fmt: skip


@pytest.mark.slurm
def test_nodes_that_are_elsewhere_do_not_see_a_disk_of_this_machine(
    shims: Shims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurmapply.schedulers.local.file_system", lambda _: "xfs")
    shims.add("sinfo", f'case "$*" in *%o*) echo "far01|far01|10.1.1.1";; *) {REAL};; esac')
    diagnosis = doctor(test_job=False)
    assert "(xfs), and nodes are elsewhere (far01)" in message(diagnosis, "shared disk")
    monkeypatch.setattr("slurmapply.schedulers.local.file_system", lambda _: "nfs4")
    assert "shared disk" not in verdicts(doctor(test_job=False))


@pytest.mark.slurm
def test_a_signal_that_cannot_be_sent_is_a_warning(shims: Shims) -> None:
    shims.add("scancel", f'case "$*" in *--signal*) {DOWN};; esac; {REAL}')
    diagnosis = doctor()
    assert verdicts(diagnosis)["node: signals"] == "warning"
    assert diagnosis.ok


@pytest.mark.slurm
def test_a_cluster_without_accounts(
    make_slurm_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in make_slurm_cluster(accounting=False).environment.items():
        monkeypatch.setenv(name, value)
    diagnosis = doctor()
    assert diagnosis.ok, str(diagnosis)
    assert "this cluster keeps no accounts" in message(diagnosis, "accounting")
    assert verdicts(diagnosis)["node: signals"] == "ok"
