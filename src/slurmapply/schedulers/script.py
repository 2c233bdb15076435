"""The batch script: a template filled by plain substitution.

It is small and of constant size, whatever the rows. Its last line replaces the shell by Python
with ``exec``, because under ``proctrack/cgroup`` Slurm signals only direct children of
slurmstepd (``proctrack_cgroup.c``; tried on 22.05.8: without ``exec`` Python gets no signal at
all before it is killed).
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from slurmapply.errors import InvalidArgumentError
from slurmapply.schedulers.command import run
from slurmapply.schedulers.options import directives

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurmapply.schedulers.options import Options

_FIELD = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_NEEDED_FIELDS = ("command",)
_MODULE_WORD = re.compile(r"(?<![\w./-])(?:module|ml)(?![\w./=-])")
_CONDA_WORD = re.compile(r"(?<![\w./-])conda\s+activate\b")

_TEMPLATE = r"""#!/bin/bash
{{directives}}
#
# Starts one task of a job of slurmapply, in the job folder. By hand:
#     cd <job folder> && sbatch {{script}}          (without Slurm: bash {{script}})

slurmapply_fail() { trap - EXIT; printf 'slurmapply: %s\n' "$*" >&2; exit 1; }

if [ ! -f job.json ]; then
    slurmapply_fail "no job.json in $PWD: start {{script}} in the job folder (cd there first)"
fi
slurmapply_folder=$PWD

# A stop that is asked for during slow setup lines is remembered for the worker.
unset SLURMAPPLY_STOP
trap 'export SLURMAPPLY_STOP="${SLURMAPPLY_STOP:-USR1}"' USR1
trap 'export SLURMAPPLY_STOP=TERM' TERM
trap 'slurmapply_fail "a setup line ended the script (status $?), nothing was run"' EXIT

# Which GPUs Slurm gave. Where the setup lines change that, workers leave them alone.
SLURMAPPLY_GPUS=
for slurmapply_name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES \
    GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK; do
    SLURMAPPLY_GPUS+=" $slurmapply_name=${!slurmapply_name:-}"
done
export SLURMAPPLY_GPUS

{{setup}}
# CPUs per worker, for libraries that would start a thread for every CPU of the machine.
for slurmapply_name in OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS \
    POLARS_MAX_THREADS RAYON_NUM_THREADS LOKY_MAX_CPU_COUNT; do
    if [ -z "${!slurmapply_name:-}" ]; then export "$slurmapply_name={{threads}}"; fi
done

# The first Python of the version that the function was pickled with.
slurmapply_python=
for slurmapply_try in "${SLURMAPPLY_PYTHON:-}" {{python}} python{{version}} python3; do
    if [ -n "$slurmapply_try" ] && "$slurmapply_try" -S -E -c \
        'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "{{version}}")' \
        </dev/null >/dev/null 2>&1; then
        slurmapply_python=$slurmapply_try
        break
    fi
done
if [ -z "$slurmapply_python" ]; then
    slurmapply_fail "no Python {{version}} on $HOSTNAME. Tried: \$SLURMAPPLY_PYTHON" \
        "(${SLURMAPPLY_PYTHON:-not set}),"  {{python}}, "python{{version}}, python3." \
        "Load one in setup=, or name one with python=."
fi

cd -- "$slurmapply_folder" || slurmapply_fail "cannot go back to $slurmapply_folder"
trap - EXIT
# exec: Slurm signals only its direct child, which Python has to be.
exec "$slurmapply_python" {{command}}
"""

_MODULES = r"""# `module` is a shell function, which a batch shell does not have by itself.
for slurmapply_file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh \
    /etc/profile.d/z00_lmod.sh "${LMOD_PKG:-}/init/bash" "${MODULESHOME:-}/init/bash"; do
    if type -t {{word}} >/dev/null; then break; fi
    if [ -r "$slurmapply_file" ]; then . "$slurmapply_file"; fi
done
"""

_CONDA = r"""# `conda activate` is a shell function too.
if [ "$(type -t conda)" != function ]; then
    if type -t conda >/dev/null; then
        eval "$(conda shell.bash hook)"
    elif [ -x "${CONDA_EXE:-}" ]; then
        eval "$("$CONDA_EXE" shell.bash hook)"
    fi
fi
"""

# The blank line ends an entry whose last character is a backslash.
_SETUP_ENTRY = r"""{{entry}}

