"""Every administrative call: a frozen value with its arguments, whose class names what is answered.

`CALLS` is the one table. The node that answers, the client library, commands, chaos and bench use
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

from raftmail.admin.api.arguments import (
    ACTION,
    INVITE_ID,
    NODE_NAME,
    ONE,
    QUOTA,
    QUOTA_OR_DEFAULT,
    REPLICAS,
)
from raftmail.admin.api.between_nodes import (
    DeepAnswer,
    DigestAnswer,
    Held,
    ListingAnswer,
    MarkMade,
    NodeObservation,
    ReplicaHere,
    Wholeness,
    WholeState,
)
from raftmail.admin.api.members import (
    Invitations,
    Invited,
    Joined,
    LeadingMember,
    MasterPlaced,
    MemberDetails,
    MemberList,
    MemberRow,
    Moves,
    Nothing,
    Operations,
    RecoveryLook,
    RepairedRecord,
    ReplacedMember,
    Shard,
    ShardDetails,
    Shards,
    UnreadableRecords,
    Withdrawn,
)
from raftmail.admin.api.policies import (
    Alias,
    Aliases,
    AliasRemoved,
    AppPasswordMade,
    AppPasswordRemoved,
    AppPasswords,
    Domain,
    DomainRemoved,
    Domains,
    GrantsForgotten,
    Placed,
    RuleChanged,
    Rules,
    Shares,
    UserPlace,
    UsersPage,
    UserUsage,
)
from raftmail.admin.api.status import ClusterStatus, NodeStatus
from raftmail.admin.api.verification import (
    DeepVerification,
    ResyncOrdered,
    Verification,
    VerificationBegun,
)

R_co = TypeVar("R_co", covariant=True)


class Call(Generic[R_co]):
    """What is asked; `R_co` is what is answered."""

    __slots__ = ()


class Asker(Enum):
    """Who may make a call."""

    OPERATOR = auto()
    """Clients that show the cluster's token, and nodes."""
    NODE = auto()
    """Nodes alone."""


class Effect(Enum):
    """What a call does."""

    LOOKS = auto()
    """It changes nothing."""
    CHANGES = auto()
    """It changes what another call can change back."""
    DESTROYS = auto()
    """It may give something up for ever."""


# -- status and masters ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetStatus(Call[ClusterStatus]):
    """The condition of the whole cluster."""


@dataclass(frozen=True, slots=True)
class GetNodeStatus(Call[NodeStatus]):
    """The condition of the node that is asked, and of the replicas that it holds."""


@dataclass(frozen=True, slots=True)
class TransferMaster(Call[MasterPlaced]):
    """Have a node lead a shard, and keep the balancer from undoing it for a while."""

    shard: int
    node: str


# -- verification and resync -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verify(Call[Verification]):
    """Compare the digests of all replicas."""


@dataclass(frozen=True, slots=True)
class StartDeepVerification(Call[VerificationBegun]):
    """Begin to compare every record and body, at the node that is asked."""


@dataclass(frozen=True, slots=True)
class GetDeepVerification(Call[DeepVerification]):
    """How far the deep verification is that was begun at this node."""


@dataclass(frozen=True, slots=True)
class StartResync(Call[ResyncOrdered]):
    """Have the replicas on a node compared with others, and what differs fetched."""

    node: str
    shard: int | None = None
    user: str = ""
    mailbox: str = ""
    full: Annotated[bool, ONE] = False
    only: tuple[str, ...] = ()


# -- nodes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListMembers(Call[MemberList]):
    """All nodes."""


@dataclass(frozen=True, slots=True)
class GetMember(Call[MemberDetails]):
    """One node; with `risk`, what removing it would put at risk."""

    name: str
    risk: bool = False


@dataclass(frozen=True, slots=True)
class InviteMember(Call[Invited]):
    """Keep an invitation; `bundle` is sealed, and base64."""

    id: Annotated[str, INVITE_ID]
    name: Annotated[str, NODE_NAME]
    peer: str
    expires_s: int
    bundle: str


