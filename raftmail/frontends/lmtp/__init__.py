"""LMTP (RFC 2033): how mail transfer agents hand their mail to raftmail.

`node/` starts a `server.LmtpServer` with a `service.service.DeliveryService`. Inside:

* `protocol` is the state machine of one connection. It has no sockets, clock or tasks: it is given
  bytes and times, and hands out events and bytes. `states` is its table, `events` what it asks
  for; `commands` and `text` parse for it;
* `driver` ties it to its connection (`net.connection`) and asks the service; `server` listens;
  `config` has the limits.
"""
