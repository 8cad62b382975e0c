"""`node join`: from a token to a folder that the cluster knows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from raftmail.admin.api.arguments import read_arguments
from raftmail.admin.api.calls import JoinMember
from raftmail.admin.api.members import Joined
from raftmail.admin.invitation import BadInvitation, Token
from raftmail.client import ClientError, Refused, TryAgain
from raftmail.client.invitation import fetch_invitation
from raftmail.node import join
from raftmail.node.config import Config, ConfigError, load
from raftmail.node.folder import FolderError
from raftmail_cli.errors import CliError, TryLater
from raftmail_cli.session import Where
from raftmail_cli.settings import Settings

_FETCH_S = 5.0
_AGAIN_S = 0.5
_KNOWN_S = 6.0
"""By then every node that answers has heard of an invitation."""


@dataclass(frozen=True, slots=True)
class JoinedNode:
    """A node that the cluster has taken in."""

    name: str
    folder: Path
    revision: int


def join_node(settings: Settings, text: str, folder: Path, deadline_s: float) -> JoinedNode:
    """Make the folder of the invited node, and have the cluster take it in. Raises `CliError`;
    of a node that is not taken in, nothing is left."""
    deadline = time.monotonic() + deadline_s
    existed = folder.exists()
    try:
        token = Token.decode(text)
        begun = join.begun_by(folder)
        if begun != token.invite:
            if begun:
                raise CliError(
                    f"{folder}: was begun with another token; name a folder that is new or empty"
                )
            join.make_folder(folder, token.invite, token.open(_fetch(token, deadline)))
        config = load(folder)
        answer = _tell(settings, token, config, deadline, again=bool(begun))
    except (BadInvitation, FolderError, ConfigError) as error:
        raise CliError(str(error)) from None
    except _NotTaken as error:
        join.clear_folder(folder, existed=existed)
        raise CliError(str(error)) from None
    join.finish(folder)
    return JoinedNode(config.node.name, folder, answer.revision)


class _NotTaken(Exception):
    """The cluster does not want the node."""


def _fetch(token: Token, deadline: float) -> bytes:
    """The sealed bundle, from the first node that has it."""
    said = refused = ""
    known_by = min(deadline, time.monotonic() + _KNOWN_S)
    while True:
        refusals = answers = 0
        for address, tls in token.addresses:
            try:
                return fetch_invitation(address, token.invite, tls=tls, timeout_s=_FETCH_S)
            except Refused as error:
                refusals += 1
                refused = error.text
            except TryAgain as error:
                said = str(error)
                continue
            except ClientError as error:
                said = str(error)
            answers += 1
        late = time.monotonic() > known_by
        if refusals == len(token.addresses) or (late and refusals and refusals == answers):
            raise CliError(
                f"{refused}: it was used, withdrawn or has expired; ask for a new one (`raftmail "
                f"member invite`)"
            )
        if time.monotonic() > deadline:
            raise TryLater(f"the invitation could not be fetched: {said}")
        time.sleep(_AGAIN_S)


def _tell(
    settings: Settings, token: Token, config: Config, deadline: float, *, again: bool
) -> Joined:
    """Have the cluster take the node in. What is asked once more after a lost answer is known
    for what it is."""
    secret = (config.folder / config.tls.token_file).read_text(encoding="ascii").strip()
    ca = config.folder / config.tls.ca
    texts = {"id": token.invite, "name": config.node.name, "peer": config.listen.peer}
    texts |= {"client": config.listen.client, "lmtp": config.listen.lmtp}
    texts |= join.place_of(config.folder)
    call = read_arguments(JoinMember, "join", texts, strict=False)
    while True:
        for address, _ in token.addresses:
            where = Where((address,), ca, secret, _FETCH_S, config.cluster.id)
            try:
                with settings.opener(where) as session:
                    return session.admin(replace(call, again=again))
            except TryLater as error:
                said = str(error)
                again = True  # it may have been done
            except CliError as error:
                raise _NotTaken(str(error)) from None
        if time.monotonic() > deadline:
            raise TryLater(f"the cluster could not be told: {said}; run the same command again")
        time.sleep(_AGAIN_S)
