import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.smtp_address import (
    DOMAIN_BYTES_MAX,
    LOCAL_PART_BYTES_MAX,
    Address,
    AddressError,
    make_address,
    parse_path,
)


def parse(text: str, separator: str = "+") -> Address:
    address, end = parse_path(text, separator)
    assert address is not None
    assert end == len(text)
    return address


def test_the_user_is_folded_and_the_detail_is_not() -> None:
    address = parse("<Alice+Lists.Work@Example.COM>")
    assert address == Address("Alice+Lists.Work", "example.com", "alice", "Lists.Work", "+")
    assert address.key == "alice@example.com"


def test_the_detail_begins_at_the_first_separator() -> None:
    assert parse("<a+b+c@x>").detail == "b+c"
    assert parse("<a--b-c@x>", "--").detail == "b-c"


def test_a_separator_in_front_begins_no_detail() -> None:
    address = parse("<+a@x>")
    assert (address.user, address.detail) == ("+a", "")


def test_without_a_separator_there_is_no_detail() -> None:
    assert parse("<a+b@x>", "").user == "a+b"


def test_composed_and_decomposed_letters_are_one_user() -> None:
    assert parse("<J\u00fcRGEN@x>").key == parse("<ju\u0308rgen@x>").key


def test_sharp_s_makes_two_users_and_two_domains() -> None:
    one, other = parse("<strasse@strasse.example>"), parse("<Straße@STRAßE.example>")
    assert one.user != other.user
    assert one.domain != other.domain


def test_the_null_path_is_no_address() -> None:
    assert parse_path("<> SIZE=1") == (None, 2)


def test_the_path_ends_where_its_bracket_closes_outside_quotes() -> None:
    text = '<"a> b"@x> SIZE=1'
    address, end = parse_path(text)
    assert address is not None and address.local == "a> b"
    assert text[end:] == " SIZE=1"


@pytest.mark.parametrize(
    "text",
    ["", "a@x", "<a@x", "<@x>", "<a@>", "<a..b@x>", "<a.@x>", "<a@x.>", "<a@.x>", '<""@x>',
     '<"a@x>', "<a,b@x>", "<a\u0085@x>", "<a\u2028@x>", '<"a\r\nX: y"@x>', "<a@x y>", "<a\x7f@x>"],
)  # fmt: skip
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_path(text)


def test_the_limits_count_bytes() -> None:
    parse(f"<{'a' * LOCAL_PART_BYTES_MAX}@{'x' * DOMAIN_BYTES_MAX}>")
    for text in (
        f"<{'a' * LOCAL_PART_BYTES_MAX}a@x>",
        f"<a@{'x' * DOMAIN_BYTES_MAX}x>",
        f"<{'ü' * (LOCAL_PART_BYTES_MAX // 2)}a@x>",
        f"<a@{'ü' * (DOMAIN_BYTES_MAX // 2)}xx>",
    ):
        with pytest.raises(AddressError):
            parse_path(text)


PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Zl", "Zp"]),
    min_size=1,
    max_size=20,
)


@given(local=PRINTABLE, domain=st.sampled_from(["", "example.com", "[192.0.2.1]", "bücher.x"]))
def test_an_address_reads_back_as_it_is_written(local: str, domain: str) -> None:
    address = make_address(local, domain)
    assert parse(f"<{address}>") == address
    assert "\n" not in str(address)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        _, end = parse_path("<" + text)
    except AddressError:
        return
    assert ("<" + text)[end - 1] == ">"
