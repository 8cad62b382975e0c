"""Which shard a user belongs to, which node leads it, and how a command gets there.

Called by `node/` and, through `service.service.Service`, by the front ends. Touches the replicas of
its own node directly and those of other nodes through the links that `node/` gives it; keeps no
files.
"""
