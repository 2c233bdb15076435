"""What notebooks show: jobs, statuses, rows and progress as small pieces of HTML.

Everything in them is escaped by the template, every length has a bound, and colours are those of
the notebook's own theme where it names them (JupyterLab, VS Code), else of the reader's system.
"""

from __future__ import annotations

import functools
import html
from typing import TYPE_CHECKING, Any

from slurmapply.progressbar import rate, words
from slurmapply.states import FAILED, JobState, RowStatus
from slurmapply.wording import bounded, duration, harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import jinja2

    from slurmapply.collecting import RowReport
    from slurmapply.status import JobStatus

#: Characters of HTML: a notebook keeps what it has shown, and some have hundreds of cells.
_LONGEST_TEXT = 3000
_LONGEST_LINE = 400
_LONGEST_VALUE = 1000
_MOST_LINES = 8
_MOST_PARAMETERS = 12

# The colours of outcomes are the report's: a theme's green and red are alike to many people.
# The reversed column of a long text begins at its end, where a traceback says what it was.
_STYLE = """
.slurmapply{--sa-text:var(--jp-content-font-color1,var(--vscode-editor-foreground,#1f2328));
--sa-ground:var(--jp-layout-color1,var(--vscode-editor-background,#fff));
--sa-line:var(--jp-border-color2,var(--vscode-panel-border,#d0d7de));
--sa-ok:#00875f;--sa-bad:#d0500c;--sa-run:#2c8ec8;--sa-left:#8a6d3b;--sa-wait:#c3c9cf;
color:var(--sa-text);background:var(--sa-ground);border:1px solid var(--sa-line);
border-radius:4px;padding:.6em .9em;margin:.2em 0;max-width:56em;font-size:.93em;line-height:1.45;
font-family:var(--jp-ui-font-family,system-ui,sans-serif);overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){.slurmapply{
--sa-text:var(--jp-content-font-color1,var(--vscode-editor-foreground,#e6edf3));
--sa-ground:var(--jp-layout-color1,var(--vscode-editor-background,#161b22));
--sa-line:var(--jp-border-color2,var(--vscode-panel-border,#444c56));
--sa-ok:#17b287;--sa-bad:#f07d3f;--sa-run:#5fb8ee;--sa-left:#c4a46c;--sa-wait:#4b545d}}
.slurmapply .sa-bar{display:flex;height:.8em;margin:.5em 0;border-radius:2px;overflow:hidden;
background:var(--sa-line)}
.slurmapply .sa-bar i{min-width:2px}
.slurmapply .sa-ok{background:var(--sa-ok)}.slurmapply .sa-bad{background:var(--sa-bad)}
.slurmapply .sa-run{background:var(--sa-run)}.slurmapply .sa-left{background:var(--sa-left)}
.slurmapply .sa-wait{background:var(--sa-wait)}
.slurmapply .sa-dot{display:inline-block;width:.7em;height:.7em;border-radius:2px}
.slurmapply .sa-key{margin-right:1.2em;white-space:nowrap}
.slurmapply ul{margin:.4em 0;padding-left:1.3em}
.slurmapply .sa-quiet{opacity:.75}
.slurmapply code,.slurmapply pre{font-family:var(--jp-code-font-family,monospace);
font-size:.95em;color:inherit;background:none;padding:0}
.slurmapply pre{white-space:pre;max-height:24em;overflow:auto;margin:.3em 0;
display:flex;flex-direction:column-reverse;scrollbar-color:var(--sa-wait) transparent}
.slurmapply table{border-collapse:collapse;margin:.4em 0;color:inherit;font-size:inherit}
.slurmapply td,.slurmapply th{border:0;padding:.1em 1em .1em 0;text-align:left;vertical-align:top;
background:none}
.slurmapply th{white-space:nowrap;font-weight:normal}
.slurmapply summary{cursor:pointer}
"""

