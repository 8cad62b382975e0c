"""The fail-over proxy (`raftmail proxy`): one address before all nodes, for IMAP, POP3 and LMTP.

It keeps nothing on a disk. Before a log-in it speaks the protocol itself, without I/O
(`imap_front`, `pop3_front`). Then it copies bytes between a client and one node.
"""
