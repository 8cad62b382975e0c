"""raftmail: a replicated mail store that answers only what a majority has on disk."""

__version__ = "0.1.0"
