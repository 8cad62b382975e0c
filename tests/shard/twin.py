"""The obvious mailbox store: lists and dicts, every rule in the plainest words, no cost spared.

Tells what the machine has to answer. Texts of refusals are not modelled, codes are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from raftmail.mail import commands as c
from raftmail.mail import results as r
from raftmail.mail.annotations import ANNOTATIONS_MAX, SPECIAL_USE
from raftmail.mail.names import INBOX, stored_name
from raftmail.mail.uidset import STAR, UidSet

KEYWORDS_MAX = 120
SYSTEM = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]


class Refuse(Exception):
    def __init__(self, code: r.Code) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class TwinMessage:
    uid: int
    modseq: int
    flags: set[str]  # system flags as they are, keywords in lower case
    guid: bytes
    received_us: int
    size_bytes: int
    blob: bytes
    summary: bytes
    zone_minutes: int
    saved_us: int


@dataclass
class TwinMailbox:
    number: int
    user: str
    name: str
    uidvalidity: int
    special_use: str = ""
    uidnext: int = 1
    highestmodseq: int = 1
    keywords: list[str] = field(default_factory=list)
    messages: list[TwinMessage] = field(default_factory=list)
    vanished: list[tuple[int, int]] = field(default_factory=list)  # modseq, UID

    def select(self, uids: UidSet) -> list[TwinMessage]:
        last = max((m.uid for m in self.messages), default=0)
        wanted = set()
        for low, high in uids.ranges():
            if high == STAR:
                wanted.add(last)
                high = last
            wanted |= {m.uid for m in self.messages if low <= m.uid <= high}
        return [m for m in self.messages if m.uid in wanted]

    def spelled(self, flags: set[str]) -> tuple[str, ...]:
        return tuple(f for f in [*SYSTEM, *self.keywords] if f in flags or f.lower() in flags)

    def learn(self, keywords: list[str]) -> None:
        for keyword in keywords:
            if keyword.lower() not in [k.lower() for k in self.keywords]:
                self.keywords.append(keyword)

    def room_for(self, keywords: list[str]) -> bool:
        known = {k.lower() for k in self.keywords}
        return len(known | {k.lower() for k in keywords}) <= KEYWORDS_MAX


def _split(flags: tuple[str, ...]) -> tuple[set[str], list[str]]:
    system = {s for f in flags for s in SYSTEM if s.lower() == f.lower()}
    return system, [f for f in flags if not f.startswith("\\")]


class Twin:
    def __init__(self) -> None:
        self.mailboxes: list[TwinMailbox] = []
        self.subscriptions: set[tuple[str, str]] = set()
        self.acls: dict[int, dict[str, set[str]]] = {}
        self.sharers: set[tuple[str, str]] = set()
        self.seen: dict[int, dict[str, set[int]]] = {}
        self.annotations: dict[int | str, dict[str, bytes]] = {}
        self.scripts: dict[str, dict[str, bytes]] = {}
        self.active: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.next_number = 1
        self.last_uidvalidity = 0
        self.delivered: dict[tuple[str, bytes], r.Saved] = {}

    def execute(self, command: c.Command) -> r.Result | r.Code:
        """The result, or the code of the refusal."""
        try:
            result: r.Result = getattr(self, "do_" + type(command).__name__)(command)
        except Refuse as e:
            return e.code
        return result

    def find(self, user: str, ref: str | int) -> TwinMailbox | None:
        for mailbox in self.mailboxes:
            if mailbox.user == user:
                if isinstance(ref, int) and mailbox.number == ref:
                    return mailbox
                if isinstance(ref, str) and mailbox.name == stored_name(ref):
                    return mailbox
        return None

    def must(self, user: str, ref: str | int) -> TwinMailbox:
        mailbox = self.find(user, ref)
        if mailbox is None:
            raise Refuse(r.Code.NONEXISTENT)
        return mailbox

    def make(self, user: str, name: str, seed: int, special_use: str = "") -> TwinMailbox:
        self.last_uidvalidity = max(seed, self.last_uidvalidity + 1)
        made = TwinMailbox(self.next_number, user, name, self.last_uidvalidity, special_use)
        self.next_number += 1
        self.mailboxes.append(made)
        above = self.find(user, name.rpartition("/")[0]) if "/" in name else None
        if above is not None:
            self.acls[made.number] = {k: set(v) for k, v in self.acl(above).items()}
        return made

    def acl(self, mailbox: TwinMailbox) -> dict[str, set[str]]:
        return self.acls.get(mailbox.number, {})

    def rights(self, guest: str, mailbox: TwinMailbox) -> set[str]:
        if guest == mailbox.user:
            return set("lrswipkxtea")
        acl, one_domain = self.acl(mailbox), "@" not in guest + mailbox.user
        given = acl.get(guest, set()) | (acl.get("anyone", set()) if one_domain else set())
        return given - acl.get("-" + guest, set()) - acl.get("-anyone", set())

    def allow(self, guest: str, user: str, ref: str | int, needed: str) -> TwinMailbox:
        try:
            mailbox = self.must(user, ref)
        except ValueError:
            raise Refuse(r.Code.NONEXISTENT) from None
        rights = self.rights(guest, mailbox)
        if not rights or not set(needed) <= rights:
            raise Refuse(r.Code.NOPERM if "l" in rights else r.Code.NONEXISTENT)
        return mailbox

    def kept(self, guest: str, mailbox: TwinMailbox, flags: set[str]) -> set[str]:
        """Of flags, those that a guest may set."""
        rights = self.rights(guest, mailbox)
        right = {"\\Seen": "s", "\\Deleted": "t"}
        return {flag for flag in flags if right.get(flag, "w") in rights}

    def do_SetAcl(self, x: c.SetAcl) -> r.Result:
        chosen = [m for m in self.mailboxes if m.user == x.user]
        if x.mailbox is not None:
            chosen = [self.must(x.user, x.mailbox)]
            if x.identifier.removeprefix("-") == x.user:
                raise Refuse(r.Code.CANNOT)
        for mailbox in chosen:
            acl = self.acls.setdefault(mailbox.number, {})
            before, named = acl.pop(x.identifier, set()), set(x.rights)
            after = [before | named, before - named, named][x.mode]
            if after:
                acl[x.identifier] = after
        return r.Done()

    def do_SetOwnSeen(self, x: c.SetOwnSeen) -> r.Result:
        mailbox = self.must(x.user, x.mailbox)
        if x.own != (mailbox.number in self.seen):
            mailbox.highestmodseq += 1
            self.seen.pop(mailbox.number, None)
            if x.own:
                self.seen[mailbox.number] = {}
        return r.Done()

    def seen_by(self, guest: str, mailbox: TwinMailbox) -> set[int] | None:
        """What a guest has seen, where each has the own."""
        if guest in ("", mailbox.user) or mailbox.number not in self.seen:
            return None
        return self.seen[mailbox.number].setdefault(guest, set())

    def do_NoteSharer(self, x: c.NoteSharer) -> r.Result:
        self.sharers.add((x.user, x.owner))
        return r.Done()

    def do_GuestCommand(self, x: c.GuestCommand) -> r.Result:
        guest, y = x.guest, x.command
        if isinstance(y, c.CreateMailbox):
            if y.special_use:
                raise Refuse(r.Code.CANNOT)
            self.check_above(guest, y.user, y.name)
        elif isinstance(y, c.RenameMailbox):
            mailbox = self.allow(guest, y.user, y.mailbox, "x")
            if mailbox.name == INBOX and guest != y.user:
                raise Refuse(r.Code.CANNOT)
            for child in self.mailboxes:
                if child.user == y.user and child.name.startswith(mailbox.name + "/"):
                    self.allow(guest, y.user, child.number, "x")
            self.check_above(guest, y.user, y.name)
        elif isinstance(y, c.DeleteMailbox | c.Expunge | c.SetAcl):
            needed = "x" if isinstance(y, c.DeleteMailbox) else "a"
            if isinstance(y, c.Expunge):
                needed = "e" if y.only_deleted else "te"
            assert y.mailbox is not None
            self.allow(guest, y.user, y.mailbox, needed)
        elif isinstance(y, c.Store):
            return self.store_of_guest(guest, y)
        elif isinstance(y, c.Copy):
            self.allow(guest, y.user, y.mailbox, "rte" if y.move else "r")
            if y.target.user != guest:
                self.allow(guest, y.target.user, y.target.mailbox, "i")
            return self.do_Copy(y, guest)
        else:
            raise AssertionError(y)
        result: r.Result = getattr(self, "do_" + type(y).__name__)(y)
        return result

    def check_above(self, guest: str, user: str, name: str) -> None:
        parts = stored_name(name).split("/")
        for depth in range(len(parts) - 1, 0, -1):
            if self.find(user, "/".join(parts[:depth])):
                self.allow(guest, user, "/".join(parts[:depth]), "k")
                return
        if guest != user:
            raise Refuse(r.Code.NOPERM)

    def store_of_guest(self, guest: str, x: c.Store) -> r.Result:
        mailbox = self.allow(guest, x.user, x.mailbox, "")
        rights = self.rights(guest, mailbox)
        system, keywords = _split(x.flags)
        named = self.kept(guest, mailbox, system | set(keywords))
        may_any = bool(rights & set("stw"))
        if not (may_any if x.mode is c.StoreMode.REPLACE else named or not x.flags):
            raise Refuse(r.Code.NOPERM if "l" in rights else r.Code.NONEXISTENT)
        return self.do_Store(replace(x, flags=tuple(named)), guest)

    def make_with_parents(self, user: str, name: str, seed: int) -> TwinMailbox:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if self.find(user, above) is None:
                self.make(user, above, seed)
        return self.make(user, name, seed)

    def destination(self, target: c.Target) -> TwinMailbox | None:
        found = self.find(target.user, target.mailbox)
        if found is None and target.or_inbox:
            return self.find(target.user, INBOX)
        if found is None and (
            isinstance(target.mailbox, int) or stored_name(target.mailbox) != INBOX
        ):
            raise Refuse(r.Code.NONEXISTENT)
        return found

    def references(self) -> dict[bytes, int]:
        counts: dict[bytes, int] = {}
        for mailbox in self.mailboxes:
            for message in mailbox.messages:
                counts[message.blob] = counts.get(message.blob, 0) + 1
        return counts

    def used(self, user: str) -> int:
        return sum(m.size_bytes for box in self.mailboxes if box.user == user for m in box.messages)

    def do_CreateMailbox(self, x: c.CreateMailbox) -> r.Result:
        name = stored_name(x.name)
        if self.find(x.user, name):
            raise Refuse(r.Code.ALREADYEXISTS)
        if x.sole_use and self.used_as(x.user, x.special_use):
            raise Refuse(r.Code.CANNOT)
        made = self.make_with_parents(x.user, name, x.uidvalidity_seed)
        made.special_use = x.special_use
        return _result(made, x.guid)

    def do_MakeFirstMailboxes(self, x: c.MakeFirstMailboxes) -> r.Result:
        if any(mailbox.user == x.user for mailbox in self.mailboxes):
            if self.find(x.user, INBOX) is None:
                self.make(x.user, INBOX, x.uidvalidity_seed)
            return r.Done()
        for name, use in ((INBOX, ""), *x.mailboxes):
            self.make_with_parents(x.user, name, x.uidvalidity_seed).special_use = use
            self.subscriptions.add((x.user, stored_name(name)))
        return r.Done()

    def do_DeleteMailbox(self, x: c.DeleteMailbox) -> r.Result:
        mailbox = self.must(x.user, x.mailbox)
        if mailbox.name == INBOX:
            raise Refuse(r.Code.CANNOT)
        self.mailboxes.remove(mailbox)
        self.annotations.pop(mailbox.number, None)
        self.acls.pop(mailbox.number, None)
        self.seen.pop(mailbox.number, None)
        return _result(mailbox, b"")

    def do_RenameMailbox(self, x: c.RenameMailbox) -> r.Result:
        mailbox = self.must(x.user, x.mailbox)
        new = stored_name(x.name)
        if new == INBOX or self.find(x.user, new):
            raise Refuse(r.Code.ALREADYEXISTS)
        if mailbox.name == INBOX:
            made = self.make_with_parents(x.user, new, x.uidvalidity_seed)
            self.annotations[made.number] = dict(self.annotations.get(mailbox.number, {}))
            self.transfer(mailbox, made, list(mailbox.messages), move=True)
            return _result(made, x.guid)
        prefix = mailbox.name + "/"
        if new.startswith(prefix):
            raise Refuse(r.Code.CANNOT)
        children = [m for m in self.mailboxes if m.user == x.user and m.name.startswith(prefix)]
        names = [new + "/" + child.name[len(prefix) :] for child in children]
        if any(self.find(x.user, name) for name in names):
            raise Refuse(r.Code.ALREADYEXISTS)
        parts = new.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if self.find(x.user, above) is None:
                self.make(x.user, above, x.uidvalidity_seed)
        for child, name in zip(children, names, strict=True):
            child.name = name
        mailbox.name = new
        return _result(mailbox, b"")

    def do_Subscribe(self, x: c.Subscribe) -> r.Result:
        pair = (x.user, stored_name(x.name))
        (self.subscriptions.add if x.subscribed else self.subscriptions.discard)(pair)
        return r.Done()

    def do_SetAnnotations(self, x: c.SetAnnotations) -> r.Result:
        mailbox = None if x.mailbox is None else self.must(x.user, x.mailbox)
        owner = x.user if mailbox is None else mailbox.number
        values = dict(self.annotations.get(owner, {}))
        for name, value in x.entries:
            values.pop(name, None)
            if value is not None and name != SPECIAL_USE:
                values[name] = value
        if len(values) > ANNOTATIONS_MAX:
            raise Refuse(r.Code.LIMIT)
        if SPECIAL_USE in dict(x.entries):
            use = (dict(x.entries)[SPECIAL_USE] or b"").decode()
            if use and (mailbox is None or mailbox.name == INBOX or use != "\\Sent"):
                raise Refuse(r.Code.CANNOT)
            if use and self.used_as(x.user, use) not in (None, mailbox):
                raise Refuse(r.Code.CANNOT)
            if mailbox is not None:
                mailbox.special_use = use
        self.annotations[owner] = values
        return r.Done()

    def do_PutScript(self, x: c.PutScript) -> r.Result:
        scripts = dict(self.scripts.get(x.user, {}))
        before = sum(map(len, scripts.values()))
        if x.name not in scripts and len(scripts) >= x.scripts_max:
            raise Refuse(r.Code.LIMIT)
        scripts[x.name] = x.script
        if sum(map(len, scripts.values())) > max(before, x.total_bytes_max):
            raise Refuse(r.Code.OVERQUOTA)
        self.scripts[x.user] = scripts
        return r.Done()

    def do_DeleteScript(self, x: c.DeleteScript) -> r.Result:
        self.must_have_script(x.user, x.name)
        if self.active.get(x.user) == x.name:
            raise Refuse(r.Code.CANNOT)
        del self.scripts[x.user][x.name]
        return r.Done()

    def do_RenameScript(self, x: c.RenameScript) -> r.Result:
        self.must_have_script(x.user, x.name)
        scripts = self.scripts[x.user]
        if x.new_name in scripts:
            raise Refuse(r.Code.ALREADYEXISTS)
        scripts[x.new_name] = scripts.pop(x.name)
        if self.active.get(x.user) == x.name:
            self.active[x.user] = x.new_name
        return r.Done()

    def do_ActivateScript(self, x: c.ActivateScript) -> r.Result:
        if x.name:
            self.must_have_script(x.user, x.name)
        self.active[x.user] = x.name
        return r.Done()

    def must_have_script(self, user: str, name: str) -> None:
        if name not in self.scripts.get(user, {}):
            raise Refuse(r.Code.NONEXISTENT)

    def used_as(self, user: str, use: str) -> TwinMailbox | None:
        """A mailbox of a user that has a special use."""
        used = [m for m in self.mailboxes if m.user == user and use and m.special_use == use]
        return used[0] if used else None

    def do_Save(self, x: c.Save) -> r.Result:
        if x.replaces is None:
            return self.save(x, 0)
        mailbox = self.must(x.user, x.replaces[0])
        gone = [m for m in mailbox.messages if m.uid == x.replaces[1]]
        if not gone:
            raise Refuse(r.Code.NONEXISTENT)
        before = mailbox.highestmodseq
        result = self.save(x, gone[0].size_bytes)
        mailbox.highestmodseq = before + 1
        mailbox.messages.remove(gone[0])
        mailbox.vanished.append((mailbox.highestmodseq, gone[0].uid))
        return result

    def check_quotas(self, x: c.Save, new: list[tuple[c.NewMessage, c.Target]], freed: int) -> None:
        for user, limit in x.quotas:
            more = [m.size_bytes for m, t in new if t.user == user]
            net = sum(more) - (freed if user == x.user else 0)
            if more and (net > 0 or not freed) and self.used(user) + net > limit:
                raise Refuse(r.Code.OVERQUOTA)

    def save(self, x: c.Save, freed: int) -> r.Result:
        wanted: dict[str, tuple[TwinMailbox | None, list[str]]] = {}
        first: set[tuple[str, bytes]] = set()
        new = []
        for message in x.messages:
            for target, once in zip(message.targets, _keys_of(message), strict=True):
                place = (target.user, once)
                if message.is_further and once and place not in self.delivered:
                    if place not in first:
                        raise Refuse(r.Code.BAD)
                elif place in self.delivered | dict.fromkeys(first):
                    continue
                self.destination(target)
                new.append((message, target))
                if once:
                    first.add((target.user, once))
        for message in x.messages:
            keywords = _split(message.flags)[1]
            for target in [target for one, target in new if one is message]:
                found = self.destination(target)
                key = f"{target.user} {found.number if found else INBOX}"
                wanted.setdefault(key, (found, []))[1].extend(keywords)
        for found, keywords in wanted.values():
            if not (found or TwinMailbox(0, "", "", 0)).room_for(keywords):
                raise Refuse(r.Code.LIMIT)
        self.check_quotas(x, new, freed)
        stepped: set[int] = set()
        saved = []
        unknown = [(m, t, self.destination(t)) for m, t in new]
        everything = [
            (m, t, once) for m in x.messages for t, once in zip(m.targets, _keys_of(m), strict=True)
        ]
        before = dict(self.delivered)
        marked: list[tuple[tuple[str, bytes], r.Saved]] = []
        for message, target, once in everything:
            known = before if message.is_further else self.delivered
            if (target.user, once) in known:
                saved.append(self.delivered[target.user, once])
                continue
            found = unknown.pop(0)[2]
            mailbox = (
                found
                or self.find(target.user, INBOX)
                or self.make(target.user, INBOX, x.uidvalidity_seed)
            )
            if mailbox.number not in stepped:
                stepped.add(mailbox.number)
                mailbox.highestmodseq += 1
            system, keywords = _split(message.flags)
            mailbox.learn(keywords)
            mailbox.messages.append(
                TwinMessage(
                    mailbox.uidnext,
                    mailbox.highestmodseq,
                    system | {k.lower() for k in keywords},
                    message.guid,
                    message.received_us,
                    message.size_bytes,
                    message.blob,
                    message.summary,
                    message.zone_minutes,
                    message.received_us if message.saved_us is None else message.saved_us,
                )
            )
            saved.append(
                r.Saved(
                    target.user,
                    mailbox.number,
                    mailbox.uidvalidity,
                    mailbox.uidnext,
                    mailbox.highestmodseq,
                )
            )
            if once and not message.is_further:
                self.delivered[target.user, once] = saved[-1]
                marked += [((target.user, mark), saved[-1]) for mark in message.marks]
            mailbox.uidnext += 1
        self.delivered.update(marked)
        return r.SaveResult(tuple(saved))

    def do_Copy(self, x: c.Copy, guest: str = "") -> r.Result:
        source = self.must(x.user, x.mailbox)
        target = self.destination(x.target)
        chosen = source.select(x.uids)
        if x.guids and tuple(m.guid for m in chosen) != x.guids:
            raise Refuse(r.Code.GUIDMISMATCH)
        used = [k for k in source.keywords if any(k.lower() in m.flags for m in chosen)]
        if target is not None and guest:
            used = [keyword for keyword in used if self.kept(guest, target, {keyword})]
        if not (target or TwinMailbox(0, "", "", 0)).room_for(used):
            raise Refuse(r.Code.LIMIT)
        if x.quota_bytes and not (x.move and x.user == x.target.user):
            more = sum(m.size_bytes for m in chosen)
            if self.used(x.target.user) + more > x.quota_bytes:
                raise Refuse(r.Code.OVERQUOTA)
        if target is None:
            target = self.find(x.target.user, INBOX) or self.make(
                x.target.user, INBOX, x.uidvalidity_seed
            )
        return self.transfer(source, target, chosen, move=x.move, saved_us=x.saved_us, guest=guest)

    def transfer(
        self,
        source: TwinMailbox,
        target: TwinMailbox,
        chosen: list[TwinMessage],
        *,
        move: bool,
        saved_us: int | None = None,
        guest: str = "",
    ) -> r.Result:
        if not chosen:
            return r.CopyResult(target.uidvalidity, target.number, UidSet(), UidSet(), 0, 0)
        seen = self.seen_by(guest, source)
        kept = {}
        for m in chosen:
            flags = m.flags if seen is None else m.flags - {"\\Seen"}
            flags = flags | ({"\\Seen"} if m.uid in (seen or ()) else set())
            kept[m.uid] = self.kept(guest or target.user, target, flags)
            if self.seen_by(guest, target) is not None:
                kept[m.uid].discard("\\Seen")
        target.learn([k for k in source.keywords if any(k.lower() in kept[m.uid] for m in chosen)])
        target.highestmodseq += 1
        modseq = target.highestmodseq
        source_modseq = 0
        if move:
            if source is not target:
                source.highestmodseq += 1
            source_modseq = source.highestmodseq
        given = []
        for message in chosen:
            given.append(target.uidnext)
            target.messages.append(
                TwinMessage(
                    target.uidnext,
                    modseq,
                    kept[message.uid],
                    message.guid,
                    message.received_us,
                    message.size_bytes,
                    message.blob,
                    message.summary,
                    message.zone_minutes,
                    message.saved_us if saved_us is None else saved_us,
                )
            )
            target.uidnext += 1
        if move:
            for message in chosen:
                source.messages.remove(message)
                source.vanished.append((source_modseq, message.uid))
        return r.CopyResult(
            target.uidvalidity,
            target.number,
            UidSet.from_uids(m.uid for m in chosen),
            UidSet.from_uids(given),
            source_modseq,
            modseq,
        )

    def do_Expunge(self, x: c.Expunge) -> r.Result:
        mailbox = self.must(x.user, x.mailbox)
        chosen = [m for m in mailbox.select(x.uids) if not x.only_deleted or "\\Deleted" in m.flags]
        if chosen:
            mailbox.highestmodseq += 1
        for message in chosen:
            mailbox.messages.remove(message)
            mailbox.vanished.append((mailbox.highestmodseq, message.uid))
        return r.ExpungeResult(UidSet.from_uids(m.uid for m in chosen), mailbox.highestmodseq)

    def do_Store(self, x: c.Store, guest: str = "") -> r.Result:
        mailbox = self.must(x.user, x.mailbox)
        system, keywords = _split(x.flags)
        if x.mode != c.StoreMode.REMOVE and not mailbox.room_for(keywords):
            raise Refuse(r.Code.LIMIT)
        named = system | {k.lower() for k in keywords}
        changed, rejected = [], []
        seen = self.seen_by(guest, mailbox)
        for message in mailbox.select(x.uids):
            if x.unchanged_since >= 0 and message.modseq > x.unchanged_since:
                rejected.append(message.uid)
                continue
            own_before = set(seen or ())
            if seen is not None and "s" in self.rights(guest, mailbox):
                if "\\Seen" in named and x.mode is not c.StoreMode.REMOVE:
                    seen.add(message.uid)
                elif "\\Seen" in named or x.mode is c.StoreMode.REPLACE:
                    seen.discard(message.uid)
            after = {
                c.StoreMode.ADD: message.flags | named,
                c.StoreMode.REMOVE: message.flags - named,
                c.StoreMode.REPLACE: named
                | (message.flags - self.kept(guest or x.user, mailbox, message.flags)),
            }[x.mode]
            if seen is not None:
                after = after - {"\\Seen"} | (message.flags & {"\\Seen"})
            if after != message.flags or own_before != set(seen or ()):
                message.flags = set(after)
                message.modseq = mailbox.highestmodseq + 1
                changed.append(message.uid)
        if changed:
            mailbox.highestmodseq += 1
            if x.mode != c.StoreMode.REMOVE:
                mailbox.learn(keywords)
        return r.StoreResult(
            UidSet.from_uids(changed),
            UidSet.from_uids(rejected),
            mailbox.highestmodseq if changed else 0,
            mailbox.highestmodseq,
        )

    def do_PutUser(self, x: c.PutUser) -> r.Result:
        if x.address in self.users and not x.replace:
            raise Refuse(r.Code.ALREADYEXISTS)
        if x.address not in self.users and x.replace:
            raise Refuse(r.Code.UNKNOWNUSER)
        _, *apps = self.users.get(x.address, "").split("\n")
        self.users[x.address] = "\n".join([x.password_hash, *apps])
        return r.Done()

    def do_PutAppPassword(self, x: c.PutAppPassword) -> r.Result:
        if x.address not in self.users:
            raise Refuse(r.Code.UNKNOWNUSER)
        own, *apps = self.users[x.address].split("\n")
        if x.name in [app.split("\t")[0] for app in apps]:
            raise Refuse(r.Code.ALREADYEXISTS)
        if len(apps) == 32:
            raise Refuse(r.Code.LIMIT)
        self.users[x.address] = "\n".join([own, *apps, f"{x.name}\t{x.made_s}\t{x.kept}"])
        return r.Done()

    def do_DropAppPassword(self, x: c.DropAppPassword) -> r.Result:
        if x.address not in self.users:
            raise Refuse(r.Code.UNKNOWNUSER)
        own, *apps = self.users[x.address].split("\n")
        left = [app for app in apps if app.split("\t")[0] != x.name]
        if left == apps:
            raise Refuse(r.Code.NONEXISTENT)
        self.users[x.address] = "\n".join([own, *left])
        return r.Done()

    def do_RemoveUser(self, x: c.RemoveUser) -> r.Result:
        if self.users.pop(x.address, None) is None:
            raise Refuse(r.Code.UNKNOWNUSER)
        return r.Done()

    def do_PurgeUser(self, x: c.PurgeUser) -> r.Result:
        for mailbox in self.mailboxes:
            if mailbox.user == x.user:
                self.annotations.pop(mailbox.number, None)
        self.annotations.pop(x.user, None)
        self.scripts.pop(x.user, None)
        self.active.pop(x.user, None)
        self.mailboxes = [m for m in self.mailboxes if m.user != x.user]
        self.delivered = {k: saved for k, saved in self.delivered.items() if k[0] != x.user}
        self.subscriptions = {pair for pair in self.subscriptions if pair[0] != x.user}
        self.sharers = {pair for pair in self.sharers if pair[0] != x.user}
        return r.Done()


def _keys_of(message: c.NewMessage) -> tuple[bytes, ...]:
    return message.delivery_keys or (b"",) * len(message.targets)


def _result(mailbox: TwinMailbox, guid: bytes) -> r.MailboxResult:
    return r.MailboxResult(
        mailbox.number,
        mailbox.name,
        guid,
        mailbox.uidvalidity,
        mailbox.uidnext,
        mailbox.highestmodseq,
        len(mailbox.messages),
    )
