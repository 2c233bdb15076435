"""Results that are frames, laid one below the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from slurmapply.cells import frame_cells, narwhal
from slurmapply.shapes import CannotSpreadError, is_nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurmapply.frames import FrameKind


def stack(values: Sequence[Any], kind: FrameKind) -> tuple[dict[str, Any], list[int]]:
    """Give the columns of all frames below each other, and the row that each line belongs to.

    A row without lines (an empty frame, None, no value) keeps one, which is empty.

    Raises
    ------
    CannotSpreadError
        When a frame is lazy or has two columns of one name, or none has any.
    """
    frames = [None if is_nothing(value) else _prepared(value) for value in values]
    heights = [0 if frame is None else len(frame) for frame in frames]
    rows = [row for row, height in enumerate(heights) for _ in range(max(height, 1))]
    full = [frame for frame in frames if frame is not None and len(frame)]
    if not any(frame is not None and frame.columns for frame in frames):
        raise CannotSpreadError
    columns = None
    if full and all(frame.columns == full[0].columns for frame in full):
        columns = kind.stacked([frame.to_native() for frame in full], list(_places(heights)))
    return (_stacked_cells(frames) if columns is None else columns), rows


def _prepared(value: Any) -> Any:
    """Give a narwhals frame whose columns have names, the index's too where it says something."""
    import narwhals as nw  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415
    from narwhals.exceptions import DuplicateError  # noqa: PLC0415

    if isinstance(value, pd.DataFrame):
        value = value.reset_index() if _index_tells(value) else value
        value = value.set_axis([str(name) for name in value.columns], axis=1)
    try:
        frame = narwhal(value)
    except DuplicateError as error:
        raise CannotSpreadError from error
    if isinstance(frame, nw.LazyFrame):
        raise CannotSpreadError
    return frame


def _index_tells(frame: Any) -> bool:
    """Whether the index is more than line numbers, such as that of ``describe()``."""
    import pandas as pd  # noqa: PLC0415

    names = [name for name in frame.index.names if name is not None]
    if any(name in frame.columns for name in names) or frame.index.nlevels > len(names) > 0:
        return False
    return bool(names) or not pd.api.types.is_integer_dtype(frame.index.dtype)


def _places(heights: list[int]) -> Any:
    """For each line of the stack its place among the full frames' lines; None: it is empty."""
    places = itertools.count()
    for height in heights:
        yield from itertools.islice(places, height) if height else [None]


def _stacked_cells(frames: list[Any]) -> dict[str, list[Any]]:
    parts = [
        ({}, 1) if frame is None else (frame_cells(frame), max(len(frame), 1)) for frame in frames
    ]
    names = dict.fromkeys(itertools.chain.from_iterable(cells for cells, _ in parts))
    return {
        name: list(
            itertools.chain.from_iterable(
                cells.get(name) or [None] * height for cells, height in parts
            )
        )
        for name in names
    }
