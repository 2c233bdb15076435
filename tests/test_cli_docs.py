"""The page on the command line shows what the program does: its verbs, options, codes, outputs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmapply import SlurmJob
from slurmapply.cli import saying
from slurmapply.cli.keywords import NOT_FROM_SHELL, settable
from slurmapply.cli.program import program
from tests.cli_fixtures import COMMAND
from tests.test_docs import is_same, read_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from tests.cli_fixtures import Said
    from tests.test_docs import Block

PAGE = (Path(__file__).parents[1] / "docs/command-line.md").read_text()


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def longest_names(command: click.Command) -> set[str]:
    """Give a verb's options by their long names."""
    options = (each for each in command.params if isinstance(each, click.Option))
    return {max(each.opts, key=len) for each in options}


def test_the_page_has_each_verb_with_its_options() -> None:
    lines = re.findall(r"^\| `(\w+)` \| .+? \| (.*?) ?\| .+ \|$", section("Verbs"), re.MULTILINE)
    documented = {verb: set(re.findall(r"`([^`]+)`", options)) for verb, options in lines}
    assert documented == {name: longest_names(verb) for name, verb in program.commands.items()}


def test_the_page_names_methods_that_there_are() -> None:
    methods = set(re.findall(r"`job\.(\w+)\(", section("Verbs")))
    assert "status" in methods
    assert [name for name in methods if not hasattr(SlurmJob, name)] == []


def test_each_verb_has_help_with_an_example(cli: Callable[..., Said]) -> None:
    for name in program.commands:
        said = cli(name, "--help")
        assert said.code == 0
        assert re.search(rf"Examples?:\n    slurmapply {name}\b", said.out), name
        assert max(map(len, said.out.splitlines())) <= 100


def test_examples_of_the_help_can_be_typed() -> None:
    for name, verb in program.commands.items():
        for line in re.findall(r"^  (slurmapply .+)$", verb.epilog or "", re.MULTILINE):
            words = shlex.split(line.partition("|")[0])
            context = click.Context(program)
            assert words[1] == name
            verb.make_context(name, [w.replace("~/project", ".") for w in words[2:]], context)


def test_the_page_has_each_exit_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}
    assert codes == {
        saying.FINE, saying.ROWS_NOT_OK, saying.WRONG_USE, saying.NO_SUCH_JOB, saying.SLURM,
        saying.REFUSED, saying.FAULT, saying.INTERRUPTED,
    }  # fmt: skip
    for code in codes:
        assert re.search(rf"\b{code} \w", program.epilog or ""), code


def test_every_keyword_is_settable_or_said_not_to_be() -> None:
    from slurmapply import slurm_apply

    names = set(slurm_apply.__annotations__) - {"return"}
    assert names == {*settable(), *NOT_FROM_SHELL}


def shown_commands() -> Iterator[tuple[Block, Block | None]]:
    """Give the blocks of shell of the whole job, each with its output."""
    blocks = [block for block in read_blocks(section("A whole job")) if block.language]
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "sh":
            shown = following is not None and following.language == "text"
            yield block, following if shown else None


def test_the_whole_job_goes_as_the_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    blocks = list(read_blocks(section("A whole job")))
    (folder / "fit.py").write_text(
        next(each.text for each in blocks if each.language == "python") + "\n"
    )
    (folder / "params.csv").write_text(
        next(each.text for each in blocks if each.language == "csv") + "\n"
    )
    (folder / "slurmapply.toml").write_text('backend = "local"\n')
    program = f'slurmapply() {{ {shlex.join(COMMAND)} "$@"; }}\n'
    for block, output in shown_commands():
        ended = subprocess.run(
            ["bash", "-c", program + block.text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        printed = ended.stdout.replace(str(tmp_path), "~")
        assert output is not None
        assert is_same(output.text, printed), f"{block.text}\nprints\n{printed}"
    assert (folder / "results.csv").read_text().startswith("depth,rate,rmse,seconds\n1,0.1,100.0,")
    assert not (folder / "_slurmapply_tuning").exists()


def test_completion_is_as_the_page_says() -> None:
    said = subprocess.run(
        [*COMMAND], capture_output=True, text=True, check=True,
        env={**os.environ, "_SLURMAPPLY_COMPLETE": "bash_source"},
    )  # fmt: skip
    assert "complete" in said.stdout
