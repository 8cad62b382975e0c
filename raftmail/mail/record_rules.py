"""What may be written as a record of the cluster's configuration: fixed rules, alike on every node
and in every release of Python.

They are asked before a `Configure` is proposed and again when it is applied. What a record means,
and what it may be in this very cluster, `cluster/records.py`, `cluster/changes.py` and
`cluster/rules.py` know. Kinds and fields that are not known here are of a later release, and no
node of this one looks at them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from raftmail.mail.names import check_text, check_user_name, quoted

NUMBER_MAX: Final = 2**63 - 1
SHARD_MAX: Final = 2**32 - 1
"""The highest number of a shard that messages between nodes can name."""

REPLICA_ID_MAX: Final = 2**32 - 2
REPLICAS_MAX: Final = 15
"""Replicas of one shard, as many as a group can have voters."""

REPLICATION_MAX: Final = 15
CAPACITY_MAX: Final = 1_000_000
DATE_MAX_S: Final = 253_402_300_799
"""The last second of the year 9999: later ones cannot be shown."""

ALIAS_TARGETS_MAX: Final = 1000
LISTED_MAX: Final = 4096
TEXT_BYTES_MAX: Final = 255
BUNDLE_BYTES_MAX: Final = 200_000
DEPTH_MAX: Final = 8
NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[2-9])?", re.ASCII)

_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"', re.ASCII | re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]", re.ASCII)
_NO_WHOLE_NUMBER = re.compile(r"[0-9]{20}|[0-9][.eE]|NaN|Infinity", re.ASCII)
_HOST = (
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_.])?"
    r"|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,30})?\]"
)
_HOST_PORT = re.compile(rf"(?:{_HOST}):([0-9]{{1,5}})", re.ASCII)
_LABEL = re.compile(r"(?:[^.]{1,63}\.)*[^.]{1,63}\.?", re.ASCII)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII)

Check = Callable[[Any], None]


def check_record(key: str, value: bytes | None) -> None:
    """Whether a value (None takes the key away) may be written under a key. Raises ValueError with
    the reason."""
    kind, slash, name = key.partition("/")
    if key in _NEEDED and value is None:
        raise ValueError(f"{quoted(key)} cannot be taken away: no cluster is without it")
    form = FORMS.get(kind)
    if form is None or value is None:
        return
    if bool(slash) is (kind == "cluster"):
        raise ValueError(f"{quoted(key)} is no key of a record")
    if slash:
        form.name(name)
    raw = object_of(value)
    for field in sorted(form.needed - raw.keys()):
        raise ValueError(f"the field {quoted(field)} is missing")
    for field, check in form.fields.items():
        if field in raw:
            try:
                check(raw[field])
            except ValueError as e:
                raise ValueError(f"{field}: {e}") from None
    if form.key_field in raw:
        raise ValueError(f"{form.key_field}: it is in the key")
    if form.whole is not None:
        form.whole(raw)


def host_port(address: str) -> tuple[str, int]:
    """The host and the port of `host:port` or `[v6]:port`. Raises ValueError that says what is
    wanted."""
    found = _HOST_PORT.fullmatch(address)
    host = address.rpartition(":")[0]
    if found is None or not 0 < int(found[1]) < 65536 or _LABEL.fullmatch(host) is None:
        raise ValueError(
            f"{quoted(address)} is no address: write HOST:PORT, or [IPV6]:PORT, with a port from "
            f"1 to 65535"
        )
    return host.removeprefix("[").removesuffix("]"), int(found[1])


def object_of(value: bytes) -> dict[str, Any]:
    """The JSON object of a value: in UTF-8, of whole numbers, each name once, not deep. Raises
    ValueError."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError("its value is not UTF-8") from None
    bare = _STRING.sub('""', text)
    if _SURROGATE.search(text) or not bare.isascii() or _NO_WHOLE_NUMBER.search(bare):
        raise ValueError("its value is no JSON of text and whole numbers")
    depth = 0
    for character in bare:
        if character in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise ValueError("its value is nested too deeply")
        elif character in "]}":
            depth -= 1
    try:
        raw = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise ValueError("its value is no JSON of text and whole numbers, each name once") from None
    if type(raw) is not dict:
        raise ValueError("its value is no JSON object")
    return raw


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name twice")
    return made


# -- what a field may be ---------------------------------------------------------------------------


def _no(what: str) -> NoReturn:
    raise ValueError(what)


def _is(kind: type, what: str) -> Check:
    def check(value: Any) -> None:
        if type(value) is not kind:
            _no(what)

    return check


_flag = _is(bool, "true or false")


