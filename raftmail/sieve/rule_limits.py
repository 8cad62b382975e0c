"""What a script may be, and what one run of it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """A script beyond one of the first is refused when it is compiled, with the place. A run beyond
    one of the others ends with a `RuleError`, and has no action."""

    script_bytes_max: int = 128 << 10
    nesting_max: int = 32
    """Blocks inside one another, and so tests."""
    steps_in_program_max: int = 20_000
    list_strings_max: int = 1000
    """Strings in one list."""
    variables_max: int = 256
    """Names of variables in one script."""
    include_depth_max: int = 10
    includes_max: int = 32
    """`include` commands of a script and of those that it includes."""
    included_bytes_max: int = 512 << 10
    """A script and all that it includes, each as often as it is included."""

    steps_max: int = 50_000
    """Steps of one run, with those of included scripts."""
    work_octets_max: int = 64 << 20
    """Octets that one run compares, decodes or puts together. An octet of a piece with `?` in it
    counts as often as the piece is long."""
    text_bytes_max: int = 256 << 10
    """One string, with its variables put in."""
    variable_bytes_max: int = 8 << 10
    """The value of a variable: what is beyond is cut off (RFC 5229 section 6)."""
    actions_max: int = 32
    redirects_max: int = 4
    hops_max: int = 50
    """Received fields of a message that is still redirected."""
    body_bytes_max: int = 2 << 20
    """So much of a body is looked at (RFC 5173), undone of its encoding; not the rest."""


DEFAULT_RULE_LIMITS = RuleLimits()
