"""What wrong log-ins cost the network from which they come."""

from __future__ import annotations

import pytest

from raftmail.mail.networks import parse_networks
from raftmail.service.failed_log_ins import FailedLogIns, LogInLimits, network_of

LIMITS = LogInLimits(delay_s=2, delay_max_s=15, failures_max=5, forget_s=20, networks_max=3)


def test_each_wrong_log_in_takes_longer_up_to_a_limit() -> None:
    failed = FailedLogIns(LIMITS)
    assert [failed.note("a", 0.0) for _ in range(5)] == [2, 4, 8, 15, 15]
    assert failed.note("b", 0.0) == 2, "others are not made to wait"


def test_too_many_wrong_log_ins_are_looked_at_no_more_until_some_are_forgotten() -> None:
    failed = FailedLogIns(LIMITS)
    for _ in range(5):
        assert failed.may_try("a", 0.0)
        failed.note("a", 0.0)
    assert not failed.may_try("a", 19.9)
    assert failed.may_try("b", 0.0)
    assert failed.may_try("a", 20.0)
    failed.note("a", 20.0)
    assert not failed.may_try("a", 39.0)
    assert failed.may_try("a", 40.0)


def test_failures_are_forgotten_one_after_the_other() -> None:
    failed = FailedLogIns(LIMITS)
    for _ in range(3):
        failed.note("a", 0.0)
    assert [failed.failures("a", at) for at in (0.0, 20.0, 40.0)] == [3, 2, 1]
    assert failed.note("a", 40.0) == 4, "the second that is held against it"
    assert failed.failures("a", 100.0) == 0
    assert not len(failed), "what is forgotten takes no room"


def test_the_table_is_bounded_and_forgets_who_was_heard_of_least_lately() -> None:
    failed = FailedLogIns(LIMITS)
    for network in ("a", "b", "c", "a", "d"):
        failed.note(network, 0.0)
    assert len(failed) == 3
    assert [failed.failures(one, 0.0) for one in "abcd"] == [2, 0, 1, 1]


def test_many_failures_overflow_nothing() -> None:
    failed = FailedLogIns(LogInLimits(failures_max=100_000))
    assert [failed.note("a", 0.0) for _ in range(5000)][-1] == 15.0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_a_network_is_an_address_or_what_one_customer_has(address: str, network: str) -> None:
    assert network_of(address) == network


def test_trusted_networks_are_known_by_their_addresses() -> None:
    trusted = parse_networks("127.0.0.0/8, 2001:db8::/32,192.0.2.7")
    failed = FailedLogIns(LogInLimits(trusted=trusted))
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "2001:db8::5", "192.0.2.7"):
        assert failed.is_trusted(address)
    for address in ("128.0.0.1", "192.0.2.8", "2001:db9::5", "", "nonsense"):
        assert not failed.is_trusted(address)
    assert parse_networks("") == ()
    for bad in ("127.0.0.1/8", "example.org", "1"):
        with pytest.raises(ValueError, match=r"."):
            parse_networks(bad)
