"""The command line: each verb, and jobs that are begun there and finished in Python."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tomlkit

from slurmapply import SlurmJob, slurm_apply, slurm_map
from slurmapply.cli.act import read_rows
from slurmapply.cli.keywords import read_settings, read_slurm_options
from slurmapply.cli.program import main
from slurmapply.cli.saying import InputError
from slurmapply.cli.shellwords import in_shell_words
from slurmapply.cli.tables import cells_wide, table_lines
from tests.cli_fixtures import run
from tests.shims import DOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli_fixtures import Said
    from tests.shims import Shims

    Cli = Callable[..., Said]


def inverse(x: int) -> float:
    print("inverting", x)
    return 1 / x


# -- a whole job ---------------------------------------------------------------------------------


def test_a_job_from_its_files_to_its_table(project: Path) -> None:
    said = run("run", "fit.py:score", "good.csv", "--name", "tuning", "-o", "results.csv")
    assert said.code == 0, said.err
    assert said.out.startswith("tuning: 2 rows, ")
    assert (project / "results.csv").read_text() == "x,mean,name\n1,10,n1\n2,20,n2\n"
    # The nodes took the file's classes and functions by value: it was run here, and only here.
    assert (project / "imports.txt").read_text() == "x"
    said = run("results", "tuning")
    assert said.out.split() == ["x", "mean", "name", "1", "10", "n1", "2", "20", "n2"]


def test_a_job_is_followed_by_its_verbs(project: Path, cli: Cli) -> None:
    said = cli("run", "fit.py:score", "params.csv", "--name", "tuning", "--wait")
    assert said.code == 1
    assert "1 x BadFit: row 1 raised BadFit: bad 2: mend the function and slurmapply retry" in (
        said.err
    )
    said = cli("status", "tuning")
    assert said.code == 1
    assert said.out.startswith("tuning is finished. 3 rows: 2 ok, 1 failed (BadFit)\n")
    status = json.loads(cli("status", "--json").out)
    assert status["counts"] == {"ok": 2, "error": 1}
    assert status["causes"] == {"BadFit": 1}
    assert (status["completed"], status["ok"], status["rows"]) == (True, False, 3)
    assert [job["name"] for job in json.loads(cli("ls", "--json").out)] == ["tuning"]
    header, line = cli("ls").out.splitlines()
    assert header.split() == ["name", "state", "failed", "ok/rows", "left", "folder"]
    assert line.split()[:4] == ["tuning", "finished", "1", "2/3"]
    assert cli("watch", "tuning").code == 1
    assert cli("logs", "tuning", "--row", "2").out == "row 3\n"
    printed = cli("logs", "tuning").out.splitlines()
    assert printed[0] == "==> task 0 <=="
    assert {"row 1", "row 2", "row 3"} < set(printed)
    assert project.joinpath("_slurmapply_tuning").is_dir()
    assert cli("cleanup", "tuning").code == 0
    assert not project.joinpath("_slurmapply_tuning").exists()


def test_rows_that_are_not_ok_are_lines_of_the_table(project: Path, cli: Cli) -> None:
    cli("run", "fit.py:score", "params.csv", "--name", "tuning", "--wait")
    said = cli("results", "tuning", "-o", "all.json")
    assert said.code == 1
    assert said.err.startswith("3 rows: all.json\n1 of 3 rows of tuning are not ok: 1 x BadFit")
    assert "Look with slurmapply errors tuning or slurmapply errors tuning --row 1;" in said.err
    rows = json.loads((project / "all.json").read_text())
    assert [row["mean"] for row in rows] == [10, None, 30]
    assert [row["row_status"] for row in rows] == ["ok", "error", "ok"]
    assert json.loads(cli("results", "tuning", "--json").out) == rows
    cli("results", "tuning", "-o", "all.parquet")
    assert pd.read_parquet(project / "all.parquet")["x"].tolist() == [1, 2, 3]
    assert "row_host" in cli("results", "tuning", "--details").out
    said = cli("errors", "tuning")
    assert said.code == 1
    assert said.out.splitlines()[1].split()[:5] == ["1", "error", "BadFit", "bad", "2"]
    (failed,) = json.loads(cli("errors", "tuning", "--json").out)
    assert failed["traceback"].endswith("BadFit: bad 2\n")
    said = cli("errors", "tuning", "--row", "1")
    assert said.code == 1
    assert 'raise BadFit(f"bad {x}")' in said.out
    assert "row 2" in said.out
    assert cli("errors", "tuning", "--row", "0").code == 0


def test_a_job_of_python_is_mended_from_the_shell(project: Path, cli: Cli) -> None:
    slurm_apply(inverse, {"x": [1, 0]}, job_name="inverses").wait()
    (project / "mended.py").write_text("def inverse(x):\n    return 1 / x if x else -1.0\n")
    said = run("retry", "inverses", "--function", "mended.py:inverse", "-o", "results.json")
    assert said.code == 0, said.err
    assert json.loads((project / "results.json").read_text()) == [
        {"x": 1, "result": 1.0},
        {"x": 0, "result": -1.0},
    ]
    assert run("errors", "inverses").err == "no row of inverses has failed: 2 rows: 2 ok\n"


def test_a_job_of_the_shell_is_mended_in_python(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("run", "fit.py:score", "params.csv", "--name", "tuning", "--wait").code == 1
    monkeypatch.syspath_prepend(project)  # as in a notebook beside the file
    job = SlurmJob.open("tuning")
    assert job.errors()["row_number"].tolist() == [1]
    job.retry(f=lambda x, fail: {"mean": -1.0, "name": f"mended {x} {fail}"})
    table = job.table()
    assert table["mean"].tolist() == [10, -1, 30]
    assert table["name"].tolist() == ["n1", "mended 2 1", "n3"]
    assert run("status", "tuning").code == 0


@pytest.mark.slurm
def test_a_job_on_slurm(project: Path, cli: Cli) -> None:
    (project / "slurmapply.toml").unlink()
    options = ("--nodes", "1", "--cpus-per-node", "1", "--set", "mem=200M", "--slurm", "comment=x")
    said = cli("run", "fit.py:score", "good.csv", "--name", "cluster", *options)
    assert said.code == 0, said.err
    assert "(1 node x 1 process), Slurm job " in said.out
    assert run("watch", "cluster").code == 0
    assert json.loads(run("results", "cluster", "--json").out)[1]["mean"] == 20


def test_what_is_cancelled_ends(project: Path, cli: Cli) -> None:
    (project / "slow.csv").write_text("x,pause\n1,60\n2,60\n")
    cli("run", "fit.py:score", "slow.csv", "--name", "slow")
    assert cli("cleanup", "slow", "--no-wait").code == 5
    said = cli("cancel", "slow")
    assert said.code == 0
    assert said.out.startswith("slow: cancelled; ")
    assert cli("watch", "slow").code == 1
    assert SlurmJob.open("slow").wait().status().state == "cancelled"


def test_what_was_only_prepared_is_submitted(project: Path, cli: Cli) -> None:
    said = cli("run", "fit.py:score", "good.csv", "--name", "later", "--set", "submit=false")
    assert said.code == 0
    assert "submit it: slurmapply submit later" in said.err
    said = cli("watch", "later")
    assert said.code == 5
    assert "slurmapply submit later" in said.err
    assert cli("submit", "later", "--wait").code == 0


def test_the_only_job_here_needs_no_name_to_be_looked_at(project: Path, cli: Cli) -> None:
    said = cli("status")
    assert said.code == 3
    assert "there is no job in this folder" in said.err
    slurm_map(abs, [-1], job_name="one", backend="inline")
    assert cli("status").out.startswith("one is finished")
    slurm_map(abs, [-1], job_name="two", backend="inline")
    said = cli("status")
    assert said.code == 2
    assert "say which: one, two" in said.err
    assert cli("status", "_slurmapply_two").out.startswith("two is finished")
    assert cli("cancel").code == 2


def test_waiting_for_others(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1], job_name="first", backend="inline")
    said = cli("run", "fit.py:score", "good.csv", "--set", "after=first", "--wait")
    assert said.code == 0, said.err


def test_output_is_followed_to_its_end(project: Path, cli: Cli) -> None:
    (project / "slow.csv").write_text("x,pause\n1,3\n")
    cli("run", "fit.py:score", "slow.csv", "--name", "slow")
    assert run("logs", "slow", "--follow", "--row", "0").out == "row 1\n"
    assert run("logs", "slow", "--follow").out.endswith("row 1\n")


def test_modules_beside_the_file_go_along_where_that_is_asked(project: Path, cli: Cli) -> None:
    way = ("--name", "later", "--set", "by_value=scale", "--set", "submit=false")
    assert run("run", "fit.py:score", "good.csv", *way).code == 0
    (project / "scale.py").unlink()
    assert cli("submit", "later", "-o", "all.csv").code == 0
    assert (project / "all.csv").read_text() == "x,mean,name\n1,10,n1\n2,20,n2\n"


def test_arguments_that_are_the_same_for_every_row(project: Path, cli: Cli) -> None:
    (project / "plain.py").write_text("def add(x, y, z='?'):\n    return f'{x + y}{z}'\n")
    way = ("--arg", "y=10", "--arg", "z=!", "--set", "seed=1", "-o", "sums.csv")
    said = cli("run", "plain.py:add", "good.csv", *way)
    assert said.code == 0, said.err
    assert (project / "sums.csv").read_text() == "x,result\n1,11!\n2,12!\n"


def test_parameters_keep_their_types(project: Path, cli: Cli) -> None:
    (project / "plain.py").write_text("def kinds(**cells):\n    return repr(cells)\n")
    (project / "typed.csv").write_text("a,b,c,d\n1,0.1,x,\n,0.30000000000000004,,True\n")
    cli("run", "plain.py:kinds", "typed.csv", "-o", "typed.json")
    (project / "typed_in.json").write_text('[{"a": 1, "b": [1, 2]}, {"a": null}]')
    cli("run", "plain.py:kinds", "typed_in.json", "-o", "from_json.json")
    pd.DataFrame({"a": [1, 2]}).to_parquet(project / "typed.parquet")
    cli("run", "plain.py:kinds", "typed.parquet", "-o", "from_parquet.json")

    def results(name: str) -> list[str]:
        return [row["result"] for row in json.loads((project / name).read_text())]

    assert results("typed.json") == [
        "{'a': 1, 'b': 0.1, 'c': 'x', 'd': None}",
        "{'a': None, 'b': 0.30000000000000004, 'c': None, 'd': True}",
    ]
    assert results("from_json.json") == ["{'a': 1, 'b': [1, 2]}", "{'a': None}"]
    assert results("from_parquet.json") == ["{'a': 1}", "{'a': 2}"]


@pytest.mark.parametrize("kind", ["pandas", "index", "polars", "pyarrow"])
def test_every_kind_of_frame_is_printed_and_written(project: Path, cli: Cli, kind: str) -> None:
    frame = pd.DataFrame({"x": [2, 0]})
    made = {
        "pandas": frame,
        "index": frame.set_index(pd.Index(["a", "b"], name="place")),
        "polars": pl.DataFrame({"x": [2, 0]}),
        "pyarrow": pa.table({"x": [2, 0]}),
    }
    slurm_apply(inverse, made[kind], job_name="inverses").wait()
    first = ["place"] if kind == "index" else []
    assert cli("results", "inverses", "-o", "all.csv").code == 1
    lines = (project / "all.csv").read_text().splitlines()
    names = [*first, "x", "result", "row_number", "row_status", "row_cause"]
    assert lines[0] == ",".join(names)
    assert lines[2] == ",".join(["b"] * len(first) + ["0,,1,error,ZeroDivisionError"])
    assert cli("results", "inverses").out.splitlines()[0].split() == names
    assert cli("results", "inverses", "-o", "all.parquet").code == 1
    assert list(pd.read_parquet("all.parquet")) == names
    header, line = cli("errors", "inverses").out.splitlines()
    told = ["row_number", "row_status", "row_cause", "message"]
    assert header.split() == [*told, *first, "x"]
    assert line.split()[:3] == ["1", "error", "ZeroDivisionError"]


def test_numbers_of_rows_that_failed_are_shown_once(project: Path, cli: Cli) -> None:
    slurm_apply(inverse, pd.DataFrame({"x": [1, 0, 0, 2, 0]}), job_name="inverses").wait()
    header, *lines = cli("errors", "inverses").out.splitlines()
    assert header.split() == ["row_number", "row_status", "row_cause", "message", "x"]
    assert [line.split()[0] for line in lines] == ["1", "2", "4"]
    (first, *_) = json.loads(cli("errors", "inverses", "--json").out)
    assert "index" not in first


def test_names_complete(project: Path) -> None:
    slurm_map(abs, [-1], job_name="tuning", backend="inline")
    asked = {"COMP_WORDS": "slurmapply status tu", "COMP_CWORD": "2"}
    said = run(_SLURMAPPLY_COMPLETE="bash_complete", **asked)
    assert said.out.split(",")[-1].strip() == "tuning"


def test_results_of_a_module_beside_the_notebook_are_read_from_anywhere(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "shapes_here.py").write_text(
        "import dataclasses\n\n@dataclasses.dataclass\nclass Box:\n    side: int\n\n"
        "def make(x):\n    return Box(x)\n"
    )
    monkeypatch.syspath_prepend(project)
    make = importlib.import_module("shapes_here").make
    slurm_apply(make, {"x": [1, 2]}, job_name="boxes").wait()
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said = run("results", "boxes", "-o", "boxes.csv")
    assert said.code == 0, said.err
    assert (elsewhere / "boxes.csv").read_text() == "x,side\n1,1\n2,2\n"


@pytest.mark.usefixtures("impatient")
def test_a_slurm_that_does_not_answer_has_its_code(project: Path, cli: Cli, shims: Shims) -> None:
    shims.add("sbatch", "echo 4711")
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        shims.add(name, DOWN)
    cli("run", "fit.py:score", "good.csv", "--name", "silent", "--set", "backend=slurm")
    assert json.loads(cli("ls", "--json").out)[0]["state"] == "queued"
    said = cli("status", "silent")
    assert said.code == 4
    assert said.out.startswith("silent is unknown.")
    assert "Unable to contact slurm controller" in said.out
    asked = shims.calls("squeue")
    cli("ls")
    assert shims.calls("squeue") == asked  # listing asks nothing


def test_a_fault_of_ours_does_not_look_like_rows_that_failed(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: SlurmJob) -> None:
        raise AttributeError("nobody thought of it")

    slurm_map(abs, [-1], job_name="one", backend="inline")
    monkeypatch.setattr(SlurmJob, "status", broken)
    said = cli("status")
    assert said.code == 70
    assert "AttributeError: nobody thought of it\nError: this is a fault of slurmapply" in said.err


def test_the_command_is_installed_by_its_name() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    entry = tomlkit.parse(text).unwrap()["project"]["scripts"]["slurmapply"]
    module, _, function = entry.partition(":")
    assert getattr(importlib.import_module(module), function) is main


# -- the verbs that other modules are behind -----------------------------------------------------


def test_a_report(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1], job_name="one", backend="inline")
    assert cli("report", "one").out == "one.html\n"
    assert "<html" in (project / "one.html").read_text()
    said = cli("report", "one")
    assert said.code == 5
    assert "--overwrite" in said.err
    assert cli("report", "one", "--overwrite").code == 0


def test_usage(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1, 2], job_name="one").wait()
    assert cli("usage", "one").out.strip()
    found = json.loads(cli("usage", "one", "--json").out)
    assert set(found) == {"tasks", "rows", "advice"}
    assert len(found["rows"]) == 2


def test_the_doctor(project: Path, cli: Cli) -> None:
    said = cli("doctor", "--no-test-job", "--json")
    found = json.loads(said.out)
    assert said.code == (0 if found["ok"] else 1)
    assert {"name", "verdict", "message"} == set(found["checks"][0])
    lines = cli("doctor", "--no-test-job").out.splitlines()
    assert len(lines) == len(found["checks"]) + 1


def test_the_defaults(project: Path, cli: Cli) -> None:
    found = json.loads(cli("config", "--json").out)
    assert found["backend"] == {"value": "local", "source": str(project / "slurmapply.toml")}
    assert found["nodes"] == {"value": 2, "source": "built in"}
    lines = cli("config").out.splitlines()
    assert ["nodes", "2", "built", "in"] in [line.split() for line in lines]


# -- parts ---------------------------------------------------------------------------------------


def test_settings_are_typed() -> None:
    given = ["nodes=4", "mem=4G", "account=12", "max_failures=none", "submit=FALSE", "cost=x"]
    given += ["packages=numpy", "packages=scipy", "cpus-per-node=2", "time=90"]
    assert read_settings(given) == {
        "nodes": 4, "mem": "4G", "account": "12", "max_failures": None, "submit": False,
        "cost": "x", "packages": ["numpy", "scipy"], "cpus_per_node": 2, "time": "90",
    }  # fmt: skip
    assert read_slurm_options(["qos=long", "exclusive", "--nice=10", "comment=none"]) == {
        "qos": "long", "exclusive": True, "nice": "10", "comment": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["mme=4G"], "no keyword 'mme'. Did you mean mem?"),
        (["mem"], "NAME=VALUE is needed"),
        (["=4G"], "NAME=VALUE is needed"),
        (["more_args=x"], "say --arg NAME=VALUE"),
        (["initializer=f"], "it is a function"),
        (["nodes=1", "nodes=2"], "nodes is given twice"),
        (["zzzzzzzz=1"], "There are: packages, by_value, seed,"),
    ],
)
def test_settings_that_cannot_be(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        read_settings(given)


def test_rows_are_read() -> None:
    assert read_rows("0") == [0]
    assert read_rows("failed") == "failed"
    assert read_rows(None) is None
    for text in ("3-", "-3", "5-4", "1,,2"):
        with pytest.raises(InputError, match=f"--rows {text}"):
            read_rows(text)


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("job.cancel() ends it", "slurmapply cancel t ends it"),
        ("job.submit(force=True)", "slurmapply submit t --force"),
        ('job.submit(account="...")', "slurmapply submit t --set account=..."),
        ("job.retry(f=...)", "slurmapply retry t --function FILE.py:FUNCTION"),
        ('job.retry([3, 4], time="2 h")', "slurmapply retry t --rows 3,4 --set time='2 h'"),
        ("job.logs(task=3)", "slurmapply logs t --task 3"),
        ("job.row(2)", "slurmapply errors t --row 2"),
        ('SlurmJob.open("u").status()', "slurmapply status u"),
        ("job.retry(f(", "job.retry(f("),
        ('backend="local", or', "--set backend=local, or"),
        ('a row said errors="keep"', 'a row said errors="keep"'),
        ("with mem=, or a smaller time=.", "with --set mem=, or a smaller --set time=."),
        ("time='1 h' or job_name=", "--set time='1 h' or --name"),
        ("fewer cpus_per_node=; x=3 time=0.5", "fewer --cpus-per-node; x=3 time=0.5"),
    ],
)
def test_advice_is_said_in_the_shells_words(python: str, shell: str) -> None:
    assert in_shell_words(python, "t") == shell


@pytest.mark.parametrize("width", [*range(1, 60), None])
def test_tables_keep_to_the_width(width: int | None) -> None:
    header = ["number", "名前", "text"]
    rows = [["1", "深さ" * 8, "x" * 30], ["1000000", "", "short"]]
    lines = table_lines(header, rows, width)
    assert len(lines) == 3
    if width is None:
        assert "x" * 30 in lines[1]
    else:
        assert max(map(cells_wide, lines)) <= width


def test_a_refusal_of_slurm_has_its_code(project: Path, cli: Cli, shims: Shims) -> None:
    shims.add("sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1")
    said = cli("run", "fit.py:score", "good.csv", "--name", "no", "--set", "backend=slurm")
    assert said.code == 4
    assert "slurmapply submit no goes on from it" in said.err
    assert cli("status", "no").out.startswith("no is prepared")
