"""Other people's servers, started privately so that raftmail can be measured beside them.

Each module has one context manager that starts a server as its makers ship it, in a folder of its
own, on 127.0.0.1. It waits until the server serves, and afterwards stops it by process id and
removes the folder. What was changed from the makers' defaults stands in the module with its reason.
"""
