"""`python -m tests.simulation`: whole clusters of the real code in one process, from seeds.

- `python -m tests.simulation --seeds 100`: seeds 0 to 99
- `python -m tests.simulation --seed 17`: one seed again, telling what happens
- `python -m tests.simulation --seconds-budget 60`: as many new seeds as fit into a minute
- `python -m tests.simulation --imap --seeds 100`: mail programs read and write besides; new seeds
  always have them
- `python -m tests.simulation --planted`: after how many seeds each fault is found
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from itertools import count, islice

from tests.simulation.many import Tally, nodes_of, quieten_collector, simulate_many, until
from tests.simulation.run import simulate


def start_of_today() -> int:
    """Where new seeds begin: another place every second of every day, printed so that a run can be
    repeated."""
    now = datetime.now(UTC)
    seconds = now.hour * 3600 + now.minute * 60 + now.second
    return (now.toordinal() * 86_400 + seconds) * 1000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seeds", type=_positive, help="how many")
    parser.add_argument("--start", type=int, help="the first seed")
    parser.add_argument(
        "--nodes", type=int, choices=(1, 3, 5), help="3, or 5 for every fourth seed"
    )
    parser.add_argument("--seed", type=int, help="run this one and tell everything")
    parser.add_argument("--jobs", type=_positive, help="processes; as many as there are cores")
    parser.add_argument("--seconds-budget", type=float, help="begin no seed after so many seconds")
    parser.add_argument(
        "--imap", action="store_true", help="have mail programs read and write, too"
    )
    parser.add_argument(
        "--planted", action="store_true", help="prove that faults in the code are found"
    )
    parser.add_argument("--only", help="with --planted: this fault alone")
    options = parser.parse_args(arguments)
    if options.planted:
        from tests.simulation.planted import report

        quieten_collector()
        return report(options.seeds or 100, options.only)
    if options.seed is not None:
        nodes = options.nodes or nodes_of(options.seed)
        outcome = simulate(options.seed, nodes, imap=options.imap, verbose=True)
        tally = Tally()
        tally.add(outcome, 0.0)
        return conclude(tally)
    start = options.start
    imap = options.imap or (start is None and options.seconds_budget is not None)
    if start is None:
        start = start_of_today() if options.seconds_budget else 0
    print(f"seeds from {start}{', with mail programs' if imap else ''}", flush=True)
    if options.seconds_budget:
        end = time.monotonic() + options.seconds_budget
        seeds = until(end, count(start), time.monotonic)
        if options.seeds:
            seeds = islice(seeds, options.seeds)
    else:
        seeds = iter(range(start, start + (options.seeds or 20)))
    jobs = options.jobs or cores()
    return conclude(simulate_many(seeds, options.nodes, jobs, imap=imap))


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def conclude(tally: Tally) -> int:
    print(tally)
    print("reached: " + ", ".join(f"{n} {what}" for what, n in sorted(tally.reached.items())))
    if tally.failed:
        print("failed: " + ", ".join(map(str, tally.failed)))
    return 1 if tally.failed else 130 if tally.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
