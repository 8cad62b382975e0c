"""THREAD: conversations (RFC 5256 section 3).

Nothing here recurses, so that a conversation may be as deep as it has messages. Time grows with the
number of messages and of references that they make, and hardly faster.

Message-IDs are what stands between `<` and `>`, without space and quotes. A Message-ID that another
message had before counts as none. What is referred to is read from the summary: if a References
field is too long for it, the message counts as one that has only In-Reply-To.

In RFC 5256 a reference to a message that is looked at later makes a link that is then broken again.
Here such a link is never made, which gives the same threads but for links that would have been
refused on account of it.
"""

from __future__ import annotations

import re
from array import array

from raftmail.frontends.imap.commands import ThreadAlgorithm
from raftmail.frontends.imap.envelopes import read_envelope
from raftmail.frontends.imap.search import Level
from raftmail.frontends.imap.sorting import sent_s
from raftmail.frontends.imap.subjects import BaseSubject, base_subject
from raftmail.mail.headers import each_field, unfold
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import Summary

_ID = re.compile(rb"<([^<>]++)>").findall
_IGNORED = re.compile(rb'[\s"]+|\\(?=.)', re.DOTALL).sub
_OPEN, _CLOSE, _SPACE = b"(", b")", b" "


def message_ids(value: bytes) -> list[bytes]:
    """The Message-IDs in a field's value, in order, in the form in which they are compared."""
    return [name for found in _ID(value) if (name := _IGNORED(b"", found))]


class Threader:
    """The messages of one THREAD. Memory grows with them and with what they refer to."""

    needs = Level.SUMMARY

    def __init__(self, algorithm: ThreadAlgorithm, *, uid: bool) -> None:
        self._by_references = algorithm is ThreadAlgorithm.REFERENCES
        self._uid = uid
        self._shown: list[int] = []
        self._order: list[tuple[int, int]] = []
        self._subjects: list[BaseSubject] = []
        self._nodes: dict[bytes, int] = {}
        """Node by Message-ID, of messages and of those that are only referred to."""
        self._message_of: list[int] = []
        """Index of a node's message, or -1."""
        self._node_of: list[int] = []
        """Node of each message."""
        self._references: list[array[int]] = []
        """Nodes that each message refers to, the oldest first."""

    def add(self, number: int, info: MessageInfo, summary: Summary) -> None:
        """A message by its sequence number. Raises EnvelopeError for a summary that is damaged."""
        envelope = read_envelope(summary.envelope, addresses_max=0)
        index = len(self._shown)
        self._shown.append(info.uid if self._uid else number)
        self._order.append((sent_s(info, envelope.date), number))
        self._subjects.append(base_subject(envelope.subject or b""))
        if not self._by_references:
            return
        found = message_ids(_references_field(summary))
        if not found:
            found = message_ids(envelope.in_reply_to or b"")[:1]
        own = message_ids(envelope.message_id or b"")
        node = self._node(own[0]) if own else self._new_node()
        if self._message_of[node] >= 0:
            node = self._new_node()
        self._message_of[node] = index
        self._node_of.append(node)
        self._references.append(array("I", [self._node(name) for name in found]))

    def _node(self, name: bytes) -> int:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = self._new_node()
        return node

    def _new_node(self) -> int:
        self._message_of.append(-1)
        return len(self._message_of) - 1

    def rendered(self) -> bytes:
        """All threads as the answer has them, without the space before; empty if there are none."""
        return (self._referring() if self._by_references else self._same_subjects()).rendered()

    def _same_subjects(self) -> _Forest:
        """ORDEREDSUBJECT: messages with one base subject are the children of the oldest."""
        forest = _Forest(self._shown, self._order, self._subjects, range(len(self._shown)))
        first: dict[str, int] = {}
        for index in sorted(range(len(self._shown)), key=self._order.__getitem__):
            subject = self._subjects[index].text
            if subject in first:
                forest.children.setdefault(first[subject], []).append(index)
            else:
                first[subject] = index
                forest.roots.append(index)
        return forest

    def _referring(self) -> _Forest:
        """REFERENCES, in the steps of the RFC."""
        forest = _Forest(self._shown, self._order, self._subjects, self._message_of)
        forest.plant(self._parents())
        forest.sort_roots()
        forest.merge_subjects()
        forest.sort_roots()
        return forest

    def _parents(self) -> list[int]:
        """Step 1: the parent of each node, or -1. `top` leads to the root of a node's tree, in ever
        fewer steps. A link from below a root to that root would be a loop."""
        count = len(self._message_of)
        parents = [-1] * count
        top = list(range(count))
        seen = bytearray(one < 0 for one in self._message_of)

        def link(child: int, parent: int) -> None:
            root = parent
            while top[root] != root:
                top[root] = root = top[top[root]]
            if root != child:
                parents[child] = parent
                top[child] = root

        for node, references in zip(self._node_of, self._references, strict=True):
            before = -1
            for referred in references:
                if before >= 0 and parents[referred] < 0 and seen[referred]:
                    link(referred, before)
                before = referred
            if before >= 0:
                link(node, before)
            seen[node] = True
        return parents


