"""Columns decide what the messages themselves would, or leave it open."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from raftmail.frontends.imap import search_keys as k
from raftmail.frontends.imap.column_search import ColumnMatcher
from raftmail.frontends.imap.search import Matcher, SearchFacts
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.queries import MessageColumns, MessageInfo
from raftmail.mail.summary import encode_summary, summarise
from raftmail.mail.uidset import UidSet

_DAY_US = 86_400_000_000
_FLAGS = ((), ("\\Seen",), ("\\Seen", "Work"), ("\\Deleted", "$junk"))
_SUBJECTS = ("plain words", "Budget", "=?utf-8?q?bud?= get", "b\\u", "", "a\r\n budget")


def message(rng: random.Random) -> bytes:
    return f"Subject: {rng.choice(_SUBJECTS)}\r\nFrom: x@example.org\r\n\r\nbudget\r\n".encode()


def mailbox(rng: random.Random) -> tuple[list[MessageInfo], dict[int, bytes], MessageColumns]:
    infos, bodies = [], {}
    uid = 0
    for _ in range(40):
        uid += rng.randrange(1, 4)
        bodies[uid] = message(rng)
        infos.append(
            MessageInfo(
                uid,
                b"g" * 16,
                rng.randrange(1, 9),
                rng.choice(_FLAGS),
                rng.randrange(6) * _DAY_US + rng.choice((0, 1, _DAY_US - 1)),
                rng.randrange(90, 110),
                b"b" * 32,
                encode_summary(summarise(bodies[uid])),
            )
        )
    kinds = tuple(dict.fromkeys(info.flags for info in infos))
    columns = MessageColumns(
        tuple(info.uid for info in infos),
        tuple(info.modseq for info in infos),
        tuple(info.size_bytes for info in infos),
        tuple(info.received_us for info in infos),
        kinds,
        tuple(kinds.index(info.flags) for info in infos),
        tuple(info.summary for info in infos),
        False,
    )
    return infos, bodies, columns


def any_key(rng: random.Random, depth: int) -> k.SearchKey:
    if depth and rng.random() < 0.6:
        inner = [any_key(rng, depth - 1) for _ in range(2)]
        kinds: list[Callable[[], k.SearchKey]] = [
            lambda: k.Not(inner[0]),
            lambda: k.And(tuple(inner)),
            lambda: k.Or(inner[0], inner[1]),
        ]
        return rng.choice(kinds)()
    day = 719_163 + rng.randrange(6)
    keys: list[k.SearchKey] = [
        k.All(),
        k.ThreadId("x"),
        k.Flagged(rng.choice(("\\seen", "work", "$JUNK", "none"))),
        k.InSet(SequenceSet(UidSet.parse(rng.choice(("1:9,*", "3", "30:50")))), rng.random() < 0.5),
        k.Sized(rng.random() < 0.5, rng.randrange(90, 110)),
        k.ModSeq(rng.randrange(9)),
        k.Within(rng.random() < 0.5, rng.randrange(6) * 86_400),
        k.Dated(rng.choice(list(k.DateOf)), rng.choice(list(k.Relation)), day),
        k.FieldHas(b"subject", rng.choice(("budget", "words", "", "b\\u", "a b"))),
        k.FieldHas(b"x-other", "budget"),
        k.TextHas("budget", True),
    ]
    return rng.choice(keys)


@pytest.mark.parametrize("seed", range(30))
def test_what_columns_decide_is_what_the_messages_say(seed: int) -> None:
    rng = random.Random(seed)
    infos, bodies, columns = mailbox(rng)
    facts = SearchFacts(5 * 86_400, len(infos), infos[-1].uid, UidSet.parse("4:20"))
    decided = 0
    for _ in range(60):
        key = any_key(rng, 3)
        matcher, quick = Matcher(key, facts), ColumnMatcher(key, facts)
        answers = quick.matches(columns, range(1, len(infos) + 1))
        for number, (info, answer) in enumerate(zip(infos, answers, strict=True), 1):
            body = bodies[info.uid]
            truth = matcher.matches_body(number, info, summarise(body), body)
            assert answer in (None, truth), (key, info)
            decided += answer is not None
        if not quick.decides:
            assert set(answers) == {None}
    assert decided > 300


def test_most_messages_are_decided_without_looking_at_them() -> None:
    infos, _, columns = mailbox(random.Random(1))
    facts = SearchFacts(0, len(infos), infos[-1].uid, UidSet())
    for key in (k.Flagged("\\Seen"), k.Sized(True, 100), k.InSet(SequenceSet(UidSet()), True)):
        quick = ColumnMatcher(key, facts)
        assert not quick.needs_summaries
        assert None not in quick.matches(columns, range(1, len(infos) + 1))
    quick = ColumnMatcher(k.FieldHas(b"subject", "holiday"), facts)
    assert quick.needs_summaries
    assert quick.matches(columns, range(1, len(infos) + 1)).count(False) > len(infos) // 3
