"""Roundcube, Debian's, in PHP's own web server, and a browser for it that knows no JavaScript."""

from __future__ import annotations

import json
import re
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Final

import pytest

from tests.node.cluster import wait_for
from tests.peers.program import ProgramFolder, need, program_folder

_ROOT: Final = Path("/var/lib/roundcube")
_DEFAULTS: Final = Path("/etc/roundcube/defaults.inc.php")
_TIMEOUT_S: Final = 60.0

_CONFIG: Final = """<?php
$config['db_dsnw'] = 'sqlite:///{folder}/roundcube.db?mode=0600';
$config['imap_host'] = '127.0.0.1:{imap}';
$config['smtp_host'] = '127.0.0.1:{smtp}';
$config['smtp_user'] = '';
$config['smtp_pass'] = '';
$config['log_dir'] = '{folder}/logs/';
$config['temp_dir'] = '{folder}/temp/';
$config['des_key'] = '0123456789abcdef01234567';
$config['language'] = 'en_US';
$config['plugins'] = [];
$config['create_default_folders'] = true;
$config['check_all_folders'] = true;
"""

_INPUT: Final = re.compile(r"<input\b[^>]*>")
_ATTRIBUTE: Final = re.compile(r'\b(name|value)="([^"]*)"')
_IDENTITY: Final = re.compile(r'<select name="_from"[^>]*>.*?<option value="(\d+)"', re.DOTALL)
_ROW: Final = re.compile(r"this\.add_message_row\((\d+),(\{.*?\}),", re.DOTALL)
_REQUEST_TOKEN: Final = re.compile(r'"request_token":"([^"]+)"')


class Browser:
    """One user before the pages of Roundcube."""

    def __init__(self, address: str) -> None:
        self._address = address
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
        self._token = ""

    def page(self, action: str, form: dict[str, str] | None = None, **about: str) -> str:
        """A page, or with a form what is answered to it."""
        query = {"_task": "mail", "_action": action} | {f"_{key}": about[key] for key in about}
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(f"{self._address}/?{urllib.parse.urlencode(query)}", data)
        if self._token:
            request.add_header("X-Roundcube-Request", self._token)
        with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
        return text

    def log_in(self, user: str, password: str) -> None:
        form = _fields(self.page("", task="login")) | {
            "_task": "login", "_action": "login", "_user": user, "_pass": password,
        }  # fmt: skip
        page = self.page("login", form, task="login")
        found = _REQUEST_TOKEN.search(page)
        assert found is not None and "login-form" not in page, page[:2000]
        self._token = found[1]

    def listed(self, mailbox: str) -> dict[int, dict[str, Any]]:
        """The messages that a mailbox shows, by UID."""
        return _rows(self.page("list", mbox=mailbox, remote="1"))

    def found(self, mailbox: str, words: str) -> dict[int, dict[str, Any]]:
        """Those of which the subject or the sender has these words."""
        return _rows(self.page("search", mbox=mailbox, q=words, headers="subject,from", remote="1"))

    def shown(self, mailbox: str, uid: int) -> str:
        """The page of one message."""
        return self.page("show", mbox=mailbox, uid=str(uid))

    def send(self, to: str, subject: str, text: str) -> str:
        """Write a message and send it; a copy goes to Sent."""
        page = self.page("compose")
        identity = _IDENTITY.search(page)
        assert identity is not None, page[:2000]
        form = _fields(page) | {
            "_task": "mail", "_action": "send", "_from": identity[1], "_to": to,
            "_subject": subject, "_message": text, "_is_html": "0", "_store_target": "Sent",
            "_draft": "", "_framed": "1",
        }  # fmt: skip
        return self.page("send", form, framed="1")

    def do(self, action: str, **about: str) -> str:
        """What the buttons of the list do."""
        form = {f"_{key}": about[key] for key in about} | {"_remote": "1"}
        return self.page(action, form)


def _rows(page: str) -> dict[int, dict[str, Any]]:
    said = json.loads(page)["exec"]
    return {int(uid): json.loads(cells) for uid, cells in _ROW.findall(said)}


def _fields(page: str) -> dict[str, str]:
    """The values that the inputs of a page have."""
    found = (dict(_ATTRIBUTE.findall(one)) for one in _INPUT.findall(page))
    return {one["name"]: one.get("value", "") for one in found if "name" in one}


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def roundcube(imap: int, smtp: int) -> Iterator[Browser]:
    """One of its own, which reads mail at one port and sends it at another."""
    php = need("php", "php-cli")
    if not (_ROOT / "index.php").exists():
        pytest.skip(f"there is no {_ROOT}: install Debian's packages roundcube-core, php-sqlite3")
    with program_folder() as folder:
        _configure(folder, imap, smtp)
        port = _free_port()
        environment = f"RCUBE_CONFIG_PATH={folder.folder / 'config'}"
        with folder.begun("env", environment, php, "-S", f"127.0.0.1:{port}", "-t", str(_ROOT)):
            wait_for("PHP's web server", lambda: _answers(port))
            yield Browser(f"http://127.0.0.1:{port}")


def _configure(folder: ProgramFolder, imap: int, smtp: int) -> None:
    for name in ("config", "logs", "temp"):
        folder.make(name)
    text = _CONFIG.format(folder=folder.folder, imap=imap, smtp=smtp)
    folder.write("config/config.inc.php", text)
    shutil.copy(_DEFAULTS, folder.folder / "config")
    folder.own(folder.folder / "config" / _DEFAULTS.name)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
