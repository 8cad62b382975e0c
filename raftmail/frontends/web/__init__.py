"""The web: what programs and people fetch from a node by HTTP (RFC 9110, RFC 9112).

`session` speaks HTTP by the library h11, without I/O. `pages` is the table of what there is.
`autoconfig`, `autodiscover` and `apple_profile` write what mail programs set themselves up from.

Invariants: a request holds no more than its limits, changes nothing, and has no secret in its
answer. So nobody has to log in.
"""
