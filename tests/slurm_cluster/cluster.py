"""The cluster as tests see it."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, final

from tests.slurm_cluster import cgroups, packages, processes, settings
from tests.slurm_cluster.layout import JOB_IDS_EACH, LONGEST_FOLDER, READY, Facts, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_SECONDS = 90.0
STOP_SECONDS = 30.0
PORTS_EACH = 2 + len(settings.NODES)
# Below the range that Linux takes the ports of outgoing connections from (32768 and up).
PORT_RANGE = range(20000, 32000)
# Slurm's job ids end at 67043328 (man slurm.conf, MaxJobId).
JOB_ID_RANGE = range(JOB_IDS_EACH, 60_000_000, JOB_IDS_EACH)
REPOSITORY = Path(__file__).resolve().parents[2]


class ClusterError(Exception):
    """The cluster could not be started, or a command in it failed."""


@final
class Cluster:
    """A real Slurm of four nodes, all of it below one folder.

    Parameters
    ----------
    folder
        Where settings, logs, sockets, spool and database go; made with mode 0700 if it is not
        there. At most 60 characters long.
    accounting
        Run slurmdbd and its database, so that ``sacct`` answers.
    settings
        Settings of slurm.conf that are to be other than usual, as ``{"MinJobAge": "2"}``.
    hidden
        For nodes by name, a folder that is empty for them, as if it were not mounted there; it
        must exist. Needs root.
    owner
        The process whose end is the cluster's end too: the one that starts it unless another is
        named, and with 0 nobody, so that it stays until it is stopped.

    Examples
    --------
    >>> with Cluster(Path("/tmp/try")) as cluster:  # doctest: +SKIP
    ...     print(cluster.run(["sinfo"]))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        accounting: bool = True,
        settings: Mapping[str, str] | None = None,
        hidden: Mapping[str, str] | None = None,
        owner: int | None = None,
    ) -> None:
        self.layout = Layout(Path(folder).absolute())
        self.accounting = accounting
        self.settings = dict(settings or {})
        self.hidden = dict(hidden or {})
        self.owner = owner

    @property
    def folder(self) -> Path:
        """Where everything of the cluster is."""
        return self.layout.folder

    @property
    def environment(self) -> dict[str, str]:
        """Give what Slurm's commands need in their environment."""
        return {"SLURM_CONF": str(self.layout.slurm_conf)}

    @property
    def memory_limits(self) -> bool:
        """Whether a job over its ``--mem`` is killed; known after the start."""
        return self.layout.read_facts().memory_limits

    def missing(self) -> list[str]:
        """Name the packages that this cluster needs and that are not installed."""
        return packages.missing(accounting=self.accounting)

    def start(self) -> None:
        """Start all daemons and wait until four nodes are idle.

        Raises
        ------
        ClusterError
            Packages are missing, a cluster runs in the folder already, or a daemon did not come
            up; the message says which and what it wrote.
        """
        self._check()
        self._clear()
        self._prepare()
        self._start_supervisor()
        if (verdict := self._await_verdict()) != READY:
            self.stop()
            raise ClusterError(f"The test Slurm did not start: {verdict}")

    def _await_verdict(self) -> str:
        supervisor = self.pid("supervisor")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            lives = processes.is_running(supervisor)  # asked first: the verdict is its last word
            if verdict := self.layout.read_verdict():
                return verdict
            if not lives:
                return f"the supervisor ended: {self.layout.output('supervisor').read_text()}"
            time.sleep(0.02)
        return f"not ready after {START_SECONDS:.0f} s; logs: {self.layout.logs}"

    def _check(self) -> None:
        if lacking := self.missing():
            raise ClusterError(
                f"Not installed: {', '.join(lacking)}. To install it, as root: "
                f"python -m tests.slurm_cluster install, or {packages.install_advice()}"
            )
        if len(str(self.folder)) > LONGEST_FOLDER:
            raise ClusterError(
                f"{self.folder} is too long for socket names: at most {LONGEST_FOLDER} characters"
            )
        if self.is_running():
            raise ClusterError(f"A cluster runs in {self.folder} already; stop it first")

    def _prepare(self) -> None:
        """Begin anew: no state of an earlier cluster in this folder is kept."""
        for name in ("etc", "run", "logs", "spool", "state", "database", "gpus", "munge"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.layout.make()
        self.layout.munge_key.write_bytes(os.urandom(128))
        self.layout.munge_key.chmod(0o600)
        hostname = socket.gethostname().partition(".")[0]
        address = loopback_address(hostname)
        facts = Facts(
            user=pwd.getpwuid(os.getuid()).pw_name,
            hostname=hostname,
            address=address or "127.0.0.1",
            loopback_only=address is not None,
            port=find_ports(),
            first_job_id=random.choice(JOB_ID_RANGE),
            slurm_version=slurm_version(),
            memory_limits=cgroups.can_limit_memory(),
            accounting=self.accounting,
            settings=self.settings,
            hidden=self.hidden,
        )
        self.layout.write_facts(facts)
        settings.write_settings(self.layout, facts)

    def _start_supervisor(self) -> None:
        """Start it; what is started here forks and ends, so there is no child to wait for."""
        owner = os.getpid() if self.owner is None else self.owner
        life = [str(owner), processes.start_ticks(owner) or "gone"] if owner else []
        with self.layout.output("supervisor").open("ab") as output:
            subprocess.run(
                [sys.executable, "-m", "tests.slurm_cluster.supervisor", str(self.folder), *life],
                cwd=REPOSITORY,
                env={**os.environ, processes.MARK: str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                check=True,
            )

    def stop(self) -> None:
        """End every process of the cluster and wait for it; the files stay."""
        supervisor = self._supervisor()
        if supervisor is not None:
            processes.send([supervisor], signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while processes.is_running(supervisor) and time.monotonic() < deadline:
                time.sleep(0.02)
        self._clear()
        self.layout.verdict.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what a killed supervisor may have left."""
        processes.kill_cluster(self.folder)
        with contextlib.suppress(FileNotFoundError):
            cgroups.sweep(self.layout.read_facts())

    def revive(self) -> None:
        """Start again each daemon that a test has ended."""
        processes.send([self.pid("supervisor")], signal.SIGHUP)

    def pid(self, daemon: str) -> int:
        """Give the process id of ``slurmctld``, ``slurmdbd``, ``mariadbd``, ``node01`` ..."""
        pid = self.layout.read_pid(daemon)
        if pid is None:
            raise ClusterError(f"{daemon} has not been started in {self.folder}")
        return pid

    def is_running(self) -> bool:
        """Tell whether the cluster is up."""
        return self.layout.read_verdict() == READY and self._supervisor() is not None

    def _supervisor(self) -> int | None:
        """Give the supervisor's process id if it lives, and is not another with its number."""
        pid = self.layout.read_pid("supervisor")
        return pid if pid in self.processes() else None

    def processes(self) -> list[int]:
        """Give the ids of all living processes of the cluster, those of its jobs included."""
        return processes.of_cluster(self.folder)

    def run(self, command: Sequence[str], *, timeout_seconds: float = 30.0) -> str:
        """Run a command in the cluster and give what it prints.

        Raises
        ------
        ClusterError
            It failed; the message has its exit code and what it said.
        """
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip()
            raise ClusterError(f"{' '.join(command)} ended with code {done.returncode}: {said}")
        return done.stdout

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def find_ports() -> int:
    """Give the first of six consecutive free ports."""
    for _ in range(1000):
        first = random.randrange(PORT_RANGE.start, PORT_RANGE.stop - PORTS_EACH)
        if all(_is_free(port) for port in range(first, first + PORTS_EACH)):
            return first
    raise ClusterError(f"no {PORTS_EACH} consecutive free ports in {PORT_RANGE}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("", port))
        return True
    return False


def loopback_address(hostname: str) -> str | None:
    """Give the loopback address that a host's name means; None if it means another or nothing.

    Slurm's daemons listen either on that one address or on all (man slurm.conf, NoInAddrAny).
    """
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(hostname)
        return address if address.startswith("127.") else None
    return None


def slurm_version() -> tuple[int, int]:
    """Give the installed Slurm's version, such as (22, 5)."""
    command = [packages.which("slurmctld") or "slurmctld", "-V"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        raise ClusterError(f"slurmctld -V said {said!r}")
    return int(found[1]), int(found[2])
