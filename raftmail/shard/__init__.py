"""A replica of one shard: the state machine that carries out committed entries on the index, the
Raft group that commits them, the bodies, the resync that brings a replica back, and the read
barrier.

Called by `cluster/` and `node/`. Touches what `storage/` and `consensus/` touch, through them; has
no sockets, no threads and no clock.
"""
