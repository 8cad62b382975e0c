"""A replica that is made the whole of its group by force."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftmail.consensus.force_membership import force_alone
from raftmail.consensus.journal import Identity, Journal
from raftmail.consensus.members import membership_of
from raftmail.consensus.membership import Membership
from raftmail.storage.disk import RealDisk

IDENTITY = Identity(bytes(16), 3, 2)
BEFORE = Membership({1: "a", 2: "b", 3: "c"}, {}, 4)


def _open(folder: Path, *, create: bool) -> Journal:
    return Journal.open(RealDisk(folder), "journal", IDENTITY, create=create)


def test_a_forced_replica_is_the_only_voter_by_an_entry_of_a_term_that_nobody_has_had(
    tmp_path: Path,
) -> None:
    journal = _open(tmp_path, create=True)
    journal.setCurrentTerm(7, None)
    last = journal.last_index
    assert force_alone(journal, 2, BEFORE, 9) == Membership({2: "b"}, {}, 9)
    journal.close()
    found = _open(tmp_path, create=False)
    try:
        assert found.getCurrentTerm() == 8
        command, index, term = found.entry(last + 1)
        assert (index, term) == (last + 1, 8)
        assert membership_of(command) == Membership({2: "b"}, {}, 9), "ids are not used again"
        assert found.synced_index == last + 1
    finally:
        found.close()


def test_who_is_no_member_is_not_forced(tmp_path: Path) -> None:
    journal = _open(tmp_path, create=True)
    last = journal.last_index
    with pytest.raises(ValueError, match="replica 5 is not in the group"):
        force_alone(journal, 5, BEFORE, 4)
    assert journal.last_index == last
    journal.close()
