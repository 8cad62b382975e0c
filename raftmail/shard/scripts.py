"""Scripts of delivery rules (RFC 5804): kept, renamed, made active, and read."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.mail.codec_results import DONE_RAW
from raftmail.mail.commands import ActivateScript, DeleteScript, PutScript, RenameScript
from raftmail.mail.names import quoted
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.shard.state import Refusal, State


def put_script(state: State, command: PutScript) -> Raw:
    """Raises `Refusal`."""
    scripts = state.index.scripts
    totals = scripts.totals(command.user)
    before = scripts.get(command.user, command.name)
    if before is None and totals.rows >= command.scripts_max:
        raise Refusal(
            Code.LIMIT, f"a user can have {command.scripts_max} scripts: delete one first"
        )
    more = len(command.script) - len(before or b"")
    if more > 0 and totals.size_bytes + more > command.total_bytes_max:
        raise Refusal(
            Code.OVERQUOTA,
            f"all scripts of a user can have {command.total_bytes_max} bytes, and this would make "
            f"them {totals.size_bytes + more}: delete one, or make it shorter",
        )
    state.rows_changed += 2
    scripts.put(command.user, command.name, command.script)
    return DONE_RAW


def delete_script(state: State, command: DeleteScript) -> Raw:
    """Raises `Refusal`."""
    _must_find(state, command.user, command.name)
    scripts = state.index.scripts
    if scripts.totals(command.user).active == command.name:
        raise Refusal(
            Code.CANNOT,
            f"the script {quoted(command.name)} is active: activate another one or none first",
        )
    state.rows_changed += 2
    scripts.delete(command.user, command.name)
    return DONE_RAW


def rename_script(state: State, command: RenameScript) -> Raw:
    """Raises `Refusal`."""
    user, name, new = command.user, command.name, command.new_name
    script = _must_find(state, user, name)
    scripts = state.index.scripts
    if scripts.get(user, new) is not None:
        raise Refusal(Code.ALREADYEXISTS, f"{user} has a script {quoted(new)} already")
    state.rows_changed += 3
    active = scripts.totals(user).active
    scripts.put(user, new, script)
    if active == name:
        scripts.activate(user, new)
    scripts.delete(user, name)
    return DONE_RAW


def activate_script(state: State, command: ActivateScript) -> Raw:
    """Raises `Refusal`."""
    user, name = command.user, command.name
    scripts = state.index.scripts
    if name:
        _must_find(state, user, name)
    if scripts.totals(user).active != name:
        state.rows_changed += 1
        scripts.activate(user, name)
    return DONE_RAW


def _must_find(state: State, user: str, name: str) -> bytes:
    script = state.index.scripts.get(user, name)
    if script is None:
        raise Refusal(Code.NONEXISTENT, f"{user} has no script {quoted(name)}")
    return script


def script_list(state: State, query: q.ListScripts) -> q.ScriptList:
    """Raises `IndexDamaged`."""
    scripts = state.index.scripts
    active = scripts.totals(query.user).active
    return q.ScriptList(
        tuple(q.ScriptInfo(n, len(text), n == active) for n, text in scripts.of(query.user))
    )


def rules_in_force(state: State, query: q.ActiveScript) -> q.RulesInForce | None:
    """None: no script is active. Raises `IndexDamaged`."""
    scripts = state.index.scripts
    totals = scripts.totals(query.user)
    if not totals.active:
        return None
    version = totals.version
    if version == query.known:
        return q.RulesInForce(version, "", b"", ())
    others = dict(scripts.of(query.user))
    script = others.pop(totals.active)
    return q.RulesInForce(version, totals.active, script, tuple(others.items()))
