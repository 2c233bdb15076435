"""How results go out: values and parameters become one table, or a collection."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from slurmapply.cells import exact, narwhal
from slurmapply.columns import CannotHoldError, polars_series, typed_series
from slurmapply.frames import FrameKind, PandasFrames, kind_of_frame
from slurmapply.numeric import NumberColumn
from slurmapply.shapes import (
    EMPTY,
    CannotSpreadError,
    Shape,
    shape_of_all,
    spread,
    without_empty,
)
from slurmapply.stacking import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurmapply.inputs import Items, Params

#: The cells of a column.
Cells = list[Any] | NumberColumn

__all__ = ["EMPTY", "collection", "results_table", "rows_table"]


def results_table(
    params: Params | None,
    values: Sequence[Any] | NumberColumn,
    *,
    extra: Mapping[str, Cells],
    like: Any = None,
) -> Any:
    """Make one table of parameters, results and what happened to each row.

    Parameters
    ----------
    params
        The parameters; None leaves them out.
    values
        What each row gave back, in row order, EMPTY where it gave nothing; or, where these are
        all numbers, the column that they make.
    extra
        More columns, each with one cell for every row.
    like
        Without parameters: the frame whose kind the table has.

    Returns
    -------
    object
        A frame of the same kind as the parameters', one line for each row, and more only where
        the results are frames.
    """
    like = like if params is None else params.frame
    kind = kind_of_frame(like)
    columns: dict[str, Any]
    rows: list[int] | None
    if isinstance(values, NumberColumn):
        columns, rows, length = {"result": values}, None, len(values.cells)
    else:
        (columns, rows), length = _result_columns(values, kind), len(values)
    names = [] if params is None else list(params.columns)
    beside = _named(names, columns, extra if rows is None else _repeated(extra, rows))

    def assembled(kind: FrameKind) -> Any:
        lines = kind.without_columns(length, like) if params is None else kind.parameters(params)
        return kind.beside(lines if rows is None else kind.lines(lines, rows), beside)

    return _held(kind, assembled)


def rows_table(params: Params, numbers: Sequence[int], extra: Mapping[str, list[Any]]) -> Any:
    """Make a table of some rows' parameters and what there is to say about each.

    Parameters
    ----------
    params
        The parameters of all rows.
    numbers
        Which rows, in the order of the table.
    extra
        More columns, each with one cell for each of `numbers`.

    Returns
    -------
    object
        A frame of the same kind as the parameters'.
    """

    def assembled(kind: FrameKind) -> Any:
        lines = kind.lines(kind.parameters(params), numbers)
        return kind.beside(lines, _named(list(params.columns), {}, extra))

    return _held(kind_of_frame(params.frame), assembled)


def collection(items: Items | None, values: list[Any]) -> Any:
    """Give results as the kind of collection that the items were.

    Parameters
    ----------
    items
        The items; None for the rows of a table, whose results are a list.
    values
        What each gave back, in order; EMPTY becomes None.

    Returns
    -------
    list, dict or Series
        With the keys, or the index and name, of the items.
    """
    cells = without_empty(values)
    if items is None or items.kind == "list":
        return cells
    if items.keys is not None:
        return dict(zip(items.keys, cells, strict=True))
    series: Any = items.frame
    if narwhal(series).implementation.is_polars():
        return polars_series(series.name, exact(cells))
    return typed_series(exact(cells)).set_axis(series.index).rename(series.name)


def _held(kind: FrameKind, assembled: Callable[[FrameKind], Any]) -> Any:
    """Let pandas take what Arrow has no type for."""
    try:
        return assembled(kind)
    except CannotHoldError as error:
        warnings.warn(
            f"An Arrow table cannot hold the objects of column {str(error)!r}: this table is a "
            "pandas DataFrame.",
            stacklevel=3,
        )
        return assembled(PandasFrames())


def _result_columns(
    values: Sequence[Any], kind: FrameKind
) -> tuple[dict[str, Any], list[int] | None]:
    """Give the columns of the results and, where they are frames, the row of each line."""
    shape = shape_of_all(values)
    if shape is Shape.FRAME:
        try:
            return stack(values, kind)
        except CannotSpreadError:
            shape = Shape.OBJECT
    return spread(values, shape), None


def _named(
    parameters: list[str], results: Mapping[str, Any], extra: Mapping[str, Cells]
) -> dict[str, Any]:
    """Give every column a name of its own; the parameters keep theirs."""
    taken = {*parameters}
    extra_names = {name: _free(name, "_slurmapply", taken) for name in extra}
    taken.update(extra_names.values())
    # Results that clash with nothing come first, so that none of them loses its name to another.
    names = {name: name for name in results if name not in taken}
    taken.update(names)
    for name in results:
        if name not in names:
            names[name] = _free(name, "_result", taken)
            taken.add(names[name])
    named = {names[name]: cells for name, cells in results.items()}
    return named | {extra_names[name]: cells for name, cells in extra.items()}


def _free(name: str, suffix: str, taken: set[str]) -> str:
    while name in taken:
        name += suffix
    return name


def _repeated(extra: Mapping[str, Cells], rows: list[int]) -> dict[str, Cells]:
    return {
        name: cells.take(rows) if isinstance(cells, NumberColumn) else [cells[row] for row in rows]
        for name, cells in extra.items()
    }
