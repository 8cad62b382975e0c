"""Tables of the documents that follow from the code: `make docs-tables` writes them.

A document has such a table between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, cast

from raftmail.admin.api.arguments import (
    ANY_TEXT,
    INVITE_ID,
    NODE_NAME,
    NUMBER,
    ONE,
    TEXT,
    YES,
    Argument,
    arguments_of,
)
from raftmail.admin.api.calls import CALLS, AdminCall, Asker
from raftmail.client import Client
from raftmail.frontends.text.limits import TextLimits
from raftmail.net.limits import KIB, MIB
from raftmail.node.budget import limits_of, memory_of
from raftmail.node.cluster_size import first_size
from raftmail.node.config import ClusterSection, Config, ListenSection, Member, NodeSection
from raftmail.peering.link import LinkLimits
from raftmail.sieve.compiler import EXTENSIONS
from tests.consensus.planted import FAULTS as GUARDED
from tests.consensus.planting import Edit, Fault
from tests.repository.source_tree import ROOT, SHIPPED, shipped_modules
from tests.repository.test_import_rule import MAY_IMPORT
from tests.simulation.planted import FAULTS

_GROUP_OR_FAULT = re.compile(
    r"""^    (?:\# (?P<group>.+)|"(?P<fault>[a-z-]+)": _fault\()$""", re.MULTILINE
)
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _folder(room: str) -> str:
    package = room.partition(".")[0]
    base = SHIPPED[package]
    path = room.replace(".", "/")
    return path if base == "." else f"{base}/{path}"


def rooms_table(may_import: Mapping[str, Sequence[str]]) -> str:
    """Each room, from the bottom up: the first sentence of its docstring, and what it imports."""
    purpose = {}
    for module in shipped_modules():
        if module.is_package:
            text = ast.get_docstring(ast.parse(module.text)) or ""
            purpose[module.name] = re.split(r"(?<=\.)\s", text, maxsplit=1)[0].replace("\n", " ")
    rows = [
        (
            f"`{_folder(room)}`",
            purpose[room],
            ", ".join(f"`{one.removeprefix('raftmail.')}`" for one in sorted(allowed)) or "nothing",
        )
        for room, allowed in may_import.items()
        if room != "raftmail.frontends"  # which holds rooms, and nothing of its own
    ]
    return _table(("room", "what it is for", "imports"), rows)


def _place(edit: Edit) -> str:
    """What a fault changes, as `module.owner.function` without the package's name: where it is
    defined, which may be elsewhere than where it is put in place."""
    found: Any = inspect.getattr_static(edit.owner, edit.name)
    function: Any = found.fget if isinstance(found, property) else found
    name = f"{function.__module__}.{function.__qualname__}"
    return f"`{name.removeprefix('raftmail.')}`"


def planted_table(faults: Mapping[str, Fault]) -> str:
    """Each fault that the simulator has to find: what is wrong with it, and where it is planted."""
    rows = [
        (f"`{name}`", fault.does, ", ".join(dict.fromkeys(map(_place, fault.edits))))
        for name, fault in faults.items()
    ]
    return _table(("fault", "what is wrong then", "planted in"), rows)


def groups_of(text: str) -> dict[str, str]:
    """By fault, the comment above its group, which names the guard; `text` is that of
    `tests/consensus/planted.py`."""
    found = {}
    group = ""
    for match in _GROUP_OR_FAULT.finditer(text):
        group = match["group"] or group
        if match["fault"]:
            found[match["fault"]] = group
    return found


