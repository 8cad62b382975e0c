"""All measurements of raftmail, or those that are named."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import (
    compaction,
    failover,
    five,
    grow,
    idle,
    imap,
    large_mail,
    lmtp,
    million,
    nodefail,
    resync,
    scaling,
    shards,
    store,
    watch,
    workers,
)
from bench.report import Measure, add_options, run

MEASUREMENTS: dict[str, Measure] = {
    "lmtp": lmtp.measure,
    "store": store.measure,
    "failover": failover.measure,
    "million": million.measure,
    "shards": shards.measure,
    "idle": idle.measure,
    "nodefail": nodefail.measure,
    "grow": grow.measure,
    "five": five.measure,
    "workers": workers.measure,
    "resync": resync.measure,
    "compaction": compaction.measure,
    "scaling": scaling.measure,
    "large-mail": large_mail.measure,
    "watch": watch.measure,
    "imap": imap.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASUREMENTS))
    add_options(parser)
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in MEASUREMENTS:
            parser.error(f"there is no measurement {name!r}; there are {', '.join(MEASUREMENTS)}")
    chosen = given.names or list(MEASUREMENTS)
    return run([(name, MEASUREMENTS[name]) for name in chosen], given)


if __name__ == "__main__":
    sys.exit(main())
