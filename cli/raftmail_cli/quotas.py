"""Quotas: sizes as people write them, and what users have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click
from rich.table import Table

from raftmail.admin.api.calls import ListUsage
from raftmail.admin.api.policies import UserUsage
from raftmail_cli.output import make_table, size
from raftmail_cli.settings import Settings
from raftmail_cli.watching import admin

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([kmgt]?)(i?)b?")


class SizeType(click.ParamType[str]):
    """A size as `500M` or `1.5 GB` (powers of 1000), or `2GiB` (of 1024), or a word.

    It gives the number of bytes in digits, or the word.
    """

    name = "size"

    def __init__(self, *words: str) -> None:
        self._words = words

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value).strip().lower()
        if text in self._words:
            return text
        found = _SIZE.fullmatch(text)
        if found is None:
            self.fail(f"{value!r} is no size: 500M, 2G, {', '.join(self._words)}", param, ctx)
        number, unit, binary = found.groups()
        count = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))
        if count < 1:
            self.fail(f"{value!r} leaves no room for any message; none is no limit", param, ctx)
        return str(count)


SIZE = SizeType("none")
SIZE_OR_DEFAULT = SizeType("none", "default")


def quota_bytes_of(limit: str) -> int | None:
    """What a converted size stands for: bytes, 0 for none, and None for default."""
    return {"none": 0, "default": None}[limit] if limit.isalpha() else int(limit)


def quota(quota_bytes: int) -> str:
    """A limit as people read it."""
    return size(quota_bytes) if quota_bytes else "none"


def usage(settings: Settings, domain: str) -> Iterator[UserUsage]:
    """What the users of a domain (""; all users) have, page by page."""
    after = ""
    while True:
        answer = admin(settings, ListUsage(after, domain))
        yield from answer.users
        after = answer.after
        if not after:
            return


def usage_table(rows: Iterable[UserUsage]) -> Table:
    """Users with what they have and may have."""
    columns = ("user", "used", "quota", "full", "messages", "shard", "set for")
    return make_table(
        columns,
        [
            (
                row.address,
                "?" if row.used_bytes is None else size(row.used_bytes),
                quota(row.quota_bytes),
                _percent(row),
                "?" if row.messages is None else row.messages,
                row.shard,
                "the user" if row.own_quota else "the domain" if row.quota_bytes else "-",
            )
            for row in rows
        ],
        right=("used", "quota", "full", "messages", "shard"),
    )


def _percent(row: UserUsage) -> str:
    if not row.quota_bytes or row.used_bytes is None:
        return "-"
    return f"{100 * row.used_bytes // row.quota_bytes} %"
