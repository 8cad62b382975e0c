"""Text in the charsets that mail is written in, for searching and sorting.

Names come from strangers. Only charsets that Python has are looked up. So no other codec is ever
run, and Python keeps nothing for a name that nobody knows.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from encodings.aliases import aliases
from functools import lru_cache
from typing import Final

NAME_BYTES_MAX: Final = 64

_NO_CHARSETS = frozenset((
    "base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "uu_codec",
    "zlib_codec",
))  # fmt: skip
_WITHOUT_ALIAS = (
    "cp1006", "cp720", "cp737", "cp856", "cp874", "cp875", "iso8859_1", "koi8_t", "koi8_u",
    "mac_arabic", "mac_croatian", "mac_farsi", "mac_romanian", "palmos", "utf_8_sig",
)  # fmt: skip
_OF_MAIL = {
    "cp_850": "cp850",
    "gb2312": "gb18030",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_8_i": "iso8859_8",
    "ks_c_5601": "cp949",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601_1989": "cp949",
    "ksc5601": "cp949",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "unicode_1_1_utf_7": "utf_7",
    "utf8mb4": "utf_8",
    "windows_874": "cp874",
    "x_cp1250": "cp1250",
    "x_cp1251": "cp1251",
    "x_cp1252": "cp1252",
    "x_euc_jp": "euc_jp",
    "x_gbk": "gbk",
    "x_mac_roman": "mac_roman",
    "x_sjis": "cp932",
}
"""What mail calls charsets, or means by their names: more characters than their standard has."""

_SEPARATORS = re.compile(r"[^a-z0-9]+").sub
_CODECS: Final[dict[str, str]] = {
    **{codec: codec for codec in _WITHOUT_ALIAS},
    **{codec: codec for codec in aliases.values() if codec not in _NO_CHARSETS},
    **{name: codec for name, codec in aliases.items() if codec not in _NO_CHARSETS},
    **_OF_MAIL,
}
_GUESSED: Final = frozenset(("ascii",))
"""What is said to be ASCII, and is not, may be anything."""


@lru_cache(maxsize=256)
def codec_of(charset: bytes) -> str | None:
    """Python's name of a charset, in whatever case and with whatever separators; None if it has
    none. A language after `*` is passed over (RFC 2231 section 5)."""
    name = charset[:NAME_BYTES_MAX].partition(b"*")[0].decode("latin-1").lower()
    return _CODECS.get(_SEPARATORS("_", name).strip("_"))


def decode_text(data: bytes, charset: bytes) -> str:
    """Text in a charset. Of what is no text in it, each octet becomes U+FFFD; an unknown charset is
    guessed as `guess` does. Never raises."""
    codec = codec_of(charset)
    if codec is None or codec in _GUESSED:
        return guess(data)
    try:
        return data.decode(codec, "replace")
    except (UnicodeError, LookupError):
        return guess(data)


def text_pieces(data: bytes, charset: bytes, bytes_at_once: int) -> Iterator[str]:
    """What `decode_text` gives, in pieces of so many octets: text takes up to four times the memory
    of its octets. Never raises."""
    if len(data) <= bytes_at_once:
        yield decode_text(data, charset)
        return
    codec = codec_of(charset)
    if codec is None or codec in _GUESSED:
        codec = "utf-8" if _is_utf8(data, bytes_at_once) else "cp1252"
    try:
        decoder = getincrementaldecoder(codec)("replace")
        for start in range(0, len(data), bytes_at_once):
            end = start + bytes_at_once
            yield decoder.decode(data[start:end], end >= len(data))
    except (UnicodeError, LookupError):
        yield from text_pieces(data, b"", bytes_at_once)


def _is_utf8(data: bytes, bytes_at_once: int) -> bool:
    decoder = getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), bytes_at_once):
            decoder.decode(data[start : start + bytes_at_once])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def guess(data: bytes) -> str:
    """Text that does not say in what charset it is: UTF-8 if it can be, else windows-1252."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
