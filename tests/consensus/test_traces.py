"""Scripted traces: what replicas say to each other, step by step, as text to be read. A trace's
name is its claim.

A line that is not indented is a command to `cluster.Cluster`; the indented lines after it are what
came of it: messages that were sent (who to whom), and what was asked for. `REWRITE_TRACES=1` writes
what comes now into the files, to be read before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmail.consensus import messages as m
from raftmail.consensus.members import membership_of
from tests.consensus.cluster import Cluster

FOLDER = Path(__file__).parent / "traces"


def told(message: m.Message) -> str:
    """A message in words."""
    f = message.fields
    text = f"{message.sender}->{message.receiver} {message.kind.name} term {message.term}"
    if message.kind is m.Kind.APPEND:
        round, commit, index, term, terms, commands = f
        entries = " ".join(
            f"{t}:{membership_of(c) or c[1:].decode() or '-'}"
            for t, c in zip(terms, commands, strict=True)
        )
        text += f" after {index}/{term} [{entries}] commit {commit}" + (
            f" round {round}" if round else ""
        )
    elif message.kind is m.Kind.ACK:
        text += f" has up to {f[0] - 1}" if f[1] else f" wants from {f[0]}"
    elif message.kind in (m.Kind.VOTE, m.Kind.PREVOTE):
        text += f" log to {f[0]}/{f[1]}" + (" asked by the leader" if f[2] else "")
    elif f:
        text += f" {f[0]}"
    return text


class Player:
    """Carries out the commands of one trace."""

    def __init__(self) -> None:
        self.cluster = Cluster(3)
        self.answers: list[str] = []

    def play(self, line: str) -> Iterator[str]:
        """What a command brought about."""
        c = self.cluster
        c.sent.clear()
        self.answers.clear()
        word, *rest = line.split()
        yield from getattr(self, "do_" + word.replace("-", "_"))(*rest) or ()
        for message in c.sent:
            yield told(message[2]) + ("" if frozenset(message[:2]) in c.up else " (lost)")
        yield from self.answers

    def do_cluster(self, size: str) -> None:
        self.cluster = Cluster(int(size))

    def do_elect(self, replica: str) -> None:
        self.cluster.elect(int(replica))

    def do_quietly(self, *words: str) -> None:
        for _ in self.play(" ".join(words)):
            pass
        self.cluster.sent.clear()

    def do_propose(self, replica: str, *payloads: str) -> None:
        self.cluster.propose(int(replica), *(p.encode() for p in payloads))

    def do_fill(self, replica: str, count: str) -> None:
        """Commands long enough to fill segments of the journal."""
        for _ in range(int(count)):
            self.cluster.propose(int(replica), b"." * 900)
            self.cluster.settle()
        self.cluster.sent.clear()

    def do_deliver(self, a: str, b: str, count: str = "1000") -> None:
        self.cluster.deliver(int(a), int(b), int(count))

    def do_sync(self, replica: str) -> None:
        self.cluster.sync(int(replica))

    def do_settle(self) -> None:
        self.cluster.settle()

    def do_tick(self, replica: str, seconds: str) -> None:
        self.cluster.now += float(seconds)
        self.cluster.tick(int(replica))

    def do_run(self, seconds: str, *replicas: str) -> None:
        self.cluster.run(float(seconds), [int(r) for r in replicas] or None)

    def do_isolate(self, replica: str) -> None:
        self.cluster.isolate(int(replica))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_power_loss(self, replica: str) -> None:
        self.cluster.isolate(int(replica))
        self.cluster[int(replica)].power_loss()

    def do_start(self, replica: str) -> None:
        self.cluster[int(replica)].start()
        self.cluster.heal()

    def do_transfer(self, replica: str, target: str) -> None:
        self.cluster.group(int(replica)).transfer(self.cluster.now, int(target))
        self.cluster.collect(int(replica))

    def do_join(self, leader: str) -> None:
        self.cluster.add_learner(int(leader))
        self.cluster.sent.clear()

    def do_promote(self, leader: str, replica: str) -> None:
        self.cluster.change(
            int(leader), self.cluster.group(int(leader)).membership.promoted(int(replica))
        )

    def do_remove(self, leader: str, replica: str) -> None:
        self.cluster.change(
            int(leader), self.cluster.group(int(leader)).membership.without(int(replica))
        )

    def do_members(self) -> Iterator[str]:
        for replica, node in self.cluster.nodes.items():
            yield f"{replica} goes by entry {node.group.members.index}: {node.group.membership}"

    def do_read(self, replica: str, times: str = "1") -> None:
        def done(index: int | None) -> None:
            self.answers.append(
                f"read at {replica}: " + ("refused" if index is None else f"at {index}")
            )

        for _ in range(int(times)):
            self.cluster.group(int(replica)).barrier(self.cluster.now, done)
        self.cluster.collect(int(replica))

    def do_trim(self, replica: str) -> None:
        group = self.cluster.group(int(replica))
        group.journal.trim(group.applied_index)
        self.cluster.sync(int(replica))

    def do_state(self) -> Iterator[str]:
        for replica, node in self.cluster.nodes.items():
            if not node.alive:
                yield f"{replica} is down"
                continue
            g = node.group
            role = "leads" if g.is_leader else f"follows {g.leader}"
            yield (
                f"{replica} {role} in term {g.term}, log {g.journal.first_index} to "
                f"{g.last_index}, on disk to "
                f"{g.journal.synced_index}, committed to {g.commit_index}, applied "
                f"{b' '.join(node.machine.payloads[-4:]).decode()[:40]}"
            )


def play(text: str) -> str:
    """The trace as it comes out now."""
    player = Player()
    out = []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        out.append(line)
        if line.strip() and not line.startswith("#"):
            out += ["    " + told for told in player.play(line)]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    played = play(text)
    if os.environ.get("REWRITE_TRACES"):
        path.write_text(played, encoding="utf-8")
    else:
        assert played == text
