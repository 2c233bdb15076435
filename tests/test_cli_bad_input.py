"""What the command line says of files, names and options that cannot be used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from slurmapply import slurm_map
from tests.cli_fixtures import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli_fixtures import Said

    Cli = Callable[..., Said]

HOLDS = "fit.py holds: BadFit, Score, tenfold, score."


def test_an_unknown_job_offers_the_nearest(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1], job_name="tuning", backend="inline")
    for verb in ("status", "watch", "results", "errors", "logs", "retry", "cancel", "cleanup"):
        said = cli(verb, "tunign")
        assert said.code == 3, verb
        assert "there is no job 'tunign'" in said.err
        assert "Did you mean 'tuning'? slurmapply ls shows all;" in said.err
        assert said.out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x,y\n1,2\n3\n", "params.csv, line 3: 1 fields, where the first line names 2 columns."),
        ("x,y\n1,2,3\n", "params.csv, line 2: 3 fields, where the first line names 2 columns."),
        ('x,y\n1,2\n3,"open\n', "params.csv, line 3: unexpected end of data."),
        ("", "params.csv is empty; its first line must name the columns."),
        ("x,x\n1,2\n", "params.csv, line 1: more than one column is named x."),
        ("x,\n1,2\n", "params.csv, line 1: a column has no name: x,"),
        ("x;y\n1;2\n", "params.csv, line 1: fields stand between commas, not between ';'."),
        ("x\n1\n\udcff\n", "params.csv, line 3: not UTF-8 (invalid start byte). Save it as UTF-8."),
    ],
)
def test_a_csv_that_does_not_parse_names_the_line(
    project: Path, cli: Cli, content: str, said: str
) -> None:
    (project / "params.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    ended = cli("run", "fit.py:score", "params.csv")
    assert (ended.code, ended.err) == (2, f"Error: {said}\n")
    assert [path.name for path in project.glob("_slurmapply_*")] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"x": 1},\n {"x": }]', "params.json, line 2, column 8: Expecting value."),
        ('"x"', 'params.json: a list of rows is needed, [{"x": 1}, {"x": 2}], or columns,'),
    ],
)
def test_a_json_that_does_not_parse_names_the_line(
    project: Path, cli: Cli, content: str, said: str
) -> None:
    (project / "params.json").write_text(content)
    ended = cli("run", "fit.py:score", "params.json")
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {said}")


def test_a_parquet_that_is_none(project: Path, cli: Cli) -> None:
    (project / "params.parquet").write_text("not parquet")
    ended = cli("run", "fit.py:score", "params.parquet")
    assert ended.code == 2
    assert ended.err.startswith("Error: params.parquet is no parquet file: ")


def test_parquet_without_pyarrow_says_what_to_install(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "params.parquet").write_text("not looked at")
    slurm_map(abs, [-1], job_name="one", backend="inline")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    said = cli("run", "fit.py:score", "params.parquet")
    assert (said.code, said.err) == (
        2, "Error: params.parquet: parquet needs pyarrow: pip install pyarrow.\n",
    )  # fmt: skip
    said = cli("results", "one", "-o", "all.parquet")
    assert said.code == 2
    assert "pip install pyarrow, or write .csv or .json" in said.err


def test_parameters_of_an_unknown_kind(project: Path, cli: Cli) -> None:
    said = cli("run", "fit.py:score", "params.xlsx")
    assert said.code == 2
    assert said.err.endswith("must stand at its end: .csv, .parquet, .json.\n")
    said = cli("run", "fit.py:score", "absent.csv")
    assert (said.code, said.err) == (2, "Error: the parameters' file absent.csv does not exist.\n")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            "fit.py:scor",
            f"there is no 'scor' in fit.py. Did you mean score? {HOLDS}",
        ),
        (
            "fit.py",
            f"fit.py: say which function of it, fit.py:NAME. {HOLDS}",
        ),
        ("fit.py:NUMBER", "NUMBER of fit.py is no function: it is a int."),
        ("fti.py:score", "there is no file fti.py. Did you mean fit.py?"),
        ("empty.py:f", "there is no 'f' in empty.py. empty.py holds no functions."),
        (".:score", ". is a folder; a file of Python and a function of it are needed."),
        ("nowhere/fit.py:score", "there is no file nowhere/fit.py: its folder cannot be read."),
    ],
)
def test_a_function_that_is_not_there(project: Path, cli: Cli, function: str, said: str) -> None:
    (project / "empty.py").write_text("")
    ended = cli("run", function, "good.csv")
    assert (ended.code, ended.err) == (2, f"Error: {said}\n")


def test_a_file_that_raises_shows_its_own_traceback(project: Path) -> None:
    (project / "broken.py").write_text(
        "import scale\n\ndef load():\n    return scale.NO\n\nload()\n"
    )
    said = run("run", "broken.py:load", "good.csv")
    assert said.code == 2
    assert said.err.startswith(
        "Error: broken.py cannot be read by Python:\nTraceback (most recent call last):\n"
        f'  File "{project}/broken.py", line 6, in <module>\n'
    )
    assert said.err.endswith("AttributeError: module 'scale' has no attribute 'NO'\n")
    assert "slurmapply/cli" not in said.err


def test_a_file_that_is_no_python(project: Path, cli: Cli) -> None:
    (project / "broken.py").write_text("def f(:\n")
    said = cli("run", "broken.py:f", "good.csv")
    assert said.code == 2
    assert f'File "{project}/broken.py", line 1' in said.err
    assert "SyntaxError" in said.err
    assert "slurmapply/cli" not in said.err


def test_a_file_that_ends_the_program(project: Path, cli: Cli) -> None:
    (project / "script.py").write_text("import sys\nsys.exit(3)\n")
    said = cli("run", "script.py:f", "good.csv")
    assert said.code == 2
    assert "ended the program when it was read (exit code 3)" in said.err
    assert 'if __name__ == "__main__":' in said.err


def test_files_are_not_overwritten_unless_asked(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1], job_name="one", backend="inline")
    target = project / "all.csv"
    target.write_text("precious")
    said = cli("results", "one", "-o", "all.csv")
    assert said.code == 5
    assert said.err == "Error: all.csv is there already, and was left as it is: --overwrite.\n"
    assert target.read_text() == "precious"
    said = cli("run", "fit.py:score", "good.csv", "--name", "never", "-o", "all.csv")
    assert said.code == 5
    assert not (project / "_slurmapply_never").exists()
    assert cli("results", "one", "-o", "all.csv", "--overwrite").code == 0
    assert target.read_text() == "result\n1\n"
    assert [path.name for path in project.glob(".all*")] == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("all.xlsx", "must stand at its end: .csv, .parquet, .json."),
        ("nowhere/all.csv", "there is no folder nowhere."),
        ("folder.csv", "folder.csv is a folder."),
    ],
)
def test_targets_that_cannot_be_written(project: Path, cli: Cli, target: str, said: str) -> None:
    slurm_map(abs, [-1], job_name="one", backend="inline")
    (project / "folder.csv").mkdir()
    ended = cli("results", "one", "-o", target)
    assert ended.code == 2
    assert ended.err.endswith(f"{said}\n")


def test_results_that_parquet_cannot_hold(project: Path) -> None:
    slurm_map(lambda x: [1, "a", object][x], [0, 1, 2], job_name="mixed", backend="inline")
    said = run("results", "mixed", "-o", "all.parquet")
    assert said.code == 2
    warning, error = said.err.splitlines()
    assert warning.startswith("Warning: result column holds objects: 1 int, 1 str, 1 type.")
    assert error.startswith("Error: parquet cannot hold these results")
    assert not (project / "all.parquet").exists()
    assert run("results", "mixed", "-o", "all.csv").code == 0
    assert (project / "all.csv").read_text() == "result\n1\na\n<class 'object'>\n"


def test_keywords_and_arguments_that_do_not_fit(project: Path, cli: Cli) -> None:
    said = cli("run", "fit.py:score", "good.csv", "--set", "mme=4G")
    assert said.code == 2
    assert "Did you mean mem?" in said.err
    said = cli("run", "fit.py:score", "good.csv", "--nodes", "2", "--set", "nodes=3")
    assert (said.code, said.err) == (
        2, "Error: nodes is given twice: by its own option and by --set.\n",
    )  # fmt: skip
    said = cli("run", "fit.py:score", "good.csv", "--set", "mem=lots")
    assert said.code == 2
    assert "mem" in said.err
    (project / "other.csv").write_text("y\n1\n")
    said = cli("run", "fit.py:score", "other.csv")
    assert said.code == 2
    assert "'y'" in said.err
    assert "Traceback" not in said.err
    assert cli("statsu").code == 2


def test_rows_and_tasks_that_are_not_there(project: Path, cli: Cli) -> None:
    slurm_map(abs, [-1], job_name="one").wait()
    for options in (("logs", "one", "--row", "7"), ("errors", "one", "--row", "7")):
        said = cli(*options)
        assert said.code == 2
        assert "there is no row 7; one has rows 0 to 0" in said.err
    assert cli("retry", "one", "--rows", "7").code == 2


def test_a_name_that_is_taken(project: Path, cli: Cli) -> None:
    assert cli("run", "fit.py:score", "good.csv", "--name", "taken", "--wait").code == 0
    said = cli("run", "fit.py:score", "good.csv", "--name", "taken")
    assert said.code == 5
    assert said.err.startswith("Error: ")
    assert "--set if_exists=open" in said.err


def test_a_job_that_is_there_is_opened_when_that_is_asked(project: Path, cli: Cli) -> None:
    (project / "plain.py").write_text("import scale\n\ndef f(x):\n    return x * scale.FACTOR\n")
    way = ("run", "plain.py:f", "good.csv", "--name", "same", "--set", "if_exists=open", "--wait")
    assert cli(*way).out.startswith("same: 2 rows")
    said = cli(*way)
    assert (said.code, said.out) == (0, "")
    (project / "plain.py").write_text("def f(x):\n    return x + 1\n")
    said = cli(*way)
    assert said.code == 5
    assert "its function differ" in said.err


def test_a_folder_of_others_is_not_loaded(project: Path, cli: Cli) -> None:
    job = slurm_map(abs, [-1], job_name="open", backend="inline")
    job.folder.chmod(0o777)
    for options in (("results", "open"), ("errors", "open", "--row", "0")):
        said = cli(*options)
        assert said.code == 5
        assert "--trust" in said.err
        assert "chmod" in said.err
    assert cli("status", "open").code == 0
    assert cli("results", "open", "--trust").code == 0


def test_what_a_row_says_does_not_steer_the_terminal(project: Path, cli: Cli) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\r"

    def bad(x: int) -> None:
        print(evil, end="")
        raise ValueError(evil)

    slurm_map(bad, [0], job_name="evil").wait()
    for options in (
        ("status",), ("watch",), ("results",), ("errors",), ("errors", "--row", "0"), ("ls",),
    ):  # fmt: skip
        said = cli(*options)
        assert not {letter for letter in said.out + said.err if ord(letter) < 32} - {"\n"}, options
        assert "\x9b" not in said.out + said.err
    assert cli("logs", "--row", "0").out == evil  # exact, in a pipe
