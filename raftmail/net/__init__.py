"""Connections, whatever is spoken on them: who comes in, lines, TLS, limits, and where errors end.

Rooms with an event loop share it. The one policy for errors is docs/adr/0001-what-ends-what.md.
"""