@dataclass(frozen=True, slots=True)
class ListInvitations(Call[Invitations]):
    """All invitations that are kept."""


@dataclass(frozen=True, slots=True)
class WithdrawInvitation(Call[Withdrawn]):
    """Take an invitation back."""

    id: Annotated[str, INVITE_ID]


@dataclass(frozen=True, slots=True)
class JoinMember(Call[Joined]):
    """Take an invited node in; `again` says that it was asked before, and the answer was lost."""

    id: Annotated[str, INVITE_ID]
    name: Annotated[str, NODE_NAME]
    peer: str
    client: str = ""
    lmtp: str = ""
    host: str = ""
    zone: str = ""
    labels: tuple[str, ...] = ()
    capacity: int = 100
    again: bool = False


@dataclass(frozen=True, slots=True)
class DrainMember(Call[MemberRow]):
    """Empty a node."""

    name: Annotated[str, NODE_NAME]
    by: str = ""


@dataclass(frozen=True, slots=True)
class UndrainMember(Call[MemberRow]):
    """Keep a node after all."""

    name: Annotated[str, NODE_NAME]


@dataclass(frozen=True, slots=True)
class CordonMember(Call[LeadingMember]):
    """Give a node no masters and no new replicas."""

    name: Annotated[str, NODE_NAME]


@dataclass(frozen=True, slots=True)
class UncordonMember(Call[LeadingMember]):
    """Give a node masters and replicas again."""

    name: Annotated[str, NODE_NAME]


@dataclass(frozen=True, slots=True)
class RemoveMember(Call[MemberRow]):
    """Take a node out for ever: an empty one, or with `force` a dead one."""

    name: Annotated[str, NODE_NAME]
    by: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceDisk(Call[ReplacedMember]):
    """Give a node new replicas for all that it held, or for those in `only` (by shard: the id)."""

    name: Annotated[str, NODE_NAME]
    by: str = ""
    only: Annotated[Mapping[int, int] | None, REPLICAS] = None


# -- shards and operations -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListShards(Call[Shards]):
    """All shards."""


@dataclass(frozen=True, slots=True)
class GetShard(Call[ShardDetails]):
    """One shard."""

    shard: int


@dataclass(frozen=True, slots=True)
class MoveReplica(Call[Shard]):
    """Move a replica of a shard from one node to another."""

    shard: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Rebalance(Call[Moves]):
    """Move replicas from full nodes to empty ones."""

    by: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class StopRebalance(Call[Nothing]):
    """Begin no more moves."""


@dataclass(frozen=True, slots=True)
class ListOperations(Call[Operations]):
    """What was asked for, and the replicas that come and go."""


@dataclass(frozen=True, slots=True)
class ListRecords(Call[UnreadableRecords]):
    """The records of the cluster that the node cannot read."""


@dataclass(frozen=True, slots=True)
class RepairRecord(Call[RepairedRecord]):
    """Write a record as it could be read last, or remove it."""

    key: str


@dataclass(frozen=True, slots=True)
class LookAtRecovery(Call[RecoveryLook]):
    """What is left of a shard that lost its majority."""

    shard: int


@dataclass(frozen=True, slots=True)
class RecoverShard(Call[RecoveryLook]):
    """Go on with one replica alone, and give up the others for ever."""

    shard: int
    kept: int
    by: str = ""


# -- users and policies ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListRules(Call[Rules]):
    """All rules and pools."""


@dataclass(frozen=True, slots=True)
class SetRule(Call[RuleChanged]):
    """Give a domain shards of its own, or those of `pool`."""

    domain: str
    zones: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    replicas: int | None = None
    shards: int | None = None
    master: str = ""
    pool: str = ""


@dataclass(frozen=True, slots=True)
class RemoveRule(Call[RuleChanged]):
    """Let new users of a domain go to the main pool."""

    domain: str