_PARTS = """
{%- macro bar(parts) -%}
<div class="sa-bar" aria-hidden="true">
{%- for part in parts %}<i class="sa-{{ part.kind }}" style="flex:{{ part.rows }} 1 0"></i>
{%- endfor %}</div>
<div>{% for part in parts %}<span class="sa-key"><i class="sa-dot sa-{{ part.kind }}"></i>
 {{ part.rows }} {{ part.name }}</span>{% endfor %}</div>
{%- endmacro -%}
{%- macro next(calls) -%}
{% if calls %}<div class="sa-next">Next: {% for code, why in calls %}<code>{{ code }}</code>
 {{ why }}{{ "" if loop.last else "; " }}{% endfor %}</div>{% endif %}
{%- endmacro -%}
"""

_TEMPLATES = {
    "progress": """<b>{{ name }}</b> {{ said }}{{ bar(parts) }}""",
    "line": """{{ said }}""",
    "job": """<div><b>{{ name }}</b> is {{ state }}: {{ said }}</div>
{{ bar(parts) if parts }}
{% if causes %}<ul>{% for head, rest in causes %}<li><b>{{ head }}</b>: {{ rest }}</li>
{% endfor %}</ul>{% endif %}
{% for line in lines %}<div>{{ line }}</div>{% endfor %}
{{ next(calls) }}
{% if folder %}<div class="sa-quiet">{{ folder }}</div>{% endif %}""",
    "row": """<div><b>row {{ number }}</b>: {{ status }}{{ said }}</div>
{% if sentence %}<div>{{ sentence }}</div>{% endif %}
<table>{% for name, shown in values %}<tr><th>{{ name }}</th>
<td><code>{{ shown }}</code></td></tr>
{% endfor %}</table>
{% if traceback %}<details open><summary>traceback</summary><pre>{{ traceback }}</pre></details>
{% endif %}
{% if log %}<details{{ " open" if not traceback }}><summary>what it printed</summary>
<pre>{{ log }}</pre></details>{% endif %}
{{ next(calls) }}""",
}


def job_card(
    folder: Path, look: Callable[[], tuple[JobStatus, list[str]]], limit: int = _MOST_LINES
) -> str | None:
    """Show a job; None where that cannot be done, so that the notebook shows its text instead.

    Parameters
    ----------
    folder
        The job's.
    look
        Gives its status, and a sentence for each cause of failures.
    limit
        How many causes are shown.
    """
    try:
        status, causes = look()
        return _of_job(status, causes[:limit], [], str(folder))
    except Exception:  # noqa: BLE001  # a repr that raises spoils every traceback
        return None


def status_card(status: JobStatus, queue: list[str]) -> str | None:
    """Show a look at a job, with what the batch system said at it; None as for `job_card`.

    Parameters
    ----------
    status, queue
        Of the job; a line for each of the first tasks.
    """
    try:
        return _of_job(status, status.reasons[:_MOST_LINES], [*queue, status.note], "")
    except Exception:  # noqa: BLE001  # a repr that raises spoils every traceback
        return None


def row_card(report: RowReport) -> str | None:
    """Show all of one row; None as for `job_card`."""
    try:
        return _of_row(report)
    except Exception:  # noqa: BLE001  # a repr that raises spoils every traceback
        return None


def progress_card(status: JobStatus, waited: float) -> str:
    """Show how a job is doing while a cell waits for it.

    Parameters
    ----------
    status, waited
        Of the job; seconds of waiting so far.
    """
    said = [*words(status), rate(status), f"{duration(waited)} so far"]
    return _render(
        "progress", name=_line(status.name), said=", ".join(filter(None, said)),
        parts=_parts(status.counts),
    )  # fmt: skip


def line_card(text: str) -> str:
    """Show one line."""
    return _render("line", said=_line(text))


def _of_job(status: JobStatus, causes: list[str], lines: list[str], folder: str) -> str:
    heads = (_line(cause).partition(": ") for cause in causes)
    return _render(
        "job",
        name=_line(status.name),
        state=status.state,
        said=_line(status.summary()),
        parts=_parts(status.counts),
        causes=[(head, rest) for head, _, rest in heads],
        lines=[_line(line) for line in lines if line],
        calls=_next_calls(status),
        folder=_line(folder),
    )


