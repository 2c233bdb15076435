"""Every combination of some values, as a table of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from slurmapply.cells import cells_of, exact, is_frame
from slurmapply.columns import faithful_series
from slurmapply.errors import InvalidArgumentError

if TYPE_CHECKING:
    import pandas as pd


def expand_grid(**columns: Any) -> pd.DataFrame:
    """Make a table of every combination of the values.

    The last column changes fastest, as in `itertools.product`. (In R's ``expand.grid`` it is the
    first.) Every value keeps its type: ``[None, 5, 10]`` reaches the function as None, 5 and 10.

    Parameters
    ----------
    **columns
        The values of each column: any iterable, or a single value. A string is a single value;
        so is whatever stands alone in a list, such as ``[[1, 2]]`` for the list ``[1, 2]``.

    Returns
    -------
    pandas.DataFrame
        One line for each combination. A column of only int, float, bool or str has pandas' type
        for it; any other holds the values themselves (``object``).

    Raises
    ------
    InvalidArgumentError
        When there are no columns, or one is a mapping, a set or a frame.

    Examples
    --------
    >>> expand_grid(depth=[None, 5], rate=[0.1, 0.2], loss="mse")
      depth  rate loss
    0  None   0.1  mse
    1  None   0.2  mse
    2     5   0.1  mse
    3     5   0.2  mse
    """
    import pandas as pd  # noqa: PLC0415

    if not columns:
        raise InvalidArgumentError(
            "expand_grid was given no columns: name each with its values, expand_grid(x=[1, 2]); "
            "a mapping of them goes in as expand_grid(**mapping).",
            argument="columns",
        )
    cells = {name: _values(name, column) for name, column in columns.items()}
    lengths = [len(values) for values in cells.values()]
    spread = {
        name: _spread(values, math.prod(lengths[:place]), math.prod(lengths[place + 1 :]))
        for place, (name, values) in enumerate(cells.items())
    }
    grid: pd.DataFrame = pd.DataFrame(spread)
    return grid


def _spread(values: list[Any], rounds: int, each: int) -> pd.Series[Any]:
    """Repeat every value, and all of them together, as the place of their column wants it."""
    import numpy as np  # noqa: PLC0415

    places = np.tile(np.repeat(np.arange(len(values)), each), rounds)
    spread: pd.Series[Any] = faithful_series(values).take(places).reset_index(drop=True)
    return spread


def _values(name: str, column: Any) -> list[Any]:
    if isinstance(column, (Mapping, set, frozenset)) or is_frame(column):
        raise InvalidArgumentError(
            f"The values of {name!r} are a {type(column).__name__}, which is no sequence of "
            "values. Give a list; for the single value itself, a list of one.",
            argument=name,
        )
    if getattr(column, "ndim", 1) == 0:
        return exact([column[()]])
    single = isinstance(column, (str, bytes, bytearray)) or not isinstance(column, Iterable)
    return exact([column]) if single else cells_of(column)
