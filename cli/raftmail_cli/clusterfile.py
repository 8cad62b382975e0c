"""`cluster.json`: where the nodes of a cluster are, and what a client needs to be let in.

Written by `raftmail init`, `up` and `demo`; read by every command that talks to nodes, and by
programs that start and stop nodes. Paths in it are relative to the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raftmail.mail.endpoint import dialled
from raftmail.mail.program_addresses import PROTOCOLS, ProgramAddresses
from raftmail_cli.errors import CliError
from raftmail_cli.trust import check_place, read_file

FILE = "cluster.json"


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node. `programs` is where mail programs reach it. `data`, `start` (the argv that starts
    it) and `pid` are known of nodes that run on this machine alone. `pid` is 0 while it is not
    running.
    """

    name: str
    peer: str
    client: str
    lmtp: str = ""
    programs: ProgramAddresses = field(default=ProgramAddresses())
    data: Path | None = None
    start: tuple[str, ...] = ()
    pid: int = 0


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """The file as values; paths are absolute."""

    cluster: str
    ca: Path
    token_file: Path
    nodes: tuple[NodeEntry, ...]

    def node(self, name: str) -> NodeEntry:
        """Raises `CliError`."""
        for entry in self.nodes:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.nodes)
        raise CliError(f"there is no node {name!r} in the cluster; its nodes are {names}")


def load(path: Path) -> ClusterFile:
    """Read the file, or the one in the folder that `path` is. Raises `CliError`."""
    if path.is_dir():
        path = path / FILE
    try:
        folder = path.absolute().parent
        value = json.loads(read_file(path.absolute()))
        found = ClusterFile(
            str(value["cluster"]),
            folder / value["ca"],
            folder / value["token_file"],
            tuple(_node(folder, item) for item in value["nodes"]),
        )
    except FileNotFoundError:
        raise CliError(
            f"{path}: there is no such file; `raftmail up` and `init` make one"
        ) from None
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    except KeyError as error:
        raise CliError(f"{path}: is not a cluster.json: {error} is missing") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: is not a cluster.json: it is no text") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CliError(f"{path}: is not a cluster.json: {error}") from None
    for named in (found.ca, found.token_file):
        check_place(named)
    return found


def _node(folder: Path, item: dict[str, Any]) -> NodeEntry:
    for kind in ("peer", "client", "lmtp", *PROTOCOLS):
        if address := str(item.get(kind, "")):
            try:
                dialled(address)
            except ValueError as error:
                raise ValueError(f"node {item['name']}: {kind}: {error}") from None
    return NodeEntry(
        str(item["name"]),
        str(item["peer"]),
        str(item["client"]),
        str(item.get("lmtp", "")),
        ProgramAddresses.read(item),
        folder / item["data"] if item.get("data") else None,
        tuple(map(str, item.get("start", ()))),
        int(item.get("pid", 0)),
    )


def save(path: Path, cluster: str, ca: Path, token_file: Path, nodes: Sequence[NodeEntry]) -> None:
    """Write the file in one step: whoever reads it finds the old or the new one."""
    items = []
    for node in nodes:
        item: dict[str, object] = {"name": node.name}
        if node.start:
            item |= {"pid": node.pid, "data": str(node.data), "start": list(node.start)}
        item |= {"peer": node.peer, "client": node.client, "lmtp": node.lmtp}
        item |= {**node.programs.by_protocol, "tls": True}
        items.append(item)
    value = {"cluster": cluster, "ca": str(ca), "token_file": str(token_file), "nodes": items}
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(temporary, flags, 0o644), "w", encoding="utf-8") as file:
        os.fchmod(
            file.fileno(), 0o644
        )  # whatever the umask: one that others can write is not believed
        file.write(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def rewrite(path: Path, file: ClusterFile, nodes: Sequence[NodeEntry]) -> None:
    """Write the file that was read from `path` with other nodes. What is below its folder stays
    relative to it."""
    if path.is_dir():
        path = path / FILE
    folder = path.absolute().parent

    def inside(one: Path) -> Path:
        return one.relative_to(folder) if one.is_relative_to(folder) else one

    kept = [replace(node, data=inside(node.data)) if node.data else node for node in nodes]
    save(path, file.cluster, inside(file.ca), inside(file.token_file), kept)
