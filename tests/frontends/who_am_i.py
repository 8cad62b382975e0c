"""The smallest front end that is one: who may speak is asked, the rest is sent back."""

from raftmail.mail.failures import Unavailable
from raftmail.net.connection import Connection
from raftmail.net.limits import ConnectionLimits
from raftmail.net.listener import Listener
from raftmail.net.session import Bye, Session
from raftmail.service.login import LogInRefused, Origin, PasswordShown
from raftmail.service.service import Accounts

LINE_BYTES_MAX = 1000


class WhoAmI(Session):
    """`USER name password`, once; then every line comes back with the name before it."""

    def __init__(self, service: Accounts, connection: Connection) -> None:
        self._service, self._connection = service, connection
        self._unread = b""
        self._user = ""
        self._asking = False

    @property
    def known(self) -> bool:
        return bool(self._user)

    @property
    def blocked(self) -> bool:
        return self._asking

    def start(self) -> None:
        self._connection.write(b"hello\r\n")

    def receive(self, data: bytes) -> None:
        self._unread += data
        self.run()

    def run(self) -> None:
        while not self._asking and b"\n" in self._unread:
            line, _, self._unread = self._unread.partition(b"\n")
            self._take(line.strip())
        if len(self._unread) > LINE_BYTES_MAX:
            self.bye(Bye.BROKEN, "that line is too long")

    def bye(self, why: Bye, text: str) -> None:
        self._connection.write(f"bye: {text}\r\n".encode())
        self._connection.hang_up()

    def _take(self, line: bytes) -> None:
        words = line.decode("ascii", "replace").split()
        if self._user:
            self._connection.write(self._user.encode() + b": " + line + b"\r\n")
        elif len(words) == 3 and words[0] == "USER":
            self._asking = True
            self._connection.spawn(self._ask(words[1], words[2].encode()))
        else:
            self.bye(Bye.BROKEN, "say who you are: USER name password")

    async def _ask(self, user: str, password: bytes) -> None:
        try:
            shown = PasswordShown(user, password)
            origin = Origin(self._connection.address, "who-am-i")
            outcome = await self._service.log_in(shown, origin, deadline_s=10.0)
        except Unavailable as e:
            self.bye(Bye.BROKEN, e.failure.text)
            return
        self._asking = False
        if isinstance(outcome, LogInRefused):
            self.bye(Bye.BROKEN, "that is not you")
            return
        self._user = outcome.user
        self._connection.write(b"welcome\r\n")
        self._connection.resume_soon()


def listener(service: Accounts, limits: ConnectionLimits) -> Listener:
    """To be given addresses with `listen_tcp`, and stopped with `stop`."""
    return Listener(lambda connection: WhoAmI(service, connection), limits, full=b"bye: full\r\n")
