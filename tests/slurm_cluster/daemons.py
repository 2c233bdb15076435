"""The daemons of a cluster, in the order of their start: command line, and how to see it is up."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.slurm_cluster.packages import which
from tests.slurm_cluster.processes import MARK
from tests.slurm_cluster.settings import NODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.slurm_cluster.layout import Facts, Layout


@dataclass(frozen=True, slots=True)
class Daemon:
    """One daemon: its name in pid and log files, its command, and the sign that it answers."""

    name: str
    command: list[str]
    is_up: Callable[[], bool]


def environment(layout: Layout) -> dict[str, str]:
    """Give the daemons' environment: Slurm's own variables of the starter stay outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM", "SBATCH", "MYSQL", "MARIADB"))
    }
    return kept | {
        MARK: str(layout.folder),
        "SLURM_CONF": str(layout.slurm_conf),
        # libmariadb reads it when a client, here slurmdbd, names no socket.
        "MYSQL_UNIX_PORT": str(layout.database_socket),
    }


def make_daemons(layout: Layout, facts: Facts) -> list[Daemon]:
    """Give all daemons in the order of their start."""
    database = [_mariadbd(layout, facts), _slurmdbd(layout, facts)] if facts.accounting else []
    slurmctld = Daemon("slurmctld", [_path("slurmctld"), "-D", "-i"], lambda: _listens(facts, 0))
    return [_munged(layout), *database, slurmctld, *(_slurmd(node, facts) for node in NODES)]


def _munged(layout: Layout) -> Daemon:
    command = [
        _path("munged"),
        "--foreground",
        "--force",  # it dislikes a socket in a private folder
        "--num-threads=4",
        f"--socket={layout.munge_socket}",
        f"--key-file={layout.munge_key}",
        f"--pid-file={layout.pid_file('munged')}",
        f"--log-file={layout.log('munged')}",
        f"--seed-file={layout.munge_key.parent / 'seed'}",
    ]
    return Daemon("munged", command, layout.munge_socket.is_socket)


def _mariadbd(layout: Layout, facts: Facts) -> Daemon:
    command = [
        _path("mariadbd"),
        "--no-defaults",
        f"--user={facts.user}",
        f"--datadir={layout.database}",
        f"--socket={layout.database_socket}",
        f"--pid-file={layout.pid_file('mariadbd')}",
        "--skip-networking",
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--innodb-log-file-size=10M",
        "--innodb-buffer-pool-size=32M",
        "--innodb-lock-wait-timeout=900",
        "--performance-schema=OFF",
    ]
    return Daemon("mariadbd", command, lambda: _accepts(layout.database_socket.as_posix()))


def _slurmdbd(layout: Layout, facts: Facts) -> Daemon:
    del layout
    return Daemon("slurmdbd", [_path("slurmdbd"), "-D"], lambda: _listens(facts, 1))


def _slurmd(node: str, facts: Facts) -> Daemon:
    offset = 2 + NODES.index(node)
    command = [_path("slurmd"), "-D", "-N", node]
    if node in facts.hidden:
        # In a mount namespace of its own (man 1 unshare), where an empty disk covers the folder.
        cover = 'mount -t tmpfs none "$0" && exec "$@"'
        command = ["unshare", "--mount", "bash", "-c", cover, facts.hidden[node], *command]
    return Daemon(node, command, lambda: _listens(facts, offset))


def database_maker(layout: Layout, facts: Facts) -> list[str]:
    """Give what fills the database's folder; this account, known by its socket, is its master."""
    return [
        _path("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={layout.database}",
        f"--user={facts.user}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={facts.user}",
        "--skip-test-db",
        "--skip-name-resolve",
        "--innodb-log-file-size=10M",
        "--innodb-flush-log-at-trx-commit=0",
    ]


def _path(command: str) -> str:
    return which(command) or command


def _listens(facts: Facts, offset: int) -> bool:
    """Tell whether something accepts connections on one of the cluster's ports."""
    place = (facts.address, facts.port + offset)
    with contextlib.suppress(OSError), socket.create_connection(place, timeout=1):
        return True
    return False


def _accepts(path: str) -> bool:
    """Tell whether something accepts connections on a socket file."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(path)
        return True
    return False
