"""COPY and MOVE between shards: one effect whatever fails on the way, nothing lost, and no body
sent that is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.cluster import cross_shard_copy as x
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.codec import decode_request
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.uidset import UidSet
from raftmail.storage.check import check
from tests.shard.machines import CLIENT, Feeder, body_hash, entry_of, message, new_machine

OTHER = b"another client!!"
ALL = UidSet.parse("1:*")
A, B = "a", "far"


class Shards:
    """Two shards without Raft: that of user a, and that of user far. Calls fail as `fates` says:
    True works, False fails before the effect, None after it."""

    def __init__(self, texts: Sequence[str] = ("one", "two", "three")) -> None:
        self.machines = {1: new_machine(), 2: new_machine()}
        self.bodies: dict[int, set[bytes]] = {1: set(), 2: set()}
        self.fates: list[bool | None] = []
        self.sent: list[bytes] = []
        source = Feeder(self.machines[1])
        for uid, text in enumerate(texts, 1):
            new = message(text, c.Target(A, "INBOX"), flags=("\\Seen", "k"))
            source.do(c.Save(A, (replace(new, zone_minutes=60 * uid),), 5))
            self.bodies[1].add(body_hash(text))
        self._other = 0

    def meanwhile(self, shard: int, command: c.Command) -> r.Result:
        """What somebody else does."""
        self._other += 1
        return self._apply(shard, OTHER, self._other, command)

    def _apply(self, shard: int, client: bytes, seq: int, command: c.Command) -> r.Result:
        machine = self.machines[shard]
        payload = entry_of((client, seq, 0, command))
        ((_, _, result),) = machine.apply(machine.applied_index + 1, 1, payload)
        return result

    # As the router has it

    clock: Callable[[], float] = staticmethod(lambda: 0.0)

    def shard_of(self, user: str) -> int:
        return 2 if user.startswith("far") else 1

    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[r.Executed | Failure], None],
    ) -> None:
        fate = self.fates.pop(0) if self.fates else True
        asked = decode_request(request)
        known = self.machines[shard].known(asked.client, asked.seq)
        if fate is False:
            done(Failure("no master", unknown=False))
            return
        command = asked.command
        if isinstance(command, c.GuestCommand):
            command = command.command
        if known is None and isinstance(command, c.CopyIn):
            self.sent += [digest for digest, _ in blobs]
            held = self.bodies[shard] | {digest for digest, _ in blobs}
            if not {m.blob for m in command.messages} <= held:
                done(Failure("the body was not sent and is not stored", final=True))
                return
            self.bodies[shard] = held
        result = known or self._apply(shard, asked.client, asked.seq, asked.command)
        index = self.machines[shard].applied_index
        done(
            Failure("late", unknown=True) if fate is None else r.Executed(result, shard, index, "n")
        )

    async def query(self, query: q.Query, *, deadline_s: float) -> q.Answer:
        if self.fates and self.fates.pop(0) is not True:
            raise Unavailable(Failure("no answer"))
        assert not isinstance(query, q.ListUsers | q.GetUser | q.GetConfiguration)
        machine = self.machines[self.shard_of(query.user)]
        if isinstance(q.asked_for(query), q.FetchBody):
            return b"body" if machine.body_of(query) else None
        return machine.query(query)

    def copy(
        self,
        *,
        move: bool = False,
        uids: UidSet = ALL,
        to: str = "INBOX",
        guids: tuple[bytes, ...] = (),
        seq: int = 1000,
        mailbox: str = "INBOX",
        guest: str = "",
    ) -> r.Result:
        """One try. Raises `Unavailable`."""
        command = c.Copy(A, mailbox, uids, c.Target(B, to), 5, move, guids)
        done = asyncio.run(x.carry_out(self, CLIENT, seq, 0, command, 1.0, guest))
        return done.result

    def held(self, user: str, mailbox: str = "INBOX") -> dict[int, q.MessageInfo]:
        page = self.machines[self.shard_of(user)].query(
            q.FetchMessages(user, mailbox, ALL, 0, True)
        )
        return {m.uid: m for m in page.messages} if isinstance(page, q.MessagePage) else {}

    def assert_sound(self) -> None:
        for machine in self.machines.values():
            assert check(machine.index) == []


def _result(result: r.Result) -> r.CopyResult:
    assert isinstance(result, r.CopyResult), result
    return result


def test_a_copy_has_the_same_messages_under_new_uids() -> None:
    shards = Shards()
    result = _result(shards.copy(uids=UidSet.parse("1,3,9")))
    assert (result.source_uids.format(), result.target_uids.format()) == ("1,3", "1:2")
    assert result.source_modseq == 0
    for source, target in ((1, 1), (3, 2)):
        one, other = shards.held(A)[source], shards.held(B)[target]
        assert one.zone_minutes == other.zone_minutes == 60 * source
        assert (one.guid, one.blob, one.flags, one.received_us, one.summary) == (
            other.guid,
            other.blob,
            other.flags,
            other.received_us,
            other.summary,
        )
    assert len(shards.held(A)) == 3
    shards.assert_sound()


def test_a_move_takes_away_just_what_was_saved() -> None:
    shards = Shards()
    result = _result(shards.copy(move=True, uids=UidSet.parse("2:3")))
    assert list(shards.held(A)) == [1] and list(shards.held(B)) == [1, 2]
    assert result.source_modseq == 5
    shards.assert_sound()


def test_only_bodies_that_the_target_lacks_are_sent() -> None:
    shards = Shards()
    shards.copy(uids=UidSet.single(2), seq=1)
    assert shards.sent == [body_hash("two")]
    shards.copy(to="INBOX", seq=2)
    assert sorted(shards.sent) == sorted(map(body_hash, ("one", "two", "three")))


def test_bodies_that_were_given_back_meanwhile_are_sent_after_all() -> None:
    shards = Shards()
    shards.copy(seq=1)
    shards.bodies[2].clear()
    assert _result(shards.copy(seq=2)).target_uids.format() == "4:6"
    assert len(shards.sent) == 6


def test_a_retry_of_a_move_that_is_done_gets_its_result_though_the_source_is_empty() -> None:
    shards = Shards()
    guids = tuple(m.guid for m in shards.held(A).values())
    first = shards.copy(move=True, guids=guids)
    assert shards.held(A) == {}
    assert shards.copy(move=True, guids=guids) == first
    shards.machines[1].apply(  # even when the mailbox itself is gone
        shards.machines[1].applied_index + 1, 1, entry_of((OTHER, 50, 0, c.PurgeUser(A)))
    )
    again = _result(shards.copy(move=True, guids=guids))
    assert again.target_uids == _result(first).target_uids and len(shards.held(B)) == 3


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"mailbox": "nope"}, "NONEXISTENT"),
        ({"to": "nope"}, "NONEXISTENT"),
        ({"guids": (bytes(16),)}, "GUIDMISMATCH"),
    ],
)
def test_what_is_refused_has_no_effect_and_stays_refused(
    fields: dict[str, object], code: str
) -> None:
    shards = Shards()
    for _ in range(2):
        result = shards.copy(move=True, **fields)  # type: ignore[arg-type]
        assert isinstance(result, r.Refused) and result.code == code
        assert len(shards.held(A)) == 3 and shards.held(B) == {}


def _grant(shards: Shards, owner: str, guest: str, rights: str) -> None:
    set_acl = c.SetAcl(owner, "INBOX", guest, c.StoreMode.REPLACE, rights)
    assert shards.meanwhile(shards.shard_of(owner), set_acl) == r.Done()


def _with_target() -> Shards:
    shards = Shards()
    shards.meanwhile(2, c.CreateMailbox(B, "INBOX", 1, bytes(16)))
    return shards


def test_a_guest_puts_mail_into_a_mailbox_in_another_shard_by_the_rights_there() -> None:
    shards = _with_target()
    for rights, code in (("", "NONEXISTENT"), ("lr", "NOPERM")):
        _grant(shards, B, A, rights)
        for _ in range(2):
            refused = shards.copy(move=True, guest=A, seq=len(rights) + 1)
            assert isinstance(refused, r.Refused) and refused.code == code
            assert len(shards.held(A)) == 3 and shards.held(B) == {}
    _grant(shards, B, A, "lsi")
    _result(shards.copy(move=True, guest=A))
    assert shards.held(A) == {}
    assert {m.flags for m in shards.held(B).values()} == {("\\Seen",)}, "those that he may set"


def test_a_guest_takes_mail_from_a_mailbox_in_another_shard_by_the_rights_there() -> None:
    shards = _with_target()
    for seq, (rights, code) in enumerate(
        (("", "NONEXISTENT"), ("l", "NOPERM"), ("lr", "NOPERM")), 1
    ):
        _grant(shards, A, B, rights)
        refused = shards.copy(move=True, guest=B, seq=seq)
        assert isinstance(refused, r.Refused) and refused.code == code
        assert len(shards.held(A)) == 3 and shards.held(B) == {}
    assert len(_result(shards.copy(guest=B, seq=7)).target_uids) == 3
    _grant(shards, A, B, "lrte")
    _result(shards.copy(move=True, guest=B, seq=8))
    assert shards.held(A) == {} and len(shards.held(B)) == 6


def test_a_move_is_refused_when_the_right_is_taken_away_after_the_copy() -> None:
    shards = _with_target()
    _grant(shards, A, B, "lrte")
    shards.fates = [*([True] * (1 + 1 + 1 + 3 + 1)), False]
    with pytest.raises(Unavailable):
        shards.copy(move=True, guest=B)
    _grant(shards, A, B, "lr")
    for _ in range(2):
        refused = shards.copy(move=True, guest=B)
        assert isinstance(refused, r.Refused) and refused.code == "NOPERM"
        assert len(shards.held(A)) == len(shards.held(B)) == 3, "nothing is lost, and one effect"


def test_more_than_a_command_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x, "MESSAGES_MAX", 2)
    result = Shards().copy()
    assert isinstance(result, r.Refused) and "name fewer UIDs" in result.text
    monkeypatch.setattr(x, "MESSAGES_MAX", 1000)
    monkeypatch.setattr(x, "BODIES_BYTES_MAX", 4)
    result = Shards().copy()
    assert isinstance(result, r.Refused) and result.code == "LIMIT"


def test_nothing_to_copy_is_done_too() -> None:
    shards = Shards()
    result = _result(shards.copy(uids=UidSet.single(9), move=True))
    assert not result.target_uids and shards.held(B) == {} and len(shards.held(A)) == 3


def test_what_fails_after_the_copy_is_told_as_unknown() -> None:
    shards = Shards()
    shards.fates = [*([True] * (1 + 1 + 3 + 1)), False]
    with pytest.raises(Unavailable) as late:
        shards.copy(move=True)
    assert late.value.failure.unknown and len(shards.held(A)) == len(shards.held(B)) == 3
    shards.copy(move=True)
    assert shards.held(A) == {} and len(shards.held(B)) == 3


_fates = st.lists(st.sampled_from([True, True, True, False, None]), max_size=14)
_meanwhile = st.sampled_from(["nothing", "expunge", "flag", "save", "commit", "forget bodies"])


@settings(max_examples=150)
@given(st.lists(st.tuples(_fates, _meanwhile), max_size=6), st.booleans())
def test_whatever_fails_a_command_has_one_effect_and_nothing_is_lost(
    tries: list[tuple[list[bool | None], str]], move: bool
) -> None:
    shards = Shards(("one", "two", "two", "three"))
    everything = {m.guid for m in shards.held(A).values()}
    removed: set[bytes] = set()
    told: list[r.CopyResult] = []
    for fates, meanwhile in [*tries, ([], "nothing")]:
        shards.fates = list(fates)
        try:
            told.append(_result(shards.copy(move=move)))
        except Unavailable:
            pass
        held = shards.held(A)
        assert everything - removed <= {m.guid for m in (*held.values(), *shards.held(B).values())}
        if meanwhile == "expunge" and held:
            uid = min(held)
            removed.add(held[uid].guid)
            shards.meanwhile(1, c.Expunge(A, "INBOX", UidSet.single(uid)))
        elif meanwhile == "flag":
            shards.meanwhile(1, c.Store(A, "INBOX", ALL, c.StoreMode.ADD, ("\\Flagged",)))
        elif meanwhile == "save":
            shards.bodies[1].add(body_hash("late"))
            late = message("late", c.Target(A, "INBOX"))
            shards.meanwhile(1, c.Save(A, (late,), 5))
            everything.add(late.guid)
        elif meanwhile == "commit":
            for machine in shards.machines.values():
                machine.commit()
        elif meanwhile == "forget bodies":
            held_there = {m.blob for m in shards.held(B).values()}
            shards.bodies[2] &= held_there
    last = told[-1]
    assert all(one.target_uids == last.target_uids for one in told)
    assert all(one.source_uids == last.source_uids for one in told)
    target = shards.held(B)
    assert list(target) == list(last.target_uids), "one effect"
    if move:
        assert not set(shards.held(A)) & set(last.source_uids)
    shards.assert_sound()
