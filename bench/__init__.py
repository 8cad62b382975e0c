"""Measurements: load generators, the peers raftmail is compared with, and what both share.

People run these modules (``python -m bench.X`` from the root of the repository); nothing in the
product imports them. They may start processes on 127.0.0.1 and write in temporary folders, and
they remove both. A figure is printed together with the machine it was taken on.
"""
