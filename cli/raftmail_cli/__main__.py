"""`python -m raftmail_cli` is `raftmail`."""

from raftmail_cli.main import main

main(prog_name="raftmail")
