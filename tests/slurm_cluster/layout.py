"""The files of one cluster: the only module that spells their names."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The longest socket is slurmstepd's, "spool/node01/node01_67043328.4294967291", and Linux allows
# 107 characters (man 7 unix).
LONGEST_FOLDER = 60
READY = "ready"
# Clusters side by side share the cgroups of their nodes' names: job ids keep their jobs apart.
JOB_IDS_EACH = 100_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What was decided when a cluster was started, kept in ``cluster.json``.

    Parameters
    ----------
    user
        The account that all daemons run as.
    hostname
        This machine's short name.
    address
        The loopback address by which the daemons are reached.
    loopback_only
        Whether they listen on no other address.
    port
        The first of six consecutive ports: slurmctld, slurmdbd and four slurmd.
    first_job_id
        See JOB_IDS_EACH.
    slurm_version
        For example ``(22, 5)``.
    memory_limits
        Whether a job over its ``--mem`` is killed.
    accounting
        Whether slurmdbd and its database run.
    settings
        Settings of slurm.conf that are other than usual.
    hidden
        For nodes by name, a folder that they do not see.
    """

    user: str
    hostname: str
    address: str
    loopback_only: bool
    port: int
    first_job_id: int
    slurm_version: tuple[int, int]
    memory_limits: bool
    accounting: bool
    settings: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """Names below the cluster's folder."""

    folder: Path

    @property
    def etc(self) -> Path:
        return self.folder / "etc"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        """Pid files and sockets."""
        return self.folder / "run"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def state(self) -> Path:
        """The state that slurmctld saves."""
        return self.folder / "state"

    @property
    def database(self) -> Path:
        return self.folder / "database"

    @property
    def gpus(self) -> Path:
        """Links to a device that stand for GPUs."""
        return self.folder / "gpus"

    @property
    def munge_key(self) -> Path:
        return self.folder / "munge" / "key"

    @property
    def munge_socket(self) -> Path:
        return self.run / "munge.socket"

    @property
    def database_socket(self) -> Path:
        return self.run / "database.socket"

    @property
    def facts(self) -> Path:
        return self.folder / "cluster.json"

    @property
    def verdict(self) -> Path:
        """Written once by the supervisor: READY, or why it gave up."""
        return self.run / "verdict"

    def pid_file(self, daemon: str) -> Path:
        return self.run / f"{daemon}.pid"

    def log(self, daemon: str) -> Path:
        return self.logs / f"{daemon}.log"

    def output(self, daemon: str) -> Path:
        """Name the file of what a daemon says outside its log, mostly before that is open."""
        return self.logs / f"{daemon}.out"

    def make(self) -> None:
        """Make the folders; those with keys and data are for their owner only."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.etc, self.run, self.logs, self.gpus):
            path.mkdir(mode=0o755, exist_ok=True)
        for path in (self.spool, self.state, self.database, self.munge_key.parent):
            path.mkdir(mode=0o700, exist_ok=True)

    def write_facts(self, facts: Facts) -> None:
        self.facts.write_text(json.dumps(asdict(facts), indent=2) + "\n")

    def read_facts(self) -> Facts:
        stored = json.loads(self.facts.read_text())
        stored["slurm_version"] = tuple(stored["slurm_version"])
        return Facts(**stored)

    def read_verdict(self) -> str:
        try:
            return self.verdict.read_text()
        except FileNotFoundError:
            return ""

    def read_pid(self, daemon: str) -> int | None:
        try:
            return int(self.pid_file(daemon).read_text())
        except (FileNotFoundError, ValueError):
            return None
