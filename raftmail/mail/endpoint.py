"""Addresses of nodes, `host:port`: one parser for whoever writes, reads, dials or listens on one.

It stands in this room because every room may import it. It is strict. One resolver takes for an
address what another does not (`127.1`, `::1:9000`, a blank at the end). That would be one node to
some and none to others.
"""

from __future__ import annotations

import ipaddress
import re

PORT_MAX = 65_535
NAME_CHARS_MAX = 253

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_SHOWN_CHARS_MAX = 120
FORM = "write host:port, for example mail1.example.org:9000, 192.0.2.7:9000 or [2001:db8::7]:9000"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address; an IPv6 host stands in brackets, and is given without them.

    Raises ValueError, which says what is wrong and what form is wanted."""
    shown = repr(address[:_SHOWN_CHARS_MAX])
    if address != address.strip():
        raise ValueError(f"{shown} is no address: take the blanks before and after it away")
    if "/" in address:
        raise ValueError(f"{shown} is no address, but a URL or a path: {FORM}")
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = _checked_v6(host[1:-1], shown)
    elif ":" in host:
        raise ValueError(f"{shown} is no address: {_v6_advice(address)}")
    elif not colon or not host:
        raise ValueError(f"{shown} is no address: {FORM}")
    else:
        _check_host(host, shown)
    if _PORT.fullmatch(port) is None or int(port) > PORT_MAX:
        raise ValueError(f"{shown} is no address: its port must be from 1 to {PORT_MAX}; {FORM}")
    return host, int(port)


def dialled(address: str) -> tuple[str, int]:
    """`split_address` of an address at which a node is reached: it names one machine. Raises
    ValueError."""
    host, port = split_address(address)
    found = _as_ip(host)
    if found is not None and found.is_unspecified:
        raise ValueError(
            f"{address!r} is an address to listen on, not one at which others reach a node: name "
            f"the machine"
        )
    if found is not None and (found.is_multicast or str(found) == "255.255.255.255"):
        raise ValueError(f"{address!r} is the address of many machines: name one")
    return host, port


def join_address(host: str, port: int) -> str:
    """The address of a host, given without brackets, and a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback_host(host: str) -> bool:
    """Whether a host, as `split_address` gives it, is the machine itself."""
    found = _as_ip(host)
    return host.lower() == "localhost" if found is None else found.is_loopback


def same(address: str) -> tuple[str, int]:
    """What two ways to write one address have in common: `[0::1]:25` and `[::1]:25`, `A:25` and
    `a:25`. Raises ValueError."""
    host, port = split_address(address)
    found = _as_ip(host)
    return (host.lower() if found is None else str(found)), port


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _checked_v6(host: str, shown: str) -> str:
    try:
        if "%" not in host:
            return str(ipaddress.IPv6Address(host))
    except ValueError:
        pass
    raise ValueError(f"{shown} is no address: no IPv6 address stands in the brackets; {FORM}")


def _v6_advice(address: str) -> str:
    """How to write what is an IPv6 address without brackets; it cannot be told where the port
    begins."""
    host, _, port = address.rpartition(":")
    for whole, rest in ((host, port), (address, "9000")):
        try:
            found = ipaddress.IPv6Address(whole)
        except ValueError:
            continue
        if _PORT.fullmatch(rest) is not None:
            return f"an IPv6 address stands in brackets, for example [{found}]:{rest}"
    return f"it has colons that belong to no port; {FORM}"


def _check_host(host: str, shown: str) -> None:
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]) is not None:
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(
                f"{shown} is no address: an IPv4 address has four numbers from 0 to 255, as in "
                f"192.0.2.7"
            ) from None
    elif len(host) > NAME_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(
            f"{shown} is no address: a host's name has letters, digits, - and _ with dots between "
            f"(one of another alphabet is written xn--…); {FORM}"
        )
