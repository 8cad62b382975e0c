"""A replica of one shard: state machine, Raft group, index, bodies and resync as one object.

Called by `cluster/` and `node/`. Touches what `storage/` and `consensus/` touch, through them; has
no sockets, no threads and no clock.
"""
