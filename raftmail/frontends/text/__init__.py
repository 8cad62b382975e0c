"""The text protocol of clients: sessions and their commands.

docs/protocol.md describes it.

`node/` starts a `server.TextListener` for clients and one for peers; `raftmail.client` stands on
`values` and `sequence`. `values`, `requests` and `session` do no I/O of their own.
"""
