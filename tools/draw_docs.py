"""Draw the pictures of the tutorial and of the chunks: `python tools/draw_docs.py`.

Each is a small SVG of its own, readable on light and on dark ground. The rows in them are those
of the tutorial's job: 125, of which each with `min_samples_leaf` 0 fails.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from slurmapply.chunks import dynamic_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IMAGES = Path(__file__).parent.parent / "docs" / "images"
#: Colours that stand out from white and from black alike.
INK, FAINT = "#7a8088", "#b9bec5"
OK, FAILED, RUNNING, WAITING = "#2e9e5b", "#d64545", "#3b82d0", "#b9bec5"
ROWS, NODES, WORKERS = 125, 4, 2
COLUMNS, CELL = 25, 13
WIDTH, HEIGHT = 720, 150
#: Where the rows, the nodes and the table begin.
LEFT, MIDDLE, RIGHT = 10, 385, 560


def fails(row: int) -> bool:
    """Whether `min_samples_leaf` of a row of the tutorial's grid is 0."""
    return row // 5 % 5 == 0


def rectangle(x: float, y: float, width: float, height: float, fill: str, *, line: str = "") -> str:
    """Draw a box."""
    stroke = f' stroke="{line}" stroke-width="1.5"' if line else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{fill}"'
        f"{stroke}/>"
    )


def words(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    """Write something."""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{INK}" font-size="{size}" text-anchor="{anchor}"'
        f' font-family="system-ui, sans-serif">{text}</text>'
    )


def arrow(x: float, y: float, length: float) -> str:
    """Draw an arrow to the right."""
    end = x + length
    return (
        f'<path d="M{x:g} {y:g}H{end:g}m-6 -4l6 4l-6 4" fill="none" stroke="{INK}"'
        ' stroke-width="1.5"/>'
    )


def grid(colours: Sequence[str]) -> Iterable[str]:
    """Draw the rows, a square each."""
    for row, colour in enumerate(colours):
        x, y = LEFT + row % COLUMNS * CELL, 30 + row // COLUMNS * CELL
        yield rectangle(x, y, CELL - 2, CELL - 2, colour)


def nodes(colour: str) -> Iterable[str]:
    """Draw the pieces of the job with their processes."""
    for node in range(NODES):
        y = 24 + node * 26
        yield rectangle(MIDDLE, y, 130, 22, "none", line=FAINT)
        yield words(MIDDLE + 8, y + 15, f"node {node}", size=11)
        for worker in range(WORKERS):
            yield rectangle(MIDDLE + 66 + worker * 30, y + 5, 24, 12, colour)


def table(lines: int, marked: int | None = None) -> Iterable[str]:
    """Draw a table, with one line that stands out."""
    for line in range(lines):
        y = 30 + line * 13
        colour = OK if line == marked else FAINT
        yield rectangle(RIGHT, y, 80, 9, FAINT)
        yield rectangle(RIGHT + 84, y, 60, 9, colour)


