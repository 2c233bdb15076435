"""A worker's console, in a process of its own: rows print, and their parts are cut out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from slurmapply.worker import console

SOURCE = Path(console.__file__).parents[2]

#: Runs rows between two looks at the console, as a worker does; tells their parts.
PROGRAM = """
import json, os, sys, io
from slurmapply.worker import console
console.ROW_LIMIT = {limit}
console.WORKER_LIMIT = {worker_limit}
descriptor = os.open("console.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
own = console.become_console(descriptor)
os.close(descriptor)
parts, printed = [], own.length()
own.begin(printed)

def row(number, source):
    global printed
    exec(source)
    own.mend()
    end = own.end(number, printed)
    parts.append([printed, end])
    printed = end

for number, source in enumerate({rows!r}):
    row(number, source)
with open("parts.json", "w") as file:
    json.dump(parts, file)
"""


def printed(*rows: str, limit: int = 1000, worker_limit: int = 1 << 30) -> list[str]:
    """Give what each row's part of the console is."""
    sources = [textwrap.dedent(row) for row in rows]
    program = PROGRAM.format(limit=limit, worker_limit=worker_limit, rows=sources)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)}, input=b"typed",
        capture_output=True, check=False,
    )  # fmt: skip
    content = Path("console.txt").read_bytes()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), content
    parts = json.loads(Path("parts.json").read_text())
    assert [begin for begin, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert parts[-1][1] == len(content)
    return [content[begin:end].decode("utf-8", "replace") for begin, end in parts]


QUIET = 'print("quiet")'
NOTICE = "printed more than 0 MB; the rest was dropped]\n"


def test_each_rows_part_is_what_it_printed_by_whatever_way() -> None:
    assert printed(
        'print("one", end="")',
        "",
        'os.write(2, b"raw "); print("and Python")',
        'os.system("echo from a shell")',
        'print("\\udcff é")',
    ) == ["one", "", "raw and Python\n", "from a shell\n", "\\udcff é\n"]


@pytest.mark.parametrize(
    "flood",
    [
        'print("x" * 5000)',
        'for _ in range(100): print("y" * 99)',
        'os.write(1, b"z" * 5000)',
        'os.system("head -c 5000 /dev/zero")',
        'sys.stderr.write("e" * 5000)',
        'sys.stdout.buffer.write(b"b" * 5000)',
        'print("x" * 600); os.write(1, b"z" * 600)',
    ],
)
def test_a_flood_is_cut_and_the_next_row_is_whole(flood: str) -> None:
    before, cut, after = printed(QUIET, flood, QUIET)
    assert before == after == "quiet\n"
    assert cut.endswith(f"row 1 {NOTICE}")
    assert len(cut) <= 1000 + len(NOTICE) + len("\n[slurmapply: row 1 ")


def test_a_row_at_its_limit_is_not_cut() -> None:
    assert printed('print("x" * 999)', QUIET) == ["x" * 999 + "\n", "quiet\n"]


def test_all_rows_together_have_a_limit_too() -> None:
    parts = printed(*['print("x" * 799)'] * 6, worker_limit=2000)
    assert [len(part) for part in parts[:2]] == [800, 800]
    assert parts[2].startswith("x" * 400 + "\n[slurmapply: row 2 ")
    assert all(part.startswith("\n[slurmapply: row ") for part in parts[3:])


@pytest.mark.parametrize(
    "spoil",
    [
        "os.close(1)",
        "os.close(2)",
        "os.close(1); os.close(2); os.close(0)",
        "null = os.open(os.devnull, os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)",
        "sys.stdout.close()",
        "sys.stderr.close(); sys.stdout.detach()",
        "sys.stdout.buffer.raw.close()",
        "sys.stdout = io.StringIO()",
        "sys.stdout = sys.stderr = None",
        "del sys.stdout, sys.stderr",
        "sys.stdout = object()",
        "sys.stdout = sys.__stdout__",
        'file = open("console.txt", "r+"); os.dup2(file.fileno(), 0)',
    ],
)
def test_whatever_a_row_does_to_its_streams_the_next_has_its_own(spoil: str) -> None:
    first = f'print("before"); {spoil}'
    second = 'print("out"); print("err", file=sys.stderr); os.system("echo child; echo c2 >&2")'
    assert printed(first, second, QUIET)[1:] == ["out\nerr\nchild\nc2\n", "quiet\n"]


def test_what_a_replaced_stream_holds_back_is_flushed() -> None:
    row = 'sys.stdout = io.TextIOWrapper(io.FileIO(os.dup(1), "w")); sys.stdout.write("held")'
    assert printed(row, QUIET) == ["held", "quiet\n"]


def test_c_code_holds_nothing_back() -> None:
    begin = "import ctypes; c = ctypes.CDLL(None); "
    assert printed(
        begin + 'c.printf(b"no end")', QUIET, begin + 'c.puts(b"a line")', "", 'os.system("true")'
    ) == ["no end", "quiet\n", "a line\n", "", ""]


def test_the_input_is_empty() -> None:
    assert printed("print(repr(sys.stdin.read()), repr(os.read(0, 10)))") == ["'' b''\n"]


def test_the_notice_names_row_and_limit() -> None:
    said = console.cut_notice(17, 10 << 20)
    assert said == b"\n[slurmapply: row 17 printed more than 10 MB; the rest was dropped]\n"
