"""Frozen dataclasses to JSON and back: the one place that knows both.

A field's name is its key, and the order of the fields is the order of the keys. On the way back:

* A key that no field has is ignored: a later release may say more.
* A field with a default may be missing: an earlier release may say less.
* A field without one that is missing, or a value of another type, raises `BadAnswer`, which names
  the field.

Between nodes a value may hold bytes, which JSON cannot; they are passed on as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from raftmail.mail.admin import JSON

T = TypeVar("T")
_Reader: TypeAlias = Callable[[Any], Any]


class BadAnswer(ValueError):
    """What is no JSON of a dataclass. The text begins with the path of the field."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(f"{path}: {text}" if path else text)
        self.text, self.path = text, path

    def below(self, name: str) -> BadAnswer:
        """The same, seen from the object that has the value as `name`."""
        return BadAnswer(self.text, f"{name}.{self.path}" if self.path else name)


@dataclass(frozen=True, slots=True)
class Omitted:
    """Of a field that has no key while it is None: `Annotated[T | None, OMITTED] = None`."""


@dataclass(frozen=True, slots=True)
class Flat:
    """Of a field whose own fields stand among those of the object that has it.

    Its type is one dataclass; with `key` it is `First | Other`, or `First | None`, and the value is
    a `First` where `key` is present."""

    key: str = ""


OMITTED: Final = Omitted()


def encode(value: object) -> JSON:
    """A value as JSON. Raises TypeError for one that has no form in JSON."""
    if isinstance(value, str | int | float | bytes | NoneType):
        return value.value if isinstance(value, StrEnum) else value
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    found: dict[str, JSON] = {}
    for name, (_, mark) in _fields_of(cast("Any", type(value))).items():
        item = getattr(value, name)
        if item is None and mark is not None:
            continue
        if isinstance(mark, Flat):
            found |= encode(item)
        else:
            found[name] = encode(item)
    return found


def decode(kind: type[T], value: JSON) -> T:
    """The value of a type that JSON tells. Raises `BadAnswer`."""
    found: T = _reader(cast("Any", kind))(value)
    return found


@cache
def _fields_of(kind: Any) -> Mapping[str, tuple[Any, Omitted | Flat | None]]:
    """The type of each field, and what its annotation says besides."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):
        hint = hints[one.name]
        mark = None
        if get_origin(hint) is Annotated:
            hint, mark = get_args(hint)
        found[one.name] = (hint, mark)
    return found


@cache
def _object_reader(kind: Any) -> _Reader:
    """What reads JSON objects of a dataclass."""
    readers: list[tuple[str, _Reader, bool]] = []
    inlined: list[tuple[str, _Reader]] = []
    for one in dataclasses.fields(kind):
        hint, mark = _fields_of(kind)[one.name]
        if isinstance(mark, Flat):
            inlined.append((one.name, _flat_reader(hint, mark.key)))
        else:
            readers.append((one.name, _reader(hint), one.default is dataclasses.MISSING))

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise BadAnswer(f"an object is expected, not {_shown(value)}")
        found = {}
        for name, reader, is_required in readers:
            if name in value:
                try:
                    found[name] = reader(value[name])
                except BadAnswer as e:
                    raise e.below(name) from None
            elif is_required:
                raise BadAnswer("is missing", name)
        for name, reader in inlined:
            found[name] = reader(value)
        return kind(**found)

    return read


def _flat_reader(hint: Any, key: str) -> _Reader:
    if not key:
        return _object_reader(hint)
    first, other = get_args(hint)

    def read(value: Any) -> Any:
        if key in value:
            return _object_reader(first)(value)
        return None if other is NoneType else _object_reader(other)(value)

    return read


@cache
def _reader(hint: Any) -> _Reader:
    """What reads values of a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (some,) = [one for one in inner if one is not NoneType]
        reader = _reader(some)
        return lambda value: None if value is None else reader(value)
    if origin is tuple:
        return _array_reader(_reader(inner[0]))
    if origin in (Mapping, dict) or hint is Mapping:
        return _mapping_reader(inner[0], _reader(inner[1]))
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _object_reader(hint)
    return _plain_reader(hint)


def _array_reader(reader: _Reader) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) not in (list, tuple):
            raise BadAnswer(f"an array is expected, not {_shown(value)}")
        found = []
        for at, item in enumerate(value):
            try:
                found.append(reader(item))
            except BadAnswer as e:
                raise e.below(str(at)) from None
        return tuple(found)

    return read


def _mapping_reader(key_kind: type[Any], reader: _Reader) -> _Reader:
    """Keys are text, or whole numbers written as text."""

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise BadAnswer(f"an object is expected, not {_shown(value)}")
        found: dict[Any, Any] = {}
        for key, item in value.items():
            if type(key) is not str or (
                key_kind is int and not (key.isascii() and key.isdigit() and len(key) < 20)
            ):
                raise BadAnswer(f"the key {_shown(key)} is no whole number")
            try:
                found[key_kind(key)] = reader(item)
            except BadAnswer as e:
                raise e.below(key) from None
        return found

    return read


_PLAIN: dict[Any, tuple[tuple[type[Any], ...], str]] = {
    str: ((str,), "text"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    bool: ((bool,), "true or false"),
    bytes: ((bytes,), "bytes"),
}


def _plain_reader(hint: Any) -> _Reader:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum_reader(hint)
    kinds, wanted = _PLAIN[hint]

    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise BadAnswer(f"{wanted} is expected, not {_shown(value)}")
        return value

    return read


def _enum_reader(kind: type[StrEnum]) -> _Reader:
    def read(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise BadAnswer(f"{', '.join(kind)} is expected, not {_shown(value)}") from None

    return read


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
