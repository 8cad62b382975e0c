"""The arguments of a call as named text, as they come in a line of the text protocol: `name=value`.

A field's type says which text is allowed, unless its annotation names another form, and perhaps
another name in the protocol: `Annotated[int, FORM, "name"]`. An argument at its default is not
sent. One that is not given, or is empty, has its default.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

from raftmail.mail.limits import NUMBER_MAX

T = TypeVar("T")
NUMBER_DIGITS_MAX: Final = 18
SHOWN_CHARS_MAX: Final = 60


class BadArgument(ValueError):
    """An argument that is missing, unknown or of another form; the text names the call and the
    argument, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written as text. `read` raises ValueError; `empty` tells whether "" is a value
    and not the default."""

    allowed: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str
    empty: bool = False


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)

    def read(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError
        return text

    return read


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise ValueError
    return int(text)


_WORDS = {"yes": True, "1": True, "no": False, "0": False}


def _yes_or_no(word: str) -> Form:
    def read(text: str) -> bool:
        if text not in _WORDS:
            raise ValueError
        return _WORDS[text]

    return Form("yes or no", read, lambda value: word if value else "no")


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_whole_number(one) for one in text.split(",") if one)


def _replicas(text: str) -> dict[int, int]:
    pairs = [one.split(":") for one in text.split(",")]
    return {_whole_number(shard): _whole_number(replica) for shard, replica in pairs}


def _bytes_or(word: str) -> Callable[[str], int | None]:
    """A limit from 1 on; 0 for `none`, and None for another word."""

    def read(text: str) -> int | None:
        if text == "none":
            return 0
        if word and text == word:
            return None
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
        if not 0 < number <= NUMBER_MAX:
            raise ValueError
        return number

    return read


TEXT: Final = Form("text", str)
ANY_TEXT: Final = Form("text", str, empty=True)
NUMBER: Final = Form(f"a whole number of up to {NUMBER_DIGITS_MAX} digits", _whole_number)
YES: Final = _yes_or_no("yes")
ONE: Final = _yes_or_no("1")
"""As `YES`; it is sent as 1."""
NAMES: Final = Form("names with commas between", _names, ",".join)
IDS: Final = Form(
    "whole numbers with commas between", _numbers, lambda ids: ",".join(map(str, ids)), empty=True
)
INVITE_ID: Final = Form("32 hexadecimal digits", _matching(r"[0-9a-f]{32}"))
NODE_NAME: Final = Form(
    "1 to 32 of a-z, 0-9 and -, not beginning or ending with -",
    _matching(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[2-9])?"),
)
ACTION: Final = Form("add, promote or remove", _matching("add|promote|remove"))
REPLICAS: Final = Form(
    "SHARD:REPLICA with commas between",
    _replicas,
    lambda found: ",".join(f"{shard}:{id}" for shard, id in found.items()),
)
QUOTA: Final = Form(
    "a number of bytes from 1 on, or none", _bytes_or(""), lambda size: str(size or "none")
)
QUOTA_OR_DEFAULT: Final = Form(
    "a number of bytes from 1 on, none or default",
    _bytes_or("default"),
    lambda size: "default" if size is None else str(size or "none"),
)
_BY_TYPE: Final[dict[Any, Form]] = {
    str: TEXT,
    int: NUMBER,
    bool: YES,
    str | None: ANY_TEXT,
    int | None: NUMBER,
    tuple[str, ...]: NAMES,
    tuple[int, ...]: IDS,
}


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument: the name of its field, its form, and its default (MISSING: it must be given)."""

    field: str
    form: Form
    default: Any


@cache
def arguments_of(kind: Any) -> Mapping[str, Argument]:
    """The arguments of a kind of call, by their names in the protocol."""
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for one in dataclasses.fields(kind):
        hint, wire = hints[one.name], one.name
        if get_origin(hint) is Annotated:
            _, form, *names = get_args(hint)
            wire = names[0] if names else wire
        else:
            form = _BY_TYPE[hint]
        found[wire] = Argument(one.name, form, one.default)
    return found


def write_arguments(call: object) -> dict[str, str]:
    """The arguments of a call as text; those at their default are left away."""
    found = {}
    for name, one in arguments_of(cast("Any", type(call))).items():
        value = getattr(call, one.field)
        if value != one.default:
            found[name] = one.form.write(value)
    return found


def read_arguments(kind: type[T], name: str, texts: Mapping[str, str], *, strict: bool = True) -> T:
    """A call of its arguments. Raises `BadArgument`. Unless `strict`, an argument that is not known
    is ignored."""
    known = arguments_of(cast("Any", kind))
    unknown = [one for one in texts if one not in known]
    if strict and unknown:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise BadArgument(f"{name}: there is no argument {_shown(unknown[0])}; {takes}")
    found = {}
    for argument_name, one in known.items():
        text = texts.get(argument_name)
        if text is None or (not text and not one.form.empty):
            if one.default is dataclasses.MISSING:
                raise BadArgument(f"{name}: {argument_name}: must be given: {one.form.allowed}")
            continue
        try:
            found[one.field] = one.form.read(text)
        except ValueError:
            raise BadArgument(
                f"{name}: {argument_name}: {_shown(text)} is not {one.form.allowed}"
            ) from None
    return kind(**found)


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}...")
