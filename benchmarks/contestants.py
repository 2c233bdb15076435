"""Who takes part, and whether it is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess

#: Who gives a map, and where it is made: a module of `benchmarks.peers` and a name in it.
POOLS = {
    "submitit": "submitit_:pool",
    "executorlib": "executorlib_:pool",
    "clusterfutures": "cfut_:pool",
    "dask-jobqueue": "dask_:pool",
    "Parsl": "parsl_:pool",
    "local pool": "local_:pool",
    "pool of fresh processes": "local_:fresh_pool",
    "loop": "local_:loop",
    "sbatch": "local_:sbatch",
}
#: What has to be importable for a peer, and what its distribution is called.
_NEEDED = {
    "submitit": (["submitit"], "submitit"),
    "executorlib": (["executorlib", "pysqa", "h5py"], "executorlib"),
    "clusterfutures": (["cfut"], "clusterfutures"),
    "dask-jobqueue": (["dask_jobqueue", "distributed"], "dask-jobqueue"),
    "Parsl": (["parsl"], "parsl"),
}
PEERS = [*_NEEDED, "rslurm"]
HOW_TO_INSTALL = {
    "rslurm": "as root: apt-get install r-cran-rslurm",
    **dict.fromkeys(_NEEDED, "pip install -r benchmarks/requirements.txt"),
}


def versions() -> dict[str, str]:
    """Give the versions of the peers that are installed."""
    found = {
        peer: importlib.metadata.version(distribution)
        for peer, (modules, distribution) in _NEEDED.items()
        if all(importlib.util.find_spec(module) for module in modules)
    }
    if version := _rslurm():
        found["rslurm"] = version
    return found


def _rslurm() -> str | None:
    rscript = shutil.which("Rscript")
    if rscript is None:
        return None
    asked = [rscript, "-e", 'cat(as.character(packageVersion("rslurm")))']
    done = subprocess.run(asked, check=False, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
