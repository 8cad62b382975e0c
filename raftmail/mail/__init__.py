"""What mail is: commands, queries and their results, mailbox names, flags, UID sets, message
summaries.

Called by every other room. Pure functions and frozen values: touches no disk, no clock, no socket.
"""
