"""raftmail: a replicated mail store that answers only what a majority has on disk."""
