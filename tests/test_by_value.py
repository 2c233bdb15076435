"""`by_value=`: modules of the user's own that the nodes need not have."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from slurmapply import InvalidArgumentError, SlurmJob, estimate, slurm_apply, slurm_map

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

MODEL = """
from dataclasses import dataclass
from study_lib import scale

@dataclass
class Score:
    value: float

def score(x):
    return Score(x * scale.FACTOR)

def plain(x):
    return x * scale.FACTOR
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Make a package of the user's own that this session can import, and no node can."""
    folder = tmp_path / "only_here" / "study_lib"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "scale.py").write_text("FACTOR = 10\n")
    (folder / "model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    module = importlib.import_module("study_lib.model")
    yield module
    for name in [each for each in sys.modules if each.partition(".")[0] == "study_lib"]:
        del sys.modules[name]


def forget(library: ModuleType) -> None:
    """Take the package off the disk: whoever needs it as a module fails."""
    folder = Path(str(library.__file__)).parent
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("how", ["name", "module", "several"])
def test_a_module_goes_along(how: str, library: ModuleType) -> None:
    given: dict[str, Any] = {
        "name": "study_lib",
        "module": sys.modules["study_lib"],
        "several": ["study_lib", "study_lib.scale"],
    }
    job = slurm_map(
        library.plain, [1, 2], by_value=given[how], job_name="along", submit=False,
        backend="local",
    )  # fmt: skip
    forget(library)
    assert job.submit().results() == [10, 20]


def test_without_it_the_node_needs_the_module(library: ModuleType) -> None:
    job = slurm_map(library.plain, [1], job_name="needed", submit=False, backend="local")
    forget(library)
    job.submit().wait()
    assert "study_lib" in job.row(0).message


def test_later_edits_change_nothing(library: ModuleType) -> None:
    job = slurm_map(
        library.plain, [1], by_value="study_lib", job_name="edited", submit=False, backend="local"
    )
    Path(str(library.__file__)).with_name("scale.py").write_text("FACTOR = -1\n")
    assert job.submit().results() == [10]


def test_objects_of_its_classes_go_and_come_back(library: ModuleType) -> None:
    params = {"x": [library.Score(1), library.Score(2)]}
    job = slurm_apply(
        lambda x: library.Score(x.value + 1), params, by_value="study_lib", job_name="objects",
        backend="local", submit=False,
    )  # fmt: skip
    forget(library)
    values = job.submit().results()
    assert [value.value for value in values] == [2, 3]
    assert {type(value) for value in values} == {library.Score}


def test_a_retry_sends_it_again(library: ModuleType) -> None:
    def careful(x: int) -> Any:
        return library.plain(x) if x else 0

    job = slurm_map(
        lambda x: library.plain(1 // x), [0, 1], by_value="study_lib", job_name="again",
        backend="local",
    )  # fmt: skip
    job.wait()
    assert job.status().failed == 1
    job.retry(f=careful, nodes=1)
    assert job.results() == [0, 10]
    run = SlurmJob.open("again")
    assert run.result(0) == 0


def test_the_registry_is_as_before(library: ModuleType) -> None:
    before = cloudpickle.list_registry_pickle_by_value()
    cloudpickle.register_pickle_by_value(library)
    try:
        slurm_map(library.plain, [1], by_value="study_lib", job_name="kept", submit=False)
        slurm_map(library.plain, [1], by_value=library, job_name="kept_too", submit=False)
        assert cloudpickle.list_registry_pickle_by_value() == {*before, library.__name__}
    finally:
        cloudpickle.unregister_pickle_by_value(library)


def test_another_source_is_another_job(library: ModuleType) -> None:
    keywords: dict[str, Any] = {"by_value": "study_lib", "job_name": "same", "backend": "inline"}
    slurm_map(library.plain, [1], **keywords)
    slurm_map(library.plain, [1], if_exists="open", **keywords)
    Path(str(library.__file__)).with_name("scale.py").write_text("FACTOR = 11\n")
    importlib.reload(sys.modules["study_lib.scale"])
    with pytest.raises(Exception, match="by_value"):
        slurm_map(library.plain, [1], if_exists="open", **keywords)


def test_an_estimate_takes_it_too(library: ModuleType) -> None:
    plan = estimate(library.plain, [{"x": 1}], rows=1, by_value="study_lib", backend="local")
    assert plan.ok


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("study_lab", "cannot be imported here"),
        ("study_lab", "Did you mean 'study_lib'"),
        (math, "part of Python"),
        ("json", "part of Python"),
        ("slurmapply", "in any case"),
        ("numpy._core._multiarray_umath", "not written in Python"),
        (3, "modules or their names are needed"),
        ([3], "modules or their names are needed"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is_written(
    given: Any, said: str, library: ModuleType
) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as caught:
        slurm_map(library.plain, [1], by_value=given, job_name="bad")
    assert caught.value.argument == "by_value"
    assert not [*Path().glob("_slurmapply_*")]
