"""Clusters' certificates for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raftmail.net import tls


class Certificates:
    """An authority in a folder, and nodes as they are asked for."""

    def __init__(self, folder: Path, cluster: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.crt"
        self.pair = tls.create_ca(cluster, datetime.now(UTC))
        tls.save(self.pair, self.ca, folder / "ca.key")

    def files(self, node: str, now: datetime | None = None) -> tls.TlsFiles:
        files = tls.TlsFiles(self.ca, self.folder / f"{node}.crt", self.folder / f"{node}.key")
        if not files.key.exists():
            issued = tls.issue(self.pair, node, ["127.0.0.1"], now or datetime.now(UTC))
            tls.save(issued, files.certificate, files.key)
        return files
