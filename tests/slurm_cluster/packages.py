"""What has to be installed, and its installation on Debian and Ubuntu."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMANDS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
}
ACCOUNTING_COMMANDS = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}
PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
POLICY = Path("/usr/sbin/policy-rc.d")


def which(command: str) -> str | None:
    """Find a command, also where a user's ``PATH`` does not look for daemons."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(command, path=f"{path}:/usr/sbin:/sbin:/usr/local/sbin")


def missing(*, accounting: bool = True) -> list[str]:
    """Name the packages that a cluster needs and that are not installed."""
    needed = {**COMMANDS, **(ACCOUNTING_COMMANDS if accounting else {})}
    return sorted({package for command, package in needed.items() if which(command) is None})


def install_advice() -> str:
    """Say how to install what a cluster needs."""
    return f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"


def install() -> None:
    """Install the packages with apt-get; must be root.

    Raises
    ------
    subprocess.CalledProcessError
        apt-get failed; what it said is on the terminal.
    """
    with no_services():
        apt_install(PACKAGES)
    if Path("/run/systemd/system").is_dir():
        print(
            "None of the services was started, but they will be at the next boot, unless you run: "
            "systemctl disable slurmctld slurmd slurmdbd munge mariadb"
        )


def apt_install(names: Sequence[str]) -> None:
    """Install packages with apt-get, without what they only recommend; must be root.

    Raises
    ------
    subprocess.CalledProcessError
        apt-get failed; what it said is on the terminal.
    """
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *names]):
        subprocess.run(
            ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            check=True,
        )


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Forbid packages to start services while they are installed.

    Debian's packages ask ``/usr/sbin/policy-rc.d`` (Debian Policy 9.3.3); exit code 101 means no.
    One that is there already is the machine's own rule and stays.
    """
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
