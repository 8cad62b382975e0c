"""From tokens to a tree (RFC 5228 section 8.2)."""

from __future__ import annotations

from raftmail.sieve.lexer import Lexer, RuleToken, TokenKind
from raftmail.sieve.nodes import (
    ArgumentNode,
    CommandNode,
    NumberNode,
    StringsNode,
    TagNode,
    TestNode,
)
from raftmail.sieve.rule_errors import ScriptError
from raftmail.sieve.rule_limits import RuleLimits

_ARGUMENTS_MAX = 64


def parse_script(
    script: bytes, limits: RuleLimits, script_name: str = ""
) -> tuple[CommandNode, ...]:
    """The commands of a script. Raises ScriptError with the place of what is wrong first."""
    if len(script) > limits.script_bytes_max:
        raise ScriptError(
            1,
            1,
            f"the script has {len(script)} bytes; {limits.script_bytes_max} are the most",
            script_name,
        )
    return _Parser(Lexer(script, script_name), limits).commands(0, None)


class _Parser:
    """Reads one token ahead."""

    def __init__(self, lexer: Lexer, limits: RuleLimits) -> None:
        self._lexer = lexer
        self._limits = limits
        self._token = lexer.next()

    def commands(self, depth: int, opened: RuleToken | None) -> tuple[CommandNode, ...]:
        """Up to the end of the script, or of the block that `opened` begins."""
        found: list[CommandNode] = []
        while True:
            token = self._token
            if token.kind is TokenKind.NAME:
                found.append(self._command(depth))
            elif token.kind is TokenKind.END and opened is None:
                return tuple(found)
            elif opened is not None and self._is(b"}"):
                self._next()
                return tuple(found)
            elif token.kind is TokenKind.END and opened is not None:
                raise self._lexer.error(opened.offset, "this block has no end: close it with }")
            else:
                raise self._expected("a command")

    def _command(self, depth: int) -> CommandNode:
        name = self._next()
        arguments = self._arguments()
        tests, in_parentheses = self._tests(depth)
        block: tuple[CommandNode, ...] | None = None
        if self._is(b"{"):
            self._check_depth(depth)
            block = self.commands(depth + 1, self._next())
        elif self._is(b";"):
            self._next()
        else:
            raise self._expected(f"a ; or a {{ after {name.text.decode()}")
        place = self._lexer.place(name.offset)
        return CommandNode(place, name.text.decode(), arguments, tests, in_parentheses, block)

    def _tests(self, depth: int) -> tuple[tuple[TestNode, ...], bool]:
        if self._is_name():
            return (self._test(depth),), False
        if not self._is(b"("):
            return (), False
        self._check_depth(depth)
        self._next()
        found: list[TestNode] = []
        while True:
            if not self._is_name():
                raise self._expected("a test")
            found.append(self._test(depth + 1))
            if len(found) > self._limits.list_strings_max:
                raise self._error(f"a list has at most {self._limits.list_strings_max} tests")
            if self._is(b")"):
                self._next()
                return tuple(found), True
            self._expect(b",", "a , or a ) after a test")

    def _test(self, depth: int) -> TestNode:
        self._check_depth(depth)
        name = self._next()
        arguments = self._arguments()
        tests, in_parentheses = self._tests(depth + 1)
        place = self._lexer.place(name.offset)
        return TestNode(place, name.text.decode(), arguments, tests, in_parentheses)

    def _arguments(self) -> tuple[ArgumentNode, ...]:
        found: list[ArgumentNode] = []
        while True:
            token = self._token
            place = self._lexer.place(token.offset)
            if token.kind is TokenKind.TAG:
                found.append(TagNode(place, self._next().text.decode()))
            elif token.kind is TokenKind.NUMBER:
                found.append(NumberNode(place, self._next().number))
            elif token.kind is TokenKind.STRING:
                found.append(StringsNode(place, (self._next().text,), False))
            elif self._is(b"["):
                found.append(StringsNode(place, self._list(), True))
            else:
                return tuple(found)
            if len(found) > _ARGUMENTS_MAX:
                raise self._error(f"a command has at most {_ARGUMENTS_MAX} arguments")

    def _list(self) -> tuple[bytes, ...]:
        """RFC 5228 section 8.2: at least one string."""
        self._next()
        found: list[bytes] = []
        while True:
            if self._token.kind is not TokenKind.STRING:
                raise self._expected("a string")
            found.append(self._next().text)
            if len(found) > self._limits.list_strings_max:
                raise self._error(f"a list has at most {self._limits.list_strings_max} strings")
            if self._is(b"]"):
                self._next()
                return tuple(found)
            self._expect(b",", "a , or a ] after a string of a list")

    def _next(self) -> RuleToken:
        token, self._token = self._token, self._lexer.next()
        return token

    def _is_name(self) -> bool:
        return self._token.kind is TokenKind.NAME

    def _is(self, mark: bytes) -> bool:
        return self._token.kind is TokenKind.MARK and self._token.text == mark

    def _expect(self, mark: bytes, what: str) -> None:
        if not self._is(mark):
            raise self._expected(what)
        self._next()

    def _check_depth(self, depth: int) -> None:
        if depth >= self._limits.nesting_max:
            raise self._error(f"more than {self._limits.nesting_max} levels inside one another")

    def _expected(self, what: str) -> ScriptError:
        token = self._token
        found = token.kind.value
        if token.kind in (TokenKind.NAME, TokenKind.MARK):
            found = token.text.decode()[:40]
        elif token.kind is TokenKind.TAG:
            found = ":" + token.text.decode()[:40]
        return self._error(f"{what} is expected here, not {found}")

    def _error(self, text: str) -> ScriptError:
        return self._lexer.error(self._token.offset, text)
