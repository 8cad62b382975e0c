"""What the root keeps of a user's passwords, as one text.

The first line is what is kept of the user's own password. Each further line is an app password, one
device's: name, Unix time and what is kept of it, with tabs between them. Whoever made the text, it
can be read: a line of another shape is passed over, by rules that never change (P10).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

APP_PASSWORDS_MAX: Final = 32
"""App passwords of one user."""

APP_NAME_CHARS_MAX: Final = 64
_MADE = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class AppPassword:
    """`kept` is what is kept of the password (`service.credentials`), never the password."""

    name: str
    made_s: int
    kept: str


@dataclass(frozen=True, slots=True)
class UserPasswords:
    """The text, read: app passwords in the order in which they were made."""

    own: str
    apps: tuple[AppPassword, ...] = ()

    @staticmethod
    def parse(text: str) -> UserPasswords:
        """From the text. Raises nothing."""
        own, *lines = text.split("\n")
        apps = []
        for line in lines:
            parts = line.split("\t")
            if len(parts) == 3 and _MADE.fullmatch(parts[1]):
                apps.append(AppPassword(parts[0], int(parts[1]), parts[2]))
        return UserPasswords(own, tuple(apps))

    def format(self) -> str:
        """As text."""
        lines = [f"{one.name}\t{one.made_s}\t{one.kept}" for one in self.apps]
        return "\n".join((self.own, *lines))

    def find(self, name: str) -> AppPassword | None:
        """The app password of a name."""
        return next((one for one in self.apps if one.name == name), None)


def check_app_name(name: str) -> str:
    """The name of an app password. Raises ValueError that says what is wrong."""
    if not 0 < len(name) <= APP_NAME_CHARS_MAX:
        raise ValueError(f"the name of an app password has 1 to {APP_NAME_CHARS_MAX} characters")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in name):
        raise ValueError("the name of an app password is one line, without tabs")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in name):
        raise ValueError("the name of an app password is text")
    return name