def claims_in(text: str) -> Iterator[tuple[str, str]]:
    """Each fault that a test of a module is marked to find (`planting.fails_with`), and the
    test."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "fails_with":
                    yield from ((ast.literal_eval(fault), node.name) for fault in mark.args)


def guards_table(
    faults: Mapping[str, Fault], groups: Mapping[str, str], claims: Sequence[tuple[str, str]]
) -> str:
    """Each fault by which a guard is taken out, and the tests that find it."""
    rows = []
    for name, fault in faults.items():
        tests = dict.fromkeys(f"`{test}`" for found, test in claims if found == name)
        rows.append((groups[name], f"`{name}`: {fault.does}", ", ".join(tests)))
    return _table(("guard", "planted fault, and what is wrong then", "tests that fail"), rows)


def _guards() -> str:
    folder = ROOT / "tests" / "consensus"
    claims = [one for path in sorted(folder.glob("test_*.py")) for one in claims_in(_read(path))]
    return guards_table(GUARDED, groups_of(_read(folder / "planted.py")), claims)


DEFAULTS: Final = Config(
    Path("node.toml"),
    NodeSection("n1"),
    ClusterSection("0" * 32, 16, {f"n{n}": Member(f"mail{n}:9000") for n in (1, 2, 3)}, 3),
    ListenSection("mail1:9000", "mail1:9001", "mail1:9002"),
)
"""What `raftmail init` makes for three nodes when it is told nothing else."""

AT_TEXT_LIMIT: Final = {
    "line_bytes_max": "A longer line, without its literals, ends the connection.",
    "literal_bytes_max": "A longer literal is read past, and its request is answered BAD.",
    "request_bytes_max": "The same for one request with all its literals.",
    "discard_bytes_max": "A literal too long to be read past ends the connection.",
    "words_max": "A request of more words ends the connection.",
    "outstanding_commands_max": "Requests of a connection without an answer. Reading pauses.",
    "connection_buffered_bytes_max": "Literals of requests of a connection without an answer. "
    "The next literal waits.",
    "total_buffered_bytes_max": "The same of all connections, and bodies that are not read yet. "
    "The request is answered RETRY.",
    "read_bytes_max": "Taken from a connection by one read.",
    "output_bytes_max": "Answers that the client has not read. Reading and listing pause.",
    "slow_reader_s": "A connection above `output_bytes_max` for so long is cut off.",
    "close_s": "A closing connection whose last answers are not read for so long is cut off.",
    "mailbox_numbers_max": "Mailbox numbers of a session. The next is answered NO LIMIT.",
    "connections_max": "Connections of clients. The next gets BYE.",
    "address_connections_max": "The same from one address.",
    "strangers_max": "Connections before AUTH, TLS handshakes among them. The oldest one of the "
    "busiest address is closed.",
    "handshake_s": "From connecting to AUTH; then BYE.",
    "stalled_request_s": "Half a request, and silence; then BYE.",
    "idle_s": "No request, and none without an answer; then BYE.",
    "bad_lines_max": "BAD answers; then BYE.",
    "first_bad_lines_max": "BAD answers before the first request that is understood; then BYE.",
    "blank_bytes_max": "Empty lines without a request in between; then BYE.",
    "refused_before_auth_max": "Requests refused because AUTH has to come first; then BYE.",
    "failed_auths_max": "Wrong tokens; then BYE.",
    "deadline_default_s": "The deadline of requests that give none.",
    "deadline_max_s": "The longest deadline; a longer one is cut to it.",
}
"""What happens at each limit of a client's connection."""

AT_LINK_LIMIT: Final = {
    "frame_bytes_max": "A longer frame ends the link that it comes on, and is not sent.",
    "queue_bytes_max": "Frames that the peer has not read. More end the link.",
    "bulk_bytes_max": "The same of frames that others may overtake. What is more waits.",
    "silence_s": "A link on which nothing came for so long has ended.",
    "ping_s": "After so long without a frame to send, PING is sent.",
    "dial_s": "Connecting, TLS and hello together take no longer.",
    "backoff_min_s": "The shortest time between two dials.",
    "backoff_max_s": "The longest; it doubles up to that, and half of it is random.",
}
"""What happens at each limit of a link."""


MEMORY: Final = {
    "the process": ("the process", "128 MiB"),
    "replicas": ("replicas: newest entries, buffers, the index's open transaction", "12 MiB × R"),
    "columns of messages": (
        "columns of messages that were listed or searched: 26 bytes for each",
        "32 MiB",
    ),
    "LMTP clients": ("what LMTP clients have sent, and the same as it is saved", "2 P + M"),
    "text clients": ("what text clients have sent, or have asked for and not read", "P + M"),
    "mail programs": ("sessions of mail programs that idle, with TLS", "S × 32 KiB"),
    "calls of other nodes": ("calls of other nodes that are worked at", "P"),
    "links": (
        "links: what waits to be sent, and what has come in part",
        "N × (48 MiB + P + the larger of 64 MiB and M)",
    ),
    "bodies for followers": (
        "long bodies that others sent to this one's replicas, not yet on the disk",
        "N × the larger of 64 MiB and M",
    ),
    "storing and reading bodies": (
        "bodies being compressed, two at once, and read for other nodes, two at once",
        "4 M",
    ),
    "background work": (
        "what filters learn from (`[junk]`), and events for web hooks (`[hooks]`), where they are "
        "set",
        "2 × `junk.at_once_max` × `junk.message_bytes_max` + 4 KiB × `push.waiting_max`",
    ),
}
"""What takes memory in a node (`memory_of`), and by which formula."""


def shown(name: str, value: float) -> str:
    """A limit as a document writes it; the name ends with its unit."""
    if not name.endswith(("_bytes_max", "_bytes")):
        return f"{value:g}" if isinstance(value, float) else str(value)
    rest = int(value)
    parts = []
    for size, unit in ((MIB, "MiB"), (KIB, "KiB"), (1, "bytes")):
        count, rest = divmod(rest, size)
        parts += [f"{count} {unit}"] if count else []
    return " + ".join(parts) or "0"


