"""Scripts (RFC 5804) as the state machine keeps them, in the obvious way."""

from __future__ import annotations

from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r

ScriptCommand: TypeAlias = c.PutScript | c.DeleteScript | c.RenameScript | c.ActivateScript
ScriptQuery: TypeAlias = q.ListScripts | q.GetScript | q.ActiveScript


class TwinScripts:
    """By user and name, and the name of the active one by user."""

    def __init__(self) -> None:
        self.texts: dict[str, dict[str, bytes]] = {}
        self.active: dict[str, str] = {}
        self._versions: dict[str, int] = {}

    def apply(self, command: ScriptCommand) -> r.Result:
        user, name = command.user, command.name
        texts = self.texts.setdefault(user, {})
        self._versions[user] = self._versions.get(user, 0) + 1
        if isinstance(command, c.PutScript):
            after = {**texts, name: command.script}
            if len(after) > max(len(texts), command.scripts_max):
                return r.Refused(r.Code.LIMIT, "too many scripts")
            total, before = (sum(map(len, one.values())) for one in (after, texts))
            if total > max(before, command.total_bytes_max):
                return r.Refused(r.Code.OVERQUOTA, "too many bytes of scripts")
            self.texts[user] = after
        elif isinstance(command, c.ActivateScript) and not name:
            self.active.pop(user, None)
        elif name not in texts:
            return r.Refused(r.Code.NONEXISTENT, f"no script {name}")
        elif isinstance(command, c.ActivateScript):
            self.active[user] = name
        elif isinstance(command, c.DeleteScript):
            if self.active.get(user) == name:
                return r.Refused(r.Code.CANNOT, f"{name} is active")
            del texts[name]
        else:
            if command.new_name in texts:
                return r.Refused(r.Code.ALREADYEXISTS, f"{command.new_name} is there")
            texts[command.new_name] = texts.pop(name)
            if self.active.get(user) == name:
                self.active[user] = command.new_name
        return r.Done()

    def answer(self, query: ScriptQuery) -> q.ScriptList | q.RulesInForce | bytes | None:
        texts, active = self.texts.get(query.user, {}), self.active.get(query.user, "")
        if isinstance(query, q.GetScript):
            return texts.get(query.name)
        if isinstance(query, q.ListScripts):
            rows = [q.ScriptInfo(n, len(texts[n]), n == active) for n in sorted(texts)]
            return q.ScriptList(tuple(rows))
        if not active:
            return None
        version = self._versions[query.user].to_bytes(16, "big")
        if version == query.known:
            return q.RulesInForce(version, "", b"", ())
        others = tuple((n, texts[n]) for n in sorted(texts) if n != active)
        return q.RulesInForce(version, active, texts[active], others)

    def forget(self, user: str) -> None:
        self.texts.pop(user, None)
        self.active.pop(user, None)
