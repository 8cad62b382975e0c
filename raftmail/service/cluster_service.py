"""The front door over the cluster: the router for commands and reads, accounts and delivery beside
it."""

from __future__ import annotations

from collections.abc import Callable

from raftmail.cluster.router import Router
from raftmail.service.accounts import UserAccounts
from raftmail.service.delivery import MailDelivery
from raftmail.service.junk_teacher import Execute, JunkTeacher
from raftmail.service.script_keeper import ScriptKeeper
from raftmail.service.watching import Watch


class ClusterService:
    """`service.Service` for one node. Most of it is a method of the router, the accounts, the
    delivery or the scripts, so that the hot paths go through nothing here."""

    def __init__(
        self,
        router: Router,
        accounts: UserAccounts,
        delivery: MailDelivery,
        scripts: ScriptKeeper,
        teacher: JunkTeacher | None = None,
    ) -> None:
        self._router = router
        self.accounts = accounts
        self.submit = router.submit
        self.execute: Execute = (
            router.execute if teacher is None else teacher.watching(router.execute)
        )
        self.execute_soon = router.execute_soon
        self.cross = router.cross
        self.shard_of = router.shard_of
        self.quota_of = router.quota_of
        self.query = router.query
        self.admin = router.admin
        self.authenticate = accounts.authenticate
        self.scram_offer = accounts.log_ins.scram_offer
        self.log_in = accounts.log_ins.log_in
        self.enter_user = accounts.log_ins.enter_user
        self.leave_user = accounts.log_ins.leave_user
        self.hash_password = accounts.hash_password
        self.is_known_user = accounts.is_known_user
        self.check_users = accounts.check_users
        self.forget_user = accounts.forget_user
        self.script_limits = scripts.limits
        self.check_script = scripts.check_script
        self.put_script = scripts.put_script
        self.resolve_now = delivery.resolve_now
        self.resolve = delivery.resolve
        self.deliver_soon = delivery.deliver_soon
        self.deliver = delivery.deliver

    @property
    def takes_tokens(self) -> bool:
        """See `service.Accounts`."""
        return self.accounts.log_ins.takes_tokens

    def watch(self, user: str, wake: Callable[[], None]) -> Watch:
        """See `service.Reads`."""
        watch = Watch(wake)
        watch.source = self._router.watch(user, watch.hear)
        return watch
