"""What a replica keeps on disk: the LMDB index, the blob store, and the only door to the file
system.

Called by `shard/` (and `resync/`, `consensus/` for the disk alone). Touches LMDB and files, nothing
else: no clock, no sockets, no threads of its own.
"""
