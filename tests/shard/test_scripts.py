"""Scripts of users in their shard: limits, the active one, and what goes with a user."""

from __future__ import annotations

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.limits import validate
from raftmail.mail.results import Done
from raftmail.mail.scripts import SCRIPT_BYTES_MAX
from raftmail.storage.kv import scan
from tests.shard.machines import Feeder, new_machine


def test_a_user_has_as_many_scripts_and_bytes_as_the_command_allows() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.PutScript("a", "one", b"keep;", 1, 8))
    assert feeder.refused(c.PutScript("a", "two", b"", 1, 8)) == "LIMIT"
    assert feeder.refused(c.PutScript("a", "one", b"discard; ", 1, 8)) == "OVERQUOTA"
    assert feeder.refused(c.PutScript("a", "two", b"stop", 2, 8)) == "OVERQUOTA"
    assert feeder.do(c.PutScript("b", "two", b"stop;", 1, 8)) == Done(), "users count by themselves"
    assert feeder.do(c.PutScript("a", "one", b"stop", 1, 0)) == Done(), "what is shorter is taken"


def test_the_active_script_is_replaced_and_renamed_but_not_deleted() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.PutScript("a", "one", b"keep;"))
    feeder.do(c.ActivateScript("a", "one"))
    feeder.do(c.PutScript("a", "one", b"stop;"))
    feeder.do(c.RenameScript("a", "one", "two"))
    assert feeder.refused(c.DeleteScript("a", "two")) == "CANNOT"
    rules = feeder.machine.query(q.ActiveScript("a"))
    assert isinstance(rules, q.RulesInForce)
    assert (rules.name, rules.script, rules.others) == ("two", b"stop;", ())
    feeder.do(c.ActivateScript("a", ""))
    feeder.do(c.DeleteScript("a", "two"))
    assert feeder.machine.query(q.ActiveScript("a")) is None


def test_a_purge_takes_the_scripts_of_one_user() -> None:
    feeder = Feeder(new_machine())
    for user in ("a", "b"):
        feeder.do(c.PutScript(user, "one", b"keep;"))
        feeder.do(c.ActivateScript(user, "one"))
    feeder.do(c.PurgeUser("a"))
    keys = [key for key, _ in scan(feeder.machine.index.engine.table("scripts"))]
    assert keys == [b"b\0", b"b\0one"]


def test_the_digest_of_a_shard_tells_scripts_apart() -> None:
    machines = [new_machine() for _ in range(3)]
    for machine, script in zip(machines, (b"keep;", b"keep;", b"stop;"), strict=True):
        Feeder(machine).do(c.PutScript("a", "one", script))
    digests = [machine.index.digest() for machine in machines]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "command",
    [
        c.PutScript("a", "", b""),
        c.PutScript("a", "x\u2028", b""),
        c.PutScript("a", "ä" * 257, b""),
        c.PutScript("a", "x", bytes(SCRIPT_BYTES_MAX + 1)),
        c.PutScript("a", "x", b"", 0),
        c.PutScript("a", "x", b"", 1, -1),
        c.PutScript("A", "x", b""),
        c.RenameScript("a", "x", ""),
        c.DeleteScript("a", "\x7f"),
        c.ActivateScript("a", "\ud800"),
    ],
)
def test_what_is_no_script_name_or_size_is_refused_before_it_is_applied(command: c.Command) -> None:
    with pytest.raises(ValueError):
        validate(command)
