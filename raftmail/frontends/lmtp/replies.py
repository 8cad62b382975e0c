"""Every reply that the protocol itself gives; the rest come from the service's verdicts.

Codes are of RFC 5321 section 4.2, enhanced codes of RFC 3463. As RFC 2034 has it, the greeting, the
reply to LHLO and 354 carry no enhanced code.
"""

from typing import Final

START_TEXT: Final = b"354 Send the message, end it with <CRLF>.<CRLF>\r\n"
OK: Final = b"250 2.0.0 Ok\r\n"
SENDER_OK: Final = b"250 2.1.0 Sender ok\r\n"
START_TLS: Final = b"220 2.0.0 Ready to start TLS\r\n"
BYE: Final = b"221 2.0.0 Bye\r\n"
CANNOT_VERIFY: Final = b"252 2.0.0 Send some mail, and RCPT will tell\r\n"
HELP: Final = (
    b"214-2.0.0 LMTP, RFC 2033. Commands:\r\n"
    b"214 2.0.0 LHLO MAIL RCPT DATA BDAT RSET NOOP STARTTLS VRFY HELP QUIT\r\n"
)

UNKNOWN_COMMAND: Final = b"500 5.5.1 Command unknown\r\n"
NOT_SMTP: Final = b"500 5.5.1 This is LMTP: use LHLO\r\n"
BAD_LINE: Final = b"500 5.5.2 A command ends with CRLF\r\n"
LINE_TOO_LONG: Final = b"500 5.5.2 Line too long\r\n"
BAD_NAME: Final = b"501 5.5.4 LHLO needs the name of the client\r\n"
BAD_ARGUMENT: Final = b"501 5.5.4 Syntax error in the argument\r\n"
BAD_PARAMETER: Final = b"501 5.5.4 Bad or repeated parameter\r\n"
NO_ARGUMENT: Final = b"501 5.5.4 The command takes no argument\r\n"
BAD_CHUNK: Final = b"501 5.5.4 BDAT needs a size; closing, as what follows cannot be told apart\r\n"
BAD_SENDER: Final = b"501 5.1.7 Bad sender address\r\n"
BAD_RECIPIENT: Final = b"501 5.1.3 Bad recipient address\r\n"
NO_TLS: Final = b"502 5.5.1 TLS is not offered here\r\n"
BAD_SEQUENCE: Final = b"503 5.5.1 Bad sequence of commands\r\n"
NO_RECIPIENTS: Final = b"503 5.5.1 No valid recipients\r\n"
UTF8_SENDER: Final = b"550 5.6.7 A sender outside ASCII needs SMTPUTF8\r\n"
UTF8_RECIPIENT: Final = b"553 5.6.7 A recipient outside ASCII needs SMTPUTF8\r\n"
TOO_LARGE: Final = b"552 5.3.4 Message too large\r\n"
UNKNOWN_PARAMETER: Final = b"555 5.5.4 Parameter unknown\r\n"
TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients\r\n"

LINE_FAR_TOO_LONG: Final = b"421 4.7.0 Line far too long, closing\r\n"
TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many bad commands, closing\r\n"
NOT_THE_WEB: Final = b"421 4.7.0 This is no web server, closing\r\n"
TOO_MANY_IDLE: Final = b"421 4.7.0 Too many commands without a message, closing\r\n"
TOO_MANY_REFUSED: Final = b"421 4.7.0 Too many recipients refused, closing\r\n"
TOO_MANY_CONNECTIONS: Final = b"421 4.3.2 Too many connections, try again later\r\n"
TIMED_OUT: Final = b"421 4.4.2 Timed out, closing\r\n"
STOPPING: Final = b"421 4.3.2 Stopping, try again later\r\n"


def greeting(host: str) -> bytes:
    """The first line of a connection."""
    return f"220 {host} raftmail LMTP\r\n".encode()


def capabilities(host: str, message_bytes_max: int, *, starttls: bool) -> bytes:
    """The reply to LHLO, with the extensions of this server."""
    lines = [
        host,
        "PIPELINING",
        f"SIZE {message_bytes_max}",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
    ]
    if starttls:
        lines.append("STARTTLS")
    last = lines.pop()
    return "".join([*(f"250-{line}\r\n" for line in lines), f"250 {last}\r\n"]).encode()
