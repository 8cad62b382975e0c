"""What is wrong with a script, and what ends a run of one."""

from __future__ import annotations


class ScriptError(ValueError):
    """The script is not right. Who wrote it has to change it. `line` and `column` count from 1, the
    column in characters. `script` is the name of an included script, "" for the script itself."""

    def __init__(self, line: int, column: int, text: str, script: str = "") -> None:
        where = f"line {line}, column {column}"
        super().__init__(f"{script}: {where}: {text}" if script else f"{where}: {text}")
        self.line, self.column, self.text, self.script = line, column, text, script


class RuleError(Exception):
    """The run ends without any action: the message goes to INBOX, as if there was no script."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {text}" if line else text)
        self.text, self.line = text, line
