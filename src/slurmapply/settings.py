"""Defaults of a site, a project or a session for the keywords of `slurm_apply`.

Later ones win: the user's own file, ``slurmapply.toml`` in the working folder, what
`set_defaults` set for this Python session, and above all the arguments of a call. Only
``slurm_options`` is merged name by name.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import secrets
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmapply.errors import InvalidArgumentError, UntrustedFolderError
from slurmapply.resources import check_gpus, check_max_failures, check_retries
from slurmapply.schedulers.amounts import parse_memory, parse_seconds, parse_time
from slurmapply.schedulers.options import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    Check: TypeAlias = Callable[[Any], object]

FILE_NAME = "slurmapply.toml"
#: What `sources` calls `set_defaults` without ``save=True``.
THIS_SESSION = "this session"


class SessionDefaults:
    """What was set for this Python session: one object, made on first use by `session`.

    A test begins anew with ``session.cache_clear()``.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}


@functools.cache
def session() -> SessionDefaults:
    """Return the object that holds this session's defaults."""
    return SessionDefaults()


def load_defaults(folder: Path | None = None) -> dict[str, Any]:
    """Return the defaults that hold in a folder.

    Parameters
    ----------
    folder
        The working folder; the current one by default.

    Raises
    ------
    InvalidArgumentError
        A file has an unknown key, or a value that cannot be one.
    UntrustedFolderError
        Others could have written a file; it can hold shell lines.
    """
    layers = [values for _, values in sources(folder)]
    defaults: dict[str, Any] = {}
    for layer in layers:
        defaults.update(layer)
    options = merge_slurm_options(*(layer.get("slurm_options") for layer in layers))
    defaults.pop("slurm_options", None)
    return defaults | ({"slurm_options": options} if options else {})


def sources(folder: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return what sets defaults in a folder, the weakest first; what sets none is left out.

    Parameters
    ----------
    folder
        The working folder; the current one by default.

    Returns
    -------
    list
        The path of a file or `THIS_SESSION`, and keywords with their values.

    Raises
    ------
    InvalidArgumentError, UntrustedFolderError
        As in `load_defaults`.
    """
    files = (user_file(), (folder or Path.cwd()) / FILE_NAME)
    found = [(str(path), _read(path)) for path in files]
    return [layer for layer in [*found, (THIS_SESSION, session().values)] if layer[1]]


def keywords() -> tuple[str, ...]:
    """Return the keywords that may have a default, in the order in which they are shown."""
    return tuple(_CHECKS)


def set_defaults(*, save: bool = False, **defaults: Any) -> Path | None:
    """Set defaults for keywords of `slurm_apply`.

    Parameters
    ----------
    save
        False: for this Python session. True: in the user's own file, for all later sessions;
        what else is in the file stays as it is.
    **defaults
        Keyword and value; None takes back what was set before.

    Returns
    -------
    Path or None
        The file that was written.

    Raises
    ------
    InvalidArgumentError
        There is no such keyword, or the value cannot be one.

    Examples
    --------
    >>> set_defaults(account="x", slurm_options={"qos": "long"})
    >>> load_defaults()["account"]
    'x'
    >>> set_defaults(account=None, slurm_options=None)
    """
    for name, value in defaults.items():
        _check(name, value, "set_defaults")
    values = session().values
    for name, value in defaults.items():
        # A saved value would not be seen behind an older one of the session.
        if value is None or save:
            values.pop(name, None)
        elif name == "slurm_options":
            values[name] = _spelled(values.get(name)) | _spelled(value)
        else:
            values[name] = value
    return _save(defaults) if save else None


def user_file() -> Path:
    """Return the path of the user's own settings, whether or not it exists."""
    import platformdirs  # noqa: PLC0415  seldom needed, and not on a node

    return Path(platformdirs.user_config_dir("slurmapply", appauthor=False)) / FILE_NAME


def merge_slurm_options(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return options of sbatch, later layers over earlier ones; None removes.

    Examples
    --------
    >>> merge_slurm_options({"qos": "long", "mail_type": "END"}, {"mail-type": None})
    {'qos': 'long'}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= _spelled(layer)
    return {name: value for name, value in merged.items() if value is not None}


def _spelled(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {str(name).replace("_", "-"): value for name, value in (options or {}).items()}


def _read(path: Path) -> dict[str, Any]:
    text = _trusted_text(path)
    if text is None:
        return {}
    import tomlkit  # noqa: PLC0415  seldom needed, and not on a node
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    try:
        settings = tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        raise InvalidArgumentError(f"{path} is not valid TOML: {error}") from error
    for name, value in settings.items():
        _check(name, value, f"{path}, line {_line_of(name, text)}")
    return {name: _expanded(name, value) for name, value in settings.items()}


def _line_of(name: str, text: str) -> int:
    """Find the line on which a file sets something, 1 if it is written in an unusual way."""
    begins = re.compile(rf"\s*\[?\s*[\"']?{re.escape(name)}[\"']?\s*[].=]")
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, start=1) if begins.match(line)), 1)


