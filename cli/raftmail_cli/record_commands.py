"""`record`: records of the cluster that nodes cannot read."""

from __future__ import annotations

import click

from raftmail.admin.api.calls import ListRecords, RepairRecord
from raftmail.admin.api.codec import encode
from raftmail_cli.output import make_table, printable, show
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin


@click.group()
def record() -> None:
    """Records of the cluster that cannot be read: nodes pass over them."""


@record.command("list")
@common_options
@pass_settings
def list_records(settings: Settings) -> None:
    """Show the records that cannot be read, each with the reason."""
    answer = admin(settings, ListRecords())
    rows = [(printable(one.key), printable(one.why)) for one in answer.records]
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(
            make_table(("record", "why"), rows) if rows else "Every record can be read."
        ),
    )


@record.command("repair")
@click.argument("key")
@common_options
@pass_settings
def repair_record(settings: Settings, key: str) -> None:
    """Write the record KEY as it was when it could be read last, or remove it if no one knows that.

    A node that was told of the cluster anew does not know what was before; ask another one then.
    """
    answer = admin(settings, RepairRecord(key))
    done = "Wrote" if answer.written else "Removed"
    how = " as it was before" if answer.written else ""
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(f"{done} the record {printable(key)}{how}."),
    )


COMMANDS = [record]
