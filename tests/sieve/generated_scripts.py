"""Scripts made from a seed: what people write, and much that nobody would."""

from __future__ import annotations

import random

_NAMES = ["subject", "from", "to", "x-many", "x-none", "x-empty", "x-number", "x-folded", "x-stars"]
_WORDS = [
    "hello", "World", "", "me", "anna", "example.org", "42", "first", "Second", "o", " ", "a@b",
    "lists", "Grüße", "one two", "parts", "third", "\\\\", "[x]",
]  # fmt: skip
_ORDERED = ["hello", "World", "42", "first", "o", "third", "7", "9zz"]
"""Without what stands between capitals and small letters: Pigeonhole compares small letters, and
RFC 4790 section 9.2.1 capitals."""
_PIECES = ["*", "?", "**", "??", "o", "l", "Hello", "a", "\\\\*", "\\\\?", "@", "[", "ü", " "]
_RELATIONS = ["gt", "ge", "lt", "le", "eq", "ne"]
_COMPARATORS = ["i;octet", "i;ascii-casemap"]
_PARTS = ["", ":all", ":localpart", ":domain", ":user", ":detail"]
_MAILBOXES = {"": ["Lists/Python", "ü"], ":copy ": ["Junk", "Archive"]}
"""With `:copy` others than without: where a mailbox is named both ways, Pigeonhole keeps the
message in INBOX as well."""
_FLAGS = ["\\\\Seen", "\\\\Flagged", "work", "Work", "a b"]
_REQUIRE = (
    'require ["variables", "imap4flags", "envelope", "relational", "subaddress", "fileinto", '
    '"comparator-i;ascii-numeric", "copy", "date", "body"];\n'
)


def _list(rng: random.Random, words: list[str]) -> str:
    some = [f'"{rng.choice(words)}"' for _ in range(rng.choice((1, 1, 2, 3)))]
    return some[0] if len(some) == 1 else f"[{', '.join(some)}]"


def _match(rng: random.Random) -> tuple[str, str]:
    """Tags, and keys that go with them."""
    kind = rng.choice((":is", ":contains", ":matches", ":matches", ":value", ":count"))
    comparator = rng.choice(_COMPARATORS)
    tags = f'{kind} :comparator "{comparator}"'
    if kind == ":matches":
        pieces = [rng.choice(_PIECES) for _ in range(rng.randrange(1, 6))]
        while pieces and pieces[0].startswith("?"):
            pieces.pop(0)
        return tags, f'"{"".join(pieces)}"'
    if kind == ":value":
        comparator = rng.choice((*_COMPARATORS, "i;ascii-numeric"))
        tags = f'{kind} "{rng.choice(_RELATIONS)}" :comparator "{comparator}"'
        return tags, _list(rng, _ORDERED)
    if kind == ":count":
        tags = f'{kind} "{rng.choice(_RELATIONS)}" :comparator "i;ascii-numeric"'
        return tags, f'"{rng.randrange(5)}"'
    return tags, _list(rng, _WORDS)


def _part(rng: random.Random, tags: str) -> str:
    """Pigeonhole counts addresses that have no detail among the details."""
    return rng.choice(_PARTS[:5] if ":count" in tags else _PARTS)


def _test(rng: random.Random, depth: int = 0) -> str:
    choice = rng.randrange(12 if depth < 3 else 9)
    tags, keys = _match(rng)
    if choice <= 3:
        return f"header {tags} {_list(rng, _NAMES)} {keys}"
    if choice == 4:
        names = _list(rng, ["from", "to", "cc"])
        return f"address {_part(rng, tags)} {tags} {names} {keys}"
    if choice == 5:
        names = _list(rng, ["from", "to"])
        return f"envelope {_part(rng, tags)} {tags} {names} {keys}"
    if choice == 6:
        return f"exists {_list(rng, _NAMES)}"
    if choice == 7:
        return f"size :{rng.choice(('over', 'under'))} {rng.choice(('1', '200', '1K', '5M'))}"
    if choice == 8:
        return f"string {tags} {_list(rng, [*_WORDS, '${a}', '${b}x', '${1}'])} {keys}"
    if choice == 9:
        return f"not {_test(rng, depth + 1)}"
    inner = ", ".join(_test(rng, depth + 1) for _ in range(rng.randrange(1, 4)))
    return f"{rng.choice(('allof', 'anyof'))} ({inner})"


def many_tests(rng: random.Random, count: int) -> list[str]:
    return [_test(rng) for _ in range(count)]


def _command(rng: random.Random, depth: int) -> str:
    choice = rng.randrange(14 if depth < 3 else 11)
    flags = rng.choice(("", "", f":flags {_list(rng, _FLAGS)} "))
    copy = rng.choice(("", ":copy "))
    if choice <= 1:
        return f"keep {flags};"
    if choice == 2:
        return rng.choice(("discard;", "stop;"))
    if choice <= 5:
        return f'fileinto {flags}{copy}"{rng.choice(_MAILBOXES[copy])}";'
    if choice == 6:
        return f'redirect {copy}"{rng.choice(("a@b.example", "c@d.example"))}";'
    if choice == 7:
        modifier = rng.choice(("", ":upper", ":length", ":lowerfirst", ":quotewildcard"))
        value = rng.choice((*_WORDS, "${1}-${2}", "${a}${b}", "${0}"))
        return f'set {modifier} "{rng.choice("ab")}" "{value}";'
    if choice <= 10:
        kind = rng.choice(("setflag", "addflag", "removeflag"))
        return f"{kind} {_list(rng, [*_FLAGS, '${a}'])};"
    text = f"if {_test(rng)} {{ {_block(rng, depth + 1)} }}"
    if rng.random() < 0.5:
        text += f" elsif {_test(rng)} {{ {_block(rng, depth + 1)} }}"
    if rng.random() < 0.5:
        text += f" else {{ {_block(rng, depth + 1)} }}"
    return text


def _block(rng: random.Random, depth: int) -> str:
    return "\n".join(_command(rng, depth) for _ in range(rng.randrange(1, 5)))


def script_of(rng: random.Random) -> str:
    return _REQUIRE + _block(rng, 0) + "\n"
