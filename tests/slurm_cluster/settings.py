"""The configuration files of the cluster, as text. Facts are from Slurm 22.05's man pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.slurm_cluster.layout import Facts, Layout

NODES = ("node01", "node02", "node03", "node04")
NODE_CPUS = 8
NODE_MEGABYTES = 4000
NODE_GPUS = 2


def slurm_conf(layout: Layout, facts: Facts) -> str:
    """Give slurm.conf."""
    text = _usual_slurm_conf(layout, facts)
    for name, value in facts.settings.items():
        # One line each: Slurm takes the last of two, and complains.
        text = re.sub(rf"(?m)^{name}=.*\n", "", text) + f"{name}={value}\n"
    return text


def _usual_slurm_conf(layout: Layout, facts: Facts) -> str:
    first, last = facts.port + 2, facts.port + 1 + len(NODES)
    limits = "cgroup" if facts.memory_limits else "none"
    return f"""\
ClusterName=slurmapply
SlurmctldHost={facts.hostname}({facts.address})
SlurmctldPort={facts.port}
SlurmUser={facts.user}
SlurmdUser={facts.user}
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
CredType=cred/munge
{_communication(facts)}
StateSaveLocation={layout.state}
SlurmdSpoolDir={layout.spool}/%n
SlurmctldPidFile={layout.pid_file("slurmctld")}
SlurmdPidFile={layout.pid_file("%n")}
SlurmctldLogFile={layout.log("slurmctld")}
SlurmdLogFile={layout.log("%n")}
MailProg=/bin/true
MpiDefault=none

ProctrackType=proctrack/{"cgroup" if facts.memory_limits else "linuxproc"}
TaskPlugin=task/{limits}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
{_accounting(layout, facts)}
# Everything at once: a test must not wait for the scheduler's leisure.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0,defer_batch
KillWait=5
SlurmdTimeout=10
MinJobAge=300
ReturnToService=2
FirstJobId={facts.first_job_id}
MaxJobCount=50000
MaxArraySize=20001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE

# The CPUs and the memory are declared: they need not exist (config_overrides).
SlurmdParameters=config_overrides
NodeName=node[01-04] NodeHostname={facts.hostname} NodeAddr={facts.address} Port=[{first}-{last}] \
CPUs={NODE_CPUS} CoresPerSocket={NODE_CPUS} RealMemory={NODE_MEGABYTES} Gres=gpu:{NODE_GPUS}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 DefaultTime=1:00:00 MaxTime=UNLIMITED
PartitionName=urgent Nodes=ALL PriorityTier=10 DefaultTime=1:00:00 MaxTime=UNLIMITED
PartitionName=cheap Nodes=ALL PriorityTier=1 PreemptMode=CANCEL DefaultTime=1:00:00
"""


def _communication(facts: Facts) -> str:
    """Bind the daemons to the address that the host's name means, if that is a loopback one."""
    if not facts.loopback_only:
        return ""
    return "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\n"


def _accounting(layout: Layout, facts: Facts) -> str:
    if not facts.accounting:
        return "AccountingStorageType=accounting_storage/none\n"
    return f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={facts.address}
AccountingStoragePort={facts.port + 1}
AccountingStoragePass={layout.munge_socket}
AccountingStorageTRES=gres/gpu
"""


def slurmdbd_conf(layout: Layout, facts: Facts) -> str:
    """Give slurmdbd.conf; it has no key for the database's socket: see daemons.environment."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
{_communication(facts)}DbdHost={facts.hostname}
DbdAddr={facts.address}
DbdPort={facts.port + 1}
SlurmUser={facts.user}
PidFile={layout.pid_file("slurmdbd")}
LogFile={layout.log("slurmdbd")}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={facts.user}
StorageLoc=slurm
"""


def cgroup_conf(facts: Facts) -> str:
    """Give cgroup.conf: memory is limited where it can be, processors and devices are not."""
    if not facts.memory_limits:
        # Since 24.05 slurmd wants cgroups unless it is told not to (man cgroup.conf of 24.05).
        return "CgroupPlugin=disabled\n" if facts.slurm_version >= (24, 5) else ""
    plugin = "CgroupPlugin=cgroup/v1\n" if facts.slurm_version >= (22, 5) else ""
    return f"{plugin}ConstrainRAMSpace=yes\nConstrainSwapSpace=no\n"


def gres_conf(layout: Layout) -> str:
    """Give gres.conf: links to a device stand for GPUs, enough for CUDA_VISIBLE_DEVICES."""
    return f"NodeName=node[01-04] Name=gpu File={layout.gpus}/gpu[0-{NODE_GPUS - 1}]\n"


def write_settings(layout: Layout, facts: Facts) -> None:
    """Write all of them."""
    layout.slurm_conf.write_text(slurm_conf(layout, facts))
    (layout.etc / "cgroup.conf").write_text(cgroup_conf(facts))
    (layout.etc / "gres.conf").write_text(gres_conf(layout))
    for number in range(NODE_GPUS):
        (layout.gpus / f"gpu{number}").symlink_to("/dev/null")
    secret = layout.etc / "slurmdbd.conf"
    secret.touch(mode=0o600)  # slurmdbd refuses one that others may read
    secret.write_text(slurmdbd_conf(layout, facts))
