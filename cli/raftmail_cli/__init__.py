"""The raftmail command: talks to nodes through the client library only."""
