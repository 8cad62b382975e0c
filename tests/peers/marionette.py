"""The remote protocol of Mozilla's programs: a length, a colon, and JSON, over TCP.

A command is `[0, number, name, parameters]` and its answer `[1, number, error, result]`. The test
has scripts carried out with the rights of the program itself."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Final, Self

_ANSWER_MARGIN_S: Final = 30.0


class MarionetteError(Exception):
    """The program could not do what it was told to do; the text is its own."""


class Marionette:
    """One connection to a program that listens. As a context manager it closes the connection."""

    def __init__(self, port: int, *, script_s: float) -> None:
        """`script_s` is how long a script may take."""
        self._socket = socket.create_connection(("127.0.0.1", port), script_s + _ANSWER_MARGIN_S)
        self._file = self._socket.makefile("rb")
        self._number = 0
        hello = self._read()
        assert hello["marionetteProtocol"] == 3, hello
        kept = {"alwaysMatch": {"unhandledPromptBehavior": "ignore"}}
        self.ask("WebDriver:NewSession", {"capabilities": kept})
        self.ask("WebDriver:SetTimeouts", {"script": int(script_s * 1000)})
        self.ask("Marionette:SetContext", {"value": "chrome"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def _read(self) -> Any:
        digits = b""
        while (one := self._file.read(1)) != b":":
            if not one:
                raise ConnectionError("the program has closed the connection")
            digits += one
        return json.loads(self._file.read(int(digits)))

    def ask(self, name: str, parameters: dict[str, Any]) -> Any:
        """The result of a command. Raises `MarionetteError`."""
        self._number += 1
        command = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(command), command))
        kind, number, error, result = self._read()
        assert (kind, number) == (1, self._number), (kind, number)
        if error is not None:
            raise MarionetteError(f"{error['error']}: {error['message']}")
        return result

    def run(self, script: str, *given: Any) -> Any:
        """What a script returns that may await; its arguments are in `given`. Raises
        `MarionetteError`."""
        whole = (
            "const given = Array.prototype.slice.call(arguments, 0, -1);"
            "const answer = arguments[arguments.length - 1];"
            f"(async () => {{ {script} }})()"
            ".then(value => answer([true, value ?? null]),"
            " error => answer([false, `${error}\\n${error?.stack ?? ''}`]));"
        )
        result = self.ask("WebDriver:ExecuteAsyncScript", {"script": whole, "args": list(given)})
        worked, value = result["value"]
        if not worked:
            raise MarionetteError(value)
        return value

    def answer(self) -> str:
        """Take the first choice of the question that is open; its text, "" where there is none."""
        try:
            text: str = self.ask("WebDriver:GetAlertText", {})["value"]
        except MarionetteError as e:
            if "no such alert" not in str(e):
                raise
            return ""
        self.ask("WebDriver:AcceptAlert", {})
        return text
