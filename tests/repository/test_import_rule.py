"""A room imports only rooms below it (docs/architecture/README.md)."""

from __future__ import annotations

import pytest

from tests.repository.source_tree import (
    ROOT,
    SHIPPED,
    Module,
    all_modules,
    imports_of,
    is_within,
    make_module,
    shipped_modules,
)

_BELOW_CLUSTER = (
    "raftmail.mail",
    "raftmail.storage",
    "raftmail.consensus",
    "raftmail.resync",
    "raftmail.shard",
)

_FRONT_END = (
    "raftmail.mail",
    "raftmail.net",
    "raftmail.service.login",
    "raftmail.service.service",
    "raftmail.service.verdicts",
    "raftmail.service.watching",
)
"""Of the service its protocol and values; what implements it stands on the cluster."""

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "raftmail.mail": (),
    "raftmail.sieve": ("raftmail.mail",),
    "raftmail.storage": ("raftmail.mail",),
    "raftmail.consensus": ("raftmail.storage.disk",),
    "raftmail.resync": ("raftmail.storage", "raftmail.mail"),
    "raftmail.shard": _BELOW_CLUSTER[:-1],
    "raftmail.net": ("raftmail.mail.budget", "raftmail.mail.networks"),
    "raftmail.cluster": (*_BELOW_CLUSTER, "raftmail.net.errors"),
    "raftmail.service": (
        "raftmail.mail",
        "raftmail.sieve",
        "raftmail.cluster",
        "raftmail.net.errors",
    ),
    "raftmail.peering": ("raftmail.mail", "raftmail.net"),
    "raftmail.frontends": (),
    "raftmail.frontends.sasl": (
        "raftmail.mail",
        "raftmail.service.login",
        "raftmail.service.service",
    ),
    "raftmail.frontends.text": _FRONT_END,
    "raftmail.frontends.imap": (*_FRONT_END, "raftmail.frontends.sasl"),
    "raftmail.frontends.lmtp": _FRONT_END,
    "raftmail.frontends.managesieve": (
        *_FRONT_END,
        "raftmail.frontends.sasl",
        "raftmail.sieve",
    ),
    "raftmail.frontends.pop3": (*_FRONT_END, "raftmail.frontends.sasl"),
    "raftmail.frontends.web": ("raftmail.mail", "raftmail.net"),
    # Values and their forms alone: clients, commands and chaos import it.
    "raftmail.admin.api": ("raftmail.mail",),
    # The authority's key and certificates are those of connections: hence `net.tls`.
    "raftmail.admin": (
        *_BELOW_CLUSTER,
        "raftmail.admin.api",
        "raftmail.cluster",
        "raftmail.net.errors",
        "raftmail.net.tls",
    ),
    # The client reads the protocol's lines and values as the server writes them.
    "raftmail.client": (
        "raftmail.mail",
        "raftmail.admin.api",
        "raftmail.net",
        "raftmail.frontends.text.sequence",
        "raftmail.frontends.text.values",
    ),
    # It is no part of a node, and knows of the cluster what any client knows.
    "raftmail.proxy": (
        "raftmail.mail",
        "raftmail.net",
        "raftmail.client",
        "raftmail.admin.api",
        "raftmail.sieve",
    ),
    "raftmail.node": ("raftmail",),
    # Besides the client: `raftmail node` starts a node, and `raftmail chaos` is a command like the
    # others.
    "raftmail_cli": (
        "raftmail.client",
        "raftmail.mail",
        "raftmail.admin",
        "raftmail.node",
        "raftmail.sieve",
        "raftmail.proxy",
        "raftmail_chaos",
    ),
    # A journal's records tell where a bit may rot so that a start has to notice.
    "raftmail_chaos": (
        "raftmail.client",
        "raftmail.mail",
        "raftmail.admin.api",
        "raftmail.consensus.records",
    ),
}
"""Room to what it may import of this project, besides itself. All may import the bare package
`raftmail`, which holds nothing but its docstring and version."""

ENGINE_USERS = ("raftmail.consensus", "tests.consensus")

NO_EVENT_LOOP = (*_BELOW_CLUSTER, "raftmail.sieve")
"""Rooms that are stepped: messages in, messages out, no socket and no loop."""

_LOOP_AND_SOCKETS = ("asyncio", "selectors", "socket", "socketserver", "ssl", "uvloop")


def room_of(name: str) -> str | None:
    """The room that a module belongs to, None for the bare package and for what is no room's."""
    return max((room for room in MAY_IMPORT if is_within(name, room)), key=len, default=None)


def breaches(module: Module) -> list[str]:
    """Imports of this project's packages that the room of the module may not make."""
    room = room_of(module.name)
    allowed = MAY_IMPORT[room] if room else ()
    found = []
    for one in imports_of(module):
        target = one.target
        if not any(is_within(target, top) for top in (*SHIPPED, "bench", "tests")):
            continue
        if target in ("raftmail", "raftmail.__version__"):
            continue
        if room and room_of(target) == room:
            continue
        if not any(is_within(target, package) for package in allowed):
            found.append(f"{module.where}:{one.line}: {room or module.name} imports {target}")
    return found


def engine_breaches(module: Module) -> list[str]:
    """Imports of pysyncobj outside the one room that guards it."""
    if any(is_within(module.name, user) for user in ENGINE_USERS):
        return []
    return [
        f"{module.where}:{one.line}: pysyncobj is imported outside raftmail/consensus"
        for one in imports_of(module)
        if is_within(one.target, "pysyncobj")
    ]


def loop_breaches(module: Module) -> list[str]:
    """Imports of sockets or the event loop in a room that has neither."""
    if room_of(module.name) not in NO_EVENT_LOOP:
        return []
    return [
        f"{module.where}:{one.line}: {one.target} in a room that is stepped"
        for one in imports_of(module)
        if any(is_within(one.target, package) for package in _LOOP_AND_SOCKETS)
    ]


