"""How fast work goes that may wait, in threads beside the turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_REST_TIMES: Final = 4.0
"""The others get so many times what a part of the work took."""
_REST_S_MAX: Final = 0.2


class LongBodyPace:
    """Of one job. The slower its parts are, since others need the disk and the cores too, the
    longer it rests. Once `is_stopping` says so, it rests no more: somebody waits for its end."""

    __slots__ = ("_is_stopping", "_since")

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._since = time.monotonic()

    def rest(self) -> None:
        """Sleep, for 0.2 s at most: a part of the job is done."""
        if self._is_stopping():
            return
        took_s = time.monotonic() - self._since
        time.sleep(min(took_s * _REST_TIMES, _REST_S_MAX))
        self._since = time.monotonic()
