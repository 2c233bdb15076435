"""How the expected costs of rows come in: ``cost=``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from slurmapply.cells import cells_of, is_frame
from slurmapply.errors import InvalidArgumentError
from slurmapply.inputs import Params
from slurmapply.wording import described, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurmapply.inputs import Items


def read_costs(cost: Any, rows: Params | Items) -> list[float] | None:
    """Read what each row is expected to cost.

    Parameters
    ----------
    cost
        None, the name of a column, or one number for each row.
    rows
        The rows.

    Raises
    ------
    InvalidArgumentError
        It is not one finite number, 0 or more, for each row.
    """
    if cost is None:
        return None
    if isinstance(cost, str):
        return [_number(cell, row) for row, cell in enumerate(_column(cost, rows))]
    cells = _cells(cost)
    length = rows.length if isinstance(rows, Params) else len(rows.values)
    if len(cells) != length:
        raise _refusal(f"one number for each row is needed: {length}, not {len(cells)}.")
    return [_number(cell, row) for row, cell in enumerate(cells)]


def _column(name: str, rows: Params | Items) -> Sequence[Any]:
    if not isinstance(rows, Params):
        raise _refusal(
            f"items have no column {name!r}: give one number for each item, as [len(item) for item "
            "in items]."
        )
    if name not in rows.columns:
        near = difflib.get_close_matches(name, rows.columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(rows.columns)}."
        raise _refusal(f"params has no column {name!r}: {hint}")
    return rows.columns[name]


def _cells(cost: Any) -> Sequence[Any]:
    single = not isinstance(cost, Iterable) or getattr(cost, "ndim", 1) != 1
    unordered = isinstance(cost, (bytes, Mapping, set, frozenset)) or is_frame(cost)
    if single or unordered:
        raise _refusal(
            "the name of a column, or a list of numbers, one for each row, is needed, not "
            f"{described(cost)}."
        )
    return cells_of(cost)


def _number(cell: Any, row: int) -> float:
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            number = float(cell)
        except OverflowError:
            number = math.inf
        if 0 <= number < math.inf:
            return number
    raise _refusal(
        f"a finite number, 0 or more, is needed for each row, and row {row} has {shown(cell)}."
    )


def _refusal(message: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"cost: {message}", argument="cost")
