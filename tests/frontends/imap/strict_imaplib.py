"""The standard library's client, with the strict parser reading all that it is told."""

from __future__ import annotations

import imaplib

from tests.frontends.imap.strict_parser import ResponseSplitter, StrictParser


class StrictImaplib(imaplib.IMAP4):
    """An `imaplib.IMAP4` that fails at the first response that the grammar does not have."""

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        self._strict = StrictParser()
        self._splitter = ResponseSplitter()
        super().open(host, port, timeout)

    def read(self, size: int) -> bytes:
        return self._checked(super().read(size))

    def readline(self) -> bytes:
        return self._checked(super().readline())

    def _checked(self, data: bytes) -> bytes:
        for response in self._splitter.feed(data):
            self._strict.take(response)
        return data
