"""The Date field (RFC 5322 sections 3.3 and 4.3): when a message says that it was sent.

Read is also what senders write: without a weekday or a zone, with a zone's name, in the order of
asctime. What names no day that exists is no date. A zone that is none counts as UTC, and a time
that is none as midnight (RFC 5256 section 2.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

UNIX_DAY: Final = 719163
"""The proleptic ordinal of 1970-01-01."""
_DAY_S = 86400
_READ_BYTES_MAX = 256

_MONTHS = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_ZONES = {
    b"edt": -4, b"est": -5, b"cdt": -5, b"cst": -6, b"mdt": -6, b"mst": -7, b"pdt": -7, b"pst": -8,
    b"cet": 1, b"cest": 2,
}  # fmt: skip

_COMMENT = re.compile(rb"\([^()]*+\)").sub
_WEEKDAY = rb"\s*+(?:[A-Za-z]{2,9}+\.?+\s*+,?+\s*+)?"
_TIME = rb"(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,]\d*+)?)?"
_ZONE = rb"(?:\s*+([-+]\d{4}(?!\d)|[A-Za-z]{1,9}))?"
_USUAL = re.compile(
    _WEEKDAY + rb"(\d{1,2})[-\s]\s*+([A-Za-z]{3})[a-z]*+\.?[-\s]\s*+(\d{4}|\d{2,3})(?!\d)"
    rb"(?:,?\s*+" + _TIME + _ZONE + rb")?",
).match
_ASCTIME = re.compile(
    _WEEKDAY + rb"([A-Za-z]{3})[a-z]*+\s++(\d{1,2})\s++" + _TIME + _ZONE + rb"\s++(\d{4})(?!\d)"
    rb"(?:\s*+([-+]\d{4}))?"
).match


@dataclass(frozen=True, slots=True)
class SentDate:
    """`day` is the day that is written, as a proleptic ordinal, whatever the zone. `utc_s` is the
    moment, in seconds from 1970, UTC."""

    day: int
    utc_s: int


def read_date(value: bytes) -> SentDate | None:
    """The date in the value of a Date field; None if there is none. Never raises."""
    text = value[:_READ_BYTES_MAX]
    if b"(" in text:
        text = _COMMENT(b" ", text)
    if (found := _USUAL(text)) is not None:
        day, month, year, hour, minute, second, zone = found.groups()
    elif (found := _ASCTIME(text)) is not None:
        month, day, hour, minute, second, zone, year, offset = found.groups()
        zone = offset or zone
    else:
        return None
    number = _MONTHS.get(month.lower())
    if number is None:
        return None
    try:
        ordinal = date(_year(year), number, int(day)).toordinal()
    except ValueError:
        return None
    moment = (ordinal - UNIX_DAY) * _DAY_S + _second_of_day(hour, minute, second)
    return SentDate(ordinal, moment - _offset_s(zone))


def _year(text: bytes) -> int:
    """Years of two or three digits: RFC 5322 section 4.3."""
    year = int(text)
    if len(text) == 4:
        return year
    return year + (2000 if len(text) == 2 and year < 50 else 1900)


def _second_of_day(hour: bytes | None, minute: bytes | None, second: bytes | None) -> int:
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return 0
    return hours * 3600 + minutes * 60 + seconds


def _offset_s(zone: bytes | None) -> int:
    if zone is None:
        return 0
    if zone[:1] not in b"+-":
        return _ZONES.get(zone.lower(), 0) * 3600
    hours, minutes = int(zone[1:3]), int(zone[3:5])
    if hours > 23 or minutes > 59:
        return 0
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[:1] == b"-" else seconds
