"""Commands at random: right ones, odd ones, and bytes that only look like some."""

from __future__ import annotations

import random

from tests.frontends.imap.odd_messages import ODD, damaged
from tests.fuzzing import altered

MAILBOXES = ("INBOX", "x", "x/y", "Tr&-sh", "&APg-re")
_FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "\\Answered", "\\Draft", "kw", "KW", "$Junk", "+")
_ITEMS = (
    "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ",
    "EMAILID", "THREADID", "RFC822", "RFC822.HEADER", "RFC822.TEXT", "BODY[]", "BODY.PEEK[]",
    "BODY.PEEK[]<0.10>", "BODY.PEEK[]<9999.1>", "BODY.PEEK[TEXT]", "BODY.PEEK[HEADER]",
    "BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "BODY.PEEK[2.HEADER]", "BODY.PEEK[1.1.1]",
    "BODY.PEEK[2.2.1]<1.2>", "BODY.PEEK[HEADER.FIELDS (From SUBJECT)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (To)]<3.7>", "BINARY.PEEK[]", "BINARY.SIZE[]", "BINARY.PEEK[1]",
    "BINARY.SIZE[2.1]", "BINARY.PEEK[1]<3.9>", "PREVIEW", "PREVIEW (LAZY)", "SAVEDATE",
)  # fmt: skip
_KEYS = (
    "ALL", "SEEN", "UNSEEN", "DELETED", "KEYWORD kw", "UNKEYWORD $Junk", "LARGER 50", "SMALLER 90",
    "SUBJECT x", "TEXT hello", "BODY a", "FROM example", "HEADER Subject \"\"", "SINCE 1-Jan-2020",
    "BEFORE 1-Jan-2020", "SENTON 14-Nov-2023", "MODSEQ 3", "OLDER 5", "YOUNGER 5", "NEW", "OLD",
    "NOT (OR SEEN DELETED)", "OR FLAGGED (ALL ALL)", "$", "SAVEDSINCE 1-Jan-2020", "UID 3:*",
)  # fmt: skip
_SOUPS = (
    b"(", b")", b'"', b"\\", b"{5}", b"{3+}\r\nabc", b"~{2+}\r\n\0x", b"{0+}\r\n", b"\r\n", b"\n",
    b"\r", b"\0", b"\xff", b" ", b"*", b"+", b"[", b"]", b"NIL", b"FETCH", b"UID", b"1:*", b"$",
    b"SEARCH", b"a", b"APPEND", b"INBOX", b"DONE", b"IDLE", b"&-", b"99999999999999999999",
)  # fmt: skip


_URLS = (
    "/INBOX/;UID={}", "/x/;UID={}/;SECTION=HEADER", ";UID={}/;SECTION=TEXT", "/x%2Fy/;UID={}",
    "/INBOX/;UID={}/;SECTION=1.MIME", "/INBOX/;UID={}/;PARTIAL=3.40", "/nobody/;UID={}",
    "/INBOX;UIDVALIDITY=7/;UID={}", "imap://other/INBOX/;UID={}", "/IN]BOX/;UID={}",
    "/INBOX/;UID={}/;SECTION=HEADER.FIELDS%20(Subject%20From)",
)  # fmt: skip
_SELECTED = "MessageNew{} MessageExpunge FlagChange"
"""With them a client is told all that it would be told without NOTIFY."""
_EVENTS = (
    "MessageNew MessageExpunge", "MessageNew MessageExpunge FlagChange", "MailboxName",
    "SubscriptionChange MailboxName", "MailboxMetadataChange", "ServerMetadataChange",
)  # fmt: skip