@dataclass(frozen=True, slots=True)
class PlaceUser(Call[Placed]):
    """Choose the shard of a user who is yet to be added."""

    address: str
    shard: int


@dataclass(frozen=True, slots=True)
class ListDomains(Call[Domains]):
    """The domains for which something was set."""


@dataclass(frozen=True, slots=True)
class SetDomain(Call[Domain]):
    """Set a domain's catch-all and quota; what is not given stays."""

    name: str
    catch_all: str | None = None
    quota_bytes: Annotated[int | None, QUOTA, "quota"] = None
    """Of each user; 0 is none."""


@dataclass(frozen=True, slots=True)
class RemoveDomain(Call[DomainRemoved]):
    """Forget what was set for a domain."""

    name: str


@dataclass(frozen=True, slots=True)
class ListAliases(Call[Aliases]):
    """Aliases after an address, of all domains or one."""

    domain: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class SetAlias(Call[Alias]):
    """Have mail for an address go to others."""

    address: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveAlias(Call[AliasRemoved]):
    """Take an alias away."""

    address: str


@dataclass(frozen=True, slots=True)
class SetQuota(Call[UserUsage]):
    """Set a user's limit, or take it away (`default`), so that the domain's holds."""

    address: str
    quota_bytes: Annotated[int | None, QUOTA_OR_DEFAULT, "bytes"]
    """0 is none, and None the domain's."""


@dataclass(frozen=True, slots=True)
class ListUsage(Call[UsersPage]):
    """Users after an address with what they have, of all domains or one."""

    after: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class GetUserUsage(Call[UserUsage]):
    """One user with what is stored."""

    address: str


@dataclass(frozen=True, slots=True)
class LocateUser(Call[UserPlace]):
    """Where the mail of an address is, as far as the node that is asked knows; no other is
    asked."""

    address: str


@dataclass(frozen=True, slots=True)
class AddAppPassword(Call[AppPasswordMade]):
    """Make a password for one device of a user."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class ListAppPasswords(Call[AppPasswords]):
    """The app passwords of a user."""

    address: str


@dataclass(frozen=True, slots=True)
class RemoveAppPassword(Call[AppPasswordRemoved]):
    """Take the password of one device of a user away."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class ShareMailbox(Call[Shares]):
    """Give somebody rights on a mailbox, in place of any; without rights, take them away."""

    user: str
    mailbox: str
    identifier: str
    rights: str = ""


@dataclass(frozen=True, slots=True)
class ChooseSeen(Call[Shares]):
    """Have each who a mailbox is shared with have a \\Seen of the own, or have all see the
    owner's."""

    user: str
    mailbox: str
    own: Annotated[bool, ONE] = False


@dataclass(frozen=True, slots=True)
class ListShares(Call[Shares]):
    """With whom a mailbox is shared."""

    user: str
    mailbox: str


@dataclass(frozen=True, slots=True)
class ForgetGrants(Call[GrantsForgotten]):
    """Take all rights away that others gave to a user by name."""

    address: str


# -- between nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransferHere(Call[Nothing]):
    """Hand a shard that this node leads over to another."""

    shard: int
    node: str


@dataclass(frozen=True, slots=True)
class GetStateHere(Call[WholeState]):
    """All that this node knows of the cluster, for a node that knows nothing yet."""


@dataclass(frozen=True, slots=True)
class GetWaitsHere(Call[Mapping[str, str]]):
    """What the root's master waits for: by `SHARD REPLICA` or `rule DOMAIN`, in words."""


@dataclass(frozen=True, slots=True)
class ObserveHere(Call[NodeObservation]):
    """What this node knows of the groups that it leads."""


@dataclass(frozen=True, slots=True)
class HoldHere(Call[Held]):
    """Leave the master of a shard here for a while."""

    shard: int


@dataclass(frozen=True, slots=True)
class ChangeHere(Call[Nothing]):
    """Change a group that this node leads, if its membership still is `voters` and `learners`."""

    shard: int
    id: int
    action: Annotated[str, ACTION]
    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    node: str = ""


