"""Debian's Thunderbird without a screen, set up by preferences and led by its remote protocol."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.node.cluster import free_ports, wait_for
from tests.peers.mail_cluster import PASSWORD, USER
from tests.peers.marionette import Marionette
from tests.peers.program import ProgramFolder, need

HOST: Final = "localhost"
SCRIPT_S: Final = 300.0

_STEPS: Final = (Path(__file__).parent / "thunderbird_steps.js").read_text(encoding="utf-8")

SECURITY: Final = {"imap": 2, "imaps": 3}
"""As a preference has it: STARTTLS, and TLS from the first byte."""

_QUIET: Final[dict[str, Any]] = {
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "mail.chat.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.shell.checkDefaultClient": False,
    "mailnews.database.global.indexer.enabled": False,
    "mailnews.start_page.enabled": False,
    "network.proxy.type": 0,
    "toolkit.telemetry.enabled": False,
}


def _preferences(protocol: str, port: int, smtp: int, marionette: int) -> dict[str, Any]:
    """One account at a server, with its sent mail there, and what goes out over `smtp`."""
    server, identity, out = "mail.server.server1", "mail.identity.id1", "mail.smtpserver.smtp1"
    return _QUIET | {
        "marionette.port": marionette,
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        "mail.server.server2.type": "none",
        "mail.server.server2.hostname": "Local Folders",
        "mail.server.server2.userName": "nobody",
        f"{server}.type": "imap",
        f"{server}.hostname": HOST,
        f"{server}.port": port,
        f"{server}.userName": USER,
        f"{server}.socketType": SECURITY[protocol],
        f"{server}.authMethod": 3,
        f"{server}.login_at_startup": False,
        f"{server}.check_new_mail": False,
        f"{identity}.fullName": "Alice",
        f"{identity}.useremail": USER,
        f"{identity}.smtpServer": "smtp1",
        f"{identity}.fcc": True,
        f"{identity}.fcc_folder": f"imap://{USER.replace('@', '%40')}@{HOST}/Sent",
        "mail.smtpservers": "smtp1",
        "mail.smtp.defaultserver": "smtp1",
        f"{out}.hostname": HOST,
        f"{out}.port": smtp,
        f"{out}.authMethod": 1,
        f"{out}.try_ssl": 0,
    }


class Thunderbird:
    """One that runs; `thunderbird_steps.js` has what it can be told to do."""

    def __init__(self, remote: Marionette) -> None:
        self._remote = remote

    def do(self, step: str, *given: Any) -> Any:
        """Raises `MarionetteError`."""
        return self._remote.run(f"{_STEPS}\nreturn steps[given[0]](...given[1]);", step, given)

    def answer(self) -> str:
        """Take the first choice of the question that is open, as "Retry" is where a copy could not
        be saved. Its text, "" where there is none."""
        return self._remote.answer()


@contextmanager
def thunderbird(
    place: ProgramFolder, protocol: str, port: int, *, smtp: int, trusted: Path
) -> Iterator[Thunderbird]:
    """One with an account at a port of `HOST`, which trusts an authority."""
    program = need("thunderbird", "thunderbird")
    (marionette,) = free_ports(1)
    place.make("profile")
    set_up: Mapping[str, Any] = _preferences(protocol, port, smtp, marionette)
    lines = (f"user_pref({json.dumps(key)}, {json.dumps(set_up[key])});\n" for key in set_up)
    place.write("profile/user.js", "".join(lines))
    command = [program, "--headless", "--no-remote", "--profile", f"{place.folder}/profile"]
    command += ["--marionette", "--remote-allow-system-access"]
    with place.begun(*command) as process:
        remote = wait_for("Thunderbird", lambda: _reached(marionette, process))
        with remote:
            der = ssl.PEM_cert_to_DER_cert(trusted.read_text())
            one = Thunderbird(remote)
            one.do("set_up", base64.b64encode(der).decode(), USER, PASSWORD)
            yield one


def _reached(port: int, process: subprocess.Popen[bytes]) -> Marionette | None:
    assert process.poll() is None, "Thunderbird has ended"
    try:
        return Marionette(port, script_s=SCRIPT_S)
    except OSError:
        return None
