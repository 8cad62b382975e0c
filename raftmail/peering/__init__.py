"""Links between the nodes of a cluster: who a peer is, frames, and one ordered link for each pair.

`node/` has one `peers.PeerNet`. `frames`, `pieces`, `handshake` and `starts` do no I/O of their
own.
"""
