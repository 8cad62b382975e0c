"""Memberships as tests make them, by the rules of those who give out ids."""

from __future__ import annotations

from dataclasses import replace

from raftmail.consensus.membership import ID_MAX, Membership


def with_learner(
    membership: Membership, node: str, replica: int | None = None
) -> tuple[Membership, int]:
    """With a new replica on `node`, and its id: the next, or `replica`. Raises ValueError when one
    is joining there already, for an id that may have been used, and for too many."""
    joining = [learner for learner, name in membership.learners.items() if name == node]
    if joining:
        raise ValueError(f"replica {joining[0]} on {node} is joining already; remove it first")
    new = membership.next_id if replica is None else replica
    if new < membership.next_id:
        raise ValueError(f"the id {new} was used before; the next is {membership.next_id}")
    if new > ID_MAX:
        raise ValueError("the ids of replicas are used up")
    learners = {**membership.learners, new: node}
    return replace(membership, learners=learners, next_id=new + 1), new


def ids_of(membership: Membership, node: str) -> list[int]:
    """The replicas of a node, oldest first."""
    return sorted(replica for replica, name in membership.nodes.items() if name == node)
