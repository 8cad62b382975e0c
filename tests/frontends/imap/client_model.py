"""A client that believes every word: what it thinks of the mailbox that it has selected, from what
it was told alone (RFC 9051 section 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.frontends.imap.strict_response import StrictResponse


@dataclass(slots=True)
class ClientModel:
    """`uids` by sequence number, 0 while a UID is not known. `flags` are in lower case, by UID."""

    mailbox: str = ""
    """"": none is selected."""
    read_only: bool = False
    uidvalidity: int = 0
    uids: list[int] = field(default_factory=list)
    flags: dict[int, frozenset[bytes]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    """What BODY[] was, by UID; it never changes."""

    def select(self, mailbox: str, *, read_only: bool) -> None:
        """SELECT was said. What comes up to CLOSED is about the mailbox before."""
        closes = bool(self.mailbox)
        self.mailbox, self.read_only = mailbox, read_only
        if not closes:
            self._forget()

    def leave(self) -> None:
        """None is selected any more."""
        self.mailbox, self.read_only = "", False
        self._forget()

    def _forget(self) -> None:
        self.uids, self.flags, self.bodies = [], {}, {}

    def hear(self, heard: StrictResponse) -> None:
        """Believe it; an assertion fails where it cannot be true."""
        if heard.code is not None and heard.code[0] == "CLOSED":
            self._forget()
        if heard.code is not None and heard.code[0] == "UIDVALIDITY":
            self.uidvalidity = heard.code[1]
        if heard.kind == "EXISTS":
            assert heard.number >= len(self.uids), "EXISTS took messages away"
            self.uids += [0] * (heard.number - len(self.uids))
        elif heard.kind == "EXPUNGE":
            assert heard.number <= len(self.uids), "EXPUNGE of a number that no message has"
            del self.uids[heard.number - 1]
        elif heard.kind == "VANISHED":
            earlier, ranges = heard.value
            assert 0 not in self.uids or earlier, "VANISHED while UIDs are not known"
            gone = {uid for low, high in ranges for uid in range(low, min(high, low + 10_000) + 1)}
            assert not (earlier and gone & set(self.uids)), "VANISHED (EARLIER) of what is there"
            self.uids = [uid for uid in self.uids if uid not in gone]
        elif heard.kind == "FETCH":
            self._fetched(heard)
        elif heard.kind == "UIDFETCH":
            self._fetched_by_uid(heard)
        elif heard.kind == "SEARCH":
            assert len(set(heard.value[0])) == len(heard.value[0])

    def _fetched(self, heard: StrictResponse) -> None:
        assert heard.number <= len(self.uids), "FETCH of a number that no message has"
        at = heard.number - 1
        uid = heard.value.get("UID", self.uids[at])
        assert self.uids[at] in (0, uid), f"number {heard.number} is UID {uid} now"
        assert uid == 0 or uid not in self.uids or self.uids.index(uid) == at
        self.uids[at] = uid
        self._keep(uid, heard)

    def _fetched_by_uid(self, heard: StrictResponse) -> None:
        """Numbers are not told: UIDs ascend, and those that are not known come last."""
        uid = heard.number
        if uid not in self.uids:
            assert 0 in self.uids, f"UIDFETCH of UID {uid}, and EXISTS did not tell of it"
            self.uids.remove(0)
            self.uids.append(uid)
            self.uids.sort(key=lambda one: one or 1 << 32)
        self._keep(uid, heard)

    def _keep(self, uid: int, heard: StrictResponse) -> None:
        if uid and "FLAGS" in heard.value:
            self.flags[uid] = frozenset(flag.lower() for flag in heard.value["FLAGS"])
        if uid and "BODY[]" in heard.value:
            assert self.bodies.setdefault(uid, heard.value["BODY[]"]) == heard.value["BODY[]"]
