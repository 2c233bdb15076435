"""Whether two jobs are the same: what changes a digest, and what does not."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from slurmapply import JobExistsError, slurm_map
from slurmapply.fingerprint import of_work

if TYPE_CHECKING:
    from pathlib import Path

CELL = """
import enum
import functools
from dataclasses import dataclass

import numpy as np

class Base:
    shift = 1

@dataclass
class Model(Base):
    depth: int = 2

    def fit(self, x):
        return self.depth * x

    @property
    def size(self):
        return 10

    @classmethod
    def name(cls):
        return "tree"

    @functools.cached_property
    def leaves(self):
        return 20

class Kind(enum.Enum):
    SMALL = 1

WORDS = {"one", "two", "three", "four", "five", "six"}
weights = np.arange(5000)
unused = 0
model = Model(3)

def helper(x, power=2):
    return x ** power

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def f(x, *, scale=1):
    class Inner:
        base = helper(x)

    if x in {"nought", "none", "nil", "nothing"} or even(x):
        return Kind.SMALL
    return weights.sum() * scale + model.fit(x) + Inner.base + len(WORDS) + model.unused
"""


def run_cell(text: str, space: dict[str, Any]) -> dict[str, Any]:
    exec(compile(text, f"cell {len(text)}", "exec", dont_inherit=True), space)  # noqa: S102
    return space


def digest(text: str) -> dict[str, str]:
    return of_work(run_cell(text, {"__name__": "__main__"})["f"], {}, {}, {})


def test_the_same_cell_run_again_is_the_same() -> None:
    assert digest(CELL) == digest("\n\n" + CELL)
    assert "unknown" not in digest(CELL).values()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("len(WORDS) +", "len(WORDS) -"),
        ("shift = 1", "shift = 2"),
        ("depth: int = 2", "depth: int = 4"),
        ("self.depth * x", "self.depth + x"),
        ("return 10", "return 11"),
        ('"tree"', '"forest"'),
        ("return 20", "return 21"),
        ("SMALL = 1", "SMALL = 2"),
        ('"six"', '"seven"'),
        ("arange(5000)", "arange(5001)"),
        ("arange(5000)", "arange(5000)[::-1]"),
        ("Model(3)", "Model(5)"),
        ("power=2", "power=3"),
        ("x ** power", "x * power"),
        ("return n != 0 and", "return n > 0 and"),
        ("scale=1", "scale=2"),
        ("base = helper(x)", "base = helper(-x)"),
        ('"nil"', '"zero"'),
    ],
)
def test_a_change_of_anything_that_counts_is_seen(before: str, after: str) -> None:
    assert before in CELL
    assert digest(CELL)["function"] != digest(CELL.replace(before, after))["function"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("unused = 0", "unused = 1"),  # f has an attribute of this name
        ("class Kind", '"""Words."""\nclass Kind'),
        ("class Base:", 'class Base:\n    """What all have."""\n'),
    ],
)
def test_a_change_of_what_does_not_count_is_not(before: str, after: str) -> None:
    assert before in CELL
    assert digest(CELL) == digest(CELL.replace(before, after))


def test_classes_in_parameters_and_arguments_are_told_by_their_code() -> None:
    def cell(text: str) -> dict[str, str]:
        made = run_cell(text, {"__name__": "__main__"})["Model"](3)
        return of_work(abs, {"x": [made, made]}, {"model": made}, {})

    assert cell(CELL) == cell("\n" + CELL)
    other = cell(CELL.replace("self.depth * x", "self.depth + x"))
    assert cell(CELL)["function"] == other["function"]
    assert cell(CELL)["parameters"] != other["parameters"]
    assert cell(CELL)["arguments"] != other["arguments"]


def test_another_session_comes_to_the_same(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    tell = (
        "from slurmapply.fingerprint import of_work\nprint(sorted(of_work(f, {}, {}, {}).items()))"
    )
    script.write_text(CELL + tell)
    said = {
        subprocess.run(
            [sys.executable, str(script)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert "unknown" not in said.pop()


def test_a_module_that_the_nodes_import_counts_by_code_and_constants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_module(text: str) -> str:
        module = types.ModuleType("fit")
        monkeypatch.setitem(sys.modules, "fit", module)
        run_cell(text, module.__dict__)
        return of_work(module.f, {}, {}, {})["function"]

    before = of_module(CELL)
    assert of_module(CELL) == before
    assert of_module(CELL.replace("x ** power", "x * power")) != before
    assert of_module(CELL.replace("self.depth * x", "self.depth + x")) != before  # model's class
    assert of_module(CELL.replace("arange(5000)", "arange(5001)")) == before  # made there anew
    with_limit = CELL.replace("len(WORDS)", "len(WORDS) + LIMIT") + "\nLIMIT = 5\n"
    assert of_module(with_limit) != of_module(with_limit.replace("LIMIT = 5", "LIMIT = 6"))


def test_a_script_that_is_run_again_with_other_data_is_told() -> None:
    def job(values: list[int]) -> Any:
        space: dict[str, Any] = {"__name__": "__main__", "values": values}
        run_cell("def f(x):\n    return x + sum(values)\n", space)
        return slurm_map(space["f"], [1], job_name="data", backend="inline", if_exists="open")

    first = job([1, 2])
    assert job([1, 2]).folder == first.folder
    with pytest.raises(JobExistsError, match="its function differ"):
        job([1, 3])
