"""What a report is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from slurmapply.collecting import Collector
    from slurmapply.consoles import Consoles
    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.parameters import Parameters
    from slurmapply.states import JobState
    from slurmapply.status import JobStatus
    from slurmapply.timeline import Timeline
    from slurmapply.usage import Usage


class Sources(NamedTuple):
    """A job at a moment.

    Attributes
    ----------
    job, folder, disk
        Its ``job.json``; where it is.
    follower, parameters, collector, consoles
        What reads the folder.
    state, timeline
        At this look.
    status
        Gives the status at this look; what turned out to be damaged since counts.
    load_function
        Gives the function; unpickles, with the checks that go before it.
    usage
        Gives what was asked for against what was used.
    """

    job: Mapping[str, Any]
    folder: Path
    disk: FolderDisk
    follower: Follower
    parameters: Parameters
    collector: Collector
    consoles: Consoles
    state: JobState
    status: Callable[[], JobStatus]
    timeline: Timeline
    load_function: Callable[[], Any]
    usage: Callable[[], Usage]
