"""Where pools run and how calls find them: Serve's options of a plan, and the router's choice among replicas."""

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from ray.serve._private.request_router.common import ReplicaQueueLengthCache
from ray.serve.request_router import PendingRequest, RunningReplica

from deployments.affinity import HEAD_TOKENS, LOAD_FACTOR, SLACK
from deployments.onnx_pool import actor_options, autoscaling
from deployments.plan import ASSUMED_SLOTS, AppPlan, EnginePlan, PoolPlan
from deployments.replica_router import TargetedRouter
from deployments.replica_watch import ReplicaWatch, Target
from replicas.engine import Generation, Sampling
from replicas.slot.start.sizing import MOST_SLOTS

POOL = PoolPlan("smol", Path(), EnginePlan(slots=8, queue_limit=16), min_replicas=2, max_replicas=5)


def test_a_pool_is_pinned_to_its_kind_of_node_by_a_tag() -> None:
    options = actor_options(POOL)
    assert options["num_cpus"] == 1.0
    assert list(cast("dict[str, float]", options["resources"])) == ["shoal_cpu"]
    assert "num_gpus" not in options


def test_a_gpu_pool_asks_for_a_gpu() -> None:
    options = actor_options(PoolPlan("smol", Path(), EnginePlan(), node="gpu"))
    assert options["num_gpus"] == 1
    assert list(cast("dict[str, float]", options["resources"])) == ["shoal_gpu"]


def test_a_pool_scales_between_its_bounds() -> None:
    scaling = autoscaling(POOL)
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 5)
    assert scaling.get_target_ongoing_requests() == 8 + 1


def test_a_pool_admits_what_all_its_replicas_can_hold() -> None:
    assert POOL.request_limit == 5 * (8 + 16)


def test_an_engine_that_chooses_its_slots_is_admitted_with_the_most_and_scaled_with_the_usual() -> None:
    pool = PoolPlan("smol", Path(), EnginePlan(queue_limit=16))
    assert pool.request_limit == MOST_SLOTS + 16
    assert autoscaling(pool).get_target_ongoing_requests() == ASSUMED_SLOTS + 1


def test_a_plan_survives_pickling() -> None:
    plan = AppPlan((POOL,), "smol")
    assert pickle.loads(pickle.dumps(plan)) == plan


@dataclass(frozen=True)
class ReplicaName:
    unique_id: str


@dataclass
class Replica:
    replica_id: ReplicaName


@dataclass
class Request:
    args: Sequence[object]
    routing_context: "Request | None" = None
    should_backoff: bool = False

    def __post_init__(self) -> None:
        self.routing_context = self


@dataclass
class Busy:
    """What Serve knows of the calls under way at each replica."""

    calls: dict[str, int]

    def get(self, replica_id: ReplicaName) -> int | None:
        return self.calls.get(replica_id.unique_id)


class Router(TargetedRouter):
    """The router with as much of Serve's as it reads; its clock stands still."""

    clock = staticmethod(lambda: 0.0)

    def __init__(self, busy: dict[str, int]) -> None:
        self._busy = Busy(busy)
        self.initialize_state()

    @property
    def replica_queue_len_cache(self) -> ReplicaQueueLengthCache:
        return cast("ReplicaQueueLengthCache", self._busy)


def choice(busy: dict[str, int], *args: object) -> list[list[str]]:
    """The ranks that the router gives to the replicas a, b and c."""
    return ranks(Router(busy), Request(args))


def ranks(router: Router, request: Request) -> list[list[str]]:
    replicas = cast("list[RunningReplica]", [Replica(ReplicaName(name)) for name in "abc"])
    chosen = asyncio.run(router.choose_replicas(replicas, cast("PendingRequest", request)))
    return [[replica.replica_id.unique_id for replica in rank] for rank in chosen]


def test_a_call_that_names_a_replica_goes_there_however_busy_it_is() -> None:
    assert choice({"a": 0, "b": 99}, Target("b", "client")) == [["b"]]


def test_a_call_that_names_a_replica_that_is_gone_goes_nowhere() -> None:
    request = Request([Target("z", "client")])
    assert ranks(Router({}), request) == []
    assert request.should_backoff, "Serve would ask again at once, forever"


def test_any_other_call_goes_to_the_least_busy_first() -> None:
    assert choice({"a": 3, "b": 1, "c": 2}, "client", "generation") == [["b"], ["c"], ["a"]]


def test_equally_busy_replicas_take_turns() -> None:
    router = Router({})
    assert {ranks(router, Request(["client"]))[0][0] for _ in range(3)} == set("abc")


def test_a_replica_of_which_nothing_is_known_counts_as_idle() -> None:
    assert choice({"a": 1, "b": 1}, "client")[0] == ["c"]


def in_session(session_id: str) -> Generation:
    return Generation("id", (1, 2, 3), Sampling(max_tokens=1), session_id=session_id)


def first(busy: dict[str, int], generation: Generation) -> str:
    return choice(busy, "client", generation)[0][0]


def test_the_turns_of_a_session_go_to_one_replica_from_every_caller() -> None:
    for session in ("one", "two", "three"):
        assert len({first({}, in_session(session)) for _ in range(9)}) == 1
    assert {first({}, in_session(str(n))) for n in range(50)} == set("abc")


def test_prompts_that_begin_alike_go_to_one_replica_and_short_ones_take_turns() -> None:
    alike = [Generation("id", (*range(HEAD_TOKENS), n), Sampling(max_tokens=1)) for n in range(9)]
    assert len({first({}, generation) for generation in alike}) == 1
    router = Router({})
    short = Generation("id", tuple(range(HEAD_TOKENS - 1)), Sampling(max_tokens=1))
    assert {ranks(router, Request(["client", short]))[0][0] for _ in range(3)} == set("abc")


def test_a_session_leaves_a_replica_that_is_clearly_busier_for_the_next_in_its_rank() -> None:
    rank = [replica for [replica] in choice({}, "client", in_session("s"))]
    assert first({rank[0]: 3}, in_session("s")) == rank[0]
    assert first({rank[0]: 40, rank[1]: 20, rank[2]: 10}, in_session("s")) == rank[1]


def test_a_burst_of_one_beginning_is_spread_before_any_of_it_is_counted() -> None:
    router = Router({})
    placed = [ranks(router, Request(["client", in_session("s")]))[0][0] for _ in range(60)]
    assert max(placed.count(name) for name in "abc") <= LOAD_FACTOR * 20 + SLACK + 1


@pytest.mark.anyio
async def test_a_watch_tells_of_changes_once() -> None:
    watched, heard = ReplicaWatch(), list[frozenset[str]]()
    watched.subscribe(heard.append)
    for ids in ["a", "a", "ab", "b"]:
        await asyncio.to_thread(watched.announce, frozenset(ids))
        await asyncio.sleep(0)
    assert heard == [frozenset(), frozenset("a"), frozenset("ab"), frozenset("b")]
