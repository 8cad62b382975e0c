"""Records by which mail programs find servers."""

from __future__ import annotations

import pytest

from raftmail.mail.client_setup import ClientSetup
from raftmail.mail.dns_records import dns_records


def lines(*setups: dict[str, str], web: str = "") -> list[str]:
    return [
        r.line for r in dns_records("example.org", [ClientSetup.of("", s) for s in setups], web)
    ]


def test_every_node_is_named_and_implicit_tls_is_preferred() -> None:
    found = lines(
        {"imaps": "n1.example.org:993", "imap": "n1.example.org:143"},
        {"imaps": "n2.example.org:993", "imap": "n2.example.org:143"},
    )
    assert found[:4] == [
        "_imaps._tcp.example.org. 3600 IN SRV 0 1 993 n1.example.org.",
        "_imaps._tcp.example.org. 3600 IN SRV 0 1 993 n2.example.org.",
        "_imap._tcp.example.org. 3600 IN SRV 10 1 143 n1.example.org.",
        "_imap._tcp.example.org. 3600 IN SRV 10 1 143 n2.example.org.",
    ]


def test_what_is_not_served_is_said_not_to_be_there() -> None:
    found = lines({"imaps": "n1.example.org:993"})
    assert "_pop3s._tcp.example.org. 3600 IN SRV 0 0 0 ." in found
    assert "_submission._tcp.example.org. 3600 IN SRV 0 0 0 ." in found


def test_one_address_for_all_nodes_is_one_record() -> None:
    same = {"imaps": "mail.example.org:993"}
    assert sum("_imaps" in line for line in lines(same, same, same)) == 1


def test_the_web_host_has_autoconfig_and_autodiscover() -> None:
    found = lines({"imaps": "n1.example.org:993"}, web="web.example.org")
    assert "autoconfig.example.org. 3600 IN CNAME web.example.org." in found
    assert "_autodiscover._tcp.example.org. 3600 IN SRV 0 0 443 web.example.org." in found
    assert not any("autoconfig" in line for line in lines({"imaps": "n1.example.org:993"}))


@pytest.mark.parametrize("host", ["192.0.2.1:993", "[2001:db8::1]:993"])
def test_an_ip_address_can_be_in_no_record(host: str) -> None:
    with pytest.raises(ValueError, match="is an IP address"):
        lines({"imaps": host})
