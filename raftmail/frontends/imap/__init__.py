"""IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051): people read their mail.

The room has four layers, each of which knows only those before it:

1. What a client says: `request_reader` cuts bytes into requests, `scanner` and `grammar` make
   commands of them (`commands`, `fetch_items`, `search_keys`).
2. What is said to it: `responses`.
3. What it sees: `view` (sequence numbers, and what it was told), `sections` (parts of messages),
   `search`.
4. `session` ties them to a connection and to the service.

Only the last has I/O.
"""
