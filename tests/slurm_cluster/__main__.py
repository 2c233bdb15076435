"""``python -m tests.slurm_cluster``: a Slurm to try things on by hand."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm_cluster import packages
from tests.slurm_cluster.cluster import Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def default_folder() -> Path:
    """Give this account's folder for a cluster started by hand."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "slurmapply-cluster"
    return Path(tempfile.gettempdir()) / f"slurmapply-cluster-{os.getuid()}"


def claim_folder(folder: Path) -> None:
    """Make the folder, or make sure that nobody else prepared it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ClusterError(f"{folder} belongs to another account; choose one with --folder")


def print_exports(cluster: Cluster) -> None:
    """Print what a shell has to run to use the cluster."""
    for name, value in cluster.environment.items():
        print(f"export {name}={shlex.quote(value)}")


def start(cluster: Cluster) -> int:
    """Start it, unless it runs already, and leave it running."""
    claim_folder(cluster.folder)
    if not cluster.is_running():
        cluster.start()
    print_exports(cluster)
    return 0


def stop(cluster: Cluster) -> int:
    """End it."""
    cluster.stop()
    print(f"No process of the cluster in {cluster.folder} is left.")
    return 0


def status(cluster: Cluster) -> int:
    """Say whether it runs, and show its nodes."""
    if not cluster.is_running():
        print(f"No cluster runs in {cluster.folder}.")
        return 1
    limits = "enforced" if cluster.memory_limits else "not enforced (no cgroup v1 here)"
    print(f"A cluster runs in {cluster.folder}; memory limits: {limits}.")
    print_exports(cluster)
    print(cluster.run(["sinfo"]), end="")
    return 0


def shell(cluster: Cluster) -> int:
    """Run a shell in it; starts it where needed, and then ends it afterwards."""
    claim_folder(cluster.folder)
    begun_here = not cluster.is_running()
    if begun_here:
        cluster.owner = os.getpid()
        cluster.start()
    try:
        command = [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(
            command, env={**os.environ, **cluster.environment}, check=False
        ).returncode
    finally:
        if begun_here:
            cluster.stop()


def missing(cluster: Cluster) -> int:
    """Name what is not installed; the exit code tells whether it is anything."""
    lacking = cluster.missing()
    print("\n".join(lacking) if lacking else "Nothing is missing.")
    return 1 if lacking else 0


def install(cluster: Cluster) -> int:
    """Install what is not installed, as root; say what to run otherwise."""
    if not (lacking := cluster.missing()):
        return 0
    if os.getuid() != 0 or packages.which("apt-get") is None:
        print(
            f"\n*** The test Slurm needs packages that are not installed: {', '.join(lacking)}.\n"
            f"*** On Debian or Ubuntu run, as root:\n***\n***     {packages.install_advice()}\n***",
            file=sys.stderr,
        )
        return 1
    packages.install()
    return 0


COMMANDS: dict[str, Callable[[Cluster], int]] = {
    "start": start,
    "stop": stop,
    "status": status,
    "shell": shell,
    "missing": missing,
    "install": install,
}


def make_parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.slurm_cluster",
        description="A real Slurm of four nodes on this machine, to try things on.",
        epilog="; ".join(f"{name}: {run.__doc__}" for name, run in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where it lives")
    parser.add_argument(
        "--no-accounting", action="store_true", help="without slurmdbd and its database"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit code."""
    chosen = make_parser().parse_args(arguments)
    cluster = Cluster(chosen.folder, accounting=not chosen.no_accounting, owner=0)
    try:
        return COMMANDS[chosen.command](cluster)
    except (ClusterError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
