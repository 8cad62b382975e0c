"""docs/operating.md names every configuration key with its default."""

from __future__ import annotations

from dataclasses import MISSING, fields

from raftmail.node import config
from tests.repository.source_tree import ROOT

SECTIONS = {
    "node": config.NodeSection,
    "cluster": config.ClusterSection,
    "listen": config.ListenSection,
    "tls": config.TlsSection,
    "raft": config.RaftSection,
    "mail": config.MailSection,
    "log": config.LogSection,
    "resync": config.ResyncSection,
    "scrub": config.ScrubSection,
    "verify": config.VerifySection,
    "login": config.LoginSection,
    "setup": config.SetupSection,
    "expire": config.ExpireSection,
    "junk": config.JunkSection,
    "push": config.PushSection,
}


def shown(default: object) -> str:
    """A default as the table writes it."""
    if default is MISSING:
        return ""
    if default == "":
        return "off"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int):
        return f"{default >> 20} MiB" if default >= 1 << 20 else str(default)
    return f"`{default}`"


def test_every_key_stands_in_the_table_with_its_default() -> None:
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    for section, kind in SECTIONS.items():
        for one in fields(kind):
            if (section, one.name) == ("cluster", "nodes"):
                continue
            row = f"| `{section}.{one.name}` | {shown(one.default)}"
            assert row in text, f"docs/operating.md has no row that begins: {row}"