@dataclass(frozen=True, slots=True)
class ResyncHere(Call[ResyncOrdered]):
    """As `StartResync`, at this node."""

    shard: int | None = None
    user: str = ""
    mailbox: str = ""
    full: Annotated[bool, ONE] = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WholeHere(Call[Wholeness]):
    """Whether the replica here lacks something."""

    shard: int


@dataclass(frozen=True, slots=True)
class MarkHere(Call[MarkMade]):
    """Put a mark into the log of a shard that this node leads."""

    shard: int
    deep: Annotated[bool, ONE] = False


@dataclass(frozen=True, slots=True)
class DigestHere(Call[DigestAnswer]):
    """The digest of the replica here at a mark."""

    shard: int
    index: int


@dataclass(frozen=True, slots=True)
class DeepHere(Call[DeepAnswer]):
    """What the replica here has read at a deep mark."""

    shard: int
    index: int


@dataclass(frozen=True, slots=True)
class ListingHere(Call[ListingAnswer]):
    """A mailbox of the replica here at a deep mark, from a UID on."""

    shard: int
    index: int
    mailbox: int
    uid: int


@dataclass(frozen=True, slots=True)
class GetReplicaHere(Call[ReplicaHere]):
    """What this node has of a shard."""

    shard: int


@dataclass(frozen=True, slots=True)
class RecoverHere(Call[Nothing]):
    """Make the replica here the only voter of its group."""

    shard: int
    id: int
    next_id: int


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdminCall:
    """What is known of a kind of call."""

    name: str
    """As it is written in the protocol."""
    call: type[Call[Any]]
    """The class of its arguments."""
    asker: Asker
    """Who may make it."""
    effect: Effect
    """What it does."""

    @property
    def answer(self) -> Any:
        """The type of what is answered."""
        (found,) = get_args(vars(self.call)["__orig_bases__"][0])
        return found


_OPERATOR, _NODE = Asker.OPERATOR, Asker.NODE
_LOOKS, _CHANGES, _DESTROYS = Effect.LOOKS, Effect.CHANGES, Effect.DESTROYS