def legend(counts: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Say how many rows are what."""
    x = LEFT
    for colour, text in counts:
        yield rectangle(x, 112, 11, 11, colour)
        yield words(x + 16, 122, text)
        x += 32 + 7 * len(text)


def picture(title: str, *parts: Iterable[str], height: int = HEIGHT, width: int = WIDTH) -> str:
    """Put the parts of a picture together."""
    body = "\n".join(part for group in parts for part in group)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img">\n<title>{title}</title>\n{body}\n</svg>\n'
    )


def tutorial() -> Iterable[tuple[str, str]]:
    """Give name and content of the picture of each step."""
    blank = ["none"] * ROWS
    outlines = [
        rectangle(LEFT + i % COLUMNS * CELL, 30 + i // COLUMNS * CELL, 11, 11, "none", line=FAINT)
        for i in range(ROWS)
    ]
    waiting = [WAITING] * ROWS
    done = [FAILED if fails(row) else OK for row in range(ROWS)]
    begun = [*done[:31], *[RUNNING] * 8, *[WAITING] * (ROWS - 39)]
    heads = [words(LEFT, 20, "125 rows"), words(MIDDLE, 16, "4 nodes x 2 processes")]
    yield "1-function", picture(
        "One call: a setting goes in, an error comes out",
        [words(LEFT, 20, "one setting"), rectangle(LEFT, 30, 90, 22, "none", line=FAINT)],
        [words(LEFT + 8, 45, "3, 5, 0.6"), arrow(LEFT + 100, 41, 50)],
        [rectangle(LEFT + 160, 22, 120, 38, "none", line=INK), words(LEFT + 180, 46, "cv_score")],
        [arrow(LEFT + 290, 41, 50), rectangle(LEFT + 350, 30, 130, 22, "none", line=FAINT)],
        [words(LEFT + 358, 45, "rmse 63.9, sd 5.7")],
        [words(LEFT + 350, 20, "what you want to know")],
        height=80,
    )  # fmt: skip
    yield (
        "2-parameters",
        picture(
            "125 rows, one for each combination of three times five values",
            [words(LEFT, 20, "5 depths x 5 leaf sizes x 5 feature shares = 125 rows")],
            outlines,
            height=105,
        ),
    )
    yield "3-submitted", picture(
        "All rows wait; four nodes with two processes each will take them",
        heads[:1], grid(waiting), legend([(WAITING, "125 pending")]),
        [arrow(343, 62, 32)], [heads[1]], nodes(FAINT),
    )  # fmt: skip
    yield "4-running", picture(
        "Some rows are done, eight are at work, the others wait",
        heads[:1], grid(begun),
        legend([
            (OK, "21 ok"), (FAILED, "10 failed"), (RUNNING, "8 at work"), (WAITING, "86 wait"),
        ]),
        [arrow(343, 62, 32)], [heads[1]], nodes(RUNNING),
    )  # fmt: skip
    yield "5-failed", picture(
        "100 rows are ok; the 25 with a leaf size of 0 failed, in their places",
        heads[:1], grid(done), legend([(OK, "100 ok"), (FAILED, "25 failed: leaf size 0")]),
    )  # fmt: skip
    yield "6-retried", picture(
        "Only the 25 failed rows run again; the hundred others stay as they are",
        heads[:1], grid([RUNNING if fails(row) else OK for row in range(ROWS)]),
        legend([(OK, "100 stay ok"), (RUNNING, "25 run again, mended")]),
        [arrow(343, 62, 32)], [heads[1]], nodes(RUNNING),
    )  # fmt: skip
    yield "7-table", picture(
        "125 rows ok; a table of parameters and results",
        heads[:1], grid([OK] * ROWS), legend([(OK, "125 ok")]),
        [arrow(343, 62, 200)], [words(RIGHT, 20, "parameters"), words(RIGHT + 84, 20, "results")],
        table(7, marked=4),
    )  # fmt: skip
    yield "8-cleaned-up", picture(
        "The table is kept; the job folder is gone",
        grid(blank), [rectangle(LEFT, 30, 200, 40, "none", line=FAINT)],
        [f'<path d="M{LEFT} 30l200 40m0 -40l-200 40" stroke="{FAINT}"/>'],
        [words(LEFT, 20, "_slurmapply_tuning"), words(RIGHT, 20, "scores.csv")], table(4),
        height=100,
    )  # fmt: skip


def chunks() -> str:
    """Draw how 96 rows are cut up for two tasks."""
    rows, left, top, scale = 96, 10, 30, 7.2
    plan = dynamic_plan(rows, 2)
    parts = [
        words(left, 20, "96 rows, two tasks: each chunk is half of what is left, shared by both")
    ]
    for chunk, (begin, end) in enumerate(pairwise(plan.bounds)):
        x, width = left + begin * scale, (end - begin) * scale - 2
        parts.append(rectangle(x, top, width, 26, (RUNNING, OK)[chunk % 2]))
        if end - begin >= 3:  # noqa: PLR2004  # a number needs room
            parts.append(words(x + width / 2, top + 45, str(end - begin), anchor="middle", size=11))
    return picture("Chunks of 96 rows for two tasks", parts, height=90)


def main() -> None:
    """Write all pictures."""
    folder = IMAGES / "tutorial"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tutorial():
        (folder / f"{name}.svg").write_text(content)
    (IMAGES / "chunks.svg").write_text(chunks())


if __name__ == "__main__":
    main()
