"""Checks a script and lays it out as a program.

Everything that does not depend on a message is checked here, so that a script that compiles fails
rarely. Control commands (RFC 5228 section 3, RFC 6609) are made into jumps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from raftmail.sieve.grammar import parse_script
from raftmail.sieve.nodes import (
    ArgumentNode,
    CommandNode,
    NumberNode,
    Place,
    StringsNode,
    TagNode,
    TestNode,
)
from raftmail.sieve.program import Branch, Include, Jump, Leave, Perform, RuleProgram, Step
from raftmail.sieve.rule_arguments import (
    ActionRule,
    ArgumentKind,
    ArgumentValue,
    CheckedArguments,
    TagRule,
    TestRule,
)
from raftmail.sieve.rule_errors import ScriptError
from raftmail.sieve.rule_limits import DEFAULT_RULE_LIMITS, RuleLimits
from raftmail.sieve.rule_text import (
    RuleText,
    VariableName,
    decode_characters,
    variable_name,
    with_variables,
)
from raftmail.sieve.table_of_actions import ACTIONS
from raftmail.sieve.table_of_tests import TESTS

EXTENSIONS: Final = (
    "body", "comparator-i;ascii-casemap", "comparator-i;ascii-numeric", "comparator-i;octet",
    "copy", "date", "duplicate", "encoded-character", "envelope", "ereject", "fileinto",
    "imap4flags", "include", "index", "mailbox", "reject", "relational", "special-use",
    "subaddress", "vacation", "vacation-seconds", "variables",
)  # fmt: skip
"""What scripts may require."""

_IMPLIED: Mapping[str, tuple[str, ...]] = {"vacation-seconds": ("vacation",)}
_CONTROL = frozenset(("require", "if", "elsif", "else", "stop", "include", "return", "global"))
_CONTAINERS = frozenset(("not", "allof", "anyof", "true", "false"))


def compile_script(
    script: bytes,
    *,
    name: str = "",
    others: Mapping[str, bytes] | None = None,
    limits: RuleLimits = DEFAULT_RULE_LIMITS,
    extensions: Sequence[str] = EXTENSIONS,
) -> RuleProgram:
    """The program for a script. Raises ScriptError with the place of the first thing that is wrong.

    `name` is the script's own, and `others` has the user's scripts, which it may include. An
    included script that is not there is no error here: the run fails if it comes to it."""
    library: dict[str, RuleProgram] = {}
    shared = _Shared(others or {}, library, limits, frozenset(extensions))
    return _Compiler(shared, name, (name,)).compile(script, "")


class _Shared:
    """What a script has in common with those that it includes."""

    def __init__(
        self,
        others: Mapping[str, bytes],
        library: dict[str, RuleProgram],
        limits: RuleLimits,
        extensions: frozenset[str],
    ) -> None:
        self.others, self.library, self.limits = others, library, limits
        self.extensions = extensions
        self.includes = 0
        self.bytes = 0


class _Compiler:
    """Compiles one script. Labels are places of steps that may not be known yet."""

    def __init__(self, shared: _Shared, name: str, within: tuple[str, ...]) -> None:
        self._shared = shared
        self._name = name
        self._within = within
        self._shown = ""
        self._requires: set[str] = set()
        self._steps: list[Step] = []
        self._labels: list[int] = []
        self._variables: set[str] = set()
        self._globals: set[str] = set()

    def compile(self, script: bytes, shown: str) -> RuleProgram:
        self._shown = shown
        self._shared.bytes += len(script)
        if self._shared.bytes > self._shared.limits.included_bytes_max:
            raise self._error(
                Place(1, 1),
                f"the script and what it includes have more than "
                f"{self._shared.limits.included_bytes_max} bytes",
            )
        commands = parse_script(script, self._shared.limits, shown)
        at = 0
        while at < len(commands) and commands[at].name == "require":
            self._require(commands[at])
            at += 1
        self._block(commands[at:])
        steps = tuple(self._resolved(one) for one in self._steps)
        return RuleProgram(
            steps, frozenset(self._requires), frozenset(self._globals), self._shared.library
        )

    def _resolved(self, step: Step) -> Step:
        if isinstance(step, Branch):
            if_true, if_false = self._labels[step.if_true], self._labels[step.if_false]
            return Branch(step.line, step.test, if_true, if_false)
        if isinstance(step, Jump):
            return Jump(step.line, self._labels[step.to])
        return step

    def _error(self, place: Place, text: str) -> ScriptError:
        return ScriptError(place.line, place.column, text, self._shown)

    def _emit(self, step: Step, place: Place) -> None:
        if len(self._steps) >= self._shared.limits.steps_in_program_max:
            raise self._error(
                place,
                f"the script has more than {self._shared.limits.steps_in_program_max} steps",
            )
        self._steps.append(step)

    def _label(self) -> int:
        self._labels.append(-1)
        return len(self._labels) - 1

    def _here(self, label: int) -> None:
        self._labels[label] = len(self._steps)

    # Commands

    def _block(self, commands: Sequence[CommandNode]) -> None:
        at = 0
        while at < len(commands):
            command = commands[at]
            if command.name == "if":
                chain = [command]
                while at + 1 < len(commands) and commands[at + 1].name in ("elsif", "else"):
                    at += 1
                    chain.append(commands[at])
                    if chain[-1].name == "else":
                        break
                self._if(chain)
            else:
                self._command(command)
            at += 1

    def _command(self, command: CommandNode) -> None:
        name, place = command.name, command.place
        if name == "require":
            raise self._error(place, "require stands before all other commands")
        if name in ("elsif", "else"):
            raise self._error(place, f"{name} follows the block of an if or elsif")
        if name not in ACTIONS and name not in _CONTROL:
            hint = "; it is a test, and stands after if" if name in TESTS else ""
            raise self._error(place, f"there is no command {name[:60]}{hint}")
        if command.block is not None:
            raise self._error(place, f"{name} has no block: it ends with a ;")
        if command.tests:
            raise self._error(command.tests[0].place, f"{name} takes no test")
        if name == "stop":
            self._no_arguments(command)
            self._emit(Leave(place.line, True), place)
        elif name == "return":
            self._needs("include", place, name)
            self._no_arguments(command)
            self._emit(Leave(place.line, False), place)
        elif name == "include":
            self._include(command)
        elif name == "global":
            self._global(command)
        else:
            rule = ACTIONS[name]
            action = rule.make(self._checked(rule, command))
            self._emit(Perform(place.line, action), place)

    def _no_arguments(self, command: CommandNode | TestNode) -> None:
        if command.arguments:
            raise self._error(command.arguments[0].place, f"{command.name} takes no argument")

    def _require(self, command: CommandNode) -> None:
        """RFC 5228 section 3.2."""
        arguments = command.arguments
        if len(arguments) != 1 or not isinstance(arguments[0], StringsNode) or command.tests:
            raise self._error(command.place, "require takes one list of strings")
        if command.block is not None:
            raise self._error(command.place, "require has no block: it ends with a ;")
        for value in arguments[0].values:
            name = value.decode("utf-8", "replace")
            if name not in self._shared.extensions:
                known = ", ".join(sorted(self._shared.extensions))
                raise self._error(
                    arguments[0].place,
                    f"there is no extension {name[:60]!a}; these are there: {known}",
                )
            self._requires.update((name, *_IMPLIED.get(name, ())))

    def _needs(self, extension: str, place: Place, what: str) -> None:
        if extension and extension not in self._requires:
            raise self._error(
                place, f'{what} needs the extension: write require "{extension}"; at the beginning'
            )

    def _if(self, chain: Sequence[CommandNode]) -> None:
        """RFC 5228 section 3.1."""
        end = self._label()
        for command in chain:
            self._no_arguments(command)
            following = self._label()
            if command.name == "else":
                if command.tests:
                    raise self._error(command.tests[0].place, "else takes no test")
            else:
                if len(command.tests) != 1 or command.in_parentheses:
                    raise self._error(command.place, f"{command.name} takes one test")
                body = self._label()
                self._test(command.tests[0], body, following)
                self._here(body)
            if command.block is None:
                raise self._error(command.place, f"{command.name} has a block: {{ commands }}")
            self._block(command.block)
            self._emit(Jump(command.place.line, end), command.place)
            self._here(following)
        self._here(end)

    def _include(self, command: CommandNode) -> None:
        """RFC 6609 section 3.2. Every script is compiled once, however often it is included."""
        place = command.place
        self._needs("include", place, "include")
        tags = [one for one in command.arguments if isinstance(one, TagNode)]
        others = [one for one in command.arguments if not isinstance(one, TagNode)]
        names = [one.name for one in tags]
        for tag in tags:
            if tag.name not in ("personal", "global", "once", "optional"):
                raise self._error(tag.place, f"include has no tag :{tag.name[:40]}")
            if names.count(tag.name) > 1 or {"personal", "global"} <= set(names):
                raise self._error(tag.place, f"include: there is one tag too many, :{tag.name}")
            if tag.name == "global":
                raise self._error(tag.place, "there are no scripts of the site: use :personal")
        if len(others) != 1 or not isinstance(others[0], StringsNode) or others[0].is_list:
            raise self._error(place, "include takes the name of a script")
        text = self._text(others[0].values[0], others[0].place).constant
        if text is None:
            raise self._error(others[0].place, "the name of a script has no variables in it")
        name = text.decode("utf-8", "replace")
        self._shared.includes += 1
        limits = self._shared.limits
        if self._shared.includes > limits.includes_max:
            raise self._error(place, f"more than {limits.includes_max} include commands")
        if name in self._within:
            raise self._error(place, f"script {name[:60]!a} includes itself, perhaps by others")
        if len(self._within) > limits.include_depth_max:
            raise self._error(
                place, f"scripts include one another more than {limits.include_depth_max} deep"
            )
        script = self._shared.others.get(name)
        if script is not None and name not in self._shared.library:
            program = _Compiler(self._shared, name, (*self._within, name)).compile(script, name)
            self._shared.library[name] = program
        self._emit(Include(place.line, name, "once" in names, "optional" in names), place)

    def _global(self, command: CommandNode) -> None:
        """RFC 6609 section 3.4.1: the names are those of global variables from here on."""
        self._needs("include", command.place, "global")
        self._needs("variables", command.place, "global")
        arguments = command.arguments
        if len(arguments) != 1 or not isinstance(arguments[0], StringsNode):
            raise self._error(command.place, "global takes one list of names")
        for value in arguments[0].values:
            try:
                name = variable_name(value.decode())
            except ValueError as e:
                raise self._error(arguments[0].place, str(e)) from None
            if name.is_global:
                raise self._error(arguments[0].place, "global takes names without global.")
            if name.name in self._variables and name.name not in self._globals:
                raise self._error(
                    arguments[0].place,
                    f"{name.name[:60]} is used further up, as a variable of this script alone",
                )
            self._globals.add(name.name)
            self._count_variable(name, arguments[0].place)

    # Tests

    def _test(self, test: TestNode, if_true: int, if_false: int) -> None:
        """Steps that go on at one of two labels."""
        name, place = test.name, test.place
        if name in _CONTAINERS:
            self._container(test, if_true, if_false)
            return
        rule = TESTS.get(name)
        if rule is None:
            hint = "; it is a command" if name in ACTIONS or name in _CONTROL else ""
            raise self._error(place, f"there is no test {name[:60]}{hint}")
        if test.tests:
            raise self._error(test.tests[0].place, f"{name} has no test inside")
        made = rule.make(self._checked(rule, test))
        self._emit(Branch(place.line, made, if_true, if_false), place)

    def _container(self, test: TestNode, if_true: int, if_false: int) -> None:
        """Tests of tests, each of which is asked only if it matters (RFC 5228 section 5.2)."""
        name, place = test.name, test.place
        self._no_arguments(test)
        if name in ("true", "false"):
            if test.tests:
                raise self._error(test.tests[0].place, f"{name} has no test inside")
            self._emit(Jump(place.line, if_true if name == "true" else if_false), place)
            return
        if name == "not":
            if len(test.tests) != 1 or test.in_parentheses:
                raise self._error(place, "not takes one test")
            self._test(test.tests[0], if_false, if_true)
            return
        if not test.in_parentheses:
            raise self._error(place, f"{name} takes a list of tests in parentheses")
        for inner in test.tests[:-1]:
            following = self._label()
            if name == "allof":
                self._test(inner, following, if_false)
            else:
                self._test(inner, if_true, following)
            self._here(following)
        self._test(test.tests[-1], if_true, if_false)

    # Arguments

    def _checked(
        self, rule: ActionRule | TestRule, node: CommandNode | TestNode
    ) -> CheckedArguments:
        """The arguments of a command or test, of the kinds and in the number that it takes."""
        self._needs(rule.needs, node.place, rule.name)
        tags: dict[str, tuple[str, ArgumentValue]] = {}
        known = {one.name: one for one in rule.tags}
        arguments = list(node.arguments)
        while arguments and isinstance(arguments[0], TagNode):
            tag = arguments.pop(0)
            assert isinstance(tag, TagNode)
            found = known.get(tag.name)
            if found is None:
                raise self._error(tag.place, f"{rule.name} has no tag :{tag.name[:40]}")
            if found.family in tags:
                before = tags[found.family][0]
                raise self._error(
                    tag.place, f"{rule.name}: :{tag.name} cannot stand beside :{before}"
                )
            tags[found.family] = (tag.name, self._tagged(rule, tag, found, arguments))
        kinds = list(rule.takes)
        optional = rule.optional_first is not None and len(arguments) == len(kinds) + 1
        if rule.optional_first is not None and optional:
            kinds.insert(0, rule.optional_first)
        for one in arguments:
            if isinstance(one, TagNode):
                raise self._error(one.place, f":{one.name[:40]} stands before what has no tag")
        if len(arguments) != len(kinds):
            wanted = ", ".join(one.value for one in kinds) or "nothing"
            raise self._error(
                node.place,
                f"{rule.name} takes {wanted} after its tags, not {len(arguments)} values",
            )
        values = [
            self._value(rule.name, one, kind) for one, kind in zip(arguments, kinds, strict=True)
        ]
        first = values.pop(0) if optional else None
        if first is not None:
            self._needs(rule.optional_needs, first.place, f"the first value of {rule.name}")
        has_globals = "include" in self._requires
        return CheckedArguments(
            node.place, self._shown, rule.name, tags, values, first, has_globals
        )

    def _tagged(
        self,
        rule: ActionRule | TestRule,
        tag: TagNode,
        found: TagRule,
        arguments: list[ArgumentNode],
    ) -> ArgumentValue:
        self._needs(found.needs, tag.place, f":{tag.name}")
        if found.takes is None:
            return ArgumentValue(tag.place)
        if not arguments:
            raise self._error(tag.place, f"{found.takes.value} is expected after :{tag.name}")
        value = self._value(f":{tag.name}", arguments.pop(0), found.takes)
        if tag.name == "comparator":
            name = value.texts[0].constant or b""
            if name == b"i;ascii-numeric":
                self._needs("comparator-i;ascii-numeric", tag.place, "i;ascii-numeric")
        return value

    def _value(self, name: str, argument: ArgumentNode, kind: ArgumentKind) -> ArgumentValue:
        if kind is ArgumentKind.NUMBER and isinstance(argument, NumberNode):
            return ArgumentValue(argument.place, argument.value)
        if isinstance(argument, StringsNode) and (
            kind is ArgumentKind.STRINGS or (kind is ArgumentKind.STRING and not argument.is_list)
        ):
            texts = tuple(self._text(one, argument.place) for one in argument.values)
            return ArgumentValue(argument.place, 0, texts)
        found = "a list" if isinstance(argument, StringsNode) and argument.is_list else "a string"
        if isinstance(argument, NumberNode):
            found = "a number"
        elif isinstance(argument, TagNode):
            found = f":{argument.name[:40]}"
        raise self._error(argument.place, f"{name}: {kind.value} is expected here, not {found}")

    def _text(self, value: bytes, place: Place) -> RuleText:
        """A string with what its extensions make of it."""
        try:
            if "encoded-character" in self._requires:
                value = decode_characters(value)
            if "variables" not in self._requires:
                return RuleText((value,) if value else ())
            text = with_variables(value)
        except ValueError as e:
            raise self._error(place, str(e)) from None
        for piece in text.pieces:
            if isinstance(piece, VariableName):
                if piece.is_global:
                    self._needs("include", place, "global.")
                self._count_variable(piece, place)
        return text

    def _count_variable(self, name: VariableName, place: Place) -> None:
        if name.number >= 0 or name.is_global:
            return
        self._variables.add(name.name)
        if len(self._variables) > self._shared.limits.variables_max:
            raise self._error(
                place, f"the script has more than {self._shared.limits.variables_max} variables"
            )
