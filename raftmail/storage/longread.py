"""Reading one long body: all that takes time is done by `LongRead.run`, which may be called in
another thread while the store goes on."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.storage.blobformat import BlobHeader, read_body
from raftmail.storage.disk import DiskError, File


@dataclass(slots=True, repr=False)
class LongRead:
    """A body on its way out of the store. `file` is its segment, opened for this alone: it can be
    read to its end when the segment is removed meanwhile.

    After `run`: `body`, or None when what stands there is not that body.
    """

    file: File
    header: BlobHeader
    body: bytes | None = None

    def run(self) -> None:
        """Read, decompress and verify, and close the file."""
        try:
            self.body = read_body(self.file, self.header)
        except DiskError:
            self.body = None
        finally:
            self.file.close()
