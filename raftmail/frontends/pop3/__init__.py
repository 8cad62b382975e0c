"""POP3 (RFC 1939): mail programs fetch what came in, from the same mailboxes as IMAP.

`node/` starts a `server.Pop3Server` with a `service.service.Service`. Inside:

* `commands` makes lines to commands, `states` says which are taken when, `replies` writes answers;
* `maildrop` is the INBOX as it was at the log-in, and what the session has marked;
* `message_text` cuts a message into pieces as they go out, with their dots;
* `session` ties them to a connection and to the service; `server` listens; `limits` bounds it all.

Only the last two have I/O.
"""
