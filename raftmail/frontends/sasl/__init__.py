"""SASL (RFC 4422) for every front end: the mechanisms, without I/O.

`mechanisms.offered` says which are offered. An `exchange.SaslExchange` leads the dialogue of one
log-in: the front end sends its challenges and hands it the client's lines.
"""
