"""`doctor`: looks at this machine, at Slurm, and by a test job at a node."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply.backends import choose_backend
from slurmapply.checkup import cluster, machine
from slurmapply.checkup.diagnosis import Diagnosis, Findings
from slurmapply.checkup.trial import Trial, check_place
from slurmapply.errors import InvalidArgumentError, SlurmApplyError
from slurmapply.settings import load_defaults

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

_PATIENCE = 60.0


def doctor(
    *,
    partition: str | None = None,
    account: str | None = None,
    test_job: bool = True,
    packages: str | Iterable[str] = (),
    jobs_folder: str | os.PathLike[str] | None = None,
    setup: str | Iterable[str] | None = None,
    python: str | os.PathLike[str] | None = None,
    slurm_options: Mapping[str, Any] | None = None,
    backend: str | None = None,
    patience: float = _PATIENCE,
) -> Diagnosis:
    """Look whether jobs can work here, and say what to do where they cannot.

    Looks at this machine's Python, packages, settings and folder; at Slurm's commands,
    partitions and limits; and, by a test job of one task, at a node: whether it sees the folder,
    has the Python and the packages, and is reached by Slurm's signals. Without a Slurm it says
    so, and the test job runs on this machine. Everything that it makes is removed again.

    Slurm is asked about ten times in all, each question with a time limit.

    Parameters
    ----------
    partition, account, setup, python, slurm_options : optional
        As in `slurm_apply`; what is not given comes from ``slurmapply.toml`` and `set_defaults`.
    test_job : bool, default True
        False: nothing is submitted.
    packages : str or list of str, optional
        Modules that your function imports: whether a node has them, too.
    jobs_folder : path, optional
        Where job folders will be made, the thing to test; the working folder by default.
    backend : {"auto", "slurm", "local"}, optional
        As in `slurm_apply`.
    patience : float, default 60
        Seconds that the test job may wait for its start, before it is cancelled.

    Returns
    -------
    Diagnosis
        Printed, one line for each check; ``.ok`` when nothing failed, ``.checks`` one by one.

    Raises
    ------
    InvalidArgumentError
        An argument cannot be used. What is wrong with the site is never raised.

    Examples
    --------
    >>> from slurmapply import doctor
    >>> diagnosis = doctor(backend="local", test_job=False)
    >>> [check.verdict.value for check in diagnosis.checks if check.name == "python"]
    ['ok']
    """
    if patience <= 0:
        raise InvalidArgumentError(
            f"patience: seconds above zero, not {patience!r}.", argument="patience"
        )
    if backend not in (None, "auto", "slurm", "local"):
        raise InvalidArgumentError(
            f"backend: auto, slurm or local, not {backend!r}: there is nothing to examine about"
            " a job in this very process.",
            argument="backend",
        )
    wanted = [packages] if isinstance(packages, str) else list(packages)
    given = {
        "partition": partition,
        "account": account,
        "setup": setup,
        "python": python,
        "slurm_options": slurm_options,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    findings = Findings()
    machine.check_python(findings)
    machine.check_packages(findings, wanted)
    defaults = _settings(findings)
    folder = Path(jobs_folder or (defaults or {}).get("jobs_folder", ".")).absolute()
    place = _folder(findings, folder)
    trial = None
    try:
        kind = _slurm(findings, backend or (defaults or {}).get("backend", "auto"))
        wanted_partition = partition or (defaults or {}).get("partition")
        able = kind == "local" or (kind == "slurm" and _cluster(findings, wanted_partition, folder))
        reason = _no_trial(test_job=test_job, able=able, settings=defaults, place=place)
        if reason or place is None or kind is None:
            findings.skip("test job", reason)
        else:
            trial = Trial(findings, place, wanted, patience)
            with findings.watch("test job"):
                trial.run(asked | {"backend": kind})
    finally:
        if place is not None and (trial is None or trial.over):
            shutil.rmtree(place, ignore_errors=True)
    return findings.diagnosis()


def _settings(findings: Findings) -> dict[str, Any] | None:
    machine.check_settings(findings)
    try:
        return load_defaults()
    except SlurmApplyError:  # said already
        return None


def _folder(findings: Findings, folder: Path) -> Path | None:
    with findings.watch("folder"):
        if machine.check_folder(findings, folder):
            place = check_place(findings, folder)
            machine.check_space(findings, folder)
            return place
    return None


def _slurm(findings: Findings, backend: str) -> str | None:
    """Choose the batch system as a call would; None, and a finding, where it cannot."""
    try:
        kind = choose_backend("auto" if backend == "inline" else backend)
    except SlurmApplyError as error:
        findings.fail("Slurm", str(error))
        return None
    if kind == "local":
        findings.ok("Slurm", "none is used here: jobs run on this machine, in the background")
    return kind


def _cluster(findings: Findings, partition: str | None, folder: Path) -> bool:
    if not cluster.check_commands(findings):
        return False
    settings = cluster.check_controller(findings)
    if settings:
        cluster.check_partitions(findings, partition)
        cluster.check_sharing(findings, folder)
        cluster.check_accounting(findings, settings)
    else:
        findings.skip("partitions", "the controller does not answer")
    return bool(settings)


def _no_trial(
    *, test_job: bool, able: bool, settings: Mapping[str, Any] | None, place: Path | None
) -> str:
    """Say why there is no test job; "" when there can be one."""
    if not test_job:
        return "not asked for (test_job=False)"
    if place is None:
        return "its folder could not be made"
    if settings is None:
        return "the settings cannot be read"
    return "" if able else "nothing can be submitted"
