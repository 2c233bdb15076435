"""A table of results into a file: csv, parquet or json, by its ending."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from slurmapply.cli.cellwords import as_json, as_text
from slurmapply.cli.paramsfile import NEEDS_PYARROW
from slurmapply.cli.saying import InputError, RefusedError
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def check_target(path: Path, *, overwrite: bool, endings: bool = True) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Raises
    ------
    InputError
        Its ending is not known, or there is no such folder.
    RefusedError
        The file is there already, and was not to be overwritten.
    """
    if endings and path.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{path}: what kind of file this shall be must stand at its end: {', '.join(_WRITERS)}."
        )
    if endings and path.suffix.lower() == ".parquet":
        _check_pyarrow(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder.")
    if path.exists() and not overwrite:
        raise RefusedError(f"{path} is there already, and was left as it is: --overwrite.")


def _check_pyarrow(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401  # whether it is there
    except ImportError as error:
        raise InputError(f"{path}: {NEEDS_PYARROW}, or write .csv or .json.") from error


def write_table(table: Any, path: Path, *, overwrite: bool) -> None:
    """Write a table of results; the file appears whole or not at all.

    Raises
    ------
    InputError
        This kind of file cannot hold such results.
    RefusedError
        The file is there by now.
    """
    put_file(path, _WRITERS[path.suffix.lower()](table), overwrite=overwrite)


def put_file(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write beside, then give it its name."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_bytes(content)
        if overwrite:
            beside.replace(path)
        else:
            os.link(beside, path)
    except FileExistsError:
        raise RefusedError(f"{path} is there by now, and was left as it is: --overwrite.") from None
    finally:
        beside.unlink(missing_ok=True)


def columns_of(table: Any) -> list[str]:
    """Name the columns of a frame."""
    return [str(name) for name in _frame(table).columns]


def rows_of(table: Any) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a frame."""
    rows: Iterator[tuple[Any, ...]] = _frame(table).iter_rows()
    return rows


def records(table: Any) -> list[dict[str, Any]]:
    """Give the rows of a frame as JSON can say them."""
    names = columns_of(table)
    return [dict(zip(names, map(as_json, row), strict=True)) for row in rows_of(table)]


def _with_index(table: Any) -> Any:
    """Give a pandas frame's own index as columns; the plain numbers of rows are none."""
    index = getattr(table, "index", None)
    if index is None or not hasattr(table, "reset_index") or type(index).__name__ == "RangeIndex":
        return table
    # Of some rows of a range, which pandas mostly does not call a range any more.
    if "row_number" in table.columns and list(index) == list(table["row_number"]):
        return table.reset_index(drop=True)
    clash = {str(name) for name in index.names} & {str(name) for name in table.columns}
    return table if clash else table.reset_index()


def selected(table: Any, names: list[str]) -> Any:
    """Give some columns of a frame, in this order."""
    return _frame(table).select(names).to_native()


def _frame(table: Any) -> Any:
    import narwhals as nw

    return nw.from_native(_with_index(table), eager_only=True)


def _csv(table: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(table))
    writer.writerows(map(_csv_cell, row) for row in rows_of(table))
    return text.getvalue().encode("utf-8", "backslashreplace")


def _csv_cell(value: Any) -> str:
    return value if isinstance(value, str) else as_text(value)


def _json(table: Any) -> bytes:
    lines = (json.dumps(record, ensure_ascii=False) for record in records(table))
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    return text.encode("utf-8", "backslashreplace")


def _parquet(table: Any) -> bytes:
    import pyarrow as pa

    content = io.BytesIO()
    frame = _frame(table)
    try:
        frame.write_parquet(content)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"parquet cannot hold these results ({harmless(str(error))}); .json and .csv hold them "
            "as text."
        ) from error
    return content.getvalue()


_WRITERS: dict[str, Callable[[Any], bytes]] = {".csv": _csv, ".parquet": _parquet, ".json": _json}