def text_limits_table(limits: TextLimits) -> str:
    """What a connection of the text protocol may cost in a node, and what happens at each limit.
    Raises KeyError for a limit without a text."""
    rows = []
    before = {one.name: getattr(limits.before_auth, one.name) for one in fields(limits.before_auth)}
    for one in fields(limits.reader):
        value, first = getattr(limits.reader, one.name), before[one.name]
        rows.append((one.name, shown(one.name, value), shown(one.name, first)))
    rows += [
        (one.name, shown(one.name, getattr(limits, one.name)), "")
        for one in fields(limits)
        if one.name not in ("reader", "before_auth", "proxy_networks")
    ]
    order = list(AT_TEXT_LIMIT)
    rows.sort(key=lambda row: order.index(row[0]))
    return _table(
        ("limit", "in a node", "before AUTH", "what happens"),
        [(f"`{name}`", *values, AT_TEXT_LIMIT[name]) for name, *values in rows],
    )


def link_limits_table(limits: LinkLimits) -> str:
    """The same of a link between two nodes."""
    rows = [
        (f"`{one.name}`", shown(one.name, getattr(limits, one.name)), AT_LINK_LIMIT[one.name])
        for one in fields(limits)
    ]
    return _table(("limit", "in a node", "what happens"), rows)


_PLAIN: Final = (TEXT, ANY_TEXT, NUMBER, YES, ONE, NODE_NAME, INVITE_ID)
"""Forms that the document tells once, or that need no words."""


def _argument(name: str, argument: Argument) -> str:
    form = argument.form
    text = f"`{name}=yes`" if form in (YES, ONE) else f"`{name}=`"
    if form not in _PLAIN:
        text += f" ({form.allowed})"
    return text if argument.default is MISSING else f"[{text}]"


def calls_table(calls: Sequence[AdminCall]) -> str:
    """The calls of operators: what each takes and does, and the class of its answer."""
    rows = [
        (
            f"`{one.name}`",
            ", ".join(_argument(*item) for item in arguments_of(cast("Any", one.call)).items()),
            " ".join(inspect.cleandoc(one.call.__doc__ or "").split()),
            f"`{one.answer.__name__}`",
        )
        for one in calls
        if one.asker is Asker.OPERATOR
    ]
    return _table(("call", "arguments", "what it does", "answer"), rows)


def methods_table(client: type) -> str:
    """The public methods of the client library: their arguments, and what they do."""
    rows = []
    for name, method in vars(client).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        words = list(inspect.signature(method).parameters.values())[1:]
        shown_words = [
            f"[{one.name}]" if one.default is not inspect.Parameter.empty else one.name
            for one in words
            if one.name != "timeout_s"
        ]
        text = " ".join(inspect.cleandoc(method.__doc__ or "").split())
        rows.append((f"`{name}`", ", ".join(f"`{one}`" for one in shown_words), text))
    return _table(("method", "arguments", "what it does"), rows)


def memory_table(config: Config) -> str:
    """What one process may take of memory, with the figures of a configuration."""
    sizes = memory_of(config, first_size(config))
    rows = [(*MEMORY[what], f"{size // MIB} MiB") for what, size in sizes.items()]
    rows.append(("together", "", f"{sum(sizes.values()) // MIB} MiB"))
    return _table(("for", "at most", "at the defaults, three nodes"), rows)


def extensions_table(extensions: Sequence[str]) -> str:
    """What scripts may require, by the document that it is from."""
    from_rfc: dict[int, list[str]] = {}
    for name in extensions:
        number = next(rfc for rfc, pattern in _RFC_OF_EXTENSION if re.match(pattern, name))
        from_rfc.setdefault(number, []).append(f"`{name}`")
    rows = [(f"RFC {number}", ", ".join(names)) for number, names in sorted(from_rfc.items())]
    return _table(("document", "extensions"), rows)


_RFC_OF_EXTENSION: Final = (
    (3894, "copy"), (5173, "body"), (5229, "variables"), (5230, "vacation$"),
    (5231, "relational"), (5232, "imap4flags"), (5233, "subaddress"), (5260, "date|index"),
    (5429, "e?reject"), (5490, "mailbox"), (6131, "vacation-seconds"), (6609, "include"),
    (7352, "duplicate"), (8579, "special-use"), (5228, ""),
)  # fmt: skip
"""With the beginnings of names; the last has all that others have not."""

TABLES: dict[str, Callable[[], str]] = {
    "rooms": lambda: rooms_table(MAY_IMPORT),
    "planted-faults": lambda: planted_table(FAULTS),
    "guards": _guards,
    "text-limits": lambda: text_limits_table(limits_of(DEFAULTS).clients),
    "link-limits": lambda: link_limits_table(limits_of(DEFAULTS).link),
    "memory": lambda: memory_table(DEFAULTS),
    "client-methods": lambda: methods_table(Client),
    "admin-calls": lambda: calls_table(CALLS),
    "sieve-extensions": lambda: extensions_table(EXTENSIONS),
}


def with_tables(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A document with its tables as they are now. Raises KeyError for a table that is not known."""
    return _BLOCK.sub(lambda m: m[1] + tables[m[2]]() + m[3], text)


def documents() -> list[Path]:
    """All documents that have a table."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _BLOCK.search(_read(path))]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    for path in documents():
        path.write_text(with_tables(_read(path), TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
