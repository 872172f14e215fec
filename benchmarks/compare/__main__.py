"""Compare Tiffin with what users would deploy instead.

Builds each peer in a virtual environment of its own, starts one server at a time, sends each the same requests with
wrk, prints medians and ratios, and writes reports/compare.json and reports/compare.png, which keep the cases of earlier
runs. A ratio that falls short is reported; an error or a wrong answer makes a server's figures void and the exit
code 1.

--quick only checks that all of this works: every server starts, answers as Tiffin does and withstands a load of two
seconds. The networks with random weights are smaller then, a server is started once for all cases that need the same,
and no figure is kept, since none is worth anything.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command_line import part_parser
from benchmarks.compare import environments
from benchmarks.compare.assets import FOLDER, Assets
from benchmarks.compare.cases import CASES, Case
from benchmarks.compare.measure import Plan, compare, ratios
from benchmarks.compare.report import add_result, draw, facts, table
from benchmarks.machine import Steal, described
from benchmarks.wrk import wrk_program
from loadtest.processes import ROOT, redis_program, store_home

REPORTS = ROOT / "reports"
QUICK = Plan(repetitions=1, seconds=2, warm_up_seconds=1, idle_seconds=0, repeats=True)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = part_parser("benchmarks.compare", __doc__, CASES, "case")
    parser.add_argument("--all-models", action="store_true", help="our own text model with every text new, too")
    parser.add_argument(
        "--quick", action="store_true", help="only try whether every server starts and answers, see above"
    )
    parser.add_argument("--prepare", action="store_true", help="only build environments and models")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements, of which the median counts")
    parser.add_argument("--seconds", type=int, default=8, help="length of one measurement")
    parser.add_argument("--idle-seconds", type=float, default=300, help="how long to wait for an idle machine")
    return parser.parse_args()


def main() -> int:
    """Run the requested cases, by default all but the optional ones."""
    options = arguments()
    # So that the running server is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(options.repetitions, options.seconds, max(2, options.seconds // 2), options.idle_seconds)
    names = options.names or [name for name, case in CASES.items() if options.all_models or not case.optional]
    cases = {name: CASES[name] for name in names}
    assets = Assets(FOLDER, small=options.quick)
    if options.quick:
        plan = QUICK
        cases = {name: case.quick() for name, case in cases.items()}
    home = store_home()
    try:
        prepare(cases.values(), home, assets)
        if options.prepare:
            return 0
        wrk_program()
        redis_program()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    about = facts(plan)
    print(f"{described(about)}; medians of {plan.repetitions} x {plan.seconds} s")
    if options.quick:
        found = compare(list(cases.values()), plan, home, assets)
        for name, servers in zip(cases, found, strict=True):
            print("\n".join(table(name, servers, [])))
        return int(any(measured.void for servers in found for measured in servers))
    void = False
    for name, case in cases.items():
        void |= run(name, case, plan, home, assets, about)
    return int(void)


def run(name: str, case: Case, plan: Plan, home: Path, assets: Assets, about: dict[str, Any]) -> bool:
    """Measure a case, print and save the results, and return whether any of them is void."""
    started, steal = time.monotonic(), Steal()
    (found,) = compare([case], plan, home, assets)
    asked = list(ratios(case, found))
    print("\n".join(table(name, found, asked)), flush=True)
    took_seconds = time.monotonic() - started
    print(f"  took {took_seconds:.0f} s; the host gave {steal.share():.1%} of the time to others", flush=True)
    result = {
        "title": case.title,
        "about": about,
        "servers": [asdict(measured) for measured in found],
        "asked": asked,
        "took_seconds": took_seconds,
        "steal": steal.share(),
    }
    draw(REPORTS / "compare.png", add_result(REPORTS / "compare.json", name, result))
    return any(measured.void for measured in found)


def prepare(cases: Collection[Case], home: Path, assets: Assets) -> None:
    """Build what the cases need before anything is measured; the GLM in the environment that serves it."""
    peers = list(dict.fromkeys(peer for case in cases for peer in case.peers))
    with ThreadPoolExecutor(len(peers)) as pool:
        interpreters = dict(zip(peers, pool.map(environments.python, peers), strict=True))
    if "fastapi_tabular" in interpreters:
        folder = assets.of("tabular")
        if not (folder / "segmentation.joblib").exists():
            command = [str(interpreters["fastapi_tabular"]), "fastapi_tabular.py"]
            environments.run(command, "fastapi_tabular", {"MODEL": str(folder)})
    for case in cases:
        case.models(home, assets)


if __name__ == "__main__":
    sys.exit(main())
