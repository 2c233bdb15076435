"""A notebook, run by a real kernel: what its functions use goes to the nodes with nothing said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

CELLS = [
    """
import dataclasses
import pandas as pd
import scaling  # a module beside the notebook

weights = pd.DataFrame({"weight": [10, 20, 30]})

@dataclasses.dataclass
class Score:
    mean: float
    name: str
""",
    """
def relative(depth):
    return depth * pd.read_csv("data/x.csv")["x"].sum()

def score(depth, trees):
    print(f"depth {depth}")
    return Score(scaling.scale(weights["weight"].mean()) + relative(depth), f"{depth}/{trees}")
""",
    """
from slurmapply import expand_grid, slurm_apply
params = expand_grid(depth=[1, 2], trees=[None, 50])
job = slurm_apply(score, params, job_name="tuning"BACKEND)
""",
    "job.wait()",
    """
print(job.table().to_json(orient="values"), job.logs(row=2), isinstance(job.result(0), Score))
""",
    """
def mended(depth, trees):
    return Score(0.0, f"{len(weights)} {scaling.scale(depth)}")
job.retry([3], f=mended)
print(job.result(3))
""",
]


def execute(folder: Path, backend: str) -> NotebookNode:
    """Run the notebook in a folder that holds all it needs."""
    (folder / "data").mkdir()
    (folder / "data/x.csv").write_text("x\n1\n2\n")
    (folder / "scaling.py").write_text("def scale(x):\n    return 100 * x\n")
    make: Any = nbformat.v4
    cells = [make.new_code_cell(cell.strip().replace("BACKEND", backend)) for cell in CELLS]
    notebook = make.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources=resources
    ).execute()


def printed(cell: NotebookNode) -> str:
    return "".join(
        output["text"] for output in cell["outputs"] if output.get("name") == "stdout"
    ).strip()


@pytest.mark.parametrize(
    ("backend", "place"),
    [
        (', backend="local"', "on this machine"),
        pytest.param("", "Slurm job", marks=pytest.mark.slurm),
    ],
    ids=["local", "slurm"],
)
def test_a_notebook_works_with_nothing_said(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, backend: str, place: str
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(own_folders.parent / ".jupyter"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    *_, submitted, waited, collected, retried = execute(own_folders, backend)["cells"]
    assert printed(submitted).startswith("tuning: 4 rows, ")
    assert place in printed(submitted)
    (shown,) = (out["data"] for out in waited["outputs"] if out["output_type"] == "execute_result")
    assert shown["text/plain"] == "4 rows: 4 ok"
    assert shown["text/html"] == "<b>tuning</b>: 4 rows: 4 ok"
    assert printed(collected) == (
        '[[1,null,2003.0,"1\\/None"],[1,50,2003.0,"1\\/50"],[2,null,2006.0,"2\\/None"],'
        '[2,50,2006.0,"2\\/50"]] depth 2\n True'
    )
    assert printed(retried).endswith("Score(mean=0.0, name='3 200')")
