"""The command line for tests: in this process, in one of its own, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest

from slurmapply.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "slurmapply"]

FIT = '''\
"""A file as users have it: helpers beside it, classes in it, a script's lines under its end."""

import dataclasses
import time

import scale

with open("imports.txt", "a") as note:
    note.write("x")


class BadFit(Exception):
    pass


@dataclasses.dataclass
class Score:
    mean: float
    name: str


def tenfold(x):
    return x * scale.FACTOR


def score(x, pause=0.0, fail=None):
    print("row", x)
    time.sleep(pause)
    if fail:
        raise BadFit(f"bad {x}")
    return Score(tenfold(x), f"n{x}")


NUMBER = 3

if __name__ == "__main__":
    raise SystemExit("the script's own lines were run")
'''


class Said(NamedTuple):
    """How a call of the program ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a function's file, its helper, and a table; rows run on this machine."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("COLUMNS", raising=False)
    (own_folders / "fit.py").write_text(FIT)
    (own_folders / "scale.py").write_text("FACTOR = 10\n")
    (own_folders / "params.csv").write_text("x,fail\n1,\n2,1\n3,\n")
    (own_folders / "good.csv").write_text("x\n1\n2\n")
    (own_folders / "slurmapply.toml").write_text('backend = "local"\n')
    return own_folders


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Give a function that runs the program in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program(list(arguments), prog_name="slurmapply")
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return call


def run(*arguments: str, **environment: str) -> Said:
    """Run the program in a process of its own, in the working folder."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


@dataclass
class Screen:
    """A process on a terminal of its own.

    Attributes
    ----------
    process, master
        The program, and the terminal's other end.
    seen
        All that it wrote.
    """

    process: subprocess.Popen[bytes]
    master: int
    seen: str = field(default="")

    def read(self, seconds: float = 0.2) -> str:
        """Read what was written meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                break
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            self.seen += data.decode("utf-8", "replace")
        return self.seen

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Read until a text is there."""
        deadline = time.monotonic() + seconds
        while text not in self.read():
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"

    def type(self, text: str) -> None:
        """Send what a user types."""
        os.write(self.master, text.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Give the terminal another size."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def end(self, seconds: float = 60.0) -> int:
        """Read to the end, and give the exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
        self.read()
        return self.process.returncode

    def lines(self) -> list[str]:
        """Give all lines that ever stood on the screen, without escape sequences."""
        text = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", self.seen)
        return [line.rstrip("\r") for line in text.split("\n")]


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    """Give a function that runs the program on a terminal of a width."""
    made: list[Screen] = []

    def start(*arguments: str, columns: int = 80, **environment: str) -> Screen:
        master, slave = pty.openpty()
        named = {"TERM": "xterm-256color", **environment}
        made.append(Screen(_on_terminal(slave, arguments, named, master, columns), master))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
        os.close(each.master)


def _on_terminal(
    slave: int, arguments: tuple[str, ...], named: dict[str, str], master: int, columns: int
) -> subprocess.Popen[bytes]:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    try:
        # setsid makes it the controlling terminal, so that Ctrl-C reaches the program.
        return subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, **named},
        )
    finally:
        os.close(slave)
