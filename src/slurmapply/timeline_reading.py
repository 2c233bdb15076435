"""Reading a job's timeline from its folder; unpickles nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slurmapply.intents import submission_time
from slurmapply.states import OVER
from slurmapply.timeline import Moment, timeline

if TYPE_CHECKING:
    from slurmapply.disk import FolderDisk
    from slurmapply.following import Follower
    from slurmapply.states import JobState
    from slurmapply.timeline import Timeline


def read_timeline(disk: FolderDisk, follower: Follower, state: JobState) -> Timeline:
    """Give what ran when and where.

    Parameters
    ----------
    disk, follower
        The folder, and what is known of it.
    state
        The job's, at this look.
    """
    alive = state not in OVER
    runs = [follower.view_run(number) for number in range(follower.run.number + 1)]
    times = {run.number: submission_time(disk, run.number) for run in runs}
    running = frozenset(follower.running_rows()) if alive else frozenset()
    return timeline(
        runs,
        follower.outcomes.frames,
        {run: moment for run, moment in times.items() if moment is not None},
        Moment(time.time(), running, alive),
    )