CALLS: Final = (
    AdminCall("status", GetStatus, _OPERATOR, _LOOKS),
    AdminCall("status-here", GetNodeStatus, _OPERATOR, _LOOKS),
    AdminCall("transfer", TransferMaster, _OPERATOR, _CHANGES),
    AdminCall("verify", Verify, _OPERATOR, _LOOKS),
    AdminCall("verify-start", StartDeepVerification, _OPERATOR, _LOOKS),
    AdminCall("verify-result", GetDeepVerification, _OPERATOR, _LOOKS),
    AdminCall("resync-start", StartResync, _OPERATOR, _CHANGES),
    AdminCall("nodes", ListMembers, _OPERATOR, _LOOKS),
    AdminCall("node", GetMember, _OPERATOR, _LOOKS),
    AdminCall("invite", InviteMember, _OPERATOR, _CHANGES),
    AdminCall("invitations", ListInvitations, _OPERATOR, _LOOKS),
    AdminCall("withdraw", WithdrawInvitation, _OPERATOR, _CHANGES),
    AdminCall("join", JoinMember, _OPERATOR, _CHANGES),
    AdminCall("drain", DrainMember, _OPERATOR, _CHANGES),
    AdminCall("undrain", UndrainMember, _OPERATOR, _CHANGES),
    AdminCall("cordon", CordonMember, _OPERATOR, _CHANGES),
    AdminCall("uncordon", UncordonMember, _OPERATOR, _CHANGES),
    AdminCall("remove", RemoveMember, _OPERATOR, _DESTROYS),
    AdminCall("replace", ReplaceDisk, _OPERATOR, _DESTROYS),
    AdminCall("shards", ListShards, _OPERATOR, _LOOKS),
    AdminCall("shard", GetShard, _OPERATOR, _LOOKS),
    AdminCall("move", MoveReplica, _OPERATOR, _CHANGES),
    AdminCall("rebalance", Rebalance, _OPERATOR, _CHANGES),
    AdminCall("rebalance-stop", StopRebalance, _OPERATOR, _CHANGES),
    AdminCall("operations", ListOperations, _OPERATOR, _LOOKS),
    AdminCall("records", ListRecords, _OPERATOR, _LOOKS),
    AdminCall("record-repair", RepairRecord, _OPERATOR, _DESTROYS),
    AdminCall("recover-look", LookAtRecovery, _OPERATOR, _LOOKS),
    AdminCall("recover", RecoverShard, _OPERATOR, _DESTROYS),
    AdminCall("rules", ListRules, _OPERATOR, _LOOKS),
    AdminCall("rule-set", SetRule, _OPERATOR, _CHANGES),
    AdminCall("rule-remove", RemoveRule, _OPERATOR, _CHANGES),
    AdminCall("domains", ListDomains, _OPERATOR, _LOOKS),
    AdminCall("domain-set", SetDomain, _OPERATOR, _CHANGES),
    AdminCall("domain-remove", RemoveDomain, _OPERATOR, _CHANGES),
    AdminCall("aliases", ListAliases, _OPERATOR, _LOOKS),
    AdminCall("alias-set", SetAlias, _OPERATOR, _CHANGES),
    AdminCall("alias-remove", RemoveAlias, _OPERATOR, _CHANGES),
    AdminCall("place", PlaceUser, _OPERATOR, _CHANGES),
    AdminCall("quota-set", SetQuota, _OPERATOR, _CHANGES),
    AdminCall("users", ListUsage, _OPERATOR, _LOOKS),
    AdminCall("user", GetUserUsage, _OPERATOR, _LOOKS),
    AdminCall("user-place", LocateUser, _OPERATOR, _LOOKS),
    AdminCall("app-password-add", AddAppPassword, _OPERATOR, _CHANGES),
    AdminCall("app-passwords", ListAppPasswords, _OPERATOR, _LOOKS),
    AdminCall("app-password-remove", RemoveAppPassword, _OPERATOR, _CHANGES),
    AdminCall("share", ShareMailbox, _OPERATOR, _CHANGES),
    AdminCall("share-seen", ChooseSeen, _OPERATOR, _CHANGES),
    AdminCall("shares", ListShares, _OPERATOR, _LOOKS),
    AdminCall("grants-forget", ForgetGrants, _OPERATOR, _CHANGES),
    AdminCall("transfer-here", TransferHere, _NODE, _CHANGES),
    AdminCall("state-here", GetStateHere, _NODE, _LOOKS),
    AdminCall("waits-here", GetWaitsHere, _NODE, _LOOKS),
    AdminCall("observe-here", ObserveHere, _NODE, _LOOKS),
    AdminCall("hold-here", HoldHere, _NODE, _CHANGES),
    AdminCall("change-here", ChangeHere, _NODE, _CHANGES),
    AdminCall("resync-here", ResyncHere, _NODE, _CHANGES),
    AdminCall("whole-here", WholeHere, _NODE, _LOOKS),
    AdminCall("mark-here", MarkHere, _NODE, _LOOKS),
    AdminCall("digest-here", DigestHere, _NODE, _LOOKS),
    AdminCall("deep-here", DeepHere, _NODE, _LOOKS),
    AdminCall("listing-here", ListingHere, _NODE, _LOOKS),
    AdminCall("replica-here", GetReplicaHere, _NODE, _LOOKS),
    AdminCall("recover-here", RecoverHere, _NODE, _DESTROYS),
)
"""All calls, those of operators first. A `…-here` is answered of what the node itself has."""

BY_NAME: Final[Mapping[str, AdminCall]] = {one.name: one for one in CALLS}
BY_CLASS: Final[Mapping[type[Call[Any]], AdminCall]] = {one.call: one for one in CALLS}


def kind_of(call: Call[Any]) -> AdminCall:
    """What is known of a call."""
    return BY_CLASS[type(call)]
