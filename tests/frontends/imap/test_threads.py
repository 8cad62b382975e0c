"""Conversations, as THREAD answers them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.commands import ThreadAlgorithm
from raftmail.frontends.imap.threads import Threader, message_ids
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import HEADERS_BYTES_MAX, Summary, summarise
from tests.frontends.imap.odd_messages import ODD, odd_bytes
from tests.fuzzing import bounded

REFERENCES, ORDEREDSUBJECT = ThreadAlgorithm.REFERENCES, ThreadAlgorithm.ORDEREDSUBJECT


def info(number: int, received_s: int) -> MessageInfo:
    return MessageInfo(number * 10, bytes(16), 1, (), received_s * 1_000_000, 1, bytes(32))


def threads(
    messages: list[bytes], algorithm: ThreadAlgorithm = REFERENCES, *, uid: bool = False
) -> str:
    """Of messages that were sent one after the other, unless they have dates of their own."""
    threader = Threader(algorithm, uid=uid)
    for number, message in enumerate(messages, 1):
        threader.add(number, info(number, number), summarise(message))
    return threader.rendered().decode()


def mail(
    own: str = "", *references: str, subject: str = "", date: str = "", reply_to: str = ""
) -> bytes:
    lines = [f"Subject: {subject}", *([f"Message-ID: <{own}>"] if own else [])]
    if references:
        lines.append("References: " + "\r\n ".join(f"<{name}>" for name in references))
    if date:
        lines.append(f"Date: {date}")
    if reply_to:
        lines.append(f"In-Reply-To: <{reply_to}>")
    return "\r\n".join([*lines, "", ""]).encode()


# -- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], ""),
        ([mail("a")], "(1)"),
        ([mail("a"), mail("b", "a")], "(1 2)"),
        ([mail("b", "a"), mail("a")], "(2 1)"),
        ([mail("a"), mail("b", "a"), mail("c", "a", "b")], "(1 2 3)"),
        ([mail("a"), mail("b", "a"), mail("c", "a")], "(1 (2)(3))"),
        ([mail("a"), mail("b", "a"), mail("c", "a"), mail("d", "a", "b")], "(1 (2 4)(3))"),
        ([mail("a"), mail("b")], "(1)(2)"),
        ([mail("b", "gone"), mail("c", "gone")], "((1)(2))"),
        ([mail("b", "gone")], "(1)"),
        ([mail("b", "gone", "lost"), mail("c", "gone", "lost")], "((1)(2))"),
        ([mail("a"), mail("c", "a", "gone"), mail("d", "a", "gone")], "(1 (2)(3))"),
        ([mail("a"), mail("b", reply_to="a")], "(1 2)"),
        ([mail("a"), mail("b", "gone", reply_to="a")], "(1)(2)"),
        ([mail("a"), mail("b", "a", "a", "a")], "(1 2)"),
        ([mail("a", "a")], "(1)"),
        ([mail(), mail()], "(1)(2)"),
        ([mail("c", "a", "b"), mail("b"), mail("a")], "(2 1)(3)"),
    ],
)
def test_messages_are_children_of_those_that_they_refer_to(
    messages: list[bytes], expected: str
) -> None:
    assert threads(messages) == expected


def test_a_message_id_that_was_there_before_counts_as_none() -> None:
    assert threads([mail("a"), mail("a"), mail("b", "a")]) == "(1 3)(2)"


def test_messages_that_refer_to_each_other_are_all_shown_once() -> None:
    assert threads([mail("a", "b"), mail("b", "a")]) in ("(1 2)", "(2 1)")
    ring = [mail("a", "c"), mail("b", "a"), mail("c", "b")]
    assert sorted(re.findall(r"\d+", threads(ring))) == ["1", "2", "3"]


def test_siblings_and_threads_stand_by_the_date_of_sending_then_by_number() -> None:
    messages = [
        mail("a", date="3 Jan 2024"),
        mail("b", "a", date="5 Jan 2024"),
        mail("c", "a", date="4 Jan 2024"),
        mail("d", "a", date="4 Jan 2024"),
        mail("e", date="1 Jan 2024"),
    ]
    assert threads(messages) == "(5)(1 (3)(4)(2))"


def test_threads_without_their_root_stand_by_their_oldest_message() -> None:
    messages = [
        mail("a", "gone", date="3 Jan 2024"),
        mail("b", "gone", date="1 Jan 2024"),
        mail("c", date="2 Jan 2024"),
    ]
    assert threads(messages) == "((2)(1))(3)"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([mail("a", subject="x"), mail("b", subject="Re: X")], "(1 2)"),
        ([mail("b", subject="Re: X"), mail("a", subject="x")], "(2 1)"),
        ([mail("a", subject="x"), mail("b", subject="x")], "((1)(2))"),
        ([mail("a", subject="Re: x"), mail("b", subject="Fwd: x")], "((1)(2))"),
        ([mail("a", subject=""), mail("b", subject="Re:")], "(1)(2)"),
        (
            [
                mail("a", "gone", subject="x"),
                mail("b", "gone", subject="re: x"),
                mail("c", subject="re: x"),
            ],
            "((1)(2)(3))",
        ),
        (
            [
                mail("a", "gone", subject="x"),
                mail("b", "gone", subject="x"),
                mail("c", "lost", subject="x"),
                mail("d", "lost", subject="x"),
            ],
            "((1)(2)(3)(4))",
        ),
        ([mail("a", subject="x"), mail("b", "a"), mail("c", subject="re: x")], "(1 (2)(3))"),
        (
            [mail("a", subject="x"), mail("b", subject="x"), mail("c", subject="re: x")],
            "((1)(2)(3))",
        ),
    ],
)
def test_threads_with_one_subject_become_one(messages: list[bytes], expected: str) -> None:
    assert threads(messages) == expected


def test_twelve_kilobytes_of_references_are_followed() -> None:
    many = [f"{'x' * 40}{number}@example.org" for number in range(200)]
    messages = [mail(many[150]), mail("b", *many)]
    assert len(messages[1]) > 11_000
    assert threads(messages) == "(1 2)"


def test_references_that_the_summary_could_not_keep_are_taken_from_in_reply_to() -> None:
    many = ["x@y"] * (HEADERS_BYTES_MAX // 4)
    assert threads([mail("a"), mail("b", *many, reply_to="a")]) == "(1 2)"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"<a@b> <c@d>", [b"a@b", b"c@d"]),
        (b"<a@b><c@d>", [b"a@b", b"c@d"]),
        (b'<"01K"@x.example>', [b"01K@x.example"]),
        (rb'<"a\"b"@x>', [b"ab@x"]),
        (b"<a@\t b>", [b"a@b"]),
        (b"a@b", []),
        (b"<> < > <", []),
        (b"<a <b@c>", [b"b@c"]),
        (b"Message of today <a@b> (why)", [b"a@b"]),
    ],
)
def test_message_ids_are_what_stands_in_angle_brackets(value: bytes, names: list[bytes]) -> None:
    assert message_ids(value) == names


# -- ordered subject ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        ([], ""),
        (["x"], "(1)"),
        (["x", "Re: x"], "(1 2)"),
        (["x", "y", "Re: X", "[l] x"], "(1 (3)(4))(2)"),
        (["", "", "z"], "(1 2)(3)"),
    ],
)
def test_messages_with_one_subject_are_children_of_the_oldest(
    subjects: list[str], expected: str
) -> None:
    assert threads([mail(subject=one) for one in subjects], ORDEREDSUBJECT) == expected


def test_ordered_subject_goes_by_the_date_of_sending() -> None:
    messages = [
        mail(subject="x", date="3 Jan 2024"),
        mail(subject="y", date="2 Jan 2024"),
        mail(subject="re: x", date="1 Jan 2024"),
    ]
    assert threads(messages, ORDEREDSUBJECT) == "(3 1)(2)"


# -- both ---------------------------------------------------------------------------------------


def test_threads_of_uids_have_uids() -> None:
    assert threads([mail("a"), mail("b", "a")], uid=True) == "(10 20)"
    assert threads([mail(), mail()], ORDEREDSUBJECT, uid=True) == "(10 20)"


def numbers_of(rendered: str) -> list[int]:
    """Every number in an answer, which has to be of the form that RFC 5256 section 5 gives it:
    numbers, and then nothing or at least two lists in brackets."""
    left = rendered
    for _ in range(len(rendered)):
        left = re.sub(r"\((?:\d+(?: \d+)*(?: L{2,})?|L{2,})\)", "L", left)
    assert re.fullmatch("L*", left), rendered
    return sorted(int(number) for number in re.findall(r"\d+", rendered))


names = st.sampled_from([f"{letter}@x" for letter in "abcdefgh"])
conversations = st.lists(
    st.builds(
        lambda own, references, subject: mail(own, *references, subject=subject),
        names | st.just(""),
        st.lists(names, max_size=4),
        st.sampled_from(["", "x", "Re: x", "y"]),
    ),
    max_size=12,
)


@bounded
@given(conversations | st.lists(odd_bytes, max_size=5))
def test_every_message_is_in_one_thread_whatever_it_refers_to(messages: list[bytes]) -> None:
    for algorithm in ThreadAlgorithm:
        found = threads([*messages, ODD["plain"]], algorithm)
        assert numbers_of(found) == list(range(1, len(messages) + 2))


def plainly(messages: list[tuple[str, list[str]]]) -> list[tuple[int, ...]]:
    """Steps 1 to 3 of the RFC word for word, as the path of numbers that leads to each message. No
    message refers to itself in any way, all have a Message-ID of their own, and no subject."""
    parents: dict[str, str | None] = {}
    for own, references in messages:
        for parent, child in zip([None, *references], references, strict=False):
            if parents.get(child) is None:
                parents[child] = parent
        parents[own] = references[-1] if references else None
    numbers = {own: number for number, (own, _) in enumerate(messages, 1)}
    paths = []
    for own, _ in messages:
        path: list[int] = []
        name: str | None = own
        while name is not None:
            if name in numbers:
                path.insert(0, numbers[name])
            name = parents[name]
        paths.append(tuple(path))
    return sorted(paths)


def paths_in(rendered: str) -> list[tuple[int, ...]]:
    """The path of numbers that leads to each message of an answer."""
    paths: list[tuple[int, ...]] = []
    stack: list[tuple[int, ...]] = []
    path: tuple[int, ...] = ()
    for token in re.findall(r"[()]|\d+", rendered):
        if token == "(":
            stack.append(path)
        elif token == ")":
            path = stack.pop()
        else:
            path = (*path, int(token))
            paths.append(path)
    return sorted(paths)


@st.composite
def acyclic(draw: st.DrawFn) -> list[tuple[str, list[str]]]:
    """Messages that refer to names before their own, the oldest first, in any order of arrival."""
    found = draw(st.permutations(range(10)))
    return [
        (
            f"{own}@x",
            [f"{name}@x" for name in sorted(draw(st.sets(st.integers(0, own), max_size=4)))],
        )
        for own in found[: draw(st.integers(1, 8))]
    ]


@bounded
@given(acyclic())
def test_links_are_those_of_the_rfc_where_none_is_a_loop(
    messages: list[tuple[str, list[str]]],
) -> None:
    messages = [(own, [name for name in names if name != own]) for own, names in messages]
    found = threads([mail(own, *references) for own, references in messages])
    assert paths_in(found) == plainly(messages)


MANY = 20_000
EMPTY = summarise(b"\r\n")


def referring(own: int, *references: int) -> Summary:
    """A summary as of `mail`, without the time that it takes to make one."""
    cached = b"References: " + b" ".join(b"<%d@x>" % name for name in references)
    envelope = b'(NIL NIL NIL NIL NIL NIL NIL NIL NIL "<%d@x>")' % own
    return Summary(2, 2, envelope, b"", EMPTY.parts, cached + b"\r\n", True, True)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_conversation_may_be_as_deep_as_a_mailbox(backwards: bool) -> None:
    """If a link were followed to its root each time, this would not end for a long time."""
    order = range(MANY, 0, -1) if backwards else range(1, MANY + 1)
    threader = Threader(REFERENCES, uid=False)
    for number in order:
        threader.add(number, info(number, number), referring(number, number - 1))
    assert threader.rendered() == b"(%b)" % b" ".join(b"%d" % n for n in range(1, MANY + 1))


def test_a_conversation_may_branch_at_every_message() -> None:
    threader = Threader(REFERENCES, uid=False)
    for number in range(1, MANY + 1):
        threader.add(number, info(number, number), referring(number, (number - 1) // 2 * 2))
    rendered = threader.rendered()
    assert rendered.startswith(b"((1)(2 (3)(4 (5)(6 ")
    assert len(re.findall(rb"\d+", rendered)) == MANY