def _from_to(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            _no(f"a whole number from {low} to {high}")

    return check


def _one_of(*allowed: str) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str or value not in allowed:
            _no(f"one of {', '.join(allowed)}")

    return check


def _text(value: Any) -> None:
    if type(value) is not str or len(value.encode()) > TEXT_BYTES_MAX:
        _no(f"text of at most {TEXT_BYTES_MAX} bytes")
    if value:
        check_text(value)


def _some_text(value: Any) -> None:
    _text(value)
    if not value:
        _no("some text")


def _matching(form: re.Pattern[str], what: str) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str or form.fullmatch(value) is None:
            _no(what)

    return check


_node_name = _matching(NODE_NAME, "1 to 32 of a-z, 0-9 and -, not beginning or ending with -")


def _bundle(value: Any) -> None:
    if type(value) is not str or len(value) > BUNDLE_BYTES_MAX or not _BASE64.fullmatch(value):
        _no(f"base64, of at most {BUNDLE_BYTES_MAX} bytes")


def _host_port(value: Any) -> None:
    if type(value) is not str:
        _no("text")
    host_port(value)


def _optional(check: Check) -> Check:
    def checked(value: Any) -> None:
        if value != "":
            check(value)

    return checked


def _address(value: Any) -> None:
    if type(value) is not str:
        _no("text")
    check_user_name(value)


def _domain(value: Any) -> None:
    _some_text(value)
    check_user_name("x@" + value)
    if "@" in value or "/" in value:
        _no(f"{quoted(value)} is no domain")


def _list_of(check: Check, low: int, high: int) -> Check:
    def checked(value: Any) -> None:
        if type(value) is not list or not low <= len(value) <= high:
            _no(f"an array of {low} to {high}")
        for one in value:
            check(one)
        if len({*value}) != len(value):
            _no("each once")

    return checked


def _number_in_key(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        is_number = value.isascii() and value.isdigit() and len(value) <= 19
        if not is_number or str(int(value)) != value or not low <= int(value) <= high:
            _no(f"{quoted(value)} is no number from {low} to {high}")

    return check


def _master(value: Any) -> None:
    _some_text(value)
    if (
        value not in ("balanced", "near-clients") and not value.startswith("zone:")
    ) or value == "zone:":
        _no("balanced, near-clients or zone:NAME")


def _replicas(value: Any) -> None:
    if type(value) is not list or not 0 < len(value) <= REPLICAS_MAX:
        _no(f"an array of 1 to {REPLICAS_MAX}")
    ids = set()
    for one in value:
        if type(one) is not dict:
            _no("objects")
        _from_to(1, REPLICA_ID_MAX)(one.get("id"))
        _node_name(one.get("node"))
        _one_of("joining", "voter", "leaving")(one.get("state"))
        ids.add(one["id"])
    if len(ids) != len(value):
        _no("each has an id of its own")


def _shard_whole(raw: Mapping[str, Any]) -> None:
    if any(one["id"] >= raw["next_id"] for one in raw["replicas"]):
        _no("next_id: it is above the ids of all replicas")


def _invite_whole(raw: Mapping[str, Any]) -> None:
    if not raw["bundle"] and not raw.get("used", False):
        _no("bundle: an invitation that was not used has one")


# -- the kinds of records --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Form:
    """`name` checks what follows the kind in the key, `whole` the fields together."""

    key_field: str
    name: Check
    fields: Mapping[str, Check]
    needed: frozenset[str]
    whole: Callable[[Mapping[str, Any]], None] | None = None


_date = _from_to(0, DATE_MAX_S)
_id = _from_to(1, REPLICA_ID_MAX)
_shard = _from_to(1, SHARD_MAX)
_replication = _from_to(1, REPLICATION_MAX)
_texts = _list_of(_some_text, 0, LISTED_MAX)
_nodes = _list_of(_node_name, 0, LISTED_MAX)


def _form(
    key_field: str,
    name: Check,
    fields: Mapping[str, Check],
    needed: str,
    whole: Callable[[Mapping[str, Any]], None] | None = None,
) -> _Form:
    return _Form(key_field, name, fields, frozenset(needed.split()), whole)


_NEEDED = frozenset(("cluster", "pool/main", "shard/0"))
FORMS: dict[str, _Form] = {
    "cluster": _form("", _text, {"id": _some_text, "replication": _replication}, "id replication"),
    "node": _form(
        "name",
        _node_name,
        {
            "peer": _host_port,
            "client": _optional(_host_port),
            "lmtp": _optional(_host_port),
            "host": _text,
            "zone": _text,
            "labels": _texts,
            "capacity": _from_to(1, CAPACITY_MAX),
            "state": _one_of("active", "draining", "removed"),
            "joined_s": _date,
            "cordoned": _flag,
        },
        "peer",
    ),
    "shard": _form(
        "number",
        _number_in_key(0, SHARD_MAX),
        {
            "replicas": _replicas,
            "next_id": _from_to(1, REPLICA_ID_MAX + 1),
            "replication": _replication,
            "pool": _some_text,
            "master": _master,
            "founding": _flag,
        },
        "replicas next_id replication",
        _shard_whole,
    ),
    "pool": _form(
        "name",
        _some_text,
        {
            "shards": _list_of(_shard, 1, LISTED_MAX),
            "replication": _replication,
            "zones": _texts,
            "labels": _texts,
            "nodes": _nodes,
            "master": _master,
        },
        "shards replication",
    ),
    "rule": _form(
        "domain",
        _domain,
        {
            "pool": _some_text,
            "previous": _some_text,
            "state": _one_of("pinning", "spreading", "active"),
        },
        "pool",
    ),
    "domain": _form(
        "name",
        _domain,
        {"catch_all": _optional(_address), "quota_bytes": _from_to(0, NUMBER_MAX)},
        "",
    ),
    "alias": _form("address", _address, {"to": _list_of(_address, 1, ALIAS_TARGETS_MAX)}, "to"),
    "user-shard": _form("address", _address, {"shard": _shard}, "shard"),
    "quota": _form("address", _address, {"bytes_max": _from_to(0, NUMBER_MAX)}, "bytes_max"),
    "invite": _form(
        "id",
        _some_text,
        {
            "name": _node_name,
            "peer": _host_port,
            "expires_s": _date,
            "bundle": _bundle,
            "used": _flag,
        },
        "name peer expires_s bundle",
        _invite_whole,
    ),
    "operation": _form(
        "id",
        _some_text,
        {
            "kind": _some_text,
            "subject": _text,
            "began_s": _date,
            "by": _text,
            "via": _text,
            "state": _one_of("running", "done", "undone"),
        },
        "kind subject began_s",
    ),
    "recovered": _form(
        "shard",
        _number_in_key(0, SHARD_MAX),
        {"at_s": _date, "by": _text, "kept": _id, "lost": _list_of(_id, 0, LISTED_MAX)},
        "at_s by kept lost",
    ),
}