def _references_field(summary: Summary) -> bytes:
    for name, value in each_field(summary.headers):
        if name.lower() == b"references":
            return unfold(value)
    return b""


class _Forest:
    """Trees of nodes that are messages, or stand for one that is not there (dummies)."""

    def __init__(
        self,
        shown: list[int],
        order: list[tuple[int, int]],
        subjects: list[BaseSubject],
        message_of: list[int] | range,
    ) -> None:
        self._shown = shown
        self._order = order
        self._subjects = subjects
        self._message_of = list(message_of)
        self.roots: list[int] = []
        self.children: dict[int, list[int]] = {}

    def _is_dummy(self, node: int) -> bool:
        return self._message_of[node] < 0

    def _first(self, node: int) -> int:
        """The message of a node; of a dummy, that of its first child."""
        message = self._message_of[node]
        return message if message >= 0 else self._message_of[self.children[node][0]]

    def _key(self, node: int) -> tuple[int, int]:
        return self._order[self._first(node)]

    def plant(self, parents: list[int]) -> None:
        """Steps 2 and 3: trees without dummies, but for those at a root that have several children.
        Children are sorted (step 4)."""
        below: dict[int, list[int]] = {}
        tops = []
        for node, parent in enumerate(parents):
            if parent < 0:
                tops.append(node)
            else:
                below.setdefault(parent, []).append(node)
        children = self.children
        stack = [(node, node) for node in tops]
        while stack:
            node, keeper = stack.pop()
            if node != keeper and not self._is_dummy(node):
                children.setdefault(keeper, []).append(node)
                keeper = node
            stack += [(child, keeper) for child in below.get(node, ())]
        for found in children.values():
            found.sort(key=self._key)
        for node in tops:
            if not self._is_dummy(node) or len(children.get(node, ())) > 1:
                self.roots.append(node)
            else:
                self.roots += children.pop(node, ())

    def sort_roots(self) -> None:
        """Steps 4 and 6, for the roots."""
        self.roots.sort(key=self._key)

    def _subject(self, node: int) -> BaseSubject:
        return self._subjects[self._first(node)]

    def _is_reply(self, node: int) -> bool:
        return not self._is_dummy(node) and self._subject(node).reply

    def merge_subjects(self) -> None:
        """Step 5: trees with one subject become one. Children that came together are sorted."""
        chosen: dict[str, int] = {}
        for node in self.roots:
            subject = self._subject(node).text
            known = chosen.get(subject)
            if known is None or (
                not self._is_dummy(known)
                and (self._is_dummy(node) or (self._is_reply(known) and not self._is_reply(node)))
            ):
                chosen[subject] = node
        chosen.pop("", None)
        subjects = [self._subject(node).text for node in self.roots]
        kept = dict.fromkeys(self.roots)
        changed: set[int] = set()
        for node, subject in zip(self.roots, subjects, strict=True):
            known = chosen.get(subject)
            if known is None or known == node:
                continue
            del kept[node]
            if not self._is_dummy(known) and not (
                self._is_reply(node) and not self._is_reply(known)
            ):
                del kept[known]
                self._message_of.append(-1)
                dummy = len(self._message_of) - 1
                self.children[dummy] = [known]
                kept[dummy] = None
                chosen[subject] = known = dummy
            joined = self.children.pop(node) if self._is_dummy(node) else [node]
            self.children.setdefault(known, []).extend(joined)
            changed.add(known)
        self.roots = list(kept)
        for node in changed:
            self.children[node].sort(key=self._key)

    def rendered(self) -> bytes:
        out: list[bytes] = []
        stack: list[bytes | int] = []
        for root in reversed(self.roots):
            stack += (_CLOSE, root, _OPEN)
        while stack:
            item = stack.pop()
            if isinstance(item, bytes):
                out.append(item)
                continue
            children = self.children.get(item, ())
            if not self._is_dummy(item):
                out.append(b"%d" % self._shown[self._message_of[item]])
                if children:
                    out.append(_SPACE)
            if len(children) == 1:
                stack.append(children[0])
            else:
                for child in reversed(children):
                    stack += (_CLOSE, child, _OPEN)
        return b"".join(out)
