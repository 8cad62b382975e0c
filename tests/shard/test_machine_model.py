"""The machine against the obvious twin, under retries, aborts, commits and power loss; and two
machines against each other (P3, P4)."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import STAR, UidSet
from raftmail.shard.machine import Machine
from raftmail.storage.check import check
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import LmdbEngine
from tests.shard.machines import body_hash, entry_of, guid_of, new_machine, rows_of
from tests.shard.twin import Twin, TwinMailbox, TwinMessage
from tests.simulation.kv import MemoryEngine

_users = st.sampled_from(["a", "a", "a", "a", "a", "b"])
_names = st.sampled_from(["INBOX", "inbox", "x", "x", "x/y", "y", "y/z", "A\u0308", "Ä"])
_refs = _names | st.integers(1, 4)
_seeds = st.sampled_from([1, 1000, 5])
_texts = st.sampled_from(["one", "two", "three"])
_guids = _texts.map(guid_of)
_one_uid = st.integers(1, 4).map(UidSet.single)
_uidsets = st.builds(UidSet.from_uids, st.frozensets(st.integers(1, 6), min_size=1)) | (
    st.sampled_from(["*", "2:*", "1:9", "1:*", "1:3,5:*", "9:*"]).map(UidSet.parse)
)
_flags = st.lists(
    st.sampled_from(["\\Seen", "\\seen", "\\Deleted", "\\Draft", "k1", "K1", "k2"]), max_size=3
).map(tuple)
_keys = st.sampled_from([bytes(32), b"key".ljust(32), b"other key".ljust(32)])
_zones = st.sampled_from([0, 0, 330])
_moments = st.sampled_from([None, None, 10, 99])
_targets = st.builds(c.Target, _users, _refs, st.booleans())
_annotations = st.dictionaries(
    st.sampled_from(["/private/x", "/private/x/y", "/shared/z", "/private/specialuse"]),
    st.none() | st.sampled_from([b"", b"one", b"\\Sent"]),
    min_size=1,
).map(lambda entries: tuple(entries.items()))


_script_names = st.sampled_from(["one", "two", "s" * 512])
_script_commands = st.one_of(
    st.builds(
        c.PutScript,
        _users,
        _script_names,
        st.sampled_from([b"", b"keep;", b"discard;"]),
        st.sampled_from([1, 2, 32]),
        st.sampled_from([0, 5, 1 << 20]),
    ),
    st.builds(c.DeleteScript, _users, _script_names),
    st.builds(c.RenameScript, _users, _script_names, _script_names),
    st.builds(c.ActivateScript, _users, _script_names | st.just("")),
)


@st.composite
def _messages(draw: st.DrawFn) -> c.NewMessage:
    text = draw(_texts)
    targets = draw(st.lists(_targets | st.just(c.Target("a", "INBOX")), min_size=1, max_size=2))
    keys = st.lists(_keys, min_size=len(targets), max_size=len(targets)).map(tuple)
    return c.NewMessage(
        tuple(targets),
        body_hash(text),
        len(text),
        guid_of(text),
        draw(st.sampled_from([-5, 10])),
        draw(_flags),
        text.encode(),
        draw(st.just(()) | keys),
        draw(_zones),
        draw(_moments),
        draw(st.sampled_from([False, False, False, True])),
    )


_stores = st.builds(
    c.Store,
    st.just("a") | _users,
    st.sampled_from(["INBOX", "x", 1, 3]) | _refs,
    _one_uid | _one_uid | _uidsets,
    st.sampled_from(c.StoreMode),
    _flags,
    st.sampled_from([-1, -1, -1, 0, 2, 3, 4]),
)
_limits = st.sampled_from([0, 0, 0, 20, 40])
_quotas = st.tuples(_limits, _limits).map(
    lambda limits: tuple((user, limit) for user, limit in zip("ab", limits, strict=True) if limit)
)
_saves = st.builds(
    c.Save,
    _users,
    st.lists(_messages(), min_size=1, max_size=3).map(tuple),
    _seeds,
    _quotas,
    st.just(86_400),
    st.none() | st.none() | st.tuples(_refs, st.integers(1, 4)),
)
_rights = st.sets(st.sampled_from("lrswikxtea")).map(
    lambda some: "".join(right for right in "lrswipkxtea" if right in some)
)
_acls = st.builds(
    c.SetAcl,
    st.just("a") | _users,
    _refs | st.just("INBOX"),
    st.sampled_from(["b", "b", "anyone", "-b", "a", "guest"]),
    st.sampled_from(c.StoreMode),
    _rights | st.just("lrswipkxtea"),
)
_of_guests = st.builds(
    c.GuestCommand,
    st.sampled_from(["b", "b", "b", "a", "guest"]),
    st.one_of(
        st.builds(c.CreateMailbox, _users, _names, _seeds, _guids),
        st.builds(c.DeleteMailbox, _users, _refs),
        st.builds(c.RenameMailbox, _users, _refs, _names, _seeds, _guids),
        st.builds(c.Copy, _users, _refs, _uidsets, _targets, _seeds, st.booleans()),
        st.builds(c.Expunge, _users, _refs | st.just("INBOX"), _uidsets, st.booleans()),
        _stores,
        _stores,
        _acls,
    ),
)
_own_seen = st.builds(c.SetOwnSeen, st.just("a"), st.just("INBOX") | _refs, st.booleans())
_commands = st.one_of(
    _acls,
    _of_guests,
    _of_guests,
    st.builds(c.NoteSharer, _users, _users),
    _own_seen,
    st.builds(
        c.CreateMailbox,
        _users,
        _names,
        _seeds,
        _guids,
        st.sampled_from(["", "\\Sent"]),
        st.booleans(),
    ),
    st.builds(c.DeleteMailbox, _users, _refs),
    st.builds(c.RenameMailbox, _users, _refs, _names, _seeds, _guids),
    st.builds(c.Subscribe, _users, _names, st.booleans()),
    st.builds(
        c.MakeFirstMailboxes,
        _users,
        st.sampled_from([(), (("x", "\\Sent"), ("y/z", ""))]),
        _seeds,
        _guids,
    ),
    st.builds(c.SetAnnotations, _users, _refs | st.none(), _annotations),
    _script_commands,
    _saves,
    _saves,
    _saves,
    st.builds(
        c.Copy,
        _users,
        _refs,
        _uidsets,
        _targets,
        _seeds,
        st.booleans(),
        st.just(()) | st.lists(_guids, max_size=2).map(tuple),
        _limits,
        _moments,
    ),
    st.builds(
        c.Copy,
        st.just("a"),
        st.just("INBOX"),
        _uidsets,
        _targets,
        _seeds,
        st.booleans(),
        st.just(()),
        _limits,
        _moments,
    ),
    st.builds(c.Expunge, _users, _refs | st.just("INBOX"), _uidsets, st.booleans()),
    _stores,
    _stores,
    st.builds(
        c.PutUser,
        _users.map(lambda user: f"{user}@x.org"),
        st.sampled_from(["h", "i"]),
        st.booleans(),
    ),
    st.builds(
        c.PutAppPassword,
        _users.map(lambda user: f"{user}@x.org"),
        st.sampled_from(["phone", "Zoë's phone"]),
        st.integers(0, 9),
        st.sampled_from(["k", "l"]),
    ),
    st.builds(
        c.DropAppPassword,
        _users.map(lambda user: f"{user}@x.org"),
        st.sampled_from(["phone", "Zoë's phone"]),
    ),
    st.builds(c.RemoveUser, _users.map(lambda user: f"{user}@x.org")),
    st.builds(c.PurgeUser, st.sampled_from(["a", "b", "b", "b"])),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.lists(_commands, min_size=3, max_size=8)),
        st.tuples(st.just("batch"), st.lists(_stores | _stores | _saves, min_size=6, max_size=14)),
        st.tuples(st.just("batch"), st.lists(_acls | _of_guests | _own_seen, min_size=6)),
        st.tuples(st.just("retry"), st.integers(0, 99)),
        st.tuples(st.just("retry"), st.integers(-3, -1)),
        st.tuples(st.just("commit"), st.booleans()),
        st.tuples(st.just("abort"), st.none()),
        st.tuples(st.just("power"), st.booleans()),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("noop"), st.none()),
    ),
    min_size=5,
    max_size=14,
)


_BEGINNING: list[c.Command] = [
    c.CreateMailbox("a", "x", 5, bytes(16)),
    c.CreateMailbox("a", "x/y", 5, bytes(16)),
    *(
        c.Save("a", (c.NewMessage(
            (c.Target("a", name),), body_hash(text), len(text), guid_of(text), 1, flags,
            text.encode()
        ),), 5)
        for name, text, flags in (
            ("INBOX", "one", ("k1", "\\Seen")),
            ("INBOX", "two", ("k2",)),
            ("INBOX", "one", ()),
            ("x", "three", ("k2", "k3")),
        )
    ),
]  # fmt: skip


class _Run:
    """A machine with its log, and the twin beside it."""

    def __init__(self) -> None:
        self.engine = MemoryEngine(TABLES)
        self.machine = new_machine(self.engine)
        self.twin = Twin()
        self.log: list[bytes] = []
        self.history: list[tuple[tuple[bytes, int, int, c.Command], r.Result]] = []
        self.seqs = [0, 0]
        self.batch(_BEGINNING)

    def append(self, payload: bytes) -> list[tuple[bytes, int, r.Result]]:
        self.log.append(payload)
        return self.machine.apply(len(self.log), 1, payload)

    def batch(self, commands: list[c.Command]) -> None:
        requests = []
        for at, command in enumerate(commands):
            which = at % 2
            self.seqs[which] += 1
            seq = self.seqs[which]
            requests.append((bytes([which]) * 16, seq, max(0, seq - 30), command))
        given = self.append(entry_of(*requests))
        assert [(client, seq) for client, seq, _ in given] == [
            (client, seq) for client, seq, *_ in requests
        ]
        for request, (*_, result) in zip(requests, given, strict=True):
            _compare(request[3], result, self.twin.execute(request[3]))
            self.history.append((request, result))

    def retry(self, which: int) -> None:
        if self.history:
            (client, seq, _, command), result = self.history[which % len(self.history)]
            ((*_, again),) = self.append(entry_of((client, seq, 0, command)))
            floor = max(0, self.seqs[client[0]] - 30)
            if seq > floor:
                assert again == result == self.machine.known(client, seq)
            else:
                assert isinstance(again, r.Refused)
                assert again.code == r.Code.STALE

    def go_back(self) -> None:
        """Apply again what an abort or power loss took away; answers nobody waits for."""
        assert self.machine.durable_index <= self.machine.applied_index
        for index in range(self.machine.applied_index + 1, len(self.log) + 1):
            self.machine.apply(index, 1, self.log[index - 1], want_results=False)

    def step(self, what: str, with_: Any) -> None:
        if what == "batch":
            self.batch(with_)
        elif what == "retry":
            self.retry(with_)
        elif what == "commit":
            self.machine.commit(with_)
            if with_:
                assert self.machine.durable_index == len(self.log)
        elif what == "abort":
            self.machine.abort()
            self.go_back()
        elif what == "power":
            durable = self.machine.durable_index
            self.engine.power_loss(lucky=with_)
            self.machine = Machine(Index(self.engine))
            assert self.machine.applied_index >= durable
            self.go_back()
        elif what == "look":
            _look(self.machine, self.twin)
        else:
            assert self.append(b"") == []


def _compare(command: c.Command, result: r.Result, expected: r.Result | r.Code) -> None:
    if isinstance(expected, r.Code):
        assert isinstance(result, r.Refused), (command, result, expected)
        assert result.code == expected, (command, result)
        assert result.text
    elif isinstance(expected, r.MailboxResult):
        assert isinstance(result, r.MailboxResult), (command, result)
        guid = expected.guid or result.guid
        assert result == r.MailboxResult(
            expected.number, expected.name, guid, *_last_four(expected)
        ), command
    else:
        assert result == expected, command


def _last_four(x: r.MailboxResult) -> tuple[int, int, int, int]:
    return x.uidvalidity, x.uidnext, x.highestmodseq, x.messages


def _look(machine: Machine, twin: Twin) -> None:
    """Everything that queries tell is what the twin has."""
    for user in ("a", "b"):
        mine = sorted((m for m in twin.mailboxes if m.user == user), key=lambda m: m.name)
        infos = machine.query(q.ListMailboxes(user))
        assert isinstance(infos, tuple)
        assert [info.name for info in infos] == [m.name for m in mine]  # type: ignore[union-attr]
        names = tuple(sorted(name for owner, name in twin.subscriptions if owner == user))
        assert machine.query(q.ListSubscriptions(user)) == names
        sharers = tuple(sorted(owner for one, owner in twin.sharers if one == user))
        assert machine.query(q.ListSharers(user)) == sharers
        for sharer in ("a", "b"):
            seen = machine.query(q.ListShared(sharer, user))
            assert isinstance(seen, q.SharedMailboxes)
            boxes = [m for m in twin.mailboxes if m.user == sharer]
            assert {(info.name, frozenset(rights)) for info, rights in seen.shared} == {
                (m.name, frozenset(rights))
                for m in boxes
                if "l" in (rights := twin.rights(user, m))
            }
        for owner in (None, *mine):
            ref = None if owner is None else owner.number
            values = dict(twin.annotations.get(user if ref is None else ref, {}))
            if owner is not None and owner.special_use:
                values["/private/specialuse"] = owner.special_use.encode()
            told = q.AnnotationValues(tuple(sorted(values.items())))
            assert machine.query(q.GetAnnotations(user, ref)) == told
        _look_at_scripts(machine, twin, user)
        for mailbox in mine:
            _look_at(machine, twin, mailbox)
        messages = sum(len(mailbox.messages) for mailbox in mine)
        assert machine.query(q.GetUsage(user)) == q.Usage(messages, twin.used(user))
        address = f"{user}@x.org"
        known = twin.users.get(address)
        info = q.UserInfo(address, known) if known is not None else None
        assert machine.query(q.GetUser(address)) == info
    assert machine.query(q.ListUsers()) == tuple(sorted(twin.users))
    references = twin.references()
    for text in ("one", "two", "three"):
        assert machine.index.references(body_hash(text)) == references.get(body_hash(text), 0)


def _look_at_scripts(machine: Machine, twin: Twin, user: str) -> None:
    scripts, active = twin.scripts.get(user, {}), twin.active.get(user, "")
    infos = [q.ScriptInfo(name, len(scripts[name]), name == active) for name in sorted(scripts)]
    assert machine.query(q.ListScripts(user)) == q.ScriptList(tuple(infos))
    assert machine.query(q.GetScript(user, "two")) == scripts.get("two")
    rules = machine.query(q.ActiveScript(user))
    if not active:
        assert rules is None
        return
    assert isinstance(rules, q.RulesInForce)
    assert (rules.name, rules.script) == (active, scripts[active])
    assert {active: rules.script, **dict(rules.others)} == scripts
    known = machine.query(q.ActiveScript(user, rules.version))
    assert known == q.RulesInForce(rules.version, "", b"", ())


def _look_at(machine: Machine, twin: Twin, mailbox: TwinMailbox) -> None:
    user = mailbox.user
    info = machine.query(q.GetMailbox(user, mailbox.number))
    assert isinstance(info, q.MailboxInfo)
    acl = machine.query(q.GetAcl(user, mailbox.number))
    assert isinstance(acl, q.AclEntries)
    assert {who: set(rights) for who, rights in acl.entries} == twin.acl(mailbox)
    assert acl.own_seen == (mailbox.number in twin.seen)
    _look_as_guest(machine, twin, mailbox)
    assert info == machine.query(q.GetMailbox(user, mailbox.name))
    assert (info.number, info.name, info.uidvalidity, info.uidnext, info.highestmodseq) == (
        mailbox.number, mailbox.name, mailbox.uidvalidity, mailbox.uidnext, mailbox.highestmodseq,
    )  # fmt: skip
    assert info.messages == len(mailbox.messages)
    assert info.unseen == sum("\\Seen" not in m.flags for m in mailbox.messages)
    assert info.size_bytes == sum(m.size_bytes for m in mailbox.messages)
    assert info.special_use == mailbox.special_use
    assert info.subscribed == ((user, mailbox.name) in twin.subscriptions)
    everything = UidSet.from_ranges([(1, STAR)])
    for since in range(mailbox.highestmodseq + 2):
        page = machine.query(q.FetchMessages(user, mailbox.number, everything, since, True))
        assert isinstance(page, q.MessagePage)
        assert not page.more
        assert list(page.messages) == [
            q.MessageInfo(
                m.uid, m.guid, m.modseq, mailbox.spelled(m.flags), m.received_us, m.size_bytes,
                m.blob, m.summary, *_dates_of(m),
            )
            for m in mailbox.messages
            if m.modseq > since
        ]  # fmt: skip
        assert machine.query(q.FetchVanished(user, mailbox.name, since)) == UidSet.from_uids(
            uid for modseq, uid in mailbox.vanished if modseq > since
        )
    for m in mailbox.messages:
        assert machine.body_of(q.FetchBody(user, mailbox.name, m.uid)) == m.blob


def _look_as_guest(machine: Machine, twin: Twin, mailbox: TwinMailbox) -> None:
    """What is seen is what each has seen, wherever it is told."""
    if mailbox.user == "b" or "r" not in twin.rights("b", mailbox):
        return
    seen = twin.seen_by("b", mailbox)
    uids = [m.uid for m in mailbox.messages]
    if seen is None:
        seen = {m.uid for m in mailbox.messages if "\\Seen" in m.flags}
    everything = UidSet.from_ranges([(1, STAR)])
    query = q.GuestQuery("b", q.FetchMessages(mailbox.user, mailbox.number, everything))
    page = machine.query(query)
    assert isinstance(page, q.MessagePage)
    assert [m.uid for m in page.messages if "\\Seen" in m.flags] == sorted(seen & set(uids))
    assert page.mailbox.unseen == len(set(uids) - seen)
    columns = machine.query(
        q.GuestQuery("b", q.FetchColumns(mailbox.user, mailbox.number, everything))
    )
    assert isinstance(columns, q.MessageColumns)
    flags = [columns.flags[at] for at in columns.flags_of]
    assert flags == [m.flags for m in page.messages]


def _dates_of(m: TwinMessage) -> tuple[int, int | None]:
    """As they are told: nothing of the usual."""
    usual = not m.zone_minutes and m.saved_us == m.received_us
    return m.zone_minutes, None if usual else m.saved_us


@settings(max_examples=100)
@given(_steps)
def test_the_machine_does_what_the_twin_does_through_retries_aborts_and_power_loss(
    steps: list[tuple[str, Any]],
) -> None:
    run = _Run()
    for what, with_ in steps:
        run.step(what, with_)
    _finish(run)


def _finish(run: _Run) -> None:
    """All is as the twin has it, fsck is content, and a machine that was never disturbed has the
    same rows."""
    _look(run.machine, run.twin)
    assert check(run.machine.index) == []
    other = new_machine()
    for index, payload in enumerate(run.log, 1):
        other.apply(index, 1, payload, want_results=False)
    assert other.index.digest() == run.machine.index.digest()
    assert rows_of(other) == rows_of(run.machine)


def _some_script_command(rng: random.Random, user: str) -> c.Command:
    name, other = rng.choice("xyz"), rng.choice("xyz")
    text = b"# %d" % rng.randint(1, 9)
    made = c.PutScript(user, name, text, rng.randint(1, 3))
    rest = (c.DeleteScript(user, name), c.RenameScript(user, name, other))
    return rng.choice((made, made, *rest, c.ActivateScript(user, rng.choice(["", name]))))


def _some_command(rng: random.Random) -> c.Command:
    """One that mostly finds what it names."""
    user = rng.choice("aaaab")
    name = rng.choice(["INBOX", "INBOX", "x", "x/y", "y"])
    ref: str | int = name if rng.random() < 0.7 else rng.randint(1, 8)
    few = rng.sample(range(1, 13), rng.randint(1, 3))
    uids = rng.choice([UidSet.single(few[0]), UidSet.from_uids(few), UidSet.parse("3:*")])
    flags = tuple(rng.sample(["\\Seen", "\\Deleted", "k1", "K2", "k3"], rng.randint(0, 2)))
    target = c.Target(user, rng.choice(["INBOX", "x", "y", ref]), rng.random() < 0.3)
    kind = rng.choices("SsctedrRuUakpPA", (30, 40, 8, 8, 8, 4, 5, 4, 2, 2, 4, 4, 2, 0.3, 3))[0]
    if kind == "S":
        text = rng.choice(["one", "two", "three"])
        where = (target,) if rng.random() < 0.8 else (target, c.Target("b", "INBOX"))
        some = (bytes([rng.randint(1, 40)]) * 32, bytes([rng.randint(1, 40)]) * 32)
        keys = some[: len(where)] if rng.random() < 0.6 else ()
        new = c.NewMessage(where, body_hash(text), 5, guid_of(text), 1, flags, text.encode(), keys)
        news = (new,) * rng.randint(1, 2)
        if keys and rng.random() < 0.3:
            news += (replace(new, is_further=True),)
        elif keys and rng.random() < 0.3:
            news = (replace(new, marks=(bytes([rng.randint(1, 40)]) * 32,)),)
        return c.Save(user, news, rng.randint(1, 50), (), 86_400)
    if kind == "s":
        since = rng.choice([-1, -1, rng.randint(0, 60)])
        return c.Store(user, ref, uids, rng.choice(list(c.StoreMode)), flags, since)
    if kind in "ct":
        return c.Copy(user, ref, uids, target, 1, kind == "t")
    if kind == "e":
        return c.Expunge(user, ref, uids, rng.random() < 0.5)
    if kind == "d":
        return c.DeleteMailbox(user, ref)
    if kind in "rR":
        other = rng.choice(["x", "x/y", "y", "y/z", f"old{rng.randint(1, 9)}"])
        if kind == "r":
            return c.RenameMailbox(user, ref, other, rng.randint(1, 50), bytes(16))
        return c.CreateMailbox(user, other, rng.randint(1, 50), bytes(16))
    if kind == "u":
        return c.PutUser(f"{user}@x.org", "hash", rng.random() < 0.5)
    if kind == "U":
        return c.RemoveUser(f"{user}@x.org")
    if kind == "a":
        value = rng.choice([None, b"one", b"two"])
        of = None if rng.random() < 0.3 else ref
        return c.SetAnnotations(user, of, ((f"/private/{rng.choice('xyz')}", value),))
    if kind == "k":
        return _some_script_command(rng, user)
    if kind == "A":
        return c.SetAcl(user, ref, "guest", rng.choice(list(c.StoreMode)), rng.choice(["lr", "st"]))
    if kind == "p":
        return c.Subscribe(user, name, rng.random() < 0.7)
    return c.PurgeUser(user)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_life_of_a_shard_ends_where_the_twin_does(seed: int) -> None:
    rng = random.Random(seed)
    run = _Run()
    for _ in range(60):
        run.batch([_some_command(rng) for _ in range(rng.randint(1, 15))])
        what = rng.choice(["retry", "commit", "abort", "power", "look", "noop", "noop"])
        run.step(what, rng.randint(-25, -1) if what == "retry" else rng.random() < 0.5)
    _finish(run)


@settings(max_examples=12)
@given(_steps)
def test_a_machine_on_lmdb_keeps_what_one_in_memory_keeps(steps: list[tuple[str, Any]]) -> None:
    run = _Run()
    folder = tempfile.mkdtemp()
    machine = new_machine(LmdbEngine(Path(folder), TABLES))
    try:
        for what, with_ in [("noop", None), *steps]:
            run.step(what, with_)
            if what == "commit":
                machine.commit(with_)
            elif what == "power":
                machine.commit()
                machine.index.close()
                machine = new_machine(LmdbEngine(Path(folder), TABLES))
            for index in range(machine.applied_index + 1, len(run.log) + 1):
                machine.apply(index, 1, run.log[index - 1])
        assert machine.index.digest() == run.machine.index.digest()
        assert rows_of(machine) == rows_of(run.machine)
        assert check(machine.index) == []
    finally:
        machine.index.close()
        shutil.rmtree(folder)
