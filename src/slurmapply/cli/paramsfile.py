"""A table of parameters from a file: csv, parquet or json, by its ending."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

from slurmapply.cli.saying import InputError
from slurmapply.wording import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NEEDS_PYARROW = "parquet needs pyarrow: pip install pyarrow"
_MISSING = ("", "NA")
_WHOLE = r"[+-]?(?:0|[1-9]\d*)"
_ANY = re.IGNORECASE
_TYPES: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(_WHOLE), int),
    (re.compile(rf"(?:{_WHOLE}(?:\.\d*)?|[+-]?\.\d+)(?:e[+-]?\d+)?|[+-]?inf|nan", _ANY), float),
    (re.compile("true|false", _ANY), lambda cell: cell.lower() == "true"),
)


def read_params_file(path: Path) -> Any:
    """Read the rows of a job.

    Raises
    ------
    InputError
        There is no such file, its ending is not known, or it does not parse; the line is named.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path}: what kind of file this is must stand at its end: {', '.join(_READERS)}."
        )
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise InputError(f"the parameters' file {path} {what}.")
    return read(path)


def _read_csv(path: Path) -> dict[str, list[Any]]:
    lines = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    try:
        for fields in lines:
            if header is None:
                header = _checked_header(path, fields)
            elif len(fields) == len(header):
                rows.append(fields)
            elif fields:
                raise InputError(
                    f"{path}, line {lines.line_num}: {len(fields)} fields, where the first line "
                    f"names {len(header)} columns."
                )
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: {error}.") from error
    if header is None:
        raise InputError(f"{path} is empty; its first line must name the columns.")
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return {name: typed_cells(cells) for name, cells in zip(header, columns, strict=True)}


def typed_cells(cells: Sequence[str]) -> list[Any]:
    """Read a column: whole numbers, numbers, true and false, or else text; empty cells are None.

    In columns of numbers and of truth values, NA is an empty cell too: so R writes it. Numbers
    that begin with a zero are text, since they are names.

    Examples
    --------
    >>> typed_cells(["1", "", "NA"]), typed_cells(["1", "0.5"]), typed_cells(["007", "NA", ""])
    ([1, None, None], [1.0, 0.5], ['007', 'NA', None])
    """
    given = {cell for cell in cells if cell not in _MISSING}
    for pattern, read in _TYPES:
        if given and all(map(pattern.fullmatch, given)):
            values = {cell: read(cell) for cell in given}
            return [values.get(cell) for cell in cells]
    return [cell or None for cell in cells]


def _checked_header(path: Path, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line 1: more than one column is named {', '.join(twice)}.")
    if not all(name.strip() for name in names):
        raise InputError(f"{path}, line 1: a column has no name: {harmless(','.join(names))}")
    for mark in (";", "\t"):
        if len(names) == 1 and mark in names[0]:
            raise InputError(f"{path}, line 1: fields stand between commas, not between {mark!r}.")
    return names


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 ({error.reason}). Save it as UTF-8."
        ) from error


def _read_json(path: Path) -> Any:
    text = _text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    if not isinstance(content, (list, dict)):
        raise InputError(
            f'{path}: a list of rows is needed, [{{"x": 1}}, {{"x": 2}}], or columns, '
            '{"x": [1, 2]}.'
        )
    return content


def _read_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"{path}: {NEEDS_PYARROW}.") from error
    import pandas as pd
    import pyarrow as pa

    try:
        pq.ParquetFile(path)
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no parquet file: {harmless(str(error))}") from error


_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".json": _read_json,
}
