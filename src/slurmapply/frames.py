"""The kinds of frames that tables come in, and what each must be able to do.

A kind is three operations: the parameters as one of its frames, some lines of a frame, and columns
put beside it. pandas stands in for the kinds that are not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from slurmapply.cells import narwhal
from slurmapply.columns import arrow_array, faithful_series, polars_series, typed_series
from slurmapply.numeric import NumberColumn
from slurmapply.rows import ABSENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurmapply.cells import Cells
    from slurmapply.inputs import Params


class FrameKind(Protocol):
    """One library's frames. A column is a list of cells, or already that library's Series."""

    def parameters(self, params: Params) -> Any:
        """Give the parameters as a frame of this kind."""

    def without_columns(self, length: int, like: Any) -> Any:
        """Give a frame that only has lines, those of `like` where it has as many."""

    def lines(self, frame: Any, places: Sequence[int]) -> Any:
        """Give these lines of a frame, in this order; a place may stand there twice."""

    def beside(self, frame: Any, columns: Mapping[str, Any]) -> Any:
        """Put columns to the right of a frame."""

    def stacked(self, frames: Sequence[Any], places: Sequence[int | None]) -> dict[str, Any] | None:
        """Give lines of frames of one layout laid below each other; None makes an empty line.

        None when they cannot be laid so in their own types.
        """


def kind_of_frame(frame: Any) -> FrameKind:
    """Tell the kind of table that a frame stands for."""
    known = None if frame is None else narwhal(frame)
    if known is not None and known.implementation.is_polars():
        return PolarsFrames()
    if known is not None and known.implementation.is_pyarrow():
        return ArrowFrames()
    return PandasFrames()


class PandasFrames:
    """pandas; every index is kept."""

    def parameters(self, params: Params) -> Any:
        """Give the user's own frame, or one made from the cells."""
        import pandas as pd  # noqa: PLC0415

        if isinstance(params.frame, pd.DataFrame):
            return params.frame
        return pd.DataFrame(
            {name: faithful_series(_given(cells)) for name, cells in params.columns.items()},
            index=range(params.length),
        )

    def without_columns(self, length: int, like: Any) -> Any:
        """Give a frame with only an index."""
        import pandas as pd  # noqa: PLC0415

        same = isinstance(like, pd.DataFrame) and len(like) == length
        return pd.DataFrame(index=like.index if same else range(length))

    def lines(self, frame: Any, places: Sequence[int]) -> Any:
        """Take lines by position, with their index."""
        return frame.iloc[list(places)]

    def beside(self, frame: Any, columns: Mapping[str, Any]) -> Any:
        """Put columns beside, line by line, whatever the index says."""
        import pandas as pd  # noqa: PLC0415

        # set_axis refuses a column of another length, where a DataFrame would fill it up.
        series = [
            _as_series(cells).set_axis(frame.index).rename(name) for name, cells in columns.items()
        ]
        return pd.concat([frame, *series], axis=1)

    def stacked(self, frames: Sequence[Any], places: Sequence[int | None]) -> dict[str, Any] | None:
        """Keep pandas' types; whole numbers stay whole beside empty lines."""
        import pandas as pd  # noqa: PLC0415

        if not all(isinstance(frame, pd.DataFrame) for frame in frames):
            return None
        whole = pd.concat(frames, ignore_index=True)
        if None in places:
            whole = whole.astype(
                {name: nullable for name in whole if (nullable := _nullable(whole[name].dtype))}
            )
        # No line has the number -1, so that reindex makes an empty one.
        lines = whole.reindex([-1 if place is None else place for place in places])
        return {str(name): lines[name].reset_index(drop=True) for name in lines}


class PolarsFrames:
    """polars."""

    def parameters(self, params: Params) -> Any:
        """Give the user's own frame."""
        return params.frame

    def without_columns(self, length: int, like: Any) -> Any:  # noqa: ARG002  it has no index
        """Give a frame of nothing."""
        import polars as pl  # noqa: PLC0415

        return pl.DataFrame()

    def lines(self, frame: Any, places: Sequence[int]) -> Any:
        """Take lines by position."""
        return frame[list(places)]

    def beside(self, frame: Any, columns: Mapping[str, Any]) -> Any:
        """Put columns beside."""
        import polars as pl  # noqa: PLC0415

        series = [
            cells.alias(name) if isinstance(cells, pl.Series) else polars_series(name, cells)
            for name, cells in columns.items()
        ]
        return frame.hstack(series) if frame.width else pl.DataFrame(series)

    def stacked(self, frames: Sequence[Any], places: Sequence[int | None]) -> dict[str, Any] | None:
        """Keep polars' types."""
        import polars as pl  # noqa: PLC0415

        if not all(isinstance(frame, pl.DataFrame) for frame in frames):
            return None
        try:
            whole = pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError:
            return None
        gather = pl.Series(places, dtype=pl.UInt32)
        return {series.name: series.gather(gather) for series in whole}


class ArrowFrames:
    """pyarrow's tables."""

    def parameters(self, params: Params) -> Any:
        """Give the user's own table."""
        return params.frame

    def without_columns(self, length: int, like: Any) -> Any:  # noqa: ARG002  it has no index
        """Give a table of nothing."""
        import pyarrow as pa  # noqa: PLC0415

        return pa.table({})

    def lines(self, frame: Any, places: Sequence[int]) -> Any:
        """Take lines by position."""
        import pyarrow as pa  # noqa: PLC0415

        return frame.take(pa.array(places, pa.int64()))

    def beside(self, frame: Any, columns: Mapping[str, Any]) -> Any:
        """Put columns beside."""
        import pyarrow as pa  # noqa: PLC0415

        arrays = {name: arrow_array(name, cells) for name, cells in columns.items()}
        if not frame.column_names:
            return pa.table(arrays)
        for name, array in arrays.items():
            frame = frame.append_column(name, array)
        return frame

    def stacked(self, frames: Sequence[Any], places: Sequence[int | None]) -> dict[str, Any] | None:  # noqa: ARG002
        """Leave it to the cells: a table of Arrow may become one of pandas for their sake."""
        return None


def _given(cells: Cells) -> list[Any]:
    return [None if cell is ABSENT else cell for cell in cells]


def _as_series(cells: Any) -> Any:
    return typed_series(cells) if isinstance(cells, (list, NumberColumn)) else cells


def _nullable(dtype: Any) -> str | None:
    """Name the type that has an empty cell beside NumPy's, which has none."""
    import numpy as np  # noqa: PLC0415

    if not isinstance(dtype, np.dtype):
        return None
    families = {"b": "boolean", "i": f"Int{8 * dtype.itemsize}", "u": f"UInt{8 * dtype.itemsize}"}
    return families.get(dtype.kind)
