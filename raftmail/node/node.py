"""A node: replicas, their runners, the links to the other nodes, and the front ends, put
together."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from raftmail.admin.api.calls import ReplaceDisk
from raftmail.admin.open_invitation import sealed_bundle
from raftmail.cluster.router import Router
from raftmail.cluster.rpc import BULK as CLUSTER_BULK
from raftmail.cluster.rpc import Part, encode_revision
from raftmail.cluster.rpc import RpcFrameKind as ClusterFrame
from raftmail.cluster.state import ClusterState
from raftmail.cluster.view import ROOT_SHARD
from raftmail.frontends.lmtp.config import LmtpConfig, ServerConfig
from raftmail.frontends.lmtp.server import LmtpServer
from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.server import TextListener
from raftmail.mail.endpoint import split_address
from raftmail.mail.failures import Unavailable
from raftmail.mail.first_mailboxes import parse_first_mailboxes
from raftmail.mail.networks import parse_networks
from raftmail.net.errors import start_task
from raftmail.net.gate import Descriptors
from raftmail.net.tls import TlsFiles, check_files, peer_context, program_context, server_context
from raftmail.net.token import check_token
from raftmail.node.admin import Admin
from raftmail.node.background_work import BackgroundWork
from raftmail.node.budget import NodeLimits, limits_of, pool_of
from raftmail.node.cluster_size import size_in
from raftmail.node.config import Config, ConfigError
from raftmail.node.config_follower import ConfigFollower, load_state, peers_of, save_state
from raftmail.node.controller_loop import ControllerLoop
from raftmail.node.enrolment import Enrolment
from raftmail.node.exit_message import explain
from raftmail.node.folder import DataFolder, FolderError
from raftmail.node.join import end_replacing, is_replacing
from raftmail.node.log_in_setup import issuer_of, make_log_ins
from raftmail.node.open_files import MEASURE_S, measure, share_out
from raftmail.node.program_servers import ProgramServers
from raftmail.node.reconcile import Plan, plan
from raftmail.node.reload import CHANGEABLE, changed_keys, load_again
from raftmail.node.replica_table import ReplicaTable
from raftmail.node.runner import Runner
from raftmail.node.starts import note_older, read_peers, settle, write_peers
from raftmail.peering.handshake import HelloRefused, Older
from raftmail.peering.peers import PeerNet
from raftmail.peering.starts import PeerStarts
from raftmail.resync.manager import turn_away
from raftmail.service.accounts import UserAccounts
from raftmail.service.cluster_service import ClusterService
from raftmail.service.delivery import LONGER_S_MAX, MailDelivery
from raftmail.service.script_keeper import ScriptKeeper
from raftmail.service.service import ScriptLimits
from raftmail.shard.replica import Frame
from raftmail.shard.replica import FrameKind as ShardFrame
from raftmail.storage.disk import DiskFull

logger = logging.getLogger(__name__)

TICK_S = 0.03
STOP_GRACE_S = 5.0
HAND_OVER_S = 1.0
REPLACE_S = 10.0
PARTING_S = 2.0
MAKE_AGAIN_S = 10.0
ASK_AGAIN_S = 2.0
BUSY_S = 0.2
SHORT_BYTES_MAX = 4 << 20
"""Requests that no long body comes with, on their way to one node; what is more waits, so that
heartbeats are not late."""
_CLUSTER_FRAMES = frozenset(ClusterFrame)


@dataclass(slots=True, repr=False)
class Node:
    """Everything that runs in a node's process. `fatal` ends the process; `wall` is Unix time."""

    config: Config
    loop: asyncio.AbstractEventLoop
    executor: ThreadPoolExecutor
    fatal: Callable[[BaseException], None]
    wall: Callable[[], float]
    _folder: DataFolder | None = None
    _table: ReplicaTable | None = None
    _net: PeerNet | None = None
    _listeners: list[TextListener] = field(default_factory=list)
    _lmtp: LmtpServer | None = None
    _programs: ProgramServers | None = None
    _router: Router | None = None
    _ticker: asyncio.TimerHandle | None = None
    _flushing: bool = False
    _config_follower: ConfigFollower | None = None
    _admin: Admin | None = None
    _controller: ControllerLoop | None = None
    _enrolment: Enrolment | None = None
    _background: BackgroundWork | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _clients: TextListener | None = None
    _expelled: bool = False
    _parting: dict[str, float] = field(default_factory=dict)
    _stale: bool = False
    _reconciling: bool = False
    _stopping: bool = False
    _lost: set[int] = field(default_factory=set)
    _asking_for_replicas: bool = False
    _front: TextContext | None = None
    _service: ClusterService | None = None
    _context: ssl.SSLContext | None = None
    _program_context: ssl.SSLContext | None = None
    _measure_at: float = 0.0
    _descriptors: Descriptors = field(default_factory=Descriptors)

    async def start(self) -> None:
        """Open, listen, and take part. Raises the rooms' errors; `stop` cleans up after one."""
        config = self.config
        loop = self.loop
        share_out(config, self._descriptors)
        self._folder = folder = DataFolder.claim(config)
        self._table = table = ReplicaTable(
            config,
            folder,
            loop,
            self.executor,
            self._send_frame,
            self.fatal,
            self._flush_links,
            self._flush_soon,
            self._role_changed,
            self._peers_up,
            self._reconcile_soon,
        )
        table.memory.queued_bytes = self._queued_bytes
        table.turns.disk.start()
        state = load_state(config, founding=folder.is_founding)
        table.memory.expect(size_in(state, config).others)
        self._router = router = Router(
            config.node.name, table.replicas, state, self, loop.time, budget=pool_of(config)
        )
        router.service.budget = pool_of(config)
        self._config_follower = follower = ConfigFollower(
            config, loop, self.executor, router, state, self._changed, self._peers_up
        )
        router.heard_revision = follower.heard
        self._admin = admin = Admin.of(
            config,
            router,
            follower,
            table,
            self.is_up,
            self.wall,
            lambda: folder.lost,
            self._hash_app_password,
        )
        router.answer_operator = admin.calls.answer_operator
        router.answer_node = admin.calls.answer_node
        self._controller = ControllerLoop(loop, router, follower, admin.calls)
        admin.own.waits_of_root = self._controller.waits
        self._background = BackgroundWork.of(config, loop, router, admin.calls, self.wall)
        admin.own.background = self._background.report
        if self._background.hooks is not None:
            table.hear_arrivals = self._background.hooks.hear
        admin.own.background_alarms = self._background.alarms
        if folder.is_founding:
            # What the cluster begins with is kept before anything is made by it: without it, a node
            # is one that comes later.
            save_state(config.data, state)
        if config.worker == 1 and config.node.workers > 1:
            self._enrolment = Enrolment(config, loop, router)
        if not is_replacing(config):
            table.open_all(self._plan().open, state, starting=True)
        front = await self._listen_to_peers(router)
        self._tick()
        if not state.shards:
            logger.info("asking the other nodes what the cluster is")
            await follower.known.wait()
        if is_replacing(config):
            await self._replace_disk(admin)
        await self._listen_to_clients(front)

    async def _replace_disk(self, admin: Admin) -> None:
        """Have the cluster give this node new replica ids for those that it lost. Until then
        nothing is opened."""
        config = self.config
        call = ReplaceDisk(config.node.name, "the node itself")
        revision = 0
        while not revision or self._state.revision < revision:
            try:
                if not revision:
                    answer = await admin.calls.do(call, self.loop.time() + REPLACE_S)
                    revision = answer.revision
            except Unavailable as e:
                logger.info("the root cannot be asked for new replicas yet: %s", e)
            except ValueError as e:
                raise FolderError(f"{config.data}: the disk cannot be replaced: {e}") from None
            await asyncio.sleep(0.2)
        logger.info("the cluster gives this node new replicas for those that were lost")
        end_replacing(config)
        self._reconcile_soon()

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
        """For connections that come, for those that this node makes, and for mail programs. Raises
        `TlsError`."""
        config = self.config
        files = TlsFiles(
            config.folder / config.tls.ca,
            config.folder / config.tls.certificate,
            config.folder / config.tls.key,
        )
        check_files(
            files, config.cluster.id, config.node.name, datetime.fromtimestamp(self.wall(), UTC)
        )
        of_programs = program_context(
            config.folder / (config.tls.program_certificate or config.tls.certificate),
            config.folder / (config.tls.program_key or config.tls.key),
            binds=config.login.channel_binding,
        )
        return server_context(files), peer_context(files), of_programs

    async def _listen_to_peers(self, router: Router) -> TextContext:
        config = self.config
        self._context, dialling, self._program_context = self._contexts()
        token = _read_token(config)
        self._service = service = ClusterService(
            router,
            UserAccounts(make_log_ins(config, router, self.wall), token),
            MailDelivery(
                router,
                float(config.mail.deadline_s),
                delivered_once_s=config.mail.delivered_once_s,
                saving_bytes_max=pool_of(config).long_bytes_max,
                rules=None if self._background is None else self._background.rules,
            ),
            ScriptKeeper(
                router, ScriptLimits(config.sieve.script_bytes_max, config.sieve.scripts_max)
            ),
            None if self._background is None else self._background.teacher,
        )
        self._front = front = TextContext(
            service,
            config.node.name,
            config.cluster.id,
            self.wall,
            self._limits.clients,
            self._invitation,
            parse_first_mailboxes(config.mail.first_mailboxes),
        )
        self._net = net = PeerNet(
            config.node.name,
            config.cluster.id,
            peers_of(self._state, config)[0],
            tls_context=dialling,
            kinds=(*ShardFrame, *ClusterFrame),
            bulk=(ShardFrame.SYNC, ShardFrame.BODY, *CLUSTER_BULK),
            limits=self._limits.link,
            on_frame=self._on_frame,
            on_up=self._on_up,
            on_down=self._on_down,
            on_removed=self._expelled_by,
        )
        net.welcoming = not self._state.revision
        assert self._folder is not None
        net.starts = PeerStarts(read_peers(config.data), partial(write_peers, config.data))
        net.start_told = str(self._folder.start)
        net.listens_at = config.listen.peer
        net.on_outlawed = self._outlawed
        assert self._admin is not None
        self._admin.own.outlaws = net.outlaws
        await self._listen_on(
            config.listen.peer,
            TextListener(front, peers=net, tls=self._context, descriptors=self._descriptors),
        )
        net.start()
        return front

    async def _hash_app_password(self, user: str, password: bytes) -> str:
        assert self._service is not None
        return await self._service.accounts.hash_app_password(user, password)

    async def _listen_to_clients(self, front: TextContext) -> None:
        listen = self.config.listen
        self._clients = clients = TextListener(
            front, tls=self._context, descriptors=self._descriptors
        )
        await self._listen_on(listen.client, clients, shared=self._is_shared)
        if listen.lmtp or listen.lmtp_socket:
            await self._listen_lmtp()
        assert self._service is not None
        self._programs = programs = ProgramServers(
            self.config, self._service, self.wall, front.budget, front.fetching, self._descriptors
        )
        await programs.listen(self._program_context)

    async def _listen_on(
        self, address: str, listener: TextListener, *, shared: bool = False
    ) -> None:
        self._listeners.append(listener)
        try:
            await listener.listen(*split_address(address), shared=shared)
        except OSError as e:
            raise ConfigError(
                f"{self.config.path}: cannot listen on {address}: {e.strerror or e}"
            ) from None

    async def _listen_lmtp(self) -> None:
        config = self.config
        assert self._service is not None
        self._lmtp = lmtp = LmtpServer(
            self._service,
            _lmtp_config(config),
            wall_clock=self.wall,
            tls=self._context,
            descriptors=self._descriptors,
        )
        try:
            if config.listen.lmtp:
                await lmtp.listen_tcp(*split_address(config.listen.lmtp), shared=self._is_shared)
            if config.listen.lmtp_socket:
                await lmtp.listen_unix(str(config.folder / config.listen.lmtp_socket))
        except OSError as e:
            where = config.listen.lmtp or config.listen.lmtp_socket
            raise ConfigError(
                f"{config.path}: cannot listen on {where}: {e.strerror or e}"
            ) from None

    @property
    def _limits(self) -> NodeLimits:
        return limits_of(self.config)

    @property
    def _is_shared(self) -> bool:
        """Whether the addresses for clients and mail are shared with other workers."""
        return self.config.node.workers > 1

    def reload(self) -> None:
        """Take over what changed in the configuration and beside it, as far as it can change while
        the node runs. What cannot be used changes nothing."""
        before = self.config
        try:
            found = load_again(before)
            changed = changed_keys(before, found)
            mail = {key.partition(".")[2] for key in changed if key in CHANGEABLE}
            self.config = replace(
                before,
                mail=replace(before.mail, **{key: getattr(found.mail, key) for key in mail}),
            )
            server, dialling, of_programs = self._contexts()
            token = _read_token(self.config)
            issuer = issuer_of(before, self.wall)
        except Exception as e:
            self.config = before
            _tell_not_reloaded(e)
            return
        if self._service is not None:
            self._service.accounts.log_ins.issuer = issuer
        self._take_over(server, dialling, of_programs, token)
        later = [key for key in changed if key not in CHANGEABLE]
        logger.info(
            "reloaded: certificates and token; changed: %s; changes with the next start: %s",
            ", ".join(sorted(f"mail.{key}" for key in mail)) or "nothing",
            ", ".join(later) or "nothing",
        )

    def _take_over(
        self,
        server: ssl.SSLContext,
        dialling: ssl.SSLContext,
        of_programs: ssl.SSLContext,
        token: str,
    ) -> None:
        mail = self.config.mail
        self._context = server
        if self._service is not None:
            self._service.accounts.token = token
        if self._front is not None:
            self._front.limits = replace(
                self._front.limits,
                connections_max=mail.client_connections_max,
                address_connections_max=mail.address_connections_max,
            )
        for listener in self._listeners:
            listener.take_over(server)
        if self._net is not None:
            self._net.tls_context = dialling
        if self._lmtp is not None:
            self._lmtp.take_over(_lmtp_config(self.config), server)
        if self._programs is not None:
            self._programs.take_over(self.config, of_programs)

    async def stop(self) -> None:
        """Hand mastership over, answer what is under way, close the files. Harmless after a failed
        start."""
        self._stopping = True
        await self._hand_over()
        if self._controller is not None:
            await self._controller.close()
        if self._admin is not None:
            await self._admin.verifying.close()
        if self._enrolment is not None:
            await self._enrolment.close()
        if self._background is not None:
            await self._background.close()
        if self._lmtp is not None:
            await self._lmtp.stop(STOP_GRACE_S)
        if self._programs is not None:
            await self._programs.stop(STOP_GRACE_S)
        for listener in self._listeners:
            await listener.close()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._config_follower is not None:
            await self._config_follower.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._table is not None:
            await self._table.idle()
        if self._net is not None:
            await self._net.close()
        if self._table is not None:
            await self._table.close_all()
        if self._folder is not None:
            self._folder.release()

    async def _hand_over(self) -> None:
        """Give the shards that this node leads to others, so that nobody has to wait for an
        election."""
        deadline = self.loop.time() + HAND_OVER_S
        replicas = {} if self._table is None else self._table.replicas
        led = [replica for replica in replicas.values() if replica.is_leader]
        for replica in led:
            if replica.hand_over(self.loop.time()):
                self.wake(replica.shard)
        while self.loop.time() < deadline and any(  # noqa: ASYNC110  the group has no event for it
            replica.can_hand_over for replica in led
        ):
            await asyncio.sleep(TICK_S)

    # -- cluster.router.Links ----------------------------------------------------------------------

    def send(self, node: str, shard: int, kind: str, parts: Sequence[Part]) -> bool:
        return self._net is not None and self._net.send(node, shard, kind, parts)

    def has_room(self, node: str, size_bytes: int, *, long: bool) -> bool:
        net = self._net
        if net is None:
            return False
        if long:  # and a body that a follower needs has room as well
            return net.has_room(node, size_bytes + self._limits.sending_bytes)
        return net.waiting_bytes(node) + size_bytes <= SHORT_BYTES_MAX

    def _queued_bytes(self, node: str) -> int:
        return 0 if self._net is None else self._net.waiting_bytes(node)

    def _peers_up(self) -> frozenset[str]:
        return frozenset() if self._net is None else self._net.up

    def is_up(self, node: str) -> bool:
        return self._net is not None and self._net.is_up(node)

    def wake(self, shard: int) -> None:
        runner = self._runners.get(shard)
        if runner is not None:
            runner.wake()
        self._flush_soon()

    def submitted(self, shard: int) -> None:
        runner = self._runners.get(shard)
        if runner is not None:
            runner.submitted()

    @property
    def _runners(self) -> Mapping[int, Runner]:
        return {} if self._table is None else self._table.runners

    def _role_changed(self, shard: int) -> None:
        if self._router is not None:
            self._router.role_changed(shard)

    # -- the cluster's state -----------------------------------------------------------------------

    @property
    def _state(self) -> ClusterState:
        assert self._config_follower is not None
        return self._config_follower.state

    def _changed(self, state: ClusterState) -> None:
        """The cluster has changed: routing, links and replicas follow."""
        logger.info("the cluster's state has revision %d", state.revision)
        assert self._router is not None and self._table is not None
        self._table.memory.expect(size_in(state, self.config).others)
        parting = set(self._router.view.nodes) - set(state.nodes)
        self._router.follow(state)
        if ROOT_SHARD in self._router.replicas:
            for node in [*state.nodes, *parting]:
                if node not in state.members(ROOT_SHARD):
                    self._tell_revision(node)
        if parting - {self.config.node.name}:
            # They shall hear it from those who know it before the links end.
            self._parting |= dict.fromkeys(parting, self.loop.time() + PARTING_S)
            self.loop.call_later(PARTING_S, self._reconcile_soon)
        if self.config.node.name in parting:
            self._expelled_by("the root")
        self._reconcile_soon()
        if self._controller is not None:
            self._controller.changed()

    def _outlawed(self, peer: str, error: HelloRefused) -> None:
        """A peer refuses this process: another one is this node, or the data folder is an older
        one. It must not go on."""
        text = f"{peer} says: {error}"
        if isinstance(error, Older):
            note_older(self.config.data, text)
            text += (
                f". Have the others fill it anew: `raftmail node --replace {self.config.folder}`"
            )
        self.fatal(FolderError(f"{self.config.data}: {text}"))

    def _look_at_copy(self) -> None:
        """A data folder that looks like a copy is one like any other when all its replicas are
        known to have lost nothing."""
        assert self._folder is not None and self._table is not None
        opened = self._table.replicas
        if opened.keys() == self._folder.made.keys() and all(
            replica.has_lost_nothing for replica in opened.values()
        ):
            self._folder.is_copy = False
            try:
                settle(self.config.data)
            except OSError as e:
                logger.warning("%s; the next start takes the data folder for a copy again", e)
                return
            logger.info("the data folder is a copy, and has everything that this node promised")

    def _expelled_by(self, whom: str) -> None:
        """This node was removed from the cluster, for ever: it serves nobody any more, and tells
        nobody what it knew."""
        if not self._expelled:
            self._expelled = True
            logger.error("by %s: this node was removed from the cluster; it serves nobody", whom)
            self._start_task(self._leave())
            self._reconcile_soon()

    async def _invitation(self, invite: str) -> bytes | None:
        """The sealed bundle of an invitation, for a machine that is no node yet."""
        assert self._config_follower is not None
        return await sealed_bundle(self._config_follower, invite, int(self.wall()))

    def _tell_revision(self, node: str) -> None:
        self.send(node, ROOT_SHARD, ClusterFrame.STATE, (encode_revision(self._state.revision),))

    def _reconcile_soon(self) -> None:
        self._stale = True
        if not self._reconciling and not self._stopping:
            self._reconciling = True
            self._start_task(self._reconcile())

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = start_task(self.loop, work, self.fatal)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _peers(self) -> tuple[dict[str, str], set[str]]:
        """The addresses of the other nodes, among them those that were removed a moment ago, and
        the names of those removed before."""
        peers, removed = peers_of(self._state, self.config)
        if self._expelled:
            return {}, removed
        now = self.loop.time()
        self._parting = {name: until for name, until in self._parting.items() if until > now}
        known = self._state.every_node
        parting = self._parting.keys() & removed - {self.config.node.name}
        return peers | {name: known[name].peer for name in parting}, removed - parting

    async def _leave(self) -> None:
        """Send clients to other nodes, after a moment: the one who had it removed may have asked
        this very node."""
        await asyncio.sleep(PARTING_S / 2)
        if self._clients is not None:
            await self._clients.close()
        if self._lmtp is not None:
            await self._lmtp.stop(STOP_GRACE_S)
        if self._programs is not None:
            await self._programs.stop(STOP_GRACE_S)

    async def _reconcile(self) -> None:
        """Let links and replicas be what the newest state says."""
        try:
            while self._stale and not self._stopping:
                self._stale = False
                await self._bring_about()
        except (DiskFull, OSError) as e:
            # Of the node's small files, which are noted before anything follows from them.
            logger.error("what the cluster wants of this node cannot be brought about yet: %s", e)
            self.loop.call_later(MAKE_AGAIN_S, self._reconcile_soon)
        finally:
            self._reconciling = False

    async def _bring_about(self) -> None:
        assert self._table is not None and self._folder is not None and self._net is not None
        table = self._table
        self._net.welcoming = not self._state.revision
        await self._net.set_peers(*self._peers())
        if is_replacing(self.config):
            return
        wanted = self._plan()
        for shard in wanted.give_up:
            if not table.is_busy(shard):
                await table.give_up(shard)
                self._stale = True  # another one may be wanted in its place
        if any(map(table.is_busy, (*wanted.open, *wanted.give_up))):
            self.loop.call_later(BUSY_S, self._reconcile_soon)
        missing = {
            shard: replica
            for shard, replica in wanted.open.items()
            if shard not in table.opened and not table.is_busy(shard)
        }
        if missing and table.open_all(missing, self._state):
            self.loop.call_later(MAKE_AGAIN_S, self._reconcile_soon)
        aside = set(wanted.lost) & self._folder.lost.keys()
        if aside and not self._asking_for_replicas:
            self._asking_for_replicas = True
            self._start_task(self._ask_for_replicas())
        for shard in set(wanted.lost) - self._lost - aside:
            logger.error(
                "shard %d: this node should have a replica that has voted, and has none: its disk "
                "was lost. Stop the node and "
                "run `raftmail node --replace %s`",
                shard,
                self.config.folder,
            )
        self._lost = set(wanted.lost)

    def _plan(self) -> Plan:
        """Which replicas are to be here, by what is known of the cluster."""
        assert self._folder is not None
        lost = {shard: one.replica for shard, one in self._folder.lost.items()}
        return plan(self._state, self.config.node.name, self._folder.made, lost)

    async def _ask_for_replicas(self) -> None:
        """Have the cluster give this node other replicas for those that were set aside."""
        assert self._folder is not None and self._admin is not None
        name = self.config.node.name
        try:
            while not self._stopping and (
                lost := set(self._plan().lost) & self._folder.lost.keys()
            ):
                only = {shard: self._folder.lost[shard].replica for shard in sorted(lost)}
                call = ReplaceDisk(name, "the node itself", only)
                try:
                    deadline = self.loop.time() + REPLACE_S
                    await self._admin.calls.do(call, deadline)
                except (Unavailable, ValueError) as e:
                    logger.info(
                        "other replicas for shards %s cannot be had yet: %s", sorted(lost), e
                    )
                await asyncio.sleep(ASK_AGAIN_S)
        finally:
            self._asking_for_replicas = False

    # -- the loop ----------------------------------------------------------------------------------

    def _send_frame(self, shard: int, frame: Frame) -> None:
        self.send(frame[0], shard, frame[1], frame[2])

    def _flush_links(self) -> None:
        if self._net is not None:
            self._net.flush()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._router is not None:
            self._router.flush()

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(TICK_S, self._tick)
        now = self.loop.time()
        if now >= self._measure_at:
            self._measure_at = now + MEASURE_S
            measure(self._descriptors)
        if self._table is not None:
            self._table.tick()
            if self._folder is not None and self._folder.is_copy:
                self._look_at_copy()
        if self._router is not None:
            self._router.tick()
        if self._config_follower is not None:
            self._config_follower.tick(now)
        if self._controller is not None:
            self._controller.tick(now)
        if self._admin is not None:
            self._admin.tick(now)
        if self._enrolment is not None:
            self._enrolment.tick(now, self._state)
        if self._background is not None:
            self._background.tick(now)

    def _on_frame(self, node: str, shard: int, kind: str, payload: bytes | memoryview) -> None:
        if kind in _CLUSTER_FRAMES:
            if self._router is not None:
                self._router.receive(node, kind, payload)
            return
        if kind == ShardFrame.BODY:
            self._on_body(node, shard, payload)
            return
        if isinstance(payload, memoryview):
            payload = bytes(payload)
        if kind == ShardFrame.BEATS:
            if self._table is not None:
                self._table.take_beats(node, payload)
            return
        runner = self._runners.get(shard)
        if runner is None:
            # A replica that comes or goes: the sender is ahead of this node, or behind it.
            logger.debug("from %s: a frame for shard %d, which is not open here", node, shard)
            if kind == ShardFrame.SYNC:
                why = "it has no replica that is open"
                answer = turn_away(self.config.cluster.id, shard, node, payload, why)
                if answer is not None:
                    self.send(node, shard, kind, (answer,))
            return
        try:
            runner.replica.receive(self.loop.time(), node, kind, payload)
        except Exception as e:
            runner.fail(e)
            return
        runner.received(kind)

    def _on_body(self, node: str, shard: int, payload: bytes | memoryview) -> None:
        """A long body: not copied, since that alone would keep the loop."""
        runner = self._runners.get(shard)
        if runner is not None:
            runner.replica.take_long(self.loop.time(), node, payload)
            runner.heard()

    def _on_up(self, node: str) -> None:
        logger.info("link to %s is up", node)
        for runner in self._runners.values():
            runner.replica.connected(self.loop.time(), node)
            runner.heard()
        self._tell_revision(node)

    def _on_down(self, node: str) -> None:
        logger.info("link to %s is down", node)
        for runner in self._runners.values():
            runner.replica.disconnected(self.loop.time(), node)
            runner.heard()
        if self._router is not None:
            self._router.disconnected(node)


def _tell_not_reloaded(error: Exception) -> None:
    """One line for the operator who sent SIGHUP."""
    logger.error("not reloaded, everything stays as it was: %s", explain(error))


def _lmtp_config(config: Config) -> ServerConfig:
    mail = config.mail
    session = LmtpConfig(
        host=config.node.name,
        detail_separator=mail.detail_separator,
        recipients_max=mail.recipients_max,
        message_bytes_max=mail.message_bytes_max,
        refused_recipients_max=mail.lmtp_refused_recipients_max,
    )
    return ServerConfig(
        session=session,
        connections_max=mail.lmtp_connections_max,
        address_connections_max=mail.address_connections_max,
        buffered_bytes_max=limits_of(config).pool_bytes,
        service_timeout_s=mail.deadline_s + LONGER_S_MAX + 10.0,
        proxy_networks=parse_networks(config.listen.proxy_networks),
    )


def _read_token(config: Config) -> str:
    path = config.folder / config.tls.token_file
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: the clients' token cannot be read: {e}") from None
    try:
        return check_token(token, str(path))
    except ValueError as e:
        raise ConfigError(str(e)) from None
