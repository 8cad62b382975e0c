"""Passwords that were right a moment ago."""

from __future__ import annotations

from raftmail.service.password_cache import PasswordCache


def test_a_password_is_known_for_its_time_for_its_user_and_for_what_is_kept() -> None:
    cache = PasswordCache(60, 10)
    cache.note("anna", "hash", b"secret", 0.0)
    assert cache.knows("anna", "hash", b"secret", 59.9)
    assert not cache.knows("bert", "hash", b"secret", 0.0)
    assert not cache.knows("anna", "changed", b"secret", 0.0)
    assert not cache.knows("anna", "hash", b"Secret", 0.0)
    assert not cache.knows("anna", "hash", b"secret", 60.0)
    assert not len(cache)


def test_parts_that_are_cut_elsewhere_are_not_the_same() -> None:
    cache = PasswordCache(60, 10)
    cache.note("anna", "x y", b"secret", 0.0)
    assert not cache.knows("anna x", "y", b"secret", 0.0)
    assert not cache.knows("anna", "x", b"y secret", 0.0)


def test_it_is_bounded_keeps_no_password_and_can_be_off() -> None:
    cache = PasswordCache(60, 3)
    for number in range(10):
        cache.note(f"user{number}", "hash", b"secret-word", 0.0)
        assert len(cache) <= 3
    assert b"secret-word" not in b"".join(cache._until)
    off = PasswordCache(0, 3)
    off.note("anna", "hash", b"secret", 0.0)
    assert not len(off)
