"""Strategies for valid commands, results, queries and answers."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import STAR, UidSet

numbers = st.integers(1, 2**63 - 1)
seeds = st.integers(0, 2**32 - 1)
guids = st.binary(min_size=16, max_size=16)
hashes = st.binary(min_size=32, max_size=32)
users = st.sampled_from(["a", "alice@example.org", "jörg@example.org"])
record_keys = st.sampled_from(
    ["planet/mars", "planet/jörg", "ring/1", "colour/of jörg@example.org"]
)
names = st.sampled_from(["INBOX", "inbox", "Sent", "a/b", "Ärger/x y"])
refs = names | numbers
annotation_names = st.sampled_from(["/private/comment", "/shared/vendor/x/y", "/private/a/b"])
script_names = st.sampled_from(["main", "Ärger", "a/b", "s" * 512])
script_texts = st.binary(max_size=20)
uidsets = st.builds(UidSet.from_uids, st.frozensets(st.integers(1, 30) | st.just(STAR)))
flags = st.lists(st.sampled_from(["\\Seen", "\\Deleted", "$Junk", "k"]), max_size=3).map(tuple)
received = st.integers(-(2**62), 2**62)
sizes = st.integers(0, 2**32 - 1)
targets = st.builds(c.Target, users, refs, st.booleans())
messages = st.builds(
    c.NewMessage,
    st.lists(targets, min_size=1, max_size=3).map(tuple),
    hashes,
    sizes,
    guids,
    received,
    flags,
    st.binary(max_size=20),
)
messages |= messages.map(
    lambda one: replace(one, delivery_keys=tuple(bytes([n]) * 32 for n in range(len(one.targets))))
)
dates = st.integers(-1439, 1439), st.none() | received
messages |= st.builds(
    lambda one, zone, saved: replace(one, zone_minutes=zone, saved_us=saved), messages, *dates
)
messages |= messages.filter(lambda one: bool(one.delivery_keys)).map(
    lambda one: replace(one, is_further=True, marks=(b"m" * 32,))
)
_commands = st.one_of(
    st.builds(
        c.CreateMailbox,
        users,
        names,
        seeds,
        guids,
        st.sampled_from(["", "\\Sent"]),
        st.booleans(),
    ),
    st.builds(c.DeleteMailbox, users, refs),
    st.builds(c.RenameMailbox, users, refs, names, seeds, guids),
    st.builds(c.Subscribe, users, names, st.booleans()),
    st.builds(
        c.MakeFirstMailboxes,
        users,
        st.sampled_from([(), (("Sent", "\\Sent"), ("a/b", ""), ("a/c", "\\Junk"))]),
        seeds,
        guids,
    ),
    st.builds(
        c.SetAnnotations,
        users,
        refs | st.none(),
        st.dictionaries(annotation_names, st.none() | st.binary(max_size=9), min_size=1).map(
            lambda entries: tuple(entries.items())
        ),
    ),
    st.builds(
        c.PutScript,
        users,
        script_names,
        script_texts,
        st.integers(1, 100),
        st.integers(0, 1 << 20),
    ),
    st.builds(c.DeleteScript, users, script_names),
    st.builds(c.RenameScript, users, script_names, script_names),
    st.builds(c.ActivateScript, users, script_names | st.just("")),
    st.builds(
        c.Save,
        users,
        st.lists(messages, min_size=1, max_size=3).map(tuple),
        seeds,
        st.lists(st.tuples(users, numbers), max_size=2).map(tuple),
        st.just(604_800),
        st.none() | st.tuples(refs, st.integers(1, 99)),
    )
    | st.just(c.Save("a", (c.NewMessage((c.Target("a", "x"),), bytes(32), 1, bytes(16), 7),), 5)),
    st.builds(
        c.Copy,
        users,
        refs,
        uidsets,
        targets,
        seeds,
        st.booleans(),
        st.lists(guids, max_size=2).map(tuple),
        st.sampled_from([0, 99]),
        st.none() | received,
    ),
    st.builds(
        lambda user, many, refused: c.CopyIn(
            user,
            tuple(
                c.NewMessage((c.Target(user, "x"),), bytes(32), 1, bytes(16), 7)
                for _ in range(0 if refused else many)
            ),
            5,
            c.Target(user, "x"),
            UidSet.from_uids(range(3, 3 + (0 if refused else many))),
            refused,
            refused and "why",
            many,
        ),
        users,
        st.integers(0, 3),
        st.sampled_from(["", "NONEXISTENT"]),
    ),
    st.builds(c.Expunge, users, refs, uidsets, st.booleans()),
    st.builds(
        c.Store, users, refs, uidsets, st.sampled_from(c.StoreMode), flags, st.integers(-1, 99)
    ),
    st.builds(
        c.PutUser,
        users.filter(lambda user: "@" in user),
        st.sampled_from(["", "$scrypt$x"]),
        st.booleans(),
    ),
    st.builds(
        c.PutAppPassword,
        users,
        st.sampled_from(["phone", "Zoë's old phone"]),
        st.integers(0, 10**12),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300),
    ),
    st.builds(c.DropAppPassword, users, st.sampled_from(["phone", "Zoë's old phone"])),
    st.builds(c.RemoveUser, users),
    st.builds(c.PurgeUser, users),
    st.builds(
        c.Configure,
        st.dictionaries(record_keys, st.none() | st.binary(max_size=9), min_size=1, max_size=3).map(
            lambda puts: tuple(puts.items())
        ),
        st.dictionaries(record_keys, st.integers(0, 9), max_size=2).map(lambda d: tuple(d.items())),
    ),
)
rights = st.sampled_from(["", "l", "lr", "lrswipkxtea"])
identifiers = st.sampled_from(["anyone", "-anyone", "bob@example.org", "-bob@example.org"])
_guest_commands = st.one_of(
    st.builds(c.DeleteMailbox, users, refs),
    st.builds(c.Store, users, refs, uidsets, st.sampled_from(c.StoreMode), flags, st.just(-1)),
    st.builds(c.Expunge, users, refs, uidsets, st.booleans()),
    st.just(c.Save("a", (c.NewMessage((c.Target("a", "x"),), bytes(32), 1, bytes(16), 7),), 5)),
    st.builds(c.SetAcl, users, refs, identifiers, st.sampled_from(c.StoreMode), rights),
)
commands = st.one_of(
    _commands,
    _guest_commands,
    st.builds(c.SetAcl, users, st.none(), identifiers, st.just(c.StoreMode.REMOVE), rights),
    st.builds(c.NoteSharer, users, users),
    st.builds(c.SetOwnSeen, users, refs, st.booleans()),
    st.builds(c.GuestCommand, users, _guest_commands),
)
results = st.one_of(
    st.builds(r.Refused, st.sampled_from(r.Code), st.text(max_size=20)),
    st.just(r.Done()),
    st.builds(
        r.MailboxResult, numbers, names, guids, numbers, numbers, numbers, st.integers(0, 99)
    ),
    st.lists(st.builds(r.Saved, users, numbers, numbers, numbers, numbers), max_size=3).map(
        lambda saved: r.SaveResult(tuple(saved))
    ),
    st.builds(r.CopyResult, numbers, numbers, uidsets, uidsets, numbers, numbers),
    st.builds(r.ExpungeResult, uidsets, numbers),
    st.builds(r.StoreResult, uidsets, uidsets, numbers, numbers),
    st.builds(r.Configured, numbers),
)
queries = st.one_of(
    st.builds(q.ListMailboxes, users),
    st.builds(q.GetMailbox, users, refs),
    st.builds(
        q.FetchMessages, users, refs, uidsets, st.integers(0, 99), st.booleans(), st.integers(1, 99)
    ),
    st.builds(q.FetchVanished, users, refs, st.integers(0, 99)),
    st.builds(q.FetchContents, users, refs),
    st.builds(q.FetchColumns, users, refs, uidsets, st.booleans(), st.integers(1, 1000)),
    st.builds(q.FetchBody, users, refs, st.integers(1, 99)),
    st.builds(q.FetchBodies, users, refs, uidsets),
    st.builds(q.ListSubscriptions, users),
    st.builds(q.GetAnnotations, users, refs | st.none()),
    st.builds(
        q.ListAnnotations,
        users,
        st.lists(annotation_names, max_size=3).map(tuple),
        st.booleans(),
    ),
    st.builds(q.ListScripts, users),
    st.builds(q.GetScript, users, script_names),
    st.builds(q.ActiveScript, users, st.just(b"") | guids),
    st.builds(q.GetDelivery, users, st.binary(min_size=32, max_size=32)),
    st.builds(q.ListUsers, st.just("") | users, st.integers(1, 1000)),
    st.builds(q.GetUser, users),
    st.builds(q.GetUsage, users),
    st.builds(q.MissingBodies, users, st.lists(hashes, max_size=2).map(tuple)),
    st.builds(q.GetConfiguration, st.integers(0, 9), st.integers(0, 9)),
    st.builds(q.ListShared, users, users, refs | st.none()),
    st.builds(q.ListSharers, users),
    st.builds(
        q.GuestQuery,
        users,
        st.builds(q.GetAcl, users, refs) | st.builds(q.FetchBodies, users, refs, uidsets),
    ),
)
infos = st.builds(
    q.MailboxInfo,
    number=numbers,
    user=users,
    name=names,
    guid=guids,
    uidvalidity=numbers,
    uidnext=numbers,
    highestmodseq=numbers,
    messages=numbers,
    unseen=numbers,
    size_bytes=numbers,
    special_use=st.just(""),
    subscribed=st.booleans(),
    digest=guids,
)
message_infos = st.builds(
    q.MessageInfo,
    st.integers(1, 99),
    guids,
    numbers,
    flags,
    received,
    sizes,
    hashes,
    st.binary(max_size=9),
    *dates,
)
answers = st.one_of(
    st.none(),
    infos,
    st.builds(q.MessagePage, infos, st.lists(message_infos, max_size=2).map(tuple), st.booleans()),
    st.builds(q.UserInfo, users, st.just("hash")),
    st.builds(
        q.AclEntries,
        st.dictionaries(identifiers, rights.filter(bool)).map(lambda d: tuple(sorted(d.items()))),
        st.booleans(),
    ),
    st.builds(q.SharedMailboxes, st.lists(st.tuples(infos, rights), max_size=2).map(tuple)),
    st.builds(
        q.AnnotationValues,
        st.lists(st.tuples(annotation_names, st.binary(max_size=9)), max_size=3).map(tuple),
    ),
    st.builds(
        q.AnnotationList,
        st.lists(st.tuples(numbers, annotation_names, st.binary(max_size=9)), max_size=3).map(
            tuple
        ),
    ),
    st.builds(
        q.ScriptList,
        st.lists(
            st.builds(q.ScriptInfo, script_names, st.integers(0, 1 << 17), st.booleans()),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(q.KnownDelivery, received),
    st.builds(
        q.RulesInForce,
        guids,
        script_names | st.just(""),
        script_texts,
        st.lists(st.tuples(script_names, script_texts), max_size=3).map(tuple),
    ),
    st.builds(
        q.Configuration,
        numbers,
        st.lists(
            st.tuples(record_keys, numbers, st.none() | st.binary(max_size=9)), max_size=3
        ).map(tuple),
        st.booleans(),
        st.integers(0, 9),
        st.booleans(),
    ),
    uidsets,
    st.builds(
        q.MessageBodies,
        st.lists(st.tuples(st.integers(1, 99), st.binary(max_size=9)), max_size=3).map(tuple),
    ),
    st.just(q.MessageColumns((), (), (), (), (), (), (), False)),
    st.just(
        q.MessageColumns(
            (1, 5), (7, 9), (10, 20), (-3, 4), ((), ("\\Seen", "k")), (1, 0), (b"s", b""), True
        )
    ),
    st.builds(
        q.MailboxContents,
        infos,
        uidsets,
        st.lists(names, max_size=3).map(tuple),
        st.integers(0, 99),
        st.booleans(),
    ),
    st.binary(max_size=50),
    st.lists(infos, max_size=2).map(tuple),
    st.lists(names, max_size=3).map(tuple),
)