def test_a_room_imports_only_rooms_below_it() -> None:
    found = [breach for module in shipped_modules() for breach in breaches(module)]
    assert not found, "\n".join(found)


def test_every_module_of_the_package_belongs_to_a_room() -> None:
    homeless = [
        m.where for m in shipped_modules() if m.name != "raftmail" and room_of(m.name) is None
    ]
    assert not homeless, f"no room is known for {homeless}: name it in {__file__}"


def test_only_consensus_imports_pysyncobj() -> None:
    found = [breach for module in all_modules() for breach in engine_breaches(module)]
    assert not found, "\n".join(found)


def test_stepped_rooms_import_neither_sockets_nor_the_event_loop() -> None:
    found = [breach for module in shipped_modules() for breach in loop_breaches(module)]
    assert not found, "\n".join(found)


def test_there_are_modules_to_check() -> None:
    assert (ROOT / "raftmail" / "mail" / "__init__.py") in {m.path for m in shipped_modules()}
    assert Module.__module__ in {m.name for m in all_modules()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raftmail.mail.codec", "import raftmail.storage"),
        ("raftmail.mail.codec", "from raftmail import storage"),
        ("raftmail.mail.codec", "from ..storage import disk"),
        ("raftmail.mail.codec", "def f():\n    from raftmail.net import lines"),
        ("raftmail.mail.codec", "import importlib\nimportlib.import_module('raftmail.node')"),
        ("raftmail.storage.index", "from raftmail.shard.machine import Machine"),
        ("raftmail.consensus.journal", "from raftmail.storage.blobs import BlobStore"),
        ("raftmail.consensus.journal", "from raftmail.mail import commands"),
        ("raftmail.resync.sender", "import raftmail.consensus.group"),
        ("raftmail.shard.replica", "import raftmail.cluster"),
        ("raftmail.cluster.router", "import raftmail.peering"),
        ("raftmail.cluster.router", "import raftmail.net.door"),
        ("raftmail.cluster.router", "import raftmail.service.service"),
        ("raftmail.peering.link", "import raftmail.cluster.router"),
        ("raftmail.frontends.lmtp.server", "import raftmail.frontends.text.server"),
        ("raftmail.frontends.text.session", "import raftmail.cluster.router"),
        ("raftmail.frontends.text.session", "import raftmail.service.accounts"),
        ("raftmail.frontends.lmtp.driver", "from raftmail.service import delivery"),
        ("raftmail.frontends.lmtp.driver", "import raftmail.shard.replica"),
        ("raftmail.frontends.lmtp.server", "from raftmail.node.config import Config"),
        ("raftmail.service.delivery", "from raftmail.shard.replica import Replica"),
        ("raftmail.frontends", "import raftmail.frontends.text"),
        ("raftmail.admin.cluster_calls", "import raftmail.node.node"),
        ("raftmail.client", "import raftmail.node"),
        ("raftmail.proxy.dialler", "import raftmail.cluster.router"),
        ("raftmail.proxy.imap_front", "from raftmail.frontends.imap import grammar"),
        ("raftmail.node.run", "import raftmail_cli"),
        ("raftmail.client", "import raftmail.admin.cluster_calls"),
        ("raftmail.admin.api.status", "import raftmail.cluster.state"),
        ("raftmail_chaos.runner", "import raftmail.admin.cluster_calls"),
        ("raftmail.node.run", "import raftmail_cli"),
        ("raftmail.node.run", "import bench.stats"),
        ("raftmail_cli.main", "from raftmail.storage import index"),
        ("raftmail_cli.main", "from raftmail.storage.disk import Disk"),
        ("raftmail_chaos.runner", "import raftmail.node"),
        ("raftmail_chaos.runner", "import tests.simulation"),
    ],
)
def test_an_import_of_a_higher_room_is_found(name: str, text: str) -> None:
    assert breaches(make_module(name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raftmail.mail.codec", "from .commands import Save\nfrom raftmail import __version__"),
        ("raftmail.consensus.journal", "from raftmail.storage.disk import Disk"),
        ("raftmail.consensus.journal", "from raftmail.storage import disk"),
        ("raftmail.cluster.router", "from raftmail.consensus.group import Group"),
        ("raftmail.node.run", "import raftmail.frontends.lmtp.server, raftmail.client, asyncio"),
        ("raftmail_cli.main", "from raftmail.node import examine\nfrom raftmail import client"),
    ],
)
def test_an_import_of_a_lower_room_is_allowed(name: str, text: str) -> None:
    assert not breaches(make_module(name, text))


def test_a_relative_import_in_a_package_starts_at_the_package() -> None:
    inside = make_module("raftmail.mail", "from .commands import Save", is_package=True)
    assert [one.target for one in imports_of(inside)] == ["raftmail.mail.commands.Save"]
    assert not breaches(inside)
    outside = make_module("raftmail.mail", "from ..storage import disk", is_package=True)
    assert [one.target for one in imports_of(outside)] == ["raftmail.storage.disk"]
    assert breaches(outside)


def test_an_import_of_the_engine_elsewhere_is_found() -> None:
    text = "def late():\n    from pysyncobj.transport import Transport"
    assert engine_breaches(make_module("raftmail.shard.replica", text))
    assert engine_breaches(make_module("bench.engine", "import pysyncobj as p"))
    assert not engine_breaches(make_module("raftmail.consensus.engine", text))


def test_a_socket_in_a_stepped_room_is_found() -> None:
    assert loop_breaches(make_module("raftmail.consensus.transport", "from asyncio import sleep"))
    assert not loop_breaches(make_module("raftmail.peering.link", "import asyncio"))
