"""Bringing a replica back by what differs, and fetching missing bodies; scrub, and the proof that
two replicas are equal.

`shard/` calls it, through `manager.ResyncManager`. Two ends without sockets or clock: a
`source.Source` answers requests from a snapshot of an up-to-date replica's index, and a `sink.Sink`
asks, compares and writes. The sink drives; the source remembers nothing but its snapshot. So a
resync that was broken off is taken up by beginning again, with any source: what is equal by then is
not sent again.

1. *Survey*: digests over ranges of rows, down to the mailboxes that differ (`survey`, `ranges`).
2. *Records*: for each of them what changed since the own modseq and what was expunged since. Where
   that does not lead to the digest of the source, digests over ranges of its messages are compared
   (`pull`).
3. *Verify*: every changed mailbox against its digest, and the whole against the shard's. Only then
   does the index stand at the source's index, and the mark of a half resync goes (`marks`).
4. *Bodies*: newest first, and before all those that somebody waits for (`bodies`, `missing`).

Touches: the index through its engine, and the blob store.
"""
