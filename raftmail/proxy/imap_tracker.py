"""What has to be known of an IMAP session to continue it at another node without the client's
noticing: read off the bytes that pass, which are not changed.

Only what is certain is taken for certain. Anything that is not understood here makes the session
one that cannot be moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_LITERAL: Final = re.compile(rb"\{(\d{1,20})([+-]?)\}\r?\n$")
_SELECTED: Final = re.compile(
    rb"\* (?:(\d+) EXISTS|OK \[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)\])"
)
_LINE_BYTES_MAX: Final = 8 * 1024
"""Of a command that is looked at; a longer one makes the session immovable."""
_HEAD_BYTES: Final = 512
_REQUESTS_MAX: Final = 200
"""Commands without an answer; with more of them, the session cannot be moved."""
_ENABLES_MAX: Final = 8

_STATELESS: Final = frozenset(
    b"NOOP CHECK CAPABILITY ID NAMESPACE LIST LSUB STATUS CREATE DELETE RENAME SUBSCRIBE "
    b"UNSUBSCRIBE APPEND REPLACE FETCH STORE COPY MOVE EXPUNGE SEARCH SORT THREAD GETQUOTA "
    b"GETQUOTAROOT GETMETADATA SETMETADATA SETACL DELETEACL GETACL LISTRIGHTS MYRIGHTS".split()
)
"""Commands that leave nothing in the session, apart from what `_leaves_state` finds."""
_SELECTING: Final = frozenset((b"SELECT", b"EXAMINE"))
_VALUES: Final = frozenset((b"EXISTS", b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ"))


@dataclass(frozen=True, slots=True)
class SelectedMailbox:
    """A mailbox as it was when it was selected. `command` is what stood behind the tag."""

    command: bytes
    values: dict[bytes, bytes]
    condstore: bool


@dataclass(slots=True, repr=False)
class ImapTracker:
    """Give it what passes; ask `movable`.

    `capabilities` is what the node said at the log-in: another node has to say the same."""

    capabilities: bytes
    enables: list[tuple[bytes, bytes]] = field(default_factory=list)
    """ENABLE commands behind their tags, and what was answered."""
    mailbox: SelectedMailbox | None = None
    idle_tag: bytes = b""
    """The client is in IDLE, and was told so."""
    is_opaque: bool = False
    """It is compressed: nothing can be read, and nothing be said."""
    is_ending: bool = False
    """The client has said LOGOUT, or the node BYE."""
    immovable: str = ""
    """Why it cannot be moved, whatever comes."""
    _requests: dict[bytes, bytes] = field(default_factory=dict)
    """Tags without an answer, each with the command behind it."""
    _client_line: bytes = b""
    _client_literal: int = 0
    _asked_literal: int = 0
    """The client asked whether it may send a literal of this length."""
    _command: bytes = b""
    """Of a client's command with literals, what came before this line."""
    _idle_asked: bytes = b""
    _saved_search: bool = False
    _node_line: bytes = b""
    _node_literal: int = 0
    _node_continues: bool = False
    _values: dict[bytes, bytes] = field(default_factory=dict)
    _enabled: bytes = b""

    @property
    def at_boundary(self) -> bool:
        """The node has sent no part of an answer whose rest is to come."""
        return not (self._node_line or self._node_literal or self._node_continues)

    @property
    def movable(self) -> bool:
        """Nothing is under way, and all that the session is can be made again."""
        idles = bool(self.idle_tag) and list(self._requests) == [self.idle_tag]
        return (
            not (self.immovable or self.is_opaque or self.is_ending or self._saved_search)
            and (idles or not self._requests)
            and self.at_boundary
            and not (self._client_line or self._client_literal or self._command)
        )

    # -- what the client sends ---------------------------------------------------------------

    def client_sent(self, data: bytes) -> None:
        """These bytes go to the node."""
        if self.is_opaque or self.immovable == _LOST_TRACK:
            return
        at = 0
        while at < len(data):
            if self._client_literal:
                taken = min(self._client_literal, len(data) - at)
                self._client_literal -= taken
                at += taken
                continue
            if self._asked_literal:
                self._lose_track()  # it does not wait for the answer
                return
            end = data.find(b"\n", at) + 1
            piece = data[at : end or len(data)]
            if len(self._client_line) + len(piece) > _LINE_BYTES_MAX:
                self._lose_track()
                return
            self._client_line += piece
            if not end:
                return
            at = end
            line, self._client_line = self._client_line, b""
            self._client_said(line)

    def _lose_track(self) -> None:
        self.immovable = _LOST_TRACK
        self._client_line = self._command = b""

    def _client_said(self, line: bytes) -> None:
        if self.idle_tag or self._idle_asked:
            self.idle_tag = self._idle_asked = b""  # that was DONE, or is answered BAD
            return
        found = _LITERAL.search(line)
        if found is not None:
            self._command = (self._command + line)[:_LINE_BYTES_MAX]
            if found[2]:
                self._client_literal = int(found[1])
            else:
                self._asked_literal = int(found[1])
            return
        command, self._command = self._command + line, b""
        tag, _, rest = command.partition(b" ")
        if len(self._requests) >= _REQUESTS_MAX or tag in self._requests:
            self._lose_track()
            return
        self._requests[tag.rstrip(b"\r\n")] = rest
        self._note_command(tag, rest.rstrip(b"\r\n"))

    def _note_command(self, tag: bytes, rest: bytes) -> None:
        upper = rest.upper()
        verb, _, arguments = upper.partition(b" ")
        if verb == b"UID":
            verb, _, arguments = arguments.partition(b" ")
        if verb in _SELECTING:
            self.mailbox = None
            self._saved_search = False
            self._values = {}
            if b"{" in rest:
                self.immovable = "the name of its mailbox came as a literal"
        elif verb == b"IDLE":
            self._idle_asked = tag
        elif verb == b"LOGOUT":
            self.is_ending = True
        elif verb in (b"ENABLE", b"CLOSE", b"UNSELECT"):
            self._enabled = b""
        elif verb not in _STATELESS:
            self.immovable = f"it has used {verb[:20].decode('latin-1')}"
        elif verb in (b"SEARCH", b"SORT", b"THREAD") and b"SAVE" in arguments:
            self._saved_search = True
        elif not self._has_condstore and (b"MODSEQ" in arguments or b"CHANGEDSINCE" in arguments):
            self.immovable = "it has enabled CONDSTORE by another command"

    @property
    def _has_condstore(self) -> bool:
        enabled = b" ".join(told for _, told in self.enables)
        has = b"CONDSTORE" in enabled or b"QRESYNC" in enabled
        return has or (self.mailbox is not None and self.mailbox.condstore)

    # -- what the node sends -----------------------------------------------------------------

    def node_sent(self, data: bytes) -> int:
        """How much of it goes to the client. Less than all when the node says BYE of its own: the
        session may be continued elsewhere."""
        if self.is_opaque:
            return len(data)
        if self._is_plain(data):
            return len(data)
        at = 0
        while at < len(data):
            if self._node_literal:
                taken = min(self._node_literal, len(data) - at)
                self._node_literal -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1
            piece = data[at : end or len(data)]
            # Of a long line, what it begins and what it ends with is enough.
            kept = self._node_line + piece
            if len(kept) > 2 * _HEAD_BYTES:
                kept = kept[:_HEAD_BYTES] + kept[-_HEAD_BYTES:]
            self._node_line = kept
            if not end:
                return len(data)
            begun, at = at, end
            line, self._node_line = self._node_line, b""
            if not self._node_continues and line.startswith(b"* BYE") and not self.is_ending:
                if begun + len(line) == end:  # no part of it has gone
                    return begun
                self.is_ending = True
            self._node_said(line)
            if self.is_opaque:
                return len(data)
        return len(data)

    def _is_plain(self, data: bytes) -> bool:
        """Whole lines that only answer what is under way: the most that comes, seen at once."""
        if self._node_line or self._node_literal or self._node_continues or self._asked_literal:
            return False
        if not data.endswith(b"\r\n") or b"}\r\n" in data or b"* BYE" in data:
            return False
        if self._idle_asked or any(not _is_stateless(rest) for rest in self._requests.values()):
            return False
        for tag in list(self._requests):
            start = tag + b" "
            if data.startswith(start) or b"\n" + start in data:
                return False
        return True

    def _node_said(self, line: bytes) -> None:
        found = _LITERAL.search(line)
        continued, self._node_continues = self._node_continues, found is not None
        if found is not None:
            self._node_literal = int(found[1])
        if continued:
            return
        if line.startswith(b"+"):
            self._go_ahead()
        elif line.startswith(b"* "):
            self._untagged(line)
        else:
            tag, _, rest = line.partition(b" ")
            self._answered(tag, rest)

    def _go_ahead(self) -> None:
        if self._asked_literal:
            self._client_literal, self._asked_literal = self._asked_literal, 0
        elif self._idle_asked:
            self.idle_tag, self._idle_asked = self._idle_asked, b""

    def _untagged(self, line: bytes) -> None:
        found = _SELECTED.match(line)
        if found is not None:
            self._values[found[2] or b"EXISTS"] = found[3] or found[1]
        elif line.startswith(b"* ENABLED"):
            self._enabled = line

    def _answered(self, tag: bytes, rest: bytes) -> None:
        if self._asked_literal and self._command.partition(b" ")[0] == tag:
            self._asked_literal = 0  # the node takes no literal, and the command has ended
            self._command = b""
        if tag == self._idle_asked:
            self._idle_asked = b""
        command = self._requests.pop(tag, b"")
        if not rest.upper().startswith(b"OK"):
            return
        verb = command.split(b" ")[0].strip().upper()
        if verb in _SELECTING:
            self._selected(command)
        elif verb in (b"CLOSE", b"UNSELECT"):
            self.mailbox = None
        elif verb == b"ENABLE":
            self.enables.append((command, self._enabled))
            if len(self.enables) > _ENABLES_MAX:
                self.immovable = "it has said ENABLE too often"
        elif verb == b"COMPRESS":
            self.is_opaque = True

    def _selected(self, command: bytes) -> None:
        if set(self._values) == _VALUES:
            upper = command.upper()
            condstore = b"CONDSTORE" in upper or b"QRESYNC" in upper
            self.mailbox = SelectedMailbox(command, self._values, condstore)
        else:
            self.immovable = "its mailbox was selected without all that has to be compared"


_LOST_TRACK: Final = "what it sends is not followed any more"


def _is_stateless(rest: bytes) -> bool:
    words = rest.split(b" ", 2)
    verb = words[1 if words[0].upper() == b"UID" and len(words) > 1 else 0]
    return verb.strip().upper() in _STATELESS


def selected_values(line: bytes) -> dict[bytes, bytes]:
    """What an untagged line of a SELECT says of those values that are compared."""
    found = _SELECTED.match(line)
    return {} if found is None else {found[2] or b"EXISTS": found[3] or found[1]}
