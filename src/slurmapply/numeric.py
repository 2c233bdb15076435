"""Columns of numbers that never were Python objects: NumPy's, with a mask for empty cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Above it a float cannot hold every whole number.
EXACT_IN_FLOAT = 2**53


class NumberColumn(NamedTuple):
    """Cells that are all bool, all int or all float, as NumPy has them.

    Attributes
    ----------
    cells
        A NumPy array of bool, int64 or float64; what stands in an empty cell says nothing.
    empty
        A NumPy array of bool: which cells are empty.
    """

    cells: Any
    empty: Any

    def take(self, places: Sequence[int]) -> NumberColumn:
        """Give the cells at these places."""
        return NumberColumn(self.cells[places], self.empty[places])

    def to_pandas(self) -> Any:
        """Give a pandas Series: NaN or, where NumPy has no such cell, pandas' own empty one."""
        import numpy as np  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415

        if not self.empty.any():
            return pd.Series(self.cells)
        if self.cells.dtype.kind == "f":
            return pd.Series(np.where(self.empty, np.nan, self.cells))
        kind = self.cells.dtype.kind
        nullable = {"b": pd.arrays.BooleanArray, "i": pd.arrays.IntegerArray}[kind]
        return pd.Series(nullable(self.cells, self.empty))

    def to_polars(self, name: str) -> Any:
        """Give a polars Series; an empty cell is a null, NaN is none."""
        import polars as pl  # noqa: PLC0415

        series = pl.Series(name, self.cells)
        return series.set(pl.Series(self.empty), None) if self.empty.any() else series

    def to_arrow(self) -> Any:
        """Give an Arrow array; an empty cell is a null, NaN is none."""
        import pyarrow as pa  # noqa: PLC0415

        return pa.array(self.cells, mask=self.empty, from_pandas=False)
