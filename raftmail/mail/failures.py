"""A call that has no result: why, and whether it may still take effect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """No result within the deadline. With `unknown`, the command may still take effect (once): ask
    again under the same client id and sequence number. `full` tells that disks are nearly full,
    which waiting does not mend. `final` tells that asking again is of no use (the request itself is
    at fault).
    """

    text: str
    unknown: bool = False
    full: bool = False
    final: bool = False


class Unavailable(Exception):
    """A `Failure` as an exception, for the awaiting calls."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure
