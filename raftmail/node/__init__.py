"""Putting a node together: configuration, start and stop, the loop that drives the replicas,
status.

Called by the command line. The only room where everything meets, and the only one that reads the
clock.
"""
