"""What the kernel says in its small text files (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a small file; bytes that are no text are passed over."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def boot_id() -> str:
    """Give what names this start of this machine."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def start_time() -> int:
    """Give when this process started, in clock ticks since the machine did."""
    # Field 22; the second, the command, may hold blanks.
    return int(read_text("/proc/self/stat").rpartition(")")[2].split()[19])
