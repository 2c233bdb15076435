"""A notebook, run by a real kernel: what its functions use goes to the nodes with nothing said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.test_docs import is_same
from tools import execute_notebook

if TYPE_CHECKING:
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


@pytest.fixture
def jupyter_at_home(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(own_folders.parent / ".jupyter"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    return own_folders


@pytest.mark.parametrize(
    ("backend", "place"),
    [
        (', backend="local"', "on this machine"),
        pytest.param("", "Slurm job", marks=pytest.mark.slurm),
    ],
    ids=["local", "slurm"],
)
def test_a_notebook_works_with_nothing_said(
    jupyter_at_home: Path, backend: str, place: str
) -> None:
    *_, submitted, waited, collected, retried = execute(jupyter_at_home, backend)["cells"]
    assert printed(submitted).startswith("tuning: 4 rows, ")
    assert place in printed(submitted)
    (shown,) = (out["data"] for out in waited["outputs"] if out["output_type"] == "execute_result")
    assert shown["text/plain"] == "4 rows: 4 ok"
    assert "<b>tuning</b> is finished: 4 rows: 4 ok" in shown["text/html"]
    assert [out for out in waited["outputs"] if out["output_type"] == "stream"] == []
    assert printed(collected) == (
        '[[1,null,2003.0,"1\\/None"],[1,50,2003.0,"1\\/50"],[2,null,2006.0,"2\\/None"],'
        '[2,50,2006.0,"2\\/50"]] depth 2\n True'
    )
    assert printed(retried).endswith("Score(mean=0.0, name='3 200')")


SLOW = """
import time
from slurmapply import slurm_apply

def slow(x):
    time.sleep(0.4)
    return 1 / x

job = slurm_apply(slow, {"x": range(6)}, job_name="slow", backend="local", cpus_per_node=2)
"""
WATCHED = """
import IPython.display, sys
shown = []
real = IPython.display.DisplayHandle.update
def update(self, bundle, **keywords):
    shown.append(bundle["text/plain"])
    real(self, bundle, **keywords)
IPython.display.DisplayHandle.update = update
assert "ipywidgets" not in sys.modules
_ = job.wait()
"""


def outputs_of(folder: Path, *cells: str, failing: bool = False) -> list[NotebookNode]:
    make: Any = nbformat.v4
    notebook = make.new_notebook(cells=[make.new_code_cell(cell.strip()) for cell in cells])
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", allow_errors=failing,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    return [cell["outputs"] for cell in client.execute()["cells"]]


def test_a_wait_is_shown_without_widgets_and_leaves_one_line(jupyter_at_home: Path) -> None:
    cells = outputs_of(jupyter_at_home, SLOW, WATCHED, "print(shown)", "job.table()", failing=True)
    _, watched, shown, failed = cells
    (line,) = watched
    assert line["output_type"] == "display_data"
    assert line["data"]["text/plain"].startswith("slow: 1 failed, 5/6 ok after ")
    assert '<div class="slurmapply">' in line["data"]["text/html"]
    assert "1 failed, 5/6 ok after" in line["data"]["text/html"]
    told = shown[0]["text"]
    assert re.search(r"'slow: \d failed, \d/6 ok, ", told), told
    (error,) = failed
    assert error["output_type"] == "error"
    assert error["traceback"][:3] == [
        "line 1: job.table()", "", "RowsFailedError: 1 of 6 rows of slow are not ok:",
    ]  # fmt: skip
    assert len(error["traceback"]) == 5


TUTORIAL = Path(__file__).parents[1] / "examples/tutorial.ipynb"


def stored_tutorial() -> Any:
    formats: Any = nbformat  # its functions have no types
    return formats.read(TUTORIAL, as_version=4)


def texts(content: NotebookNode) -> list[str]:
    """Give what each cell of code shows, as text, without times and numbers of processes."""
    shown = []
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            parts = [
                output["text"] if "text" in output else output["data"]["text/plain"]
                for output in cell["outputs"]
            ]
            shown.append(re.sub(r"process \d+|(in|after) \d+ s", "", "".join(parts)))
    return shown


def test_the_tutorial_runs_and_shows_what_is_stored(tmp_path: Path) -> None:
    stored = stored_tutorial()
    run = execute_notebook.execute(TUTORIAL, tmp_path)
    execute_notebook.clean(run, tmp_path)
    assert [cell["source"] for cell in run["cells"]] == [cell["source"] for cell in stored["cells"]]
    ours, theirs = texts(run), texts(stored)
    for place in (1, 2, 3, 4, 6, 7, 8, 11, 12):  # no tracebacks of libraries, consoles, pictures
        assert is_same(theirs[place], ours[place]), place
    assert "18 rows: 12 ok, 6 failed (InvalidParameterError)" in ours[3]
    assert ours[5].startswith("row 0 raised InvalidParameterError: The 'subsample' parameter")
    assert re.fullmatch(r"errors of the folds: \[[\d. ]+\]\n", ours[9])
    assert ours[11] == "'report.html'"
    assert ours[12] == "18 rows: 18 ok"
    assert not list((tmp_path / "project").glob("_slurmapply_*"))
    assert (tmp_path / "project/scores.csv").read_text().count("\n") == 19


def test_the_stored_tutorial_was_run_in_order_and_names_no_machine() -> None:
    stored = stored_tutorial()
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    text = TUTORIAL.read_text()
    assert not re.findall(r"/(?:tmp|root|home|work|mnt|Users)/", text)
    assert stored["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