class RandomCommands:
    """The same for a seed in every run."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._odd = [octets for octets in ODD.values() if octets]
        self._made = 0

    def message(self) -> bytes:
        """A message of any kind, of which most are unlike all others."""
        rng = self.rng
        self._made += 1
        kind = rng.randrange(3)
        if kind == 0:
            return b"Subject: x %d\r\nFrom: a@example.org\r\n\r\nhello %d\r\n" % (
                self._made,
                self._made,
            )
        octets = rng.choice(self._odd)
        if kind == 2:
            octets = next(damaged(1, rng.randrange(1 << 30)))
        return b"X-Number: %d\r\n%b" % (self._made, octets[:20_000])

    def mailbox(self) -> str:
        name = self.rng.choice(MAILBOXES)
        return f'"{name}"' if self.rng.random() < 0.3 else name

    def set(self, most: int) -> str:
        """A set of numbers up to about so many."""
        rng = self.rng

        def one() -> str:
            return "*" if rng.random() < 0.1 else str(rng.randint(1, max(most, 1)))

        parts = []
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            parts.append(f"{one()}:{one()}" if rng.random() < 0.5 else one())
        return ",".join(parts)

    def flags(self) -> str:
        chosen = self.rng.sample(_FLAGS, self.rng.randrange(4))
        return f"({' '.join(chosen)})"

    def append(self) -> tuple[str, list[bytes]]:
        count = self.rng.choice((1, 1, 1, 2))
        parts = [f"{self.flags()} {{}}" for _ in range(count)]
        return f"APPEND {self.mailbox()} {' '.join(parts)}", [self.message() for _ in range(count)]

    def catenate(self, last_uid: int) -> tuple[str, list[bytes]]:
        """APPEND of what is put together, in part from a message that may be there."""
        rng = self.rng
        parts, literals = [], []
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.5:
                parts.append("TEXT {}")
                literals.append(self.message())
            else:
                parts.append(f'URL "{rng.choice(_URLS).format(rng.randint(1, last_uid + 1))}"')
        return f"APPEND {self.mailbox()} {self.flags()} CATENATE ({' '.join(parts)})", literals

    def replace(self, numbers: int, last_uid: int) -> tuple[str, list[bytes]]:
        rng = self.rng
        uid = rng.random() < 0.6
        which = "UID REPLACE" if uid else "REPLACE"
        some = "*" if rng.random() < 0.1 else rng.randint(1, (last_uid if uid else numbers) + 1)
        return f"{which} {some} {self.mailbox()} {self.flags()} {{}}", [self.message()]

    def notify(self) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            return "NOTIFY NONE"
        groups = []
        if rng.random() < 0.7:
            items = rng.choice(("", " (UID FLAGS)", " (UID BODY.PEEK[])", " (UID PREVIEW)"))
            which = rng.choice(("selected", "selected-delayed"))
            groups.append(f"({which} ({_SELECTED.format(items)}))")
        for _ in range(rng.randint(0 if groups else 1, 2)):
            which = rng.choice(
                ("personal", "inboxes", "subscribed", f"subtree {self.mailbox()}",
                 f"mailboxes ({self.mailbox()} nobody)")
            )  # fmt: skip
            groups.append(f"({which} ({rng.choice(_EVENTS)}))")
        status = "STATUS " if rng.random() < 0.4 else ""
        return f"NOTIFY SET {status}{' '.join(groups)}"

    def of_messages(self, numbers: int, uids: int) -> str:
        """A command for a mailbox that is selected, with so many messages and UIDs up to there."""
        rng = self.rng
        uid = rng.random() < 0.5
        which = "UID " if uid else ""
        some = self.set(uids + 2) if uid else self.set(numbers)
        kind = rng.randrange(10)
        if kind < 3:
            items = " ".join(rng.sample(_ITEMS, rng.randint(1, 5)))
            modifiers = []
            if rng.random() < 0.2:
                modifiers.append(f"CHANGEDSINCE {rng.randint(1, 40)}")
            if uid and rng.random() < 0.2:
                modifiers.append(f"PARTIAL {self._range()}")
            since = f" ({' '.join(modifiers)})" if modifiers else ""
            return f"{which}FETCH {some} ({items}){since}"
        if kind < 6:
            mode = rng.choice(("FLAGS", "+FLAGS", "-FLAGS")) + rng.choice(("", ".SILENT"))
            since = f"(UNCHANGEDSINCE {rng.randint(1, 60)}) " if rng.random() < 0.2 else ""
            return f"{which}STORE {some} {since}{mode} {self.flags()}"
        if kind < 8:
            keys = " ".join(rng.sample(_KEYS, rng.randint(1, 3)))
            return rng.choice(
                (
                    f"{which}SEARCH {keys}",
                    f"{which}SEARCH RETURN (MIN MAX COUNT ALL) {keys}",
                    f"{which}SEARCH RETURN (SAVE) {keys}",
                    f"{which}SEARCH RETURN (SAVE MIN PARTIAL {self._range()}) {keys}",
                    f"{which}SEARCH RETURN (MAX) MODSEQ {rng.randint(1, 60)} {keys}",
                    f"{which}SEARCH RETURN (SAVE) CHARSET X-NO {keys}",
                    f"{which}SORT (REVERSE DATE SUBJECT) UTF-8 {keys}",
                    f"{which}THREAD REFERENCES UTF-8 {keys}",
                    f"{which}THREAD ORDEREDSUBJECT UTF-8 {keys}",
                )
            )
        if kind == 8:
            return f"{which}{rng.choice(('COPY', 'MOVE'))} {some} {self.mailbox()}"
        return f"UID EXPUNGE {some}" if uid else "EXPUNGE"

    def _range(self) -> str:
        first, last = self.rng.randint(1, 9), self.rng.randint(1, 9)
        return f"-{first}:-{last}" if self.rng.random() < 0.5 else f"{first}:{last}"

    def of_mailboxes(self) -> str:
        rng, name = self.rng, self.mailbox()
        return rng.choice(
            (
                f"STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ)",
                'LIST "" "*" RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES))',
                'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"',
                'LSUB "" "*"',
                f"SUBSCRIBE {name}",
                f"UNSUBSCRIBE {name}",
                f"CREATE {name}",
                f"RENAME {name} {self.mailbox()}",
                "NAMESPACE",
                "CAPABILITY",
                'ID ("name" "fuzz")',
                "GETQUOTAROOT INBOX",
                f"GETMETADATA (DEPTH infinity MAXSIZE 3) {name} (/private /shared)",
                f'SETMETADATA {name} (/private/x "{rng.randrange(99_999)}" /shared/y NIL)',
                'SETMETADATA "" (/private/x "y")',
                f"SETACL {name} {rng.choice(['anyone', '-anyone', 'eve@example.org'])} +lrs",
                f"SETACL {name} anyone {rng.choice(['lrswipkxtea', '', '-w', 'cd', 'z'])}",
                f"DELETEACL {name} anyone",
                f"GETACL {name}",
                f"LISTRIGHTS {name} anyone",
                f"MYRIGHTS {name}",
                'MYRIGHTS "Other Users/bob@example.org/INBOX"',
                'LIST "" "*" RETURN (MYRIGHTS)',
                f'SETMETADATA {name} (/private/specialuse "\\\\Junk")',
                'LIST "" "*" RETURN (METADATA (/private/x /private/specialuse))',
                f"GETMETADATA (DEPTH 1) {name} (/private/x /shared)",
                f'SETMETADATA {name} (/private/x/{rng.randrange(5)} "y" /private/x NIL)',
                "ENABLE METADATA",
                "ENABLE METADATA-SERVER",
                self.notify(),
                self.notify(),
                self.notify(),
                "CHECK",
                "NOOP",
            )
        )

    def garbage(self, command: bytes) -> bytes:
        """Bytes that are nearly a command, or nothing like one."""
        rng = self.rng
        kind = rng.randrange(4)
        if kind == 0:
            return altered(command, rng.randrange(1 << 30))[:3000]
        if kind == 1:
            return b"".join(rng.choice(_SOUPS) for _ in range(rng.randint(1, 30)))
        if kind == 2:
            at = rng.randrange(len(command) + 1)
            return command[:at] + rng.choice(_SOUPS) + command[at:]
        return rng.randbytes(rng.randint(1, 200))
