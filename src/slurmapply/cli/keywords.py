"""Keywords of `slurm_apply` from the command line: ``--set mem=4G``, ``--slurm qos=long``."""

from __future__ import annotations

import difflib
import inspect
import re
from typing import TYPE_CHECKING, Any

from slurmapply.cli.saying import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Given by the command's own arguments, or nothing that a shell can say.
NOT_FROM_SHELL = {
    "f": "the function is the first argument, FILE.py:FUNCTION",
    "params": "the parameters are the second argument, a file",
    "more_args": "say --arg NAME=VALUE",
    "slurm_options": "say --slurm OPTION=VALUE",
    "global_objects": "what the function uses goes along by itself",
    "initializer": "it is a function; write a script that calls slurm_apply",
}
#: Their values are text even where they look like a number: an account may be named 12.
_TEXTS = frozenset(
    {
        "account", "backend", "cost", "if_exists", "job_name", "jobs_folder", "mem", "partition",
        "python", "schedule", "template", "time",
    }
)  # fmt: skip
#: Given several times, they are lists.
LISTS = frozenset({"after", "by_value", "packages", "setup", "sys_path"})
_WORDS = {"true": True, "false": False, "none": None}


def settable() -> list[str]:
    """Give the keywords that ``--set`` knows."""
    from slurmapply.api import slurm_apply

    return [
        name for name in inspect.signature(slurm_apply).parameters if name not in NOT_FROM_SHELL
    ]


def read_settings(given: Iterable[str]) -> dict[str, Any]:
    """Read the values of ``--set``.

    Raises
    ------
    InputError
        One of them is no ``keyword=value``, or names no keyword; the nearest is offered.
    """
    known = settable()
    found: dict[str, Any] = {}
    for text in given:
        name, value = _split(text, "--set", "mem=4G")
        name = name.replace("-", "_")
        _check(name, known)
        typed = value if name in _TEXTS and value.lower() != "none" else typed_value(value)
        if name in LISTS:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise InputError(f"--set {name} is given twice.")
        else:
            found[name] = typed
    return found


def _check(name: str, known: list[str]) -> None:
    if name in known:
        return
    if name in NOT_FROM_SHELL:
        raise InputError(f"--set cannot give {name}: {NOT_FROM_SHELL[name]}.")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
    raise InputError(
        f"--set knows no keyword {name!r}. {hint} Options of sbatch itself go into --slurm."
    )


def typed_value(text: str) -> Any:
    """Read a value: a number, true, false, none, else text; in quotes it is text.

    Examples
    --------
    >>> [typed_value(text) for text in ("4", "0.5", "true", "None", "4G", '"4"')]
    [4, 0.5, True, None, '4G', '4']
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        return float(text)
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def read_arguments(given: Iterable[str]) -> dict[str, Any]:
    """Read the values of ``--arg``: arguments that are the same for every row."""
    pairs = (_split(text, "--arg", "data=train.csv") for text in given)
    return {name: typed_value(value) for name, value in pairs}


def read_slurm_options(given: Iterable[str]) -> dict[str, Any]:
    """Read the values of ``--slurm``: an option of sbatch, alone where it is a flag."""
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.removeprefix("--").partition("=")
        options[name] = _WORDS.get(value.lower(), value) if equals else True
    return options


def _split(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"{option} {text}: NAME=VALUE is needed, such as {option} {example}.")
    return name.strip(), value
