"""Tests: what a script asks (RFC 5228 section 5, and its extensions)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from raftmail.mail.headers import unfold
from raftmail.mail.names import is_inbox
from raftmail.sieve.matching import MatchKind, ValueMatcher
from raftmail.sieve.rule_addresses import AddressPart, MailAddress
from raftmail.sieve.rule_dates import DATE_PARTS, in_zone, moment_of, read_moment, zone_minutes
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_message import indexed
from raftmail.sieve.rule_outcome import SeenOnce
from raftmail.sieve.rule_text import RuleText, VariableName
from raftmail.sieve.run_state import RunState, Unanswered, flags_in

Texts = tuple[RuleText, ...]


def _matches(run: RunState, matcher: ValueMatcher, values: Iterable[bytes], keys: Texts) -> bool:
    """Whether a value fits a key. Match variables are set by `:matches` (RFC 5229 section 3.2)."""
    found = matcher.find(values, run.texts(keys), run.pay)
    if found is None:
        return False
    if found.captures is not None:
        run.scope.captures = found.captures
    return True


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """RFC 5228 section 5.7."""

    matcher: ValueMatcher
    index: int
    names: Texts
    keys: Texts

    def holds(self, run: RunState) -> bool:
        return _matches(run, self.matcher, self._values(run), self.keys)

    def _values(self, run: RunState) -> Iterator[bytes]:
        for name in self.names:
            yield from indexed(run.message.values(run.text(name), run.pay), self.index)


@dataclass(frozen=True, slots=True)
class AddressTest:
    """RFC 5228 section 5.1."""

    matcher: ValueMatcher
    part: AddressPart
    index: int
    names: Texts
    keys: Texts

    def holds(self, run: RunState) -> bool:
        return _matches(run, self.matcher, self._values(run), self.keys)

    def _values(self, run: RunState) -> Iterator[bytes]:
        for name in self.names:
            for address in run.message.addresses(run.text(name), self.index, run.pay):
                value = address.part(self.part, run.around.detail_separator)
                if value is not None:
                    yield value


@dataclass(frozen=True, slots=True)
class EnvelopeTest:
    """RFC 5228 section 5.4: `from` and `to` are what the envelope here has."""

    matcher: ValueMatcher
    part: AddressPart
    names: Texts
    keys: Texts

    def holds(self, run: RunState) -> bool:
        return _matches(run, self.matcher, self._values(run), self.keys)

    def _values(self, run: RunState) -> Iterator[bytes]:
        for text in self.names:
            name = run.text(text).lower()
            address: MailAddress | None = run.around.recipient
            if name == b"from":
                address = run.around.sender
            elif name != b"to":
                raise RuleError(f"the envelope has from and to, and no {name[:40].decode()!a}")
            if address is None:
                yield b""  # the null path, for every part of it
                continue
            value = address.part(self.part, run.around.detail_separator)
            if value is not None:
                yield value


@dataclass(frozen=True, slots=True)
class ExistsTest:
    """RFC 5228 section 5.5: all of the fields are there."""

    names: Texts

    def holds(self, run: RunState) -> bool:
        return all(run.message.has(run.text(name)) for name in self.names)


@dataclass(frozen=True, slots=True)
class SizeTest:
    """RFC 5228 section 5.9: a message of exactly that size is neither."""

    over: bool
    octets: int

    def holds(self, run: RunState) -> bool:
        size = run.message.size
        return size > self.octets if self.over else size < self.octets


@dataclass(frozen=True, slots=True)
class StringTest:
    """RFC 5229 section 5. `:count` counts what is not empty."""

    matcher: ValueMatcher
    sources: Texts
    keys: Texts

    def holds(self, run: RunState) -> bool:
        values = run.texts(self.sources)
        if self.matcher.kind is MatchKind.COUNT:
            values = [one for one in values if one]
        return _matches(run, self.matcher, values, self.keys)


@dataclass(frozen=True, slots=True)
class HasFlagTest:
    """RFC 5232 section 4. Without `variables` it is the internal one."""

    matcher: ValueMatcher
    variables: tuple[VariableName, ...]
    flags: Texts

    def holds(self, run: RunState) -> bool:
        values: list[bytes] = []
        if self.variables:
            for name in self.variables:
                values += [one.encode() for one in flags_in((run.value(name),))]
        else:
            values = [one.encode() for one in run.flags]
        if self.matcher.kind is MatchKind.COUNT:
            return _matches(run, self.matcher, values, self.flags)
        keys = [word for one in run.texts(self.flags) for word in one.split()]
        found = self.matcher.find(values, keys, run.pay)
        if found is not None and found.captures is not None:
            run.scope.captures = found.captures
        return found is not None


@dataclass(frozen=True, slots=True)
class BodyTest:
    """RFC 5173. It sets no match variables (section 6)."""

    matcher: ValueMatcher
    raw: bool
    types: Texts | None
    keys: Texts

    def holds(self, run: RunState) -> bool:
        most = run.limits.body_bytes_max
        values = run.message.raw_body(most)
        if not self.raw:
            types = None if self.types is None else run.texts(self.types)
            values = run.message.texts(types, most, run.pay)
        return self.matcher.find(values, run.texts(self.keys), run.pay) is not None


@dataclass(frozen=True, slots=True)
class DateTest:
    """RFC 5260 section 4 (`date`) and 5 (`currentdate`, which has no `header`)."""

    matcher: ValueMatcher
    header: RuleText | None
    index: int
    zone: RuleText | None
    original_zone: bool
    part: RuleText
    keys: Texts

    def holds(self, run: RunState) -> bool:
        part = DATE_PARTS.get(run.text(self.part).lower())
        if part is None:
            return False
        moments = [self._in_zone(run, one) for one in self._moments(run)]
        return _matches(run, self.matcher, [part(one).encode() for one in moments], self.keys)

    def _moments(self, run: RunState) -> list[datetime]:
        if self.header is None:
            return [moment_of(run.around.now_unix_s, run.around.zone_minutes)]
        raw = indexed(run.message.raw_values(run.text(self.header)), self.index or 1)
        run.pay(sum(len(one) for one in raw))
        found = [read_moment(unfold(one)) for one in raw]
        return [one for one in found if one is not None]

    def _in_zone(self, run: RunState, moment: datetime) -> datetime:
        if self.original_zone:
            return moment
        minutes = None if self.zone is None else zone_minutes(run.text(self.zone))
        return in_zone(moment, run.around.zone_minutes if minutes is None else minutes)


@dataclass(frozen=True, slots=True)
class MailboxExistsTest:
    """RFC 5490 section 3.1: all of the mailboxes are there."""

    names: Texts

    def holds(self, run: RunState) -> bool:
        wanted = [one.decode("utf-8", "replace") for one in run.texts(self.names)]
        return all(is_inbox(one) or one in run.around.mailboxes for one in wanted)


@dataclass(frozen=True, slots=True)
class SpecialUseExistsTest:
    """RFC 8579 section 3: a mailbox has each use; with `mailbox`, that one has all."""

    mailbox: RuleText | None
    uses: Texts

    def holds(self, run: RunState) -> bool:
        there = {name: uses.lower().split() for name, uses in run.around.mailboxes.items()}
        wanted = [one.decode("utf-8", "replace").lower() for one in run.texts(self.uses)]
        if self.mailbox is not None:
            name = run.text(self.mailbox).decode("utf-8", "replace")
            return all(one in there.get(name, ()) for one in wanted)
        return all(any(one in uses for uses in there.values()) for one in wanted)


@dataclass(frozen=True, slots=True)
class DuplicateTest:
    """RFC 7352. What was seen is remembered when the run has ended well; within a run nothing is a
    duplicate of itself."""

    handle: RuleText | None
    header: RuleText | None
    unique_id: RuleText | None
    seconds: int
    last: bool

    def holds(self, run: RunState) -> bool:
        name = b"message-id" if self.header is None else run.text(self.header)
        if self.unique_id is not None:
            unique = run.text(self.unique_id)
        else:
            values = run.message.values(name, run.pay)
            if not values:
                return False
            unique = values[0]
        handle = b"" if self.handle is None else run.text(self.handle)
        key = sha256(b"%d %b %b" % (len(handle), handle, unique)).digest()
        seen = run.answers.get(key)
        if seen is None:
            raise Unanswered(key, self.seconds)
        if not seen or self.last:
            run.remember(SeenOnce(key, self.seconds))
        return seen
