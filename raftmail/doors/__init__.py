"""What stands between strangers and the front ends: who comes in, how much of a node one may take, and where errors end.

Rooms with an event loop share it. The one policy for errors is docs/adr/0001-what-ends-what.md.
"""
