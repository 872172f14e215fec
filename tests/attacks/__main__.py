"""Run the attacks in turn, and print what each does to an honest client and to the server's memory.

Run as `python -m tests.attacks`. Each attack gets its own server with default settings. The exit code is 1 if an
honest request gets anything but 200, 429, 503 or 504, if the server's processes together exceed 2 GiB, or if the
server does not recover once the attack is over.
"""

from __future__ import annotations

import argparse
import sys

from tests.attacks import bodies, connections
from tests.attacks.bench import HEADING, measured

SECONDS = 5.0
QUICK_SECONDS = 1.0
ATTACKS = {attack.name: attack for attack in [*bodies.ATTACKS, *connections.ATTACKS]}


def main() -> int:
    """Run the attacks and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=f"all by default: {', '.join(ATTACKS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each attack, and of the time before it")
    parser.add_argument("--quick", action="store_true", help="a second each: does every server stand it? No figures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ATTACKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    seconds = QUICK_SECONDS if arguments.quick else arguments.seconds
    faults = []
    print(HEADING, flush=True)
    for name in arguments.names or ATTACKS:
        measurement = measured(ATTACKS[name], seconds)
        print(measurement.row(), flush=True)
        faults += [f"{name}: {fault}" for fault in measurement.faults]
    print("\n".join(["", *faults, "failed" if faults else "passed"]))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
