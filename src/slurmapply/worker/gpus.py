"""Which GPU a worker sees: those of the task are dealt out to its workers in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The first is what is set where nobody said anything.
_CUDA = "CUDA_VISIBLE_DEVICES"
_ROCR = "ROCR_VISIBLE_DEVICES"
#: The script remembers the same ones.
_NAMES = (_CUDA, _ROCR, "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
#: They count the devices that ROCR_VISIBLE_DEVICES leaves (AMD's page on GPU isolation).
_AFTER_ROCR = frozenset({_CUDA, "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"})


def visible_gpus(
    worker: int, gpus: int | None, environ: Mapping[str, str], *, amd: bool = False
) -> dict[str, str]:
    """Give the variables that let a worker see only its own GPU.

    Parameters
    ----------
    worker
        Its number, from 0.
    gpus
        How many the task has; None leaves all as it is.
    environ
        The task's environment: the GPUs that Slurm or the user's session named, and in
        ``SLURMAPPLY_GPUS`` what they were before the setup lines. Who changes them there has
        dealt them out already.
    amd
        The GPUs are AMD's.

    Examples
    --------
    >>> visible_gpus(3, 2, {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "4,5"})
    {'CUDA_VISIBLE_DEVICES': '5'}
    """
    if gpus is None or _changed(environ):
        return {}
    if "SLURM_JOB_ID" not in environ and not any(name in environ for name in _NAMES):
        return {_CUDA: str(worker % gpus)}
    named = {name: environ[name].split(",") for name in _NAMES if name in environ}
    mine = {name: entries[worker % gpus] for name, entries in named.items() if len(entries) == gpus}
    # Slurm sets all of them where nobody told it whose GPUs these are (gres.conf(5), Flags).
    if amd and _ROCR in mine:
        mine |= dict.fromkeys(_AFTER_ROCR & mine.keys(), "0")
    return mine


def _changed(environ: Mapping[str, str]) -> bool:
    pairs = (entry.partition("=") for entry in environ.get("SLURMAPPLY_GPUS", "").split())
    return any(environ.get(name, "") != before for name, _, before in pairs)
