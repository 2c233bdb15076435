from __future__ import annotations

import stat
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import Default, get_defaults, settings
from slurmapply.errors import InvalidArgumentError, UntrustedFolderError
from slurmapply.settings import load_defaults, merge_slurm_options, set_defaults, user_file

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a working folder, with a user's settings folder and a session of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    settings.session.cache_clear()
    yield folder
    settings.session.cache_clear()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_files_there_are_no_defaults() -> None:
    assert load_defaults() == {}


def test_the_nearest_default_wins(here: Path) -> None:
    write(user_file(), 'account = "user"\npartition = "user"\nmem = "4G"\n')
    write(here / "slurmapply.toml", 'account = "project"\npartition = "project"\n')
    set_defaults(account="session")
    assert load_defaults() == {"account": "session", "partition": "project", "mem": "4G"}


def test_another_folder_may_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "other" / "slurmapply.toml", "nodes = 7\n")
    assert load_defaults(tmp_path / "other") == {"nodes": 7}


def test_options_are_merged_name_by_name(here: Path) -> None:
    write(user_file(), '[slurm_options]\nqos = "long"\nmail_type = "END"\nnice = 5\n')
    write(here / "slurmapply.toml", '[slurm_options]\nmail-type = "FAIL"\n')
    set_defaults(slurm_options={"qos": None, "exclusive": True})
    set_defaults(slurm_options={"licenses": "a"})
    assert load_defaults()["slurm_options"] == {
        "mail-type": "FAIL",
        "nice": 5,
        "exclusive": True,
        "licenses": "a",
    }


def test_merging_alone() -> None:
    assert merge_slurm_options(None, {"a_b": 1}, {"a-b": 2, "c": False}) == {"a-b": 2, "c": False}


def test_none_takes_back_what_the_session_set(here: Path) -> None:
    write(here / "slurmapply.toml", 'account = "project"\n')
    set_defaults(account="session", slurm_options={"qos": "x"})
    set_defaults(account=None, slurm_options=None)
    assert load_defaults() == {"account": "project"}


def test_every_key_takes_what_it_should(here: Path) -> None:
    text = """
nodes = 2
cpus_per_node = 4
processes_per_node = 8
time = "2h"
mem = "4G"
partition = "main"
account = "x"
task_limit = 3
setup = ["module load R", "export A=1"]
python = "/usr/bin/python3"
sys_path = "/lib"
template = "site.sh"
jobs_folder = "/scratch"
backend = "slurm"
packages = ["numpy"]
schedule = "static"
chunksize = 10
gpus_per_node = "a100:2"
row_timeout = "10m"
max_failures = "auto"
retries = 0
"""
    write(here / "slurmapply.toml", text)
    defaults = load_defaults()
    assert len(defaults) == 21
    assert defaults["setup"] == ["module load R", "export A=1"]
    assert defaults["sys_path"] == "/lib"


def test_the_home_folder_may_be_abbreviated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    write(here / "slurmapply.toml", 'template = "~/site.sh"\nsys_path = ["~/lib", "/x"]\n')
    assert load_defaults() == {"template": "/home/me/site.sh", "sys_path": ["/home/me/lib", "/x"]}


def test_an_unknown_key_is_named_with_the_nearest_and_the_file(here: Path) -> None:
    path = write(here / "slurmapply.toml", 'acount = "x"\n')
    with pytest.raises(InvalidArgumentError, match=r"no default 'acount'.*'account'") as caught:
        load_defaults()
    assert str(path) in str(caught.value)
    assert caught.value.argument == "acount"


