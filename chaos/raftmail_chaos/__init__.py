"""Faults on real processes, and the judgement of what clients saw meanwhile.

`history` and `checker` are pure and are used by the simulator of `tests/simulation` as well. The
rest talks to nodes through the client library only.
"""
