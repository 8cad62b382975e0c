"""`python -m tests.simulation`: whole clusters of the real code in one process, from seeds.

python -m tests.simulation --seeds 100              seeds 0 to 99
python -m tests.simulation --seed 17                one seed again, telling what happens
python -m tests.simulation --seconds-budget 60      as many new seeds as fit into a minute
python -m tests.simulation --planted                with each guard taken out: after how many seeds it is found
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from datetime import UTC, datetime

from tests.simulation.run import Outcome, simulate

SEEDS_A_DAY = 1_000_000


def start_of_today() -> int:
    """Where new seeds begin: another place every second of every day, printed so that a run can be repeated."""
    now = datetime.now(UTC)
    seconds = now.hour * 3600 + now.minute * 60 + now.second
    return (now.toordinal() * 86_400 + seconds) * 1000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--start", type=int, help="the first seed")
    parser.add_argument(
        "--nodes", type=int, choices=(1, 3, 5), help="3, or 5 for every fourth seed"
    )
    parser.add_argument("--seed", type=int, help="run this one and tell everything")
    parser.add_argument("--seconds-budget", type=float, help="begin no seed after so many seconds")
    parser.add_argument(
        "--planted", action="store_true", help="prove that faults in the code are found"
    )
    parser.add_argument("--only", help="with --planted: this fault alone")
    options = parser.parse_args(arguments)
    # What a seed leaves is garbage all at once; looking for some all the time takes a tenth of a core.
    gc.freeze()
    gc.set_threshold(200_000, 10, 10)
    if options.planted:
        from tests.simulation.planted import report

        return report(options.seeds or 100, options.only)
    if options.seed is not None:
        outcome = simulate(options.seed, options.nodes or nodes_of(options.seed), verbose=True)
        return conclude([outcome], 0.0)
    start = options.start
    if start is None:
        start = start_of_today() if options.seconds_budget else 0
    count = options.seeds or (1 << 60 if options.seconds_budget else 20)
    budget = options.seconds_budget or float("inf")
    print(f"seeds from {start}", flush=True)
    outcomes: list[Outcome] = []
    began, cpu_began = time.monotonic(), time.process_time()
    for seed in range(start, start + count):
        if time.monotonic() - began >= budget:
            break
        outcome = simulate(seed, options.nodes or nodes_of(seed))
        outcomes.append(outcome)
        if outcome.problem:
            tell(outcome)
    return conclude(outcomes, time.process_time() - cpu_began)


def nodes_of(seed: int) -> int:
    """How many nodes a seed has unless it is said otherwise."""
    return 5 if seed % 4 == 3 else 3


def tell(outcome: Outcome) -> None:
    print(f"seed {outcome.seed}, {outcome.nodes} nodes: {outcome.problem}")
    print(
        f"  again: python -m tests.simulation --seed {outcome.seed} --nodes {outcome.nodes}",
        flush=True,
    )


def conclude(outcomes: list[Outcome], cpu_s: float) -> int:
    bad = [outcome for outcome in outcomes if outcome.problem]
    seconds = sum(outcome.seconds for outcome in outcomes)
    operations = sum(outcome.operations for outcome in outcomes)
    answered = sum(outcome.answered for outcome in outcomes)
    print(
        f"{len(outcomes)} seeds, {seconds:.0f} cluster-seconds, {operations} operations ({answered} answered), "
        f"{len(bad)} failed"
        + (f"; {cpu_s:.0f} s of a core, {seconds / cpu_s:.0f} in each" if cpu_s else "")
    )
    reached: Counter[str] = Counter()
    for outcome in outcomes:
        reached.update(outcome.reached)
    print("reached: " + ", ".join(f"{n} {what}" for what, n in sorted(reached.items())))
    if bad:
        print("failed: " + ", ".join(str(outcome.seed) for outcome in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
