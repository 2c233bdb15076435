"""What is stored in a job folder comes back as it was: pickles, buffers, rows, the program."""

from __future__ import annotations

import datetime as dt
import importlib.util
import inspect
import io
import marshal
import os
import stat
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slurmapply import chunks, jobfolder, slurm_apply
from slurmapply.buffers import BufferWriter
from slurmapply.disk import FolderDisk
from slurmapply.errors import FormatError, JobFolderError, UntrustedFolderError
from slurmapply.packing import pack_worker
from slurmapply.pickles import LARGE, BufferReader
from slurmapply.pickling import ObjectWriter
from slurmapply.rows import ABSENT, RowReader, encode_blocks, encode_index, index_entry
from slurmapply.worker.bundle import Bundle


def stored(value: Any, path: Path) -> Any:
    with path.open("w+b") as file:
        pickled = ObjectWriter(BufferWriter(file.fileno())).dump(value)
    return BufferReader(path).load(pickled.data, pickled.buffers)


def test_large_buffers_are_mapped_and_each_view_may_be_written(tmp_path: Path) -> None:
    data = np.arange(100_000, dtype="f8")
    path = tmp_path / "data.bin"
    back = stored(data, path)
    assert np.array_equal(back, data)
    assert path.stat().st_size == data.nbytes
    back[0] = -1.0
    assert np.fromfile(path)[0] == 0.0


def test_a_read_only_array_stays_read_only(tmp_path: Path) -> None:
    data = np.zeros(100_000)
    data.flags.writeable = False
    assert not stored(data, tmp_path / "data.bin").flags.writeable


