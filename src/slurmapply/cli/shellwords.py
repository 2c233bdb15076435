"""Messages say what to type in Python; on the command line they say it in the shell's words."""

from __future__ import annotations

import ast
import re
import shlex

from slurmapply.cli.keywords import settable

_CALL = re.compile(r"\bjob\.([a-z_]+)\(([^()]*)\)")
_OPENED = re.compile(r'\bSlurmJob\.open\("([^"]*)"\)(?:\.(\w+)\(\))?')
#: With a value in quotes, or as messages name a keyword alone: "with mem=, or with less time=."
_KEYWORD = re.compile(r"""(?<!--set )\b([a-z_]+)=(?:"([^"]*)"|'([^']*)'|(?=[\s,.;:)]|$))""")
#: These have options of their own; others are settings.
_OWN_OPTIONS = {"job_name": "--name", "nodes": "--nodes", "cpus_per_node": "--cpus-per-node"}
#: What a method is called here; the verb of most is their own name.
_VERBS = {
    "cancel": "cancel",
    "cleanup": "cleanup",
    "errors": "errors",
    "logs": "logs",
    "report": "report",
    "results": "results",
    "retry": "retry",
    "row": "errors",
    "status": "status",
    "submit": "submit",
    "table": "results",
    "usage": "usage",
    "wait": "watch",
}
_PLAIN = (
    ("SlurmJob.open takes", "NAME may be"),
    ("Open it with SlurmJob.open", "Look at it with slurmapply status"),
    ("another job_name", "another --name"),
    ("list_jobs()", "slurmapply ls"),
    ("get_defaults()", "slurmapply config"),
    ("doctor()", "slurmapply doctor"),
    ("trust=True", "--trust"),
)
_OPTIONS = {"row": "--row", "task": "--task", "rows": "--rows", "path": "-o", "keep": "--keep"}
_FIRST = {"row": "--row", "logs": "--row", "retry": "--rows", "report": "-o"}


def in_shell_words(text: str, name: str) -> str:
    """Rewrite calls of a job's methods as commands, and keywords as options.

    Parameters
    ----------
    text
        A message.
    name
        The job's name.

    Examples
    --------
    >>> in_shell_words('try job.retry(rows="out_of_memory", mem="8G") later.', "tuning")
    'try slurmapply retry tuning --rows out_of_memory --set mem=8G later.'
    >>> in_shell_words("job.run_row(3) is for Python alone", "tuning")
    'job.run_row(3) is for Python alone'
    """
    name = shlex.quote(name)
    text = _OPENED.sub(lambda m: f"slurmapply {_VERBS.get(m[2] or '', 'status')} {m[1]}", text)
    text = _CALL.sub(lambda match: _command(match, name), text)
    text = _KEYWORD.sub(_setting, text)
    for python, shell in _PLAIN:
        text = text.replace(python, shell)
    return text


def _setting(match: re.Match[str]) -> str:

    keyword, value = match[1], match[2] or match[3]
    if keyword in _OWN_OPTIONS:
        return " ".join([_OWN_OPTIONS[keyword], *([shlex.quote(value)] if value else [])])
    if keyword not in settable():
        return match[0]
    return f"--set {keyword}={shlex.quote(value) if value else ''}"


def _command(match: re.Match[str], name: str) -> str:
    verb = _VERBS.get(match[1])
    if verb is None:
        return match[0]
    try:
        call = ast.parse(match[0], mode="eval").body
    except SyntaxError:
        return match[0]
    if not isinstance(call, ast.Call):
        return match[0]
    words = [_option(_FIRST.get(match[1], ""), value) for value in call.args]
    words += [_option(keyword.arg or "", keyword.value) for keyword in call.keywords]
    return " ".join(["slurmapply", verb, name, *filter(None, words)])


def _option(keyword: str, value: ast.expr) -> str:
    if keyword == "f":
        return "--function FILE.py:FUNCTION"
    if keyword == "force":
        return "--force"
    word = shlex.quote(_word(value))
    if keyword.startswith("-"):
        return f"{keyword} {word}"
    if keyword in _OPTIONS:
        return f"{_OPTIONS[keyword]} {word}"
    return f"--set {keyword}={word}" if keyword else ""


def _word(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and value.value is not ...:
        return str(value.value)
    if isinstance(value, (ast.List, ast.Tuple)):
        return ",".join(_word(item) for item in value.elts)
    return ast.unparse(value)
