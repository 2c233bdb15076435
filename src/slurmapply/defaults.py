"""Which defaults hold, and where each of them comes from."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from slurmapply.api import slurm_apply
from slurmapply.settings import keywords, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUILT_IN = "built in"
SLURM = "Slurm's own default"
_OPTIONS = "slurm_options"
#: Left to Slurm where nobody says anything.
_OF_SLURM = ("time", "mem", "partition", "account")
#: What a user's environment may say; sbatch reads the first four, and the submit script the last
#: (sbatch(1), "INPUT ENVIRONMENT VARIABLES").
_VARIABLES = {
    "partition": ("SBATCH_PARTITION",),
    "account": ("SBATCH_ACCOUNT",),
    f"{_OPTIONS}.qos": ("SBATCH_QOS",),
    f"{_OPTIONS}.reservation": ("SBATCH_RESERVATION",),
    f"{_OPTIONS}.clusters": ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"),
    "python": ("SLURMAPPLY_PYTHON",),
}


@dataclass(frozen=True)
class Default:
    """The default of one keyword.

    Attributes
    ----------
    name : str
        The keyword, or ``"slurm_options.qos"`` for one option of sbatch.
    value : object
        What holds where a call does not say otherwise.
    source : str
        ``"built in"``, the path of a file, ``"this session"`` (`set_defaults`), ``"environment
        variable SBATCH_ACCOUNT"``, or ``"Slurm's own default"``.
    """

    name: str
    value: Any
    source: str


class Defaults(Sequence[Default]):
    """The defaults that hold in a folder, one for each keyword; printed, it is a table.

    Also a lookup by name: ``get_defaults()["account"].source``.
    """

    def __init__(self, defaults: Sequence[Default]) -> None:
        self._defaults = tuple(defaults)

    def __len__(self) -> int:
        return len(self._defaults)

    def __iter__(self) -> Iterator[Default]:
        return iter(self._defaults)

    @overload
    def __getitem__(self, place: int | str) -> Default: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Default]: ...

    def __getitem__(self, place: int | str | slice) -> Default | Sequence[Default]:
        if not isinstance(place, str):
            return self._defaults[place]
        for default in self._defaults:
            if default.name == place:
                return default
        raise KeyError(place)

    def __str__(self) -> str:
        lines = [(d.name, "" if d.value is None else repr(d.value), d.source) for d in self]
        names, values = (max(len(line[column]) for line in lines) for column in (0, 1))
        return "\n".join(f"{name:{names}}  {value:{values}}  {at}" for name, value, at in lines)

    __repr__ = __str__


def get_defaults(folder: str | os.PathLike[str] | None = None) -> Defaults:
    """Say which defaults hold for the keywords of `slurm_apply`, and where each comes from.

    Arguments of a call win over all of them. Slurm is not asked.

    Parameters
    ----------
    folder : path, optional
        The working folder whose ``slurmapply.toml`` counts; the current one when None.

    Returns
    -------
    Defaults
        Printed, a table. An iterable of `Default`, each with ``.name``, ``.value`` and
        ``.source``; ``get_defaults()["account"]`` is one of them. Each option of
        ``slurm_options`` is one of its own, ``slurm_options.qos``. A value of None that comes
        from Slurm is whatever Slurm chooses; one that is built in is explained in `slurm_apply`.

    Raises
    ------
    InvalidArgumentError
        A file has an unknown key, or a value that cannot be one; the message names file and line.
    UntrustedFolderError
        Others could have written a file; it can hold shell lines.

    Examples
    --------
    >>> from slurmapply import get_defaults, set_defaults
    >>> set_defaults(account="x")
    >>> get_defaults()["account"]
    Default(name='account', value='x', source='this session')
    >>> get_defaults()["nodes"]
    Default(name='nodes', value=2, source='built in')
    >>> set_defaults(account=None)
    """
    found = {name: Default(name, value, BUILT_IN) for name, value in _built_in().items()}
    found |= {name: Default(name, None, SLURM) for name in _OF_SLURM} | _of_environment()
    of_nobody = dict(found)
    for source, values in sources(None if folder is None else Path(folder)):
        for name, value in _spread(values):
            found[name] = Default(name, value, source)
            if value is None:  # an option that is taken back
                found[name] = of_nobody.get(name, found[name])
    if found["processes_per_node"].value is None:
        found["processes_per_node"] = Default(
            "processes_per_node", found["cpus_per_node"].value, "cpus_per_node"
        )
    # The submit script tries this one before any other.
    found |= {name: default for name, default in _of_environment().items() if name == "python"}
    named = (default for name, default in found.items() if name.startswith(f"{_OPTIONS}."))
    options = [option for option in named if option.value is not None]
    order = [found[name] for name in keywords() if name != _OPTIONS]
    return Defaults([*order, *(options or [found[_OPTIONS]])])


def _of_environment() -> dict[str, Default]:
    said = {
        name: next((variable for variable in variables if os.environ.get(variable)), None)
        for name, variables in _VARIABLES.items()
    }
    return {
        name: Default(name, os.environ[variable], f"environment variable {variable}")
        for name, variable in said.items()
        if variable
    }


def _built_in() -> dict[str, Any]:
    signature = inspect.signature(slurm_apply).parameters
    values = {name: signature[name].default for name in keywords()}
    values["python"] = sys.executable
    values[_OPTIONS] = {}
    return values


def _spread(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name == _OPTIONS:
            for option, setting in value.items():
                yield f"{_OPTIONS}.{str(option).replace('_', '-')}", setting
        else:
            yield name, value