def test_equal_buffers_are_written_once_and_small_ones_stay_inside(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    with path.open("w+b") as file:
        writer = ObjectWriter(BufferWriter(file.fileno()))
        first = writer.dump({"a": np.ones(LARGE // 8), "small": np.ones(10)})
        second = writer.dump([np.ones(LARGE // 8)])
    assert len(first.buffers) == 1
    assert first.buffers == second.buffers
    assert path.stat().st_size == LARGE


def test_a_shortened_data_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    with path.open("w+b") as file:
        pickled = ObjectWriter(BufferWriter(file.fileno())).dump(np.ones(LARGE))
    with path.open("r+b") as file:
        file.truncate(LARGE)
    with pytest.raises(EOFError, match="complete"):
        BufferReader(path).load(pickled.data, pickled.buffers)


def written_rows(columns: dict[str, list[Any]], path: Path) -> RowReader:
    length = len(next(iter(columns.values())))
    data = path / "data.bin"
    entries = []
    offset = 0
    with data.open("w+b") as file, (path / "rows.bin").open("wb") as rows:
        for first, block in encode_blocks(
            columns, length, ObjectWriter(BufferWriter(file.fileno()))
        ):
            entries.append(index_entry(first, offset, block))
            offset += rows.write(block)
    index = encode_index(length, columns, entries)
    return RowReader(index, lambda: (path / "rows.bin").open("rb"), BufferReader(data))


def test_cells_of_every_kind_come_back_exactly(tmp_path: Path) -> None:
    cells = [
        None, True, 7, 2**70, 1.5, "text", b"bytes", Decimal("1.10"), dt.date(2026, 1, 2),
        pd.Timestamp(1, unit="ns"), [1, [2]], {"a": 1}, (1, 2), {3}, np.arange(3),
    ]  # fmt: skip
    reader = written_rows({"x": cells, "number": list(range(len(cells)))}, tmp_path)
    for row, cell in enumerate(cells):
        arguments = reader.arguments(row)
        assert list(arguments) == ["x", "number"]
        assert arguments["number"] == row
        assert type(arguments["x"]) is type(cell)
        assert (
            np.array_equal(arguments["x"], cell)
            if isinstance(cell, np.ndarray)
            else (arguments["x"] == cell)
        )


def test_each_row_gets_its_own_copy_of_an_object(tmp_path: Path) -> None:
    shared = [0]
    reader = written_rows({"x": [shared, shared]}, tmp_path)
    reader.arguments(0)["x"].append(1)
    assert reader.arguments(0)["x"] == [0]
    assert reader.arguments(1)["x"] == [0]


def test_absent_cells_are_not_given(tmp_path: Path) -> None:
    reader = written_rows({"a": [1, ABSENT], "b": [ABSENT, None]}, tmp_path)
    assert reader.arguments(0) == {"a": 1}
    assert reader.arguments(1) == {"b": None}


def test_rows_beyond_a_block_are_found(tmp_path: Path) -> None:
    reader = written_rows({"x": list(range(10_000))}, tmp_path)
    for row in (0, 4095, 4096, 9999, 1):
        assert reader.arguments(row) == {"x": row}


def test_blocks_of_large_objects_are_closed_early(tmp_path: Path) -> None:
    cells = [os.urandom(3000) + bytes([n % 256]) for n in range(9000)]
    reader = written_rows({"x": [[cell] for cell in cells]}, tmp_path)
    assert len(reader._entries) > 3
    assert reader.arguments(8999) == {"x": [cells[8999]]}


def test_damaged_parameters_are_named(tmp_path: Path) -> None:
    reader = written_rows({"x": list(range(100))}, tmp_path)
    content = bytearray((tmp_path / "rows.bin").read_bytes())
    content[20] ^= 1
    (tmp_path / "rows.bin").write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        reader.arguments(0)


def test_the_program_runs_and_says_what_starts_it() -> None:
    Path("worker.pyz").write_bytes(pack_worker())
    done = subprocess.run(
        [sys.executable, "-I", "worker.pyz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sbatch submit.sh" in done.stderr


def packed_modules() -> dict[str, tuple[bool, bytes]]:
    with zipfile.ZipFile(io.BytesIO(pack_worker())) as archive:
        modules: dict[str, tuple[bool, bytes]] = marshal.loads(archive.read("modules.bin"))  # noqa: S302  # our own
    return modules


def test_the_program_has_everything_that_it_loads_compiled() -> None:
    def loaded(x: int) -> list[str]:
        return [name for name in sys.modules if name.startswith("slurmapply.")]

    job = slurm_apply(loaded, {"x": [0]}, job_name="loaded", backend="local").wait()
    compiled = packed_modules()
    assert "slurmapply.worker.supervisor" in job.result()
    assert {*job.result()} <= {*compiled}
    assert "slurmapply.api" not in compiled
    assert "slurmapply/api.py" in zipfile.ZipFile(io.BytesIO(pack_worker())).namelist()


def test_a_node_imports_from_one_bundle_with_sources_for_tracebacks(tmp_path: Path) -> None:
    archive = tmp_path / "worker.pyz"
    archive.write_bytes(pack_worker())
    bundle = Bundle(str(archive), packed_modules())
    assert bundle.find_spec("slurmapply.api") is None
    assert bundle.find_spec("json") is None
    package, module = (bundle.find_spec(f"slurmapply{end}") for end in ("", ".chunks"))
    assert package is not None
    assert package.submodule_search_locations == [f"{archive}/slurmapply"]
    assert module is not None
    assert (module.origin, module.has_location) == (f"{archive}/slurmapply/chunks.py", True)
    assert module.submodule_search_locations is None
    made = importlib.util.module_from_spec(module)
    bundle.exec_module(made)
    assert made.tasks_for(10, nodes=4, processes=2) == 4
    assert inspect.getsource(chunks) == bundle.get_source("slurmapply.chunks")


def test_another_python_says_which_one_is_needed() -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack_worker()))
    main = archive.read("__main__.py").decode()
    other = main.replace(f"wanted = {sys.version_info[:2]!r}", "wanted = (3, 1)")
    assert other != main
    Path("main.py").write_text(other)
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this job was made with Python 3.1, and" in done.stderr


def test_a_file_is_published_once() -> None:
    disk = FolderDisk(Path())
    assert disk.publish("claim", b"mine")
    assert not disk.publish("claim", b"theirs")
    assert disk.publish("claim", b"mine")  # as after a reply that was lost
    assert disk.read("claim") == b"mine"
    assert disk.names(".") == ["claim"]
    assert stat.S_IMODE(Path("claim").stat().st_mode) == 0o600


def test_without_hard_links_a_claim_is_exclusive_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    disk = FolderDisk(Path())
    assert disk.publish("claim", b"mine")
    assert not disk.publish("claim", b"theirs")
    assert disk.read("claim") == b"mine"


def test_a_folder_that_others_can_write_is_not_unpickled() -> None:
    job = slurm_apply(abs_of, {"x": [-1]}, job_name="open", backend="inline")
    job.folder.chmod(0o770)
    from slurmapply import SlurmJob

    again = SlurmJob(job.folder)
    assert again.status().counts == {"ok": 1}
    with pytest.raises(UntrustedFolderError, match="chmod -R go-w"):
        again.results()
    assert SlurmJob(job.folder, trust=True).results() == [1]


def test_an_outcomes_file_that_others_can_write_is_not_unpickled() -> None:
    from slurmapply import SlurmJob

    job = slurm_apply(lambda x: [x], {"x": [-1]}, job_name="open", backend="inline")
    (outcomes,) = (job.folder / "run_0").glob("outcomes_*")
    outcomes.chmod(0o666)
    with pytest.raises(UntrustedFolderError, match="can be written by others"):
        SlurmJob(job.folder).results()


def test_job_folders_are_for_their_user_alone() -> None:
    before = os.umask(0)
    try:
        job = slurm_apply(abs_of, {"x": [-1]}, job_name="private", backend="local").wait()
    finally:
        os.umask(before)
    for path in [job.folder, *job.folder.rglob("*")]:
        if path.name != "slurm_0.out":  # Slurm's own, and never unpickled
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def abs_of(x: int) -> int:
    return abs(x)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(JobFolderError, match="nowhere"):
        FolderDisk(Path("nowhere"))


def test_frames_of_another_job_are_not_ours() -> None:
    first = slurm_apply(abs_of, {"x": [-1]}, job_name="first", backend="inline")
    second = slurm_apply(abs_of, {"x": [-2]}, job_name="second", backend="inline", submit=False)
    (outcomes,) = (first.folder / "run_0").glob("outcomes_*")
    (second.folder / "run_0" / outcomes.name).write_bytes(outcomes.read_bytes())
    from slurmapply import SlurmJob

    assert SlurmJob(second.folder).status().counts == {"pending": 1}


def test_console_names_belong_to_outcomes_names() -> None:
    name = jobfolder.Life("77", 3, 1).outcomes(0, "5")
    assert jobfolder.parse_outcomes(Path(name).name) == (3, 1)
    console = jobfolder.console_of(name)
    assert console.startswith("run_0/console_3_1_5_")
    assert jobfolder.console_of(jobfolder.beside_outcomes(name)) == console
    assert jobfolder.parse_outcomes(Path(jobfolder.beside_outcomes(name)).name) == (3, 1)
