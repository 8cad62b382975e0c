"""ManageSieve (RFC 5804): mail programs look after the scripts of a user's delivery rules.

`node/` starts a `server.ManageSieveServer` with a `service.service.Service`. Inside:

* `mail.sieve_words` makes bytes to commands of words, `commands` says what they are, `states` which
  are taken when, `replies` writes answers;
* `session` ties them to a connection and to the service; `server` listens; `limits` bounds it all.

Only the last two have I/O.
"""
