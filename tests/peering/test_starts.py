"""Of processes that call themselves the same node, the one goes on that descends from the last
start that a peer remembers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from raftmail.peering.handshake import HelloRefused, Older, Twin
from raftmail.peering.starts import PAST_MAX, Known, PeerStarts, Start

FOLDER, OTHER = "f" * 16, "e" * 16


def start(number: int, *tokens: str, folder: str = FOLDER) -> str:
    return str(Start(folder, number, tuple(token * 8 for token in tokens)))


class Peer:
    """What a peer remembers, and what it kept."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Known]] = []
        self.starts = PeerStarts({}, self._keep)

    def _keep(self, known: Mapping[str, Known]) -> None:
        self.kept.append(dict(known))

    def meet(self, told: str, address: str = "there:1", *, live: bool = False) -> None:
        self.starts.meet("n3", told, address, live=live)


def test_later_starts_of_a_folder_are_believed_and_kept_once_each() -> None:
    peer = Peer()
    peer.meet(start(1, "a"))
    peer.meet(start(1, "a"))
    peer.meet(start(2, "a", "b"), live=True)  # it was killed, and the link does not show it yet
    peer.meet(start(4, "a", "b", "c", "d"), "elsewhere:1")
    assert len(peer.kept) == 3


def test_a_start_that_a_full_disk_cannot_keep_is_believed_remembered_and_kept_later() -> None:
    peer = Peer()

    def full(known: Mapping[str, Known]) -> None:
        raise OSError(28, "No space left on device")

    kept, peer.starts.keep = peer.starts.keep, full
    peer.meet(start(2, "a", "b"))
    with pytest.raises(Older):
        peer.meet(start(1, "a"))
    peer.starts.keep = kept
    peer.meet(start(2, "a", "b"))
    assert [known["n3"].start.number for known in peer.kept] == [2]
    peer.meet(start(2, "a", "b"))
    assert len(peer.kept) == 1


def test_a_folder_that_was_put_back_is_refused() -> None:
    peer = Peer()
    peer.meet(start(2, "a", "b"))
    with pytest.raises(Older, match="older one, or a copy"):
        peer.meet(start(1, "a"))
    with pytest.raises(Older, match="its start 2 does not follow start 2, which was at there:1"):
        peer.meet(start(2, "a", "c"), "copy:1")
    with pytest.raises(Older):
        peer.meet(start(4, "a", "c", "d", "e"))  # it was started again and again


def test_of_two_that_run_the_second_is_refused_by_a_line_with_both_addresses() -> None:
    peer = Peer()
    peer.meet(start(2, "a", "b"))
    with pytest.raises(
        Twin, match="node n3: the one at there:1 goes on, the one at copy:1 is refu"
    ):
        peer.meet(start(2, "a", "c"), "copy:1", live=True)
    with pytest.raises(Twin):
        peer.meet(start(1, "d", folder=OTHER), "new:1", live=True)
    peer.meet(start(3, "a", "b", "e"))


def test_a_copy_of_a_running_folder_is_refused_while_that_one_runs() -> None:
    """Its start follows the last one, as that of a process that was killed does; but it listens
    elsewhere."""
    peer = Peer()
    peer.meet(start(2, "a", "b"))
    with pytest.raises(Twin, match="the one at there:1 goes on, the one at copy:1 is refused"):
        peer.meet(start(3, "a", "b", "c"), "copy:1", live=True)
    peer.meet(start(2, "a", "b"), live=True)
    peer.meet(start(3, "a", "b", "d"), live=True)
    peer.meet(start(4, "a", "b", "d", "e"), "moved:1")


def test_the_folder_of_a_disk_that_was_replaced_is_believed_and_the_one_before_never_again() -> (
    None
):
    peer = Peer()
    peer.meet(start(2, "a", "b"))
    peer.meet(start(1, "d", folder=OTHER))
    with pytest.raises(Older):
        peer.meet(start(3, "a", "b", "c"))
    with pytest.raises(Older):
        peer.meet(start(9, "c", "d"))


def test_one_that_was_away_for_more_starts_than_are_told_is_believed() -> None:
    peer = Peer()
    peer.meet(start(1, "a"))
    peer.meet(start(PAST_MAX + 2, *"bcdef"))


def test_one_of_an_earlier_release_is_believed_and_nonsense_is_refused() -> None:
    peer = Peer()
    peer.meet("")
    assert not peer.kept
    with pytest.raises(HelloRefused, match="tells of no start"):
        peer.meet("x" * 5000)
