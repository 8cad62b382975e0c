"""The text protocol of clients: sessions and their commands.

docs/protocol.md describes it.

`node/` starts one `server.TextListener` for clients and peers; `raftmail.client` stands on `values`
and `sequence`. `values`, `requests` and `session` do no I/O of their own.
"""
