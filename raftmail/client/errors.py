"""What can go wrong, by what the caller can do about it."""

from __future__ import annotations

from raftmail.mail.results import Code


class ClientError(Exception):
    """Any failure of a call."""


class Refused(ClientError):
    """The cluster understood and did not do it; the same call would be refused again. `code` says
    why, the text names the thing."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class TryAgain(ClientError):
    """No result within the deadline. With `outcome_unknown` the call may have taken effect, or may
    yet (once); without, it had none and will have none. `full` tells that the disks are nearly
    full, which waiting does not mend."""

    def __init__(self, text: str, *, outcome_unknown: bool = False, full: bool = False) -> None:
        super().__init__(text)
        self.outcome_unknown = outcome_unknown
        self.full = full


class ProtocolError(ClientError):
    """The node did not take the call for a sensible one (its answer was BAD), or its answer made no
    sense: a bad argument, or a fault in one of the two programs."""
