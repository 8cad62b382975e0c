"""How a command ends when it is not done: one line on stderr, and an exit code that scripts
read."""

from __future__ import annotations

REFUSED = 1
"""Refused, failed, or found something wrong."""
USAGE = 2
UNAVAILABLE = 69
"""EX_UNAVAILABLE: of `status --check`, that a shard serves nobody."""
FAULT = 70
"""EX_SOFTWARE: a fault in raftmail itself."""
TRY_LATER = 75
"""EX_TEMPFAIL of sysexits.h, which mail programs know: ask again later."""
INTERRUPTED = 130


class CliError(Exception):
    """A foreseeable failure. The text is one line: what is wrong, where, and what to do."""

    exit_code = REFUSED


class TryLater(CliError):
    """No node could be reached, or there is no master or majority now. With writes, the text says
    whether they may have taken effect."""

    exit_code = TRY_LATER
