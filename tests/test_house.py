"""The rules of the house, read from the source: layers, public names, what is loaded where."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import slurmapply
from slurmapply import slurm_map

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src/slurmapply"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
PUBLIC = [
    "Check", "Default", "Defaults", "Diagnosis", "doctor", "get_defaults",
    "CurrentRow", "Estimate", "FormatError", "InvalidArgumentError", "JobAliveError",
    "JobExistsError", "JobFolderError", "JobNotFoundError", "JobState", "JobStatus",
    "NotPicklableError", "RowError", "RowReport", "RowStatus", "RowsFailedError", "SchedulerError",
    "SchedulerNotFoundError", "SlurmApplyError", "SlurmJob", "SubmissionError",
    "SubmissionUnknownError", "UntrustedFolderError", "Usage", "WaitTimeoutError", "cancel_slurm",
    "cleanup_files", "current_row", "default_template", "estimate", "expand_grid", "get_job_status",
    "get_slurm_out", "list_jobs", "local_slurm_array", "print_job_status", "set_defaults",
    "slurm_apply", "slurm_call", "slurm_job", "slurm_map",
]  # fmt: skip
EXECUTORS = {
    "os": {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"},
    "subprocess": set(),
    "multiprocessing": set(),
    "concurrent": set(),
    "pty": set(),
    "asyncio": set(),
}
MUTATORS = {
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove",
    "setdefault", "update",
}  # fmt: skip
FILE_NAMES = re.compile(
    r"run_|(outcomes|console)_|task_$|slurm_(\d|%a)|submit\.sh|worker\.pyz|job\.json|function\.pkl"
    r"|data\.bin|rows\.\w+|claims|submission$|cancelled$|intent\."
)


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str, *, types: bool = True) -> Iterator[str]:
    """Name the modules of the package that a module imports anywhere, for types only or not."""
    for_types = {
        id(node)
        for block in ast.walk(tree(module))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree(module)):
        if id(node) in for_types and not types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == "slurmapply":
                parts = inner.split(".")
                found = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
                yield next(candidate for candidate in found if candidate in MODULES)


@functools.cache
def layers() -> dict[str, tuple[set[str], set[str]]]:
    """Read the table of layers: what each may import, and its modules."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    table = text.split("## Who may import whom", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    lines = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:])
    return {
        name: ({*allowed.split()} - {"-"}, {*modules.split()}) for name, allowed, modules in lines
    }


def layer_of(module: str) -> str:
    top = module.partition(".")[0]
    found = [name for name, (_, modules) in layers().items() if top in modules]
    assert len(found) == 1, f"ARCHITECTURE.md puts {top} into {found or 'no layer'}"
    return found[0]


PARTS = [module for module in MODULES if module != "__init__"]


def test_the_layers_are_those_of_the_design() -> None:
    names = list(layers())
    assert [name for name in names if name != "frames"] == [
        "words", "contract", "node", "schedulers", "session", "faces",
    ]  # fmt: skip
    for place, (allowed, _) in enumerate(layers().values()):
        assert allowed <= set(names[:place]), "imports point down"
    assert layers()["node"][0] == {"words", "contract"}
    assert layers()["schedulers"][0] == {"words"}
    listed = [module for _, modules in layers().values() for module in modules]
    assert sorted(listed) == sorted({module.split(".")[0] for module in PARTS})


@pytest.mark.parametrize("module", PARTS)
def test_imports_point_down(module: str) -> None:
    mine = layer_of(module)
    for other in imports(module):
        assert other != "__init__", f"{module} imports the package's face"
        assert layer_of(other) in layers()[mine][0] | {mine}, f"{module} imports {other}"