def test_a_key_like_no_other_gets_the_list() -> None:
    with pytest.raises(InvalidArgumentError, match="Known are: nodes, "):
        set_defaults(zzz=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nodes = 0", "nodes should be a whole number"),
        ("nodes = true", "nodes should be a whole number"),
        ('nodes = "2"', "nodes should be a whole number"),
        ("chunksize = 1.5", "chunksize should be a whole number"),
        ("gpus_per_node = 0", "gpus_per_node must be a whole number"),
        ("row_timeout = -5", "above zero"),
        ("row_timeout = nan", "finite"),
        ('max_failures = "all"', 'max_failures: "auto"'),
        ("retries = -1", "retries must be a whole number, 0 or more"),
        ("seed = 1", "no default 'seed'"),
        ("time = 90", "no unit"),
        ("time = 01:30:00", "not a time"),
        ("mem = 4000", "no unit"),
        ('account = ""', "account should be a string"),
        ("setup = [1]", "setup should be a string or a list"),
        ("sys_path = 3", "sys_path should be a path"),
        ('backend = "pbs"', "backend should be auto, slurm"),
        ("backend = []", "backend should be auto, slurm"),
        ('schedule = "random"', "schedule should be dynamic"),
        ('slurm_options = "qos"', "slurm_options should be a table"),
        ("[slurm_options]\narray = 3", "nodes="),
        ("nodes = ", "not valid TOML"),
        ("nodes = 1\nnodes = 2", "not valid TOML"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_file(here: Path, line: str, said: str) -> None:
    path = write(here / "slurmapply.toml", line)
    with pytest.raises(InvalidArgumentError, match=said) as caught:
        load_defaults()
    assert str(path) in str(caught.value)


def test_nothing_is_set_when_one_value_is_wrong() -> None:
    with pytest.raises(InvalidArgumentError, match="set_defaults: nodes"):
        set_defaults(account="x", nodes=-1)
    assert load_defaults() == {}


def test_saving_keeps_the_rest_of_the_file() -> None:
    text = (
        '# mine\naccount = "old"  # of the group\n\n[slurm_options]\nmail_type = "END"\nqos = "x"\n'
    )
    write(user_file(), text)
    path = set_defaults(
        save=True, account="new", slurm_options={"mail-type": "FAIL", "qos": None, "nice": 3}
    )
    assert path == user_file()
    saved = path.read_text()
    assert '# mine\naccount = "new"  # of the group\n' in saved
    settings.session.cache_clear()
    assert load_defaults() == {
        "account": "new",
        "slurm_options": {"mail-type": "FAIL", "nice": 3},
    }


def test_saving_none_removes_the_key() -> None:
    write(user_file(), 'account = "x"\nmem = "4G"\n[slurm_options]\nqos = "x"\n')
    set_defaults(save=True, account=None, slurm_options=None, partition=None)
    assert load_defaults() == {"mem": "4G"}


def test_a_first_save_makes_a_private_file() -> None:
    path = set_defaults(
        save=True,
        time=timedelta(hours=2),
        jobs_folder=Path("/scratch"),
        setup=("module load R",),
        nodes=3,
        slurm_options={"qos": "x"},
    )
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["slurmapply.toml"]
    assert load_defaults() == {
        "time": "02:00:00",
        "jobs_folder": "/scratch",
        "setup": ["module load R"],
        "nodes": 3,
        "slurm_options": {"qos": "x"},
    }


def test_what_was_saved_is_not_hidden_by_the_session() -> None:
    assert set_defaults(account="session") is None
    set_defaults(save=True, account="saved")
    assert load_defaults()["account"] == "saved"


def test_a_damaged_file_is_not_overwritten() -> None:
    path = write(user_file(), "nodes = ")
    with pytest.raises(InvalidArgumentError, match="not valid TOML"):
        set_defaults(save=True, account="x")
    assert path.read_text() == "nodes = "


def test_a_file_that_anybody_could_have_written_is_refused(here: Path) -> None:
    path = write(here / "slurmapply.toml", 'setup = "evil"\n')
    path.chmod(0o666)
    with pytest.raises(UntrustedFolderError, match="chmod o-w") as caught:
        load_defaults()
    assert caught.value.path == path
    path.chmod(0o664)
    assert load_defaults() == {"setup": "evil"}


def test_a_strangers_file_counts_only_in_a_folder_of_few(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(here / "slurmapply.toml", 'setup = "evil"\n')
    mine = path.stat().st_uid
    monkeypatch.setattr("os.getuid", lambda: mine + 1)
    if mine == 0:
        _give_away(path, monkeypatch)
    assert load_defaults() == {"setup": "evil"}
    here.chmod(0o1777)
    with pytest.raises(UntrustedFolderError):
        load_defaults()


def _give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    os.chown(path, 12345, -1)
    monkeypatch.setattr("os.getuid", lambda: 0)


def test_a_folder_in_the_place_of_the_file_is_named(here: Path) -> None:
    (here / "slurmapply.toml").mkdir()
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load_defaults()


def test_set_values_are_not_shared_with_the_caller() -> None:
    options: dict[str, Any] = {"qos": "x"}
    set_defaults(slurm_options=options)
    options["qos"] = "y"
    assert load_defaults()["slurm_options"] == {"qos": "x"}


def test_a_key_saved_after_a_table_is_not_one_of_the_table() -> None:
    write(user_file(), '[slurm_options]\nqos = "x"\n')
    set_defaults(save=True, account="y", nodes=2)
    assert load_defaults() == {"account": "y", "nodes": 2, "slurm_options": {"qos": "x"}}


# -- what holds, and where it comes from ---------------------------------------------------------


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT", "PARTITION", "QOS", "RESERVATION", "CLUSTERS"):
        monkeypatch.delenv(f"SBATCH_{name}", raising=False)
    for name in ("SLURM_CLUSTERS", "SLURMAPPLY_PYTHON"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("plain_environment")
def test_every_keyword_that_may_be_set_has_its_line() -> None:
    found = get_defaults()
    assert [default.name for default in found] == [
        *(name for name in settings.keywords() if name != "slurm_options"),
        "slurm_options",
    ]
    sources = {default.name: default.source for default in found}
    slurm = {name for name, source in sources.items() if source == "Slurm's own default"}
    assert slurm == {"time", "mem", "partition", "account"}
    assert set(sources.values()) == {"built in", "Slurm's own default", "cpus_per_node"}
    assert found["nodes"] == Default("nodes", 2, "built in")
    assert found["processes_per_node"].value == 2
    assert found["python"].value == sys.executable


@pytest.mark.usefixtures("plain_environment")
def test_each_default_names_where_it_came_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(user_file(), 'partition = "user"\nmem = "4G"\n[slurm_options]\nqos = "a"\nnice = 5\n')
    project = write(here / "slurmapply.toml", 'partition = "project"\n[slurm_options]\nnice = 6\n')
    set_defaults(cpus_per_node=8, slurm_options={"mail_type": "END"})
    for name, value in {"PARTITION": "p", "ACCOUNT": "a", "QOS": "q", "RESERVATION": "r"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    found = get_defaults()
    assert {name: (found[name].value, found[name].source) for name in (
        "partition", "mem", "cpus_per_node", "processes_per_node", "account", "slurm_options.qos",
        "slurm_options.nice", "slurm_options.mail-type", "slurm_options.reservation",
    )} == {
        "partition": ("project", str(project)),
        "mem": ("4G", str(user_file())),
        "cpus_per_node": (8, "this session"),
        "processes_per_node": (8, "cpus_per_node"),
        "account": ("a", "environment variable SBATCH_ACCOUNT"),
        "slurm_options.qos": ("a", str(user_file())),
        "slurm_options.nice": (6, str(project)),
        "slurm_options.mail-type": ("END", "this session"),
        "slurm_options.reservation": ("r", "environment variable SBATCH_RESERVATION"),
    }  # fmt: skip
    # As a call would have it.
    assert load_defaults()["slurm_options"] == {"qos": "a", "nice": 6, "mail-type": "END"}


@pytest.mark.usefixtures("plain_environment")
def test_an_option_that_is_taken_back_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write(user_file(), '[slurm_options]\nqos = "a"\n')
    set_defaults(slurm_options={"qos": None})
    assert [d for d in get_defaults() if d.name.startswith("slurm")] == [
        Default("slurm_options", {}, "built in")
    ]
    monkeypatch.setenv("SBATCH_QOS", "q")
    assert get_defaults()["slurm_options.qos"].source == "environment variable SBATCH_QOS"


def test_the_environments_python_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    set_defaults(python="/mine")
    monkeypatch.setenv("SLURMAPPLY_PYTHON", "/first")
    assert get_defaults()["python"].value == "/first"


@pytest.mark.usefixtures("plain_environment")
def test_printed_they_are_a_table_and_one_is_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "other" / "slurmapply.toml", "nodes = 7\n")
    found = get_defaults(tmp_path / "other")
    lines = str(found).splitlines()
    assert len(lines) == len(found)
    assert lines[0].split() == ["nodes", "7", str(tmp_path / "other" / "slurmapply.toml")]
    assert found[0] is found["nodes"]
    assert found[:2] == (found["nodes"], found["cpus_per_node"])
    with pytest.raises(KeyError, match="nods"):
        found["nods"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('nodes = 2\n\nacount = "x"\n', 3, "no default 'acount'"),
        ("# none yet\nnodes = 0\n", 2, "nodes should be a whole number above zero"),
        ('nodes = 2\n[slurm_options]\narray = "0-3"\n', 2, "array"),
        ("nodes = 2\nnodes = 3\n", 2, "not valid TOML"),
        ("nodes =\n", 1, "not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(
    here: Path, text: str, line: int, words: str
) -> None:
    path = write(here / "slurmapply.toml", text)
    with pytest.raises(InvalidArgumentError) as caught:
        get_defaults()
    assert str(path) in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_no_text_is_named_with_its_line(here: Path) -> None:
    (here / "slurmapply.toml").write_bytes(b"nodes = 2\naccount = '\xe9t\xe9'\n")
    with pytest.raises(InvalidArgumentError, match=r"slurmapply.toml, line 2: it is not UTF-8"):
        get_defaults()
