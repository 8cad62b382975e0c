"""Where a bit of a journal may rot so that a start has to notice."""

from __future__ import annotations

from collections.abc import Mapping

from raftmail.consensus.records import HEADER_BYTES, decode_header, find_marks


def surely_durable(segments: Mapping[int, bytes]) -> dict[int, int]:
    """Of a journal's segments, by sequence number: those that count, and up to where each was on
    the disk.

    A mark, or the header of a later segment, says that there. What rots before that, a start has to
    notice; what rots behind it looks like the end of a batch that no sync had covered. Segments
    before one that began the log anew are removed unread, whatever is in them.
    """
    headers = {n: decode_header(content) for n, content in segments.items()}
    resets = [n for n, header in headers.items() if header is not None and header.reset]
    counting = [n for n in sorted(segments) if n >= max(resets, default=0)]
    claims = [header.durable for n in counting if (header := headers[n]) is not None]
    for n in counting:
        header = headers[n]
        if header is not None:
            claims += find_marks(segments[n], 0, header.identity.salt(n))
    newest, offset = max(claims, default=(0, 0))
    ends: dict[int, int] = {}
    for n in counting:
        following = headers.get(n + 1)
        if n == newest:
            ends[n] = offset
        elif n < newest and following is not None:
            ends[n] = following.previous_end
    return {n: end for n, end in ends.items() if end > HEADER_BYTES}


__all__ = ["surely_durable"]
