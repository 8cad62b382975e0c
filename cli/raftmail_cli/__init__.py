"""The `raftmail` command. It talks to running nodes through the client library only."""
