"""Addresses of nodes: one form, and what is wrong with every other."""

from __future__ import annotations

import pytest

from raftmail.mail.endpoint import dialled, is_loopback_host, join_address, same, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("mail1:1", "mail1", 1),
        ("mail-1.example.org:65535", "mail-1.example.org", 65535),
        ("stack_node_1:9000", "stack_node_1", 9000),
        ("xn--mnchen-3ya.example:9000", "xn--mnchen-3ya.example", 9000),
        ("[::1]:25", "::1", 25),
        ("[2001:db8::0:5]:9000", "2001:db8::5", 9000),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert dialled(join_address(host, port)) == (host, port)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("", "write host:port"),
        ("mail1", "write host:port"),
        (":9000", "write host:port"),
        ("mail1:", "port must be from 1 to 65535"),
        ("mail1:0", "port must be from 1 to 65535"),
        ("mail1:65536", "port must be from 1 to 65535"),
        ("mail1:99999999999", "port must be from 1 to 65535"),
        ("mail1:-1", "port must be from 1 to 65535"),
        ("mail1:09000", "port must be from 1 to 65535"),
        ("mail1:٩٠٠٠", "port must be from 1 to 65535"),
        ("mail1:http", "port must be from 1 to 65535"),
        ("2001:db8::5", "for example [2001:db8::5]:9000"),
        ("::1:42100", "for example [::1]:42100"),
        ("::1", "for example [::1]:9000"),
        ("a:1:9000", "colons that belong to no port"),
        ("[::1]", "write host:port"),
        ("[]:9000", "no IPv6 address stands in the brackets"),
        ("[mail1]:9000", "no IPv6 address stands in the brackets"),
        ("[127.0.0.1]:9000", "no IPv6 address stands in the brackets"),
        ("[fe80::1%eth0]:9000", "no IPv6 address stands in the brackets"),
        (" 127.0.0.1:1", "take the blanks"),
        ("127.0.0.1:1 ", "take the blanks"),
        ("127.0.0.1:1\n", "take the blanks"),
        ("a b:9000", "a host's name has letters"),
        ("a\u200bb:9000", "a host's name has letters"),
        ("münchen:9000", "xn--"),
        ("-a:9000", "a host's name has letters"),
        ("a..b:9000", "a host's name has letters"),
        ("a,b:9000", "a host's name has letters"),
        ("user@host:9000", "a host's name has letters"),
        (64 * "a" + ":9000", "a host's name has letters"),
        ("http://a:1", "a URL or a path"),
        ("tcp://127.0.0.1:9000", "a URL or a path"),
        ("a:9000/", "a URL or a path"),
        ("127.1:9000", "four numbers"),
        ("0:9000", "four numbers"),
        ("0x0:9000", "four numbers"),
        ("300.1.1.1:9000", "four numbers"),
        ("127.0.0.01:9000", "four numbers"),
    ],
)
def test_what_is_no_address_is_refused_with_the_form_that_is_wanted(
    address: str, wanted: str
) -> None:
    with pytest.raises(ValueError) as refused:
        split_address(address)
    assert wanted in str(refused.value)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9000", "[::]:9000", "[0:0::0]:9000", "[::ffff:0.0.0.0]:9000"]
)
def test_an_address_to_listen_on_is_not_one_to_be_dialled(address: str) -> None:
    split_address(address)
    with pytest.raises(ValueError, match="not one at which others reach a node"):
        dialled(address)


@pytest.mark.parametrize("address", ["224.0.0.1:9000", "255.255.255.255:9000", "[ff02::1]:9000"])
def test_the_address_of_many_machines_is_not_dialled(address: str) -> None:
    with pytest.raises(ValueError, match="of many machines"):
        dialled(address)


def test_two_ways_to_write_one_address_are_the_same() -> None:
    assert same("[0:0::1]:25") == same("[::1]:25")
    assert same("Mail1.Example:25") == same("mail1.example:25")
    assert same("[::ffff:192.0.2.7]:25") == same("192.0.2.7:25")
    assert same("mail1:25") != same("mail1:26")


def test_loopback_is_told_however_it_is_written() -> None:
    assert all(map(is_loopback_host, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost")))
    assert not any(map(is_loopback_host, ("192.0.2.7", "mail1", "2001:db8::1", "localhost.org")))
