"""A shard's Raft group: PySyncObj 0.3.17, which nothing else imports, inside guards, and the
journal.

Called by `shard/`. Touches the disk through the journal, and nothing else: no sockets, no clock, no
threads. A `Group` is ticked with the time, given messages, and hands out messages; whoever drives
it runs the disk sync between the two.

The guards (what each one mends is told where it stands):

- G1 a snapshot offer never moves the commit index, and an older one is dropped —
  `follower.Follower.on_ticket`
- G2 of an append only what differs reaches the engine; one that contradicts committed entries is
  refused — `appends`
- G3 every message carries group and term; late answers are dropped, votes collected per member, one
  leader a term — `group`, `election`
- G4 a follower that cannot verify asks for what follows its commit index — `appends`
- G5 PreVote, stickiness, and a leader that steps down when it reaches no majority — `election`
- G6 the journal: checksummed, 64-bit, vote and term synced before they are told — `journal`
- G7 an interrupted trim or reset is finished before the engine starts — `journal`
- G8 nothing is acknowledged, and the leader does not count itself, before the sync — `outbox`,
  `group`, `engine`
- G9 the snapshot is a ticket: a follower beyond the log is told to resync, and jumps — `group`
- G10 one replicated command, bytes; applied in order, once; an error in the apply stops the replica
  — `engine`
- G11 failures are unknown outcomes; nothing waits inside the engine for a leader — `group` (and the
  shard's deadlines)
- G12 members come one at a time, as learners first, by entries that are in force when they are
  appended — `members`, `change`
- G13 a replica that starts asks what it promised, and takes no part with a disk that has less —
  `proof`, `promises`
"""
