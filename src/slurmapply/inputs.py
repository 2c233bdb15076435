"""How parameters and items come in: frames, mappings and collections become plain lists."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slurmapply.cells import (
    cells_of,
    exact,
    frame_cells,
    is_frame,
    many_cells,
    narwhal,
    series_cells,
)
from slurmapply.errors import InvalidArgumentError
from slurmapply.rows import ABSENT, Absent
from slurmapply.wording import described, shown

if TYPE_CHECKING:
    from slurmapply.cells import Cells

ItemsKind = Literal["list", "dict", "series"]


@dataclass(frozen=True)
class Params:
    """The parameters of a job, as its function will get them.

    Attributes
    ----------
    columns : dict of str to list or array
        The cells, by the value rules of `slurmapply.cells`; `ABSENT` where a mapping had no such
        key. Many numbers are an array.
    length : int
        How many rows.
    frame : object
        The user's own frame, untouched; None when the parameters did not come as a frame.
    """

    columns: Mapping[str, Cells]
    length: int
    frame: Any = field(default=None, compare=False)

    @property
    def sometimes_absent(self) -> set[str]:
        """The columns that some rows lack."""
        lists = {n: cells for n, cells in self.columns.items() if isinstance(cells, list)}
        return {name for name, cells in lists.items() if Absent in set(map(type, cells))}


@dataclass(frozen=True)
class Items:
    """The items of a `slurm_map`, and what is needed to give back a collection of the same kind.

    Attributes
    ----------
    values : list
        The items themselves.
    keys : list or None
        The keys they had in a dict.
    kind : {"list", "dict", "series"}
        What collection the results make.
    frame : object
        The pandas or polars Series that they came in.
    """

    values: list[Any]
    keys: list[Any] | None
    kind: ItemsKind
    frame: Any = field(default=None, compare=False)


def read_params(params: Any) -> Params:
    """Read a table of parameters.

    Parameters
    ----------
    params
        An eager frame (pandas, polars, pyarrow, any that narwhals knows), a mapping of columns,
        or an iterable of mappings, one for each row.

    Returns
    -------
    Params
        The cells as plain lists, column by column.

    Raises
    ------
    InvalidArgumentError
        When this is not a table, or one whose columns cannot be arguments.
    """
    known = _known(params)
    if known is not None:
        return _from_frame(known)
    if isinstance(params, Mapping):
        return _from_columns(params)
    if callable(params):
        raise _refusal(
            f"params is a function ({_name(params)}). Were the arguments swapped? The function "
            "comes first: slurm_apply(f, params)."
        )
    if isinstance(params, (str, bytes, set, frozenset)) or not isinstance(params, Iterable):
        raise _refusal(
            f"params is {described(params)}, not a table. Give a pandas or polars frame, a "
            'mapping of columns such as {"x": [1, 2, 3]}, or a list of mappings, one for each '
            "row. A file must be read first: pandas.read_csv(path)."
        )
    return _from_mappings(list(params))


def read_items(items: Any) -> Items:
    """Read the items of a `slurm_map`.

    Parameters
    ----------
    items
        A list, tuple, range, array (its first axis), Series, dict (its values), or any other
        iterable that has an order.

    Returns
    -------
    Items
        The items as a plain list.

    Raises
    ------
    InvalidArgumentError
        When this is not a collection with an order.
    """
    if isinstance(items, Mapping):
        return Items(exact(list(items.values())), list(items), "dict")
    _refuse_as_items(items)
    known = narwhal(items)
    if known is None or known.implementation.is_pyarrow():
        return Items(cells_of(items), None, "list")
    native = known.to_native() if known.implementation.is_polars() else known.to_pandas()
    return Items(series_cells(known), None, "series", native)


def _refuse_as_items(items: Any) -> None:
    if is_frame(items):
        raise _refusal(
            f"items is a frame ({_name(type(items))}). For one call per row, with the columns as "
            "keyword arguments, use slurm_apply(f, params); for one call per column, give a dict "
            "of the columns.",
            "items",
        )
    if callable(items):
        raise _refusal(
            f"items is a function ({_name(items)}). Were the arguments swapped? Unlike in R, the "
            "function comes first: slurm_map(f, items).",
            "items",
        )
    if isinstance(items, (str, bytes)):
        raise _refusal(
            f"items is {described(items)}, a single value: give a list of values. For one call "
            "per letter, say list(items).",
            "items",
        )
    if isinstance(items, (set, frozenset)):
        raise _refusal(
            f"items is a {_name(type(items))}, which has no order, so that no result could be told "
            "from another: give sorted(items).",
            "items",
        )
    if not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:
        raise _refusal(
            f"items is {described(items)}, a single value: give a list, [{shown(items)}].", "items"
        )


def _known(candidate: Any) -> Any:
    """Give what narwhals knows this as, or None."""
    from narwhals.exceptions import DuplicateError  # noqa: PLC0415

    try:
        return narwhal(candidate)
    except DuplicateError:
        names = getattr(candidate, "column_names", None)
        counts = Counter(map(str, candidate.columns if names is None else names))
        doubled = [repr(name) for name, count in counts.items() if count > 1]
        raise _refusal(
            f"params has more than one column named {', '.join(doubled)}: "
            "each column is one argument of the function, so rename or drop all but one."
        ) from None


def _from_frame(frame: Any) -> Params:
    import narwhals as nw  # noqa: PLC0415

    if isinstance(frame, nw.LazyFrame):
        raise _refusal(
            "params is a lazy frame, which has no rows yet: compute it first, params.collect()."
        )
    native = frame.to_native()
    if isinstance(frame, nw.Series):
        raise _refusal(
            f"params is a Series ({_name(type(native))}), not a table. For one call per value use "
            'slurm_map(f, series); for a table of one column, {"name": series}.'
        )
    _check_names(frame.columns)
    return _checked(Params(frame_cells(frame), len(frame), native))


def _from_columns(columns: Mapping[Any, Any]) -> Params:
    _check_names(columns)
    single = [name for name, column in columns.items() if _is_single(column)]
    if single and len(single) == len(columns):
        raise _refusal(
            "params holds single values, not columns. For one call use slurm_call(f, params); "
            f'for a table of one row give lists, {{"{single[0]}": [{shown(columns[single[0]])}]}}.'
        )
    if single:
        name, value = single[0], columns[single[0]]
        raise _refusal(
            f"Column {name!r} of params is {described(value)}, not a list. A value that is the "
            f'same for every row goes into more_args={{"{name}": ...}}; values that are not go '
            "into a list as long as the other columns."
        )
    cells = {str(name): many_cells(column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in cells.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise _refusal(
            f"The columns of params differ in length: {listed}. Give them one cell for each row; "
            "for all combinations of the values use expand_grid(**params)."
        )
    return Params(cells, next(iter(lengths.values()), 0))


def _is_single(column: Any) -> bool:
    if isinstance(column, (Mapping, set, frozenset)) or is_frame(column):
        raise _refusal(
            f"A column of params is a {_name(type(column))}, which is no sequence of cells. Give "
            "lists, arrays or Series; for one row of such cells, put it into a list."
        )
    if isinstance(column, (str, bytes)) or not isinstance(column, Iterable):
        return True
    return getattr(column, "ndim", 1) == 0


def _from_mappings(rows: list[Any]) -> Params:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise _refusal(
                f"Item {number} of params is {described(row)}, not a mapping of arguments such as "
                '{"x": 1}. For one call per item use slurm_map(f, items); a matrix needs names for '
                "its columns first: pandas.DataFrame(params, columns=[...])."
            )
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    _check_names(names)
    columns = {str(name): exact([row.get(name, ABSENT) for row in rows]) for name in names}
    return _checked(Params(columns, len(rows)))


def _check_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise _refusal(
                f"params has a column named {name!r} ({_name(type(name))}), which cannot be the "
                "name of an argument. Name the columns after the function's arguments, such as "
                'params.set_axis(["x", "y"], axis=1).'
            )


def _checked(params: Params) -> Params:
    if params.length and not params.columns:
        raise _refusal(
            f"params has {params.length} rows but no columns, so that there is nothing to call the "
            'function with. To call it several times give it a column, {"repeat": range(10)}.'
        )
    return params


def _name(thing: Any) -> str:
    return str(getattr(thing, "__name__", type(thing).__name__))


def _refusal(message: str, argument: str = "params") -> InvalidArgumentError:
    return InvalidArgumentError(message, argument=argument)
