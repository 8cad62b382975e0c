"""One round that clients in other languages do with three nodes. Each is a small program beside
this file, and prints what it was told as one line of JSON:

- through the first node: list, create `Round` and `Kept`, append three messages;
- through the second: select, fetch all, search, store flags, move the third, idle while the first
  appends a fourth, delete the first and expunge it;
- through the third: what is left.
"""

from __future__ import annotations

from typing import Any, Final

from tests.frontends.imap.imap_kit import message

MESSAGES: Final = [
    message(word, f"{word}, {'x' * 60}\r\n.\r\nend") for word in ("one", "two", "three", "four")
]

EXPECTED: Final[dict[str, Any]] = {
    "secure": True,
    "folders": ["INBOX", "Kept", "Round"],
    "uids": [1, 2, 3],
    "exists": 3,
    "subjects": ["one", "two", "three"],
    "found": [2],
    "flags": ["$Forwarded", "\\Flagged"],
    "heard": 3,
    "left": [2, 4],
    "kept": 1,
}
