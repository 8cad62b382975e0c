"""Small files of a node's folders."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raftmail.storage.disk import RealDisk
from raftmail.storage.spares import SPARES


def write_json(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Write a file in one step, durably: whoever reads it finds the old or the new one. Raises OSError, which names the file."""
    try:
        _write(folder, name, value)
    except OSError as e:
        raise OSError(e.errno, e.strerror, str(folder / name)) from None


def _write(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    temporary = folder / f".{name}.new"
    with SPARES.opening(lambda: open(temporary, "w", encoding="utf-8")) as f:
        json.dump(value, f, indent=2)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, folder / name)
    RealDisk(folder).sync_folder("")
