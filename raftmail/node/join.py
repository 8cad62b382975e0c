"""A node's folder that is made from an invitation, and one whose data disk was lost: how either
comes to take part.

A folder that joins notes which invitation it is for until the cluster has taken it in. So what was
broken off can be run again. It is marked as one that has joined before the cluster is told. So it
never takes itself for a founder. A folder whose disk is replaced keeps a note beside its data until
the cluster has given it new replica ids: until then it opens no replica.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from raftmail.admin.invitation import Bundle
from raftmail.mail.program_addresses import ProgramAddresses
from raftmail.net import tls
from raftmail.node import bootstrap
from raftmail.node.bootstrap import NodePlan
from raftmail.node.config import Config, Member, load
from raftmail.node.folder import (
    REPLACING_FILE,
    FolderError,
    joined_file,
    mark_joined,
    read_json,
    write_json,
)
from raftmail.node.starts import set_older_aside

INVITATION_FILE = "invitation.json"


def begun_by(folder: Path) -> str:
    """The invitation for which a folder was begun and not finished; "" when it was not."""
    try:
        return str(read_json(folder / INVITATION_FILE)["invite"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def make_folder(folder: Path, invite: str, bundle: Bundle) -> None:
    """Make the folder of an invited node, which must be empty or missing. Raises `FolderError`,
    OSError, `config.ConfigError`."""
    existed = folder.exists()
    if existed and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"{folder}: is not an empty folder; name one that is new or empty")
    programs = ProgramAddresses.read(bundle.programs)
    plan = NodePlan(bundle.name, bundle.peer, bundle.client, bundle.lmtp, programs=programs)
    try:
        bootstrap.write_node(
            folder,
            bundle.cluster,
            plan,
            {name: Member(peer) for name, peer in [*bundle.seeds.items(), (plan.name, plan.peer)]},
            bundle.shards,
            bundle.replicas,
            tls.Pair(bundle.certificate.encode(), bundle.key.encode()),
            bundle.ca.encode(),
            bundle.token,
        )
        mark_joined(load(folder), {})
        write_json(folder, INVITATION_FILE, {"invite": invite, "place": dict(bundle.place)})
    except BaseException:
        clear_folder(folder, existed=existed)
        raise


def clear_folder(folder: Path, *, existed: bool) -> None:
    """Undo `make_folder`: the cluster did not take the node in."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not existed and folder.is_dir():
        folder.rmdir()


def place_of(folder: Path) -> dict[str, str]:
    """Where an invited node stands (zone, host, labels, capacity), as its invitation said. Raises
    `FolderError`."""
    path = folder / INVITATION_FILE
    try:
        place = read_json(path)["place"]
        return {str(name): str(value) for name, value in place.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise FolderError(
            f"{path}: cannot be read ({e}). It tells for which invitation this node was begun. "
            f"Remove {folder}, which holds no mail "
            "yet, and join again with the same token, or with a new one"
        ) from None


def finish(folder: Path) -> None:
    """The cluster has taken the node in."""
    (folder / INVITATION_FILE).unlink(missing_ok=True)


def begin_replacing(config: Config) -> None:
    """Prepare a node whose data is lost, or those of its workers of which it is, to come back with
    new replicas. Harmless when it was begun before. A data folder that is known to be an older one
    is moved to `DATA.older-N`. Raises `FolderError`."""
    lost = [one for one in config.every_worker if not _has_data(one) or set_older_aside(one)]
    if not lost and not any(map(is_replacing, config.every_worker)):
        raise FolderError(
            f"{config.data}: has data. A node is replaced when its data is lost: if this is "
            f"damaged, move it away first; the other "
            "nodes must have everything that is in it"
        )
    for one in lost:
        if not joined_file(one).exists():
            raise FolderError(
                f"{config.folder}: {one.node.name} has never held anything that could be lost; "
                f"start it without --replace"
            )
        one.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(one.data, REPLACING_FILE, {"node": one.node.name})
        mark_joined(one, {})


def _has_data(config: Config) -> bool:
    return (config.data / "node.json").exists() or (config.data / "shards").exists()


def is_replacing(config: Config) -> bool:
    """Whether the cluster has yet to give this node new replica ids."""
    return (config.data / REPLACING_FILE).exists()


def end_replacing(config: Config) -> None:
    """The cluster has given this node new replica ids."""
    (config.data / REPLACING_FILE).unlink(missing_ok=True)
