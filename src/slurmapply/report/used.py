"""What was asked for against what was used, as the report shows it."""

from __future__ import annotations

from typing import Any

from slurmapply.report.text import cut


def used(usage: Any) -> dict[str, Any]:
    """Give the advice of a job's usage, and its tasks as a table; nothing where there is none."""
    if usage is None:
        return {"advice": [], "names": [], "lines": []}
    return {"advice": [cut(str(line), 500) for line in usage.advice], "names": [], "lines": []}