def _trusted_text(path: Path) -> str | None:
    try:
        file = path.open(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        # What a stranger left in a folder that everybody can write to would be run as shell.
        status = os.fstat(file.fileno())
        open_folder = path.parent.stat().st_mode & stat.S_IWOTH
        stranger = status.st_uid not in {os.getuid(), 0}
        if status.st_mode & stat.S_IWOTH or (stranger and open_folder):
            raise UntrustedFolderError(
                f"{path} could have been written by anybody, and its setup lines would be run as"
                f" you. Take it away, or if it is yours: chmod o-w '{path}'.",
                path=path,
            )
        try:
            return file.read()
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise InvalidArgumentError(
                f"{path}, line {line}: it is not UTF-8 text, as TOML has to be: {error.reason}."
            ) from error


def _save(defaults: Mapping[str, Any]) -> Path:
    import tomlkit  # noqa: PLC0415  seldom needed, and not on a node

    path = user_file()
    _read(path)  # a file that cannot be read is not overwritten
    document = tomlkit.parse(_trusted_text(path) or "")
    for name, value in defaults.items():
        if name == "slurm_options" and value is not None:
            _put_options(document.setdefault(name, tomlkit.table()), value)
        else:
            _put(document, {name: value})
    _write(path, tomlkit.dumps(document))
    return path


def _put_options(table: Any, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        # The file may spell it the other way.
        for spelling in {name.replace("_", "-"), name.replace("-", "_")}:
            table.pop(spelling, None)
        _put(table, {name: value})


def _put(table: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            table.pop(name, None)
        else:
            table[name] = _storable(value)


def _storable(value: Any) -> Any:
    if isinstance(value, timedelta):
        return parse_time(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _check(name: str, value: object, where: str) -> None:
    if name not in _CHECKS:
        near = difflib.get_close_matches(name, _CHECKS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(_CHECKS)}."
        raise InvalidArgumentError(f"{where}: no default {name!r}. {hint}", argument=name)
    if value is None:
        return
    wanted, check = _CHECKS[name]
    try:
        fits = check(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{where}: {error}", argument=name) from None
    if not fits:
        raise InvalidArgumentError(
            f"{where}: {name} should be {wanted}, not {value!r}.", argument=name
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_path(value: object) -> bool:
    return isinstance(value, Path) or _is_text(value)


def _are_texts(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    )


def _are_paths(value: object) -> bool:
    return _is_path(value) or (
        isinstance(value, (list, tuple)) and all(_is_path(item) for item in value)
    )


def _are_options(value: object) -> bool:
    return isinstance(value, dict) and check_options(value) is not None


def _are_seconds(value: object) -> bool:
    return parse_seconds(value, "row_timeout") > 0


def _is_retries(value: object) -> bool:
    return check_retries(value) >= 0


def _expanded(name: str, value: Any) -> Any:
    if name not in {"template", "jobs_folder", "python", "sys_path"}:
        return value
    if isinstance(value, list):
        return [os.path.expanduser(item) for item in value]  # noqa: PTH111  stays a string
    return os.path.expanduser(value)  # noqa: PTH111


_COUNT = ("a whole number above zero", _is_count)
_TEXT = ("a string", _is_text)
_PATH = ("a path", _is_path)
_TEXTS = ("a string or a list of strings", _are_texts)
_CHECKS: Mapping[str, tuple[str, Check]] = {
    "nodes": _COUNT,
    "cpus_per_node": _COUNT,
    "processes_per_node": _COUNT,
    "time": ("a time in quotes", parse_time),
    "mem": ("an amount of memory", parse_memory),
    "partition": _TEXT,
    "account": _TEXT,
    "slurm_options": ("a table of options", _are_options),
    "task_limit": _COUNT,
    "setup": _TEXTS,
    "python": _PATH,
    "sys_path": ("a path or a list of paths", _are_paths),
    "template": _PATH,
    "jobs_folder": _PATH,
    "backend": ("auto, slurm, local or inline", ("auto", "slurm", "local", "inline").__contains__),
    "packages": _TEXTS,
    "by_value": _TEXTS,
    "schedule": ("dynamic or static", ("dynamic", "static").__contains__),
    "chunksize": _COUNT,
    "gpus_per_node": ("a number of GPUs", check_gpus),
    "row_timeout": ("seconds", _are_seconds),
    "max_failures": ("auto or a whole number above zero", check_max_failures),
    "retries": ("a whole number", _is_retries),
}
