"""Which start of which data folder a process runs from, and whether a peer may be believed to be
who it was. No I/O.

Each start of a node is counted in its data folder and has a token of its own. A peer remembers the
last start of each node. Of two processes that are one node by name, at most one descends from that
start: the other runs from a copy of the folder (a twin), or from an older state of it that was put
back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raftmail.peering.handshake import HelloRefused, Older, Twin

_log = logging.getLogger(__name__)

PAST_MAX = 16
"""Starts whose tokens a process tells, the last one among them. One that was away for more is
believed."""
RETIRED_MAX = 16
"""Data folders of one node that are remembered after another took their place."""

_FORM = re.compile(rf"([0-9a-f]{{16}})\.([1-9][0-9]{{0,8}})((?:\.[0-9a-f]{{8}}){{1,{PAST_MAX}}})")


@dataclass(frozen=True, slots=True)
class Start:
    """The start `number` (from 1) of a data folder; `tokens` are those of the last starts, this
    one's last."""

    folder: str
    number: int
    tokens: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.folder, str(self.number), *self.tokens))

    @classmethod
    def parse(cls, text: str) -> Start:
        """The reverse of `str`. Raises ValueError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:100]!r} tells of no start of a node")
        return cls(found[1], int(found[2]), tuple(found[3][1:].split(".")))

    def token_of(self, number: int) -> str:
        """The token of an earlier start, or of this one; "": it is not known any more, or was
        never."""
        at = len(self.tokens) - 1 - (self.number - number)
        return self.tokens[at] if 0 <= at < len(self.tokens) else ""

    def descends_from(self, other: Start) -> bool:
        """Whether this is a start of the same folder, the same one or a later one. Not known of one
        too far back: True."""
        if self.folder != other.folder or self.number < other.number:
            return False
        return self.token_of(other.number) in ("", other.tokens[-1])


@dataclass(frozen=True, slots=True)
class Known:
    """The last start of a node, where it listened, and the data folders that it had before."""

    start: Start
    address: str
    retired: tuple[str, ...] = ()


@dataclass(slots=True, repr=False)
class PeerStarts:
    """The last start of each peer. `keep` has them written, durably; it raises OSError when they
    cannot be."""

    known: dict[str, Known]
    keep: Callable[[Mapping[str, Known]], None]
    unkept: bool = False
    """The last writing failed (a full disk, say): the memory stands in the process alone, and is
    written with the next link."""

    def meet(self, node: str, told: str, address: str, *, live: bool) -> None:
        """A process says that it is `node`, by which start, and where it listens ("": not told).
        `live`: there is a link to another that is. Raises `Twin`, `Older`, `HelloRefused`; one that
        tells no start is of an earlier release, and believed."""
        if not told:
            return
        try:
            start = Start.parse(told)
        except ValueError as e:
            raise HelloRefused(str(e)) from None
        known = self.known.get(node)
        retired = self._judge(node, start, address, known, live=live)
        now = Known(start, address, retired)
        if now != known or self.unkept:
            self.known[node] = now
            self._keep()

    def _keep(self) -> None:
        try:
            self.keep(self.known)
            self.unkept = False
        except OSError as e:
            if not self.unkept:
                _log.warning(
                    "the starts of the peers cannot be written, and are tried again: %s", e
                )
            self.unkept = True

    def _judge(
        self, node: str, start: Start, address: str, known: Known | None, *, live: bool
    ) -> tuple[str, ...]:
        if known is None:
            return ()
        # One that was killed starts again where it was, while its link may still look live; what
        # starts elsewhere is a copy.
        moved = address != known.address and "" not in (address, known.address)
        copied = live and moved and start != known.start
        if start.descends_from(known.start) and not copied:
            return known.retired
        another = start.folder != known.start.folder and start.folder not in known.retired
        if live:
            raise Twin(
                f"two processes are node {node}: the one at {known.address} goes on, the one at "
                f"{address} is refused. Stop it, and remove "
                f"its folder if that is a copy; another machine joins under a name of its own"
            )
        if another:
            return (*known.retired, known.start.folder)[-RETIRED_MAX:]
        raise Older(
            f"the data folder of node {node} at {address} is an older one, or a copy: its start "
            f"{start.number} does not follow start "
            f"{known.start.number}, which was at {known.address}. What was acknowledged since is "
            f"not in it"
        )
