"""Commands that do something (RFC 5228 section 4, and its extensions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftmail.mail.names import INBOX, SPECIAL_USES, mailbox_name, quoted
from raftmail.mail.smtp_address import AddressError, parse_path
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_outcome import FileInto, Redirect, Rejection
from raftmail.sieve.rule_text import RuleText, VariableName
from raftmail.sieve.run_state import RunState, flags_in

Texts = tuple[RuleText, ...]

_SPECIAL_USES = {one.lower(): one for one in SPECIAL_USES}


def checked_mailbox(text: bytes) -> str:
    """The name of a mailbox, in the spelling that it is kept in. Raises ValueError."""
    return mailbox_name(text.decode())


def checked_address(text: bytes) -> str:
    """The address that mail can be sent to in `name@domain` or `Name <name@domain>` (RFC 5228
    section 2.4.2.3). Raises ValueError."""
    given = text.decode().strip()
    start = given.rfind("<")
    path = given[start:] if start >= 0 and given.endswith(">") else f"<{given}>"
    try:
        address, end = parse_path(path)
    except AddressError:
        address, end = None, 0
    if address is None or end != len(path) or not address.domain:
        raise ValueError(f"{quoted(given)} is no address: name@domain is one")
    return str(address)


def checked_special_use(text: bytes) -> str:
    """A special use in the spelling of RFC 6154; one that nobody knows is found nowhere, and so is
    "". Raises ValueError for what is none at all."""
    use = text.decode()
    if not use.startswith("\\"):
        raise ValueError(f"{quoted(use)} is no special use: it begins with a backslash")
    return _SPECIAL_USES.get(use.lower(), "")


def _flags(run: RunState, flags: Texts | None) -> tuple[str, ...]:
    """Of `:flags`; without that tag the internal variable (RFC 5232 section 5)."""
    return run.flags if flags is None else flags_in(run.texts(flags))


@dataclass(frozen=True, slots=True)
class KeepAction:
    """RFC 5228 section 4.3."""

    flags: Texts | None

    def perform(self, run: RunState) -> None:
        run.file_into(FileInto(INBOX, _flags(run, self.flags)))
        run.implicit_keep = False


@dataclass(frozen=True, slots=True)
class DiscardAction:
    """RFC 5228 section 4.4."""

    def perform(self, run: RunState) -> None:
        run.implicit_keep = False


@dataclass(frozen=True, slots=True)
class FileIntoAction:
    """RFC 5228 section 4.1, with `:copy` (RFC 3894), `:flags`, `:create` and `:specialuse`."""

    mailbox: RuleText
    flags: Texts | None
    copy: bool
    create: bool
    special_use: RuleText | None

    def perform(self, run: RunState) -> None:
        try:
            name = checked_mailbox(run.text(self.mailbox))
            use = ""
            if self.special_use is not None:
                use = checked_special_use(run.text(self.special_use))
        except ValueError as e:
            raise RuleError(f"fileinto: {e}") from None
        run.file_into(FileInto(name, _flags(run, self.flags), self.create, use))
        run.implicit_keep = run.implicit_keep and self.copy


@dataclass(frozen=True, slots=True)
class RedirectAction:
    """RFC 5228 section 4.2, with `:copy` (RFC 3894)."""

    address: RuleText
    copy: bool

    def perform(self, run: RunState) -> None:
        try:
            address = checked_address(run.text(self.address))
        except ValueError as e:
            raise RuleError(f"redirect: {e}") from None
        run.redirect(Redirect(address))
        run.implicit_keep = run.implicit_keep and self.copy


@dataclass(frozen=True, slots=True)
class RejectAction:
    """RFC 5429 section 2."""

    reason: RuleText
    in_protocol: bool

    def perform(self, run: RunState) -> None:
        reason = run.text(self.reason).decode("utf-8", "replace")
        run.reject(Rejection(reason, self.in_protocol))


@dataclass(frozen=True, slots=True)
class SetAction:
    """RFC 5229 section 4. The modifiers come in the order in which they are applied."""

    name: VariableName
    value: RuleText
    modifiers: tuple[Callable[[bytes], bytes], ...]

    def perform(self, run: RunState) -> None:
        value = run.text(self.value)
        for modifier in self.modifiers:
            value = modifier(value)
        run.set_value(self.name, value)


@dataclass(frozen=True, slots=True)
class FlagAction:
    """`setflag`, `addflag` and `removeflag` (RFC 5232 section 3), of the internal variable where
    `variable` is None."""

    kind: str
    variable: VariableName | None
    flags: Texts

    def perform(self, run: RunState) -> None:
        given = flags_in(run.texts(self.flags))
        before = run.flags
        if self.variable is not None:
            before = flags_in((run.value(self.variable),))
        if self.kind == "setflag":
            after = given
        elif self.kind == "addflag":
            after = flags_in([one.encode() for one in (*before, *given)])
        else:
            gone = {one.lower() for one in given}
            after = tuple(one for one in before if one.lower() not in gone)
        if self.variable is None:
            run.flags = after
        else:
            run.set_value(self.variable, " ".join(after).encode())