slurmapply_status=$?
if [ "$slurmapply_status" -ne 0 ]; then
    slurmapply_fail "setup line failed with status $slurmapply_status:" {{quoted}}
fi
"""


def default_template() -> str:
    """Return slurmapply's own template of the batch script.

    A copy of it, with a site's lines added, can be given as ``template=``.
    """
    return _TEMPLATE


def render(template: str, fields: Mapping[str, str]) -> str:
    """Fill a template. What is filled in is never looked at again.

    Parameters
    ----------
    template
        Text with ``{{name}}`` fields.
    fields
        Name to text.

    Raises
    ------
    InvalidArgumentError
        The template has a field that we do not know, or lacks one that it needs.
    """
    used = {match[1] for match in _FIELD.finditer(template)}
    unknown = sorted(used - fields.keys())
    if unknown:
        raise InvalidArgumentError(
            f"template: unknown field {_braced(unknown)}. Known are {_braced(sorted(fields))}.",
            argument="template",
        )
    missing = [name for name in _NEEDED_FIELDS if name not in used]
    if missing:
        raise InvalidArgumentError(
            f"template: it lacks {_braced(missing)}, without which nothing would run. Its last line"
            f' should be: exec "$python" {{{{command}}}}  (see default_template()).',
            argument="template",
        )
    return _substituted(template, fields)


def script_fields(
    *,
    options: Options,
    script: str,
    setup: Sequence[str],
    cpus_per_node: int,
    processes_per_node: int,
    python: str,
    version: tuple[int, int],
    command: Sequence[str],
) -> dict[str, str]:
    """Return the fields of the batch script.

    Parameters
    ----------
    options
        What is asked of sbatch.
    script
        Where the script will be, relative to the job folder.
    setup
        Shell text to be run before Python, each entry one or more lines.
    cpus_per_node, processes_per_node
        From which the number of threads per worker follows.
    python
        The interpreter to try first.
    version
        Its major and minor version.
    command
        Arguments for the interpreter.

    Raises
    ------
    InvalidArgumentError
        A setup entry is not text, or cannot stand in a script.
    """
    return {
        "directives": "\n".join(directives(options)),
        "script": script,
        "setup": _setup(setup),
        "threads": str(max(1, cpus_per_node // processes_per_node)),
        "python": shlex.quote(python),
        "version": f"{version[0]}.{version[1]}",
        "command": shlex.join(command),
    }


def check_syntax(script: str, *, argument: str = "setup") -> None:
    """Have bash read a script without running it.

    Parameters
    ----------
    script
        The whole script.
    argument
        Which argument is to blame: ``"setup"`` or ``"template"``.

    Raises
    ------
    InvalidArgumentError
        Bash does not understand it.
    """
    completed = run(["bash", "-n", "-c", script], purpose="checking the batch script", check=False)
    # An unended here-document is a warning only, and swallows the rest of the script.
    if completed.exit_code != 0 or completed.stderr:
        said = completed.stderr.strip()
        raise InvalidArgumentError(
            f"{argument}: the batch script would not be valid shell. bash says: {said}",
            argument=argument,
        )


def _setup(entries: Sequence[str]) -> str:
    cleaned = [_entry(entry) for entry in ([entries] if isinstance(entries, str) else entries)]
    text = "\n".join(cleaned)
    parts = []
    if _MODULE_WORD.search(text):
        word = "module" if re.search(r"(?<![\w./-])module\b", text) else "ml"
        parts.append(_substituted(_MODULES, {"word": word}))
    if _CONDA_WORD.search(text):
        parts.append(_CONDA)
    parts += [
        _substituted(_SETUP_ENTRY, {"entry": entry, "quoted": shlex.quote(entry)})
        for entry in cleaned
    ]
    return "".join(parts)


def _entry(entry: object) -> str:
    if not isinstance(entry, str):
        raise InvalidArgumentError(
            f"setup: an entry is a string of shell text, not {entry!r}.", argument="setup"
        )
    if "\0" in entry:
        raise InvalidArgumentError(
            f"setup: {entry!r} holds a NUL character, which no script can: leave it out.",
            argument="setup",
        )
    # sbatch refuses a script with DOS line ends.
    return entry.replace("\r\n", "\n").replace("\r", "\n").strip("\n")


def _substituted(template: str, fields: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: fields[match[1]], template)


def _braced(names: Iterable[str]) -> str:
    return ", ".join("{{" + name + "}}" for name in names)
