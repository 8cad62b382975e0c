"""Example messages for demonstrations and load: files beside this module, and generated ones.

The files are written for this project and show what mail does, and much that it should not do.
All but one have CRLF line ends, as mail on the wire has. Generated messages never change.
"""

from base64 import encodebytes
from collections.abc import Iterator
from hashlib import shake_128
from importlib.resources import files

GENERATED_BYTES = {"generated_1mb": 1_000_000, "generated_20mb": 20_000_000}
"""Names of the generated messages, and how long each is, in bytes, within one percent."""

_BOUNDARY = "=_generated_boundary"


def corpus(large: bool = True) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all messages: the files by name, then the generated ones by size.

    Without `large` the generated messages are left out.
    """
    folder = files("raftmail_cli").joinpath("corpus")
    paths = [path for path in folder.iterdir() if path.name.endswith(".eml")]
    for path in sorted(paths, key=lambda path: path.name):
        yield path.name.removesuffix(".eml"), path.read_bytes()
    if large:
        for name, size_bytes in GENERATED_BYTES.items():
            yield name, generated(name, size_bytes)


def generated(name: str, size_bytes: int) -> bytes:
    """A message of about `size_bytes` with one attachment, whose bytes follow from `name`."""
    attachment = shake_128(name.encode()).digest(size_bytes * 57 // 78)
    text = (
        f"Date: Mon, 24 Jun 2024 10:00:00 +0000\n"
        f"From: Generator <generator@loft.example>\n"
        f"To: Store <store@harbour.example>\n"
        f"Subject: {name}\n"
        f"Message-ID: <{name}@loft.example>\n"
        f"MIME-Version: 1.0\n"
        f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\n'
        f"\n"
        f"--{_BOUNDARY}\n"
        f"Content-Type: text/plain; charset=us-ascii\n"
        f"\n"
        f"A large attachment follows.\n"
        f"--{_BOUNDARY}\n"
        f"Content-Type: application/octet-stream; name={name}.bin\n"
        f"Content-Disposition: attachment; filename={name}.bin\n"
        f"Content-Transfer-Encoding: base64\n"
        f"\n"
    )
    encoded = encodebytes(attachment).replace(b"\n", b"\r\n")
    head = text.replace("\n", "\r\n").encode("ascii")
    return b"".join((head, encoded, f"--{_BOUNDARY}--\r\n".encode("ascii")))
