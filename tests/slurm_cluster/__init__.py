"""A real Slurm of four nodes on this machine, for the test suite and for trying things by hand.

::

    Cluster.start ──> supervisor ──> munged, mariadbd, slurmdbd, slurmctld, slurmd x 4
      (cluster.py)    (supervisor.py)     (daemons.py says how each is started)
                            │
    everything below one folder (layout.py), described by the texts of settings.py

The supervisor is the parent of every daemon and, as a subreaper, of every job: ending it ends all
of them, and it ends by itself when the process it was started for is gone.
"""

from tests.slurm_cluster.cluster import Cluster, ClusterError
from tests.slurm_cluster.packages import install, install_advice, missing

__all__ = ["Cluster", "ClusterError", "install", "install_advice", "missing"]