def test_no_module_needs_itself() -> None:
    graph = {module: {*imports(module, types=False)} for module in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_node_and_schedulers_meet_in_one_module_only() -> None:
    both = [
        module
        for module in PARTS
        if {"node", "schedulers"} <= {layer_of(other) for other in imports(module)}
    ]
    assert both == ["backends"]


def test_the_public_names_are_these() -> None:
    assert sorted(PUBLIC) == sorted(slurmapply.__all__)
    for name in PUBLIC:
        thing = getattr(slurmapply, name)
        assert thing.__module__.startswith("slurmapply."), name
        assert thing.__doc__, f"{name} says nothing"
    assert {*dir(slurmapply)} == {*PUBLIC, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'slurm_aply'"):
        slurmapply.slurm_aply  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(slurmapply.__version__))


def test_every_public_name_is_known_to_type_checkers() -> None:
    (block,) = (node for node in tree("__init__").body if isinstance(node, ast.If))
    seen = [alias.asname for node in block.body for alias in getattr(node, "names", [])]
    assert sorted(filter(None, seen)) == sorted(PUBLIC)


def test_importing_the_package_loads_nothing_else() -> None:
    program = """
import sys, typing, __future__
before = set(sys.modules)
import slurmapply
print(*(set(sys.modules) - before))
"""
    said = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["slurmapply"]


def test_the_node_loads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "plain_module.py"
    module.write_text("def loaded(_):\n    import sys\n    return sorted(sys.modules)\n")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = importlib.import_module("plain_module").loaded
    names = slurm_map(loaded, [1], backend="local").result()
    mine = {name for name in names if name.split(".")[0] == "slurmapply"}
    layers_loaded = {layer_of(name.partition(".")[2]) for name in mine if "." in name}
    assert layers_loaded == {"words", "contract", "node"}
    own = {"slurmapply", "plain_module", "__main__", "cloudpickle"}
    other = {name.split(".")[0] for name in names} - {*sys.stdlib_module_names} - own
    # What a site-packages folder loads into every Python by itself is none of ours.
    assert {name for name in other if not name.startswith(("_distutils", "__editable"))} == set()
    for heavy in (
        "argparse",
        "asyncio",
        "importlib.metadata",
        "logging",
        "subprocess",
        "email",
        "multiprocessing",
        "threading",
        "socket",
        "random",
        "tempfile",
        "zipfile",
    ):
        assert heavy not in names  # fmt: skip
    assert len(names) < 170


def literals(module: str) -> Iterator[ast.Constant]:
    """Give the strings of a module that are no docstrings."""
    docs = {id(node.value) for node in ast.walk(tree(module)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_one_module_spells_the_names_of_files(module: str) -> None:
    if module != "jobfolder":
        spelled = {
            node.value
            for node in literals(module)
            if FILE_NAMES.match(str(node.value)) and " " not in str(node.value)
        }
        # These are also words of the code: keys of records, an attribute, a state.
        assert spelled <= {"claims", "submission", "cancelled"}


@pytest.mark.parametrize("module", MODULES)
def test_one_module_starts_processes_and_one_forks(module: str) -> None:
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.attr in EXECUTORS.get(node.value.id, ())
        or (node.value.id == "os" and node.attr.startswith(("exec", "spawn")))
    }
    names = [
        alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
        for node in ast.walk(tree(module))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    ]
    used |= {name for name in names if name.split(".")[0] in EXECUTORS and name != "os"}
    expected = {"schedulers.command": {"subprocess"}, "worker.child": {"os.fork"}}
    assert used == expected.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_no_shell_no_locks_no_asserts(module: str) -> None:
    for node in ast.walk(tree(module)):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno}: python -O drops it"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert getattr(node.value, "value", True) is False
    text = MODULES[module].read_text()
    assert re.findall(r"\b(?:flock|lockf|fcntl|filelock|F_SETLK)\b", text) == []


@pytest.mark.parametrize("module", MODULES)
def test_one_module_catches_what_users_raise(module: str) -> None:
    lines = MODULES[module].read_text().splitlines()
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = {name.id for name in ast.walk(node.type or node) if isinstance(name, ast.Name)}
        if node.type is not None and "BaseException" not in caught:
            continue
        goes_on = not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
        reason = re.search(r"# noqa: BLE001  # \w+ \w+", lines[node.lineno - 1])
        assert module == "worker.evaluate" or not goes_on or reason, f"{module}:{node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_keeps_state(module: str) -> None:
    kept = {
        target.id
        for node in tree(module).body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree(module)):
        assert not isinstance(node, ast.Global), f"{module}:{node.lineno}"
        changed: ast.expr | None = None
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        elif isinstance(node, ast.AugAssign):
            changed = node.target
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed = node.func.value if node.func.attr in MUTATORS else None
        assert not (isinstance(changed, ast.Name) and changed.id in kept), (
            f"{module} line {changed.lineno} changes {changed.id}"
        )


def test_the_worker_has_all_that_a_node_runs(tmp_path: Path) -> None:
    job = slurm_map(abs, [1], submit=False, jobs_folder=tmp_path)
    program = f"""
import json, sys
sys.path[:] = [{str(job.folder / "worker.pyz")!r}, *(p for p in sys.path if "site-" not in p)]
from slurmapply import expand_grid, slurm_apply
import slurmapply.worker.__main__
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.startswith("slurmapply")]))
"""
    # expand_grid makes a pandas frame when it is called; importing it needs nothing.
    said = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert said.stderr == ""
    files = json.loads(said.stdout)
    assert all("/worker.pyz/slurmapply/" in file for file in files)
