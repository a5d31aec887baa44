"""What a gateway costs: `python -m bench.gateway [--quick] [--only-shoal] [--json FILE]`.

Shoal (a real `shoal up`) and LiteLLM's proxy in front of the same upstream, each with keys, budgets and a log of its
answers, each on the same core, the upstream and the callers on another; in alternating rounds, and beside them the
upstream alone. Linux only. Whoever is not asked rests, but Ray's processes are never quite idle: both sides bear that,
and the notes say how much it is.
"""

import os
import time
from contextlib import ExitStack
from pathlib import Path

from bench.command import command, ending, keep
from bench.gateway.litellm_side import VERSION, Missing, litellm
from bench.gateway.measure import FULL, QUICK, Size, is_logged, measure
from bench.gateway.processes import cores, cpu_s, kept_on
from bench.gateway.report import Result, table, tree
from bench.gateway.shoal_side import shoal
from bench.gateway.side import DIRECT, LITELLM, SHOAL, Side, clients, upstream
from cluster.demo.service import ended_by_signals
from cluster.environment import shoal_home

RESULT = Path("bench/results/gateway.json")
IDLE_S = 5.0
KEYS_NOTE = (
    "keys: Shoal looks up a key of its store and holds money in it for each request; LiteLLM compares its master key "
    "and counts its budget in memory (its virtual keys need a database behind Prisma, whose engine cannot be had here)"
)


def bench(size: Size, *, with_litellm: bool) -> Result:
    """Start the sides, measure, end them. Raises RuntimeError if a side lost an answer or a line of its log."""
    place, notes = cores(), [KEYS_NOTE]
    versions = {DIRECT: "the upstream of bench/gateway/upstream.py", SHOAL: "this checkout"}
    with ended_by_signals(), ExitStack() as running:
        with kept_on(place.others):
            straight = running.enter_context(upstream())
            callers = running.enter_context(clients())
        sides = [straight]
        with kept_on(place.gateways):
            sides.append(running.enter_context(shoal(straight.target.port)))
            if with_litellm:
                try:
                    sides.append(running.enter_context(litellm(straight.target.port, shoal_home())))
                    versions[LITELLM] = VERSION
                except Missing as missing:
                    notes.append(f"LiteLLM is missing: {missing}")
        running.enter_context(kept_on(place.others))
        notes += [idle(side.name, side.pid) for side in sides if side.pid is not None]
        rounds, counted = measure(sides, callers, size)
        notes += [_logged(side, counted[side.name]) for side in sides if side.logged is not None]
    return Result(rounds, versions, notes)


def idle(name: str, pid: int, wait_s: float = IDLE_S) -> str:
    """What the family of `pid` takes of the core that both gateways share, also while the other one is measured."""
    before_s = cpu_s(pid)
    time.sleep(wait_s)
    return f"{name} takes {(cpu_s(pid) - before_s) / wait_s:.1%} of the gateways' core while nobody asks it"


def _logged(side: Side, answers: int) -> str:
    if not is_logged(side, answers):
        raise RuntimeError(f"{side.name} answered {answers} requests, and its log does not have them all")
    return f"{side.name} answered {answers:,} requests; its log has every one"


def main() -> None:
    parser = command("bench.gateway", "Shoal and LiteLLM as gateways.", RESULT)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.rounds} short rounds")
    parser.add_argument("--only-shoal", action="store_true", help="leave LiteLLM out")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    result = bench(size, with_litellm=not options.only_shoal)
    print(f"{os.cpu_count()} cores, one for the gateways; medians of {size.rounds} alternating rounds")
    print(table(result))
    keep({"command": "python -m bench.gateway", "cores": os.cpu_count(), **tree(result)}, options.json)


if __name__ == "__main__":
    ending(main)