def _next_calls(status: JobStatus) -> list[tuple[str, str]]:
    """Name what one would call now, and what for."""
    if status.state is JobState.PREPARED:
        return [("job.submit()", "starts it")]
    if status.state is JobState.UNKNOWN:
        return [("job.status()", "asks again")]
    look = [("job.errors()", "is a table of the rows that are not ok")] if status.not_ok else []
    if not status.completed:
        return [*look, ("job.wait()", "waits for its end")]
    if look:
        return [*look, ("job.retry()", "runs them again, with f=... after a mend")]
    return [("job.table()", "has the results"), ("job.cleanup()", "deletes the folder")]


def _of_row(report: RowReport) -> str:
    shown = [*report.parameters.items()]
    values = [(_line(name), _shown(value)) for name, value in shown[:_MOST_PARAMETERS]]
    if len(shown) > len(values):
        values.append(("...", f"{len(shown) - len(values)} more parameters"))
    if report.status == RowStatus.OK:
        values.append(("returned", _shown(report.value)))
    calls = []
    if report.status != RowStatus.OK and report.cause:
        again = f"job.retry([{report.number}])"
        calls = [
            (f"job.run_row({report.number})", "calls it here, for a debugger"),
            (again, "runs it again"),
        ]
    return _render(
        "row",
        number=report.number,
        status=report.status,
        said=_line(_measures(report)),
        sentence=_line(report.sentence),
        values=values,
        traceback=_last(report.traceback),
        log=_last(report.log),
        calls=calls,
    )


def _measures(report: RowReport) -> str:
    said = []
    if report.seconds is not None:
        said.append(f"{report.seconds:.3g} s")
    if report.cpu_seconds is not None:
        said.append(f"{report.cpu_seconds:.3g} CPU s")
    if report.peak_mb is not None:
        said.append(f"{report.peak_mb:.0f} MB at its peak")
    said += [f"on {report.host}"] * bool(report.host)
    said += [f"attempt {report.attempt}"] * (report.attempt > 1)
    return f", {', '.join(said)}" if said else ""


def _parts(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"name": status.value, "rows": counts[status], "kind": _kind(status)}
        for status in _ORDER
        if counts.get(status)
    ]


_ORDER = (
    RowStatus.OK, *(status for status in RowStatus if status in FAILED),
    RowStatus.UNFINISHED, RowStatus.CANCELLED, RowStatus.RUNNING, RowStatus.PENDING,
)  # fmt: skip
_KINDS = {
    RowStatus.OK: "ok", RowStatus.RUNNING: "run", RowStatus.PENDING: "wait",
    RowStatus.UNFINISHED: "left", RowStatus.CANCELLED: "left",
}  # fmt: skip


def _kind(status: RowStatus) -> str:
    return _KINDS.get(status, "bad")


# -- texts with bounds -------------------------------------------------------------------------


def _line(text: str) -> str:
    return _cut(" ".join(harmless(str(text)).split()), _LONGEST_LINE)


def _cut(text: str, limit: int) -> str:
    """Cut a text to so many characters of HTML."""
    if _html_length(text) <= limit:
        return text
    text = text[:limit]
    while _html_length(text) > limit - 3:
        text = text[: len(text) * 3 // 4]
    return f"{text}..."


def _last(text: str) -> str:
    """Give the last part of a text, which tells most, in whole lines where there are some."""
    text = text.strip("\n")
    end = harmless(text[-_LONGEST_TEXT:])
    while _html_length(end) > _LONGEST_TEXT:
        end = end[len(end) // 4 + 1 :]
    if len(end) >= len(text):
        return end
    return f"... the last of {len(text)} characters:\n{end.partition(chr(10))[2] or end}"


def _html_length(text: str) -> int:
    return len(html.escape(text))


def _shown(value: Any) -> str:
    return _cut(harmless(bounded(value, _LONGEST_VALUE)), _LONGEST_VALUE)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415  # 30 ms, in notebooks only

    # {% include %} is not used: each template has the macros at its top.
    sources = {name: _PARTS + source for name, source in _TEMPLATES.items()}
    return jinja2.Environment(
        loader=jinja2.DictLoader(sources), autoescape=True, undefined=jinja2.StrictUndefined
    )


def _render(template: str, **values: Any) -> str:
    inside = _environment().get_template(template).render(values)
    return f'<div class="slurmapply"><style>{_STYLE}</style>{inside}</div>'
