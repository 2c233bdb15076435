"""Run a notebook anew and store its outputs, without a word about this machine.

python tools/execute_notebook.py examples/tutorial.ipynb

It runs in an empty folder of its own, with settings of its own, as a newcomer's would. The paths
of that folder, of Python and of the machine are replaced in what is stored.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

_SECONDS = 120
_FORMATS: Any = nbformat  # its functions have no types


def execute(notebook: Path, home: Path) -> Any:
    """Run a notebook in ``project`` of a home folder; gives it with its outputs.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell raised.
    """
    content = _FORMATS.read(notebook, as_version=4)
    folder = home / "project"
    folder.mkdir()
    # As on a machine without a Slurm: this one may have its commands.
    (folder / "slurmapply.toml").write_text('backend = "local"\n')
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(home / "ipython"),
    }
    environment.pop("PYTHONUNBUFFERED", None)
    client = NotebookClient(
        content,
        timeout=_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return content


def clean(content: Any, home: Path) -> None:
    """Take out of a notebook what is this machine's, or different at each run."""
    content.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(content.cells, 1):
        cell.metadata = {}
        cell.id = f"step-{number:02}"
        if cell.cell_type == "code":
            cell.outputs = [
                _cleaned(output, home) for output in cell.outputs if output.get("name") != "stderr"
            ]


def _cleaned(output: Any, home: Path) -> Any:
    if isinstance(output, dict):
        return type(output)({key: _cleaned(value, home) for key, value in output.items()})
    if isinstance(output, list):
        return [_cleaned(part, home) for part in output]
    return _neutral(output, home) if isinstance(output, str) else output


def _neutral(text: str, home: Path) -> str:
    for path, name in (
        (str(home.resolve()), "~"),
        (str(home), "~"),
        (sys.prefix, "~/venv"),
        (sys.base_prefix, "/usr"),
    ):
        text = text.replace(path, name)
    text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py", "cell.py", text)
    text = re.sub(r"\bprocess \d+", "process 12345", text)
    return re.sub(rf"\bon {re.escape(os.uname().nodename)}\b", "on localhost", text)


def main() -> None:
    """Run the notebooks that are named."""
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            content = execute(Path(name), home)
            clean(content, home)
        _FORMATS.write(content, name)


if __name__ == "__main__":
    main()
