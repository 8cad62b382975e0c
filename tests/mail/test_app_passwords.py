"""What the root keeps of a user's passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.app_passwords import (
    APP_NAME_CHARS_MAX,
    AppPassword,
    UserPasswords,
    check_app_name,
)

PHONE = AppPassword("Zoë's phone", 1_700_000_000, "sha256$00$11 scram-sha-256$1$2$3$4")


def test_what_is_written_is_read() -> None:
    for apps in ((), (PHONE,), (PHONE, AppPassword("tablet", 0, ""))):
        kept = UserPasswords("scrypt$1", apps)
        assert UserPasswords.parse(kept.format()) == kept
    assert UserPasswords("x", (PHONE,)).find("Zoë's phone") == PHONE
    assert UserPasswords("x", (PHONE,)).find("phone") is None


def test_a_user_without_app_passwords_is_kept_as_before_there_were_any() -> None:
    assert UserPasswords("scrypt$1$2").format() == "scrypt$1$2"
    assert UserPasswords.parse("scrypt$1$2") == UserPasswords("scrypt$1$2")


@given(st.text(alphabet="a1\t\n \u0663\x00", max_size=60))
def test_any_text_is_read_and_comes_to_rest(text: str) -> None:
    once = UserPasswords.parse(text)
    assert UserPasswords.parse(once.format()) == once


@pytest.mark.parametrize("line", ["", "\t", "a\t1", "a\tx\tk", "a\t\u0663\tk", "a\t1\tk\tl"])
def test_a_line_of_another_shape_is_passed_over(line: str) -> None:
    assert UserPasswords.parse(f"own\n{line}\nphone\t1\tk").apps == (AppPassword("phone", 1, "k"),)


def test_a_name_is_one_visible_line() -> None:
    for good in ("phone", "Zoë's old phone", "x" * APP_NAME_CHARS_MAX):
        assert check_app_name(good) == good
    for bad in ("", "a\tb", "a\nb", "\x00", "\x7f", "\ud800", "x" * (APP_NAME_CHARS_MAX + 1)):
        with pytest.raises(ValueError, match="name of an app password"):
            check_app_name(bad)
