"""Dates in messages, and the parts of them that a script asks for (RFC 5260 section 4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_ZONES = {
    "edt": -240, "est": -300, "cdt": -300, "cst": -360, "mdt": -360, "mst": -420, "pdt": -420,
    "pst": -480,
}  # fmt: skip
_READ_BYTES_MAX = 512
_COMMENT = re.compile(r"\([^()]*+\)").sub
_DATE = re.compile(
    r"\s*+(?:[a-z]{3}\s*+,)?\s*+(\d{1,2})\s++([a-z]{3})\s++(\d{4}|\d{2,3})\s++"
    r"(\d{1,2})\s*+:\s*+(\d{2})(?:\s*+:\s*+(\d{2}))?(?:\s++([-+]\d{4}|[a-z]{1,5}))?\s*+",
    re.IGNORECASE | re.ASCII,
)
_OFFSET = re.compile(r"([-+])(\d{2})(\d{2})", re.ASCII)
_MJD_OF_DAY_1 = 678576
"""The proleptic ordinal of a day less its Modified Julian Day."""
_UNIX_MIN, _UNIX_MAX = -62_000_000_000, 253_000_000_000
"""Years 6 to 9987: no zone leads out of what has a date."""


def zone_minutes(text: bytes) -> int | None:
    """An offset as `+0200` has it (RFC 5322 section 3.3), in minutes; None if it is none."""
    found = _OFFSET.fullmatch(text.decode("ascii", "replace"))
    if found is None or int(found[2]) > 23 or int(found[3]) > 59:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == "-" else minutes


def read_moment(value: bytes) -> datetime | None:
    """The date in a field, with the zone that it names; None if there is none. Of a field that has
    a date at its end (Received) it is what stands behind the last semicolon."""
    text = value.rpartition(b";")[2][:_READ_BYTES_MAX].decode("ascii", "replace")
    if "(" in text:
        text = _COMMENT(" ", text)
    found = _DATE.fullmatch(text)
    if found is None or found[2].lower() not in _MONTHS:
        return None
    year = int(found[3])
    if len(found[3]) < 4:  # RFC 5322 section 4.3
        year += 2000 if len(found[3]) == 2 and year < 50 else 1900
    zone = found[7] or ""
    minutes = zone_minutes(zone.encode()) if zone[:1] in ("+", "-") else _ZONES.get(zone.lower(), 0)
    if minutes is None:
        return None
    try:
        moment = datetime(
            year,
            _MONTHS.index(found[2].lower()) + 1,
            int(found[1]),
            int(found[4]),
            int(found[5]),
            min(int(found[6] or 0), 59),
            tzinfo=timezone(timedelta(minutes=minutes)),
        )
    except ValueError:
        return None
    return moment if _UNIX_MIN < moment.timestamp() < _UNIX_MAX else None


def moment_of(unix_s: int, minutes: int) -> datetime:
    """A moment, in the zone that is so many minutes before UTC."""
    bounded = max(_UNIX_MIN, min(_UNIX_MAX, unix_s))
    return datetime.fromtimestamp(bounded, timezone(timedelta(minutes=minutes)))


def in_zone(moment: datetime, minutes: int) -> datetime:
    return moment.astimezone(timezone(timedelta(minutes=minutes)))


def _zone(at: datetime, between: str = "") -> str:
    minutes = round((at.utcoffset() or timedelta()).total_seconds()) // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{sign}{minutes // 60:02d}{between}{minutes % 60:02d}"


def std11(at: datetime) -> str:
    """The date as RFC 5322 section 3.3 writes it."""
    month = _MONTHS[at.month - 1].capitalize()
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {month} {at.year:04d} "
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d} {_zone(at)}"
    )


DATE_PARTS: Final[Mapping[bytes, Callable[[datetime], str]]] = {
    b"year": lambda at: f"{at.year:04d}",
    b"month": lambda at: f"{at.month:02d}",
    b"day": lambda at: f"{at.day:02d}",
    b"date": lambda at: f"{at.year:04d}-{at.month:02d}-{at.day:02d}",
    b"julian": lambda at: f"{at.toordinal() - _MJD_OF_DAY_1}",
    b"hour": lambda at: f"{at.hour:02d}",
    b"minute": lambda at: f"{at.minute:02d}",
    b"second": lambda at: f"{at.second:02d}",
    b"time": lambda at: f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}",
    b"iso8601": lambda at: (
        f"{at.year:04d}-{at.month:02d}-{at.day:02d}T"
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}{_zone(at, ':')}"
    ),
    b"std11": std11,
    b"zone": _zone,
    b"weekday": lambda at: f"{at.isoweekday() % 7}",
}
