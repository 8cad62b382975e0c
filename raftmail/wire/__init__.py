"""The text protocol, and the links between peers: framing, sessions, TLS, limits.
docs/protocol.md describes it.

`node/` starts one `server.Listener` for clients and peers, and one `link.PeerNet`;
`raftmail.client` stands on `codec`, `forms` and `sequence`. May touch sockets and the event loop,
and of the other rooms only `mail`. `codec`, `frames`, `forms`, `handshake` and `session` do no
I/O of their own."""
