"""What a replica keeps on disk: the LMDB index, the content-addressed blob store, and the door to the disk.

Called by `shard/` (and `resync/`, `consensus/` for the disk alone). Touches LMDB and files, nothing else: no
clock, no sockets, no threads of its own.
"""
