"""Going on trying with a disk that says no: full, over quota, gone for a while."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

#: A quota is raised, a disk cleared, a server back within minutes, or not soon.
PATIENCE = 300.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0

T = TypeVar("T")


def insist(action: Callable[[], T], complain: Callable[[OSError], object]) -> T:
    """Do something with the disk, again and again while it fails, for five minutes.

    Parameters
    ----------
    action
        Must bear to be done again after it failed half way.
    complain
        Called with the first error.

    Raises
    ------
    OSError
        The last one; at once where the folder is gone.
    """
    deadline = 0.0
    pause = _FIRST_PAUSE
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno == errno.ENOENT:  # the folder itself is gone, and does not come back
                raise
            if not deadline:
                deadline = time.monotonic() + PATIENCE
                complain(error)
            elif time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)
