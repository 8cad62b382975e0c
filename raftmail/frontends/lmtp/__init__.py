"""LMTP (RFC 2033): how mail transfer agents hand their mail to raftmail.

`node/` starts a `server.LmtpServer` with a `service.service.Delivery`. Inside:

* `protocol` is the state machine of one connection. It has no sockets, clock or tasks: it is given
  bytes and times, and hands out events and bytes. `states` is its table, `events` what it asks
  for; `commands` and `text` parse for it;
* `connection` moves the bytes with asyncio and asks the backend; `server` listens, watches the
  time and stops in order; `budget` limits the memory, `config` everything.
"""
