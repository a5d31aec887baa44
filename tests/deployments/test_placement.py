"""Where pools run and how calls find them: Serve's options of a plan, and the router's choice among replicas."""

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from ray.serve.request_router import PendingRequest, RunningReplica

from deployments.onnx_pool import actor_options, autoscaling
from deployments.plan import ASSUMED_SLOTS, AppPlan, EnginePlan, PoolPlan
from deployments.replica_router import TargetedRouter
from deployments.replica_watch import ReplicaWatch, Target

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


def test_an_engine_that_chooses_its_slots_is_counted_with_what_is_assumed_of_it() -> None:
    pool = PoolPlan("smol", Path(), EnginePlan(queue_limit=16))
    assert pool.request_limit == ASSUMED_SLOTS + 16
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
class Router:
    """The part of Serve's router that `choose_replicas` reads."""

    busy: dict[str, int]
    replica_queue_len_cache: "Router" = field(init=False)
    _turn: int = 0

    def __post_init__(self) -> None:
        self.replica_queue_len_cache = self

    def get(self, replica_id: ReplicaName) -> int | None:
        return self.busy.get(replica_id.unique_id)


def choice(busy: dict[str, int], *args: object) -> list[list[str]]:
    """The ranks that the router gives to the replicas a, b and c."""
    return ranks(Router(busy), Request(args))


def ranks(router: Router, request: Request) -> list[list[str]]:
    replicas = cast("list[RunningReplica]", [Replica(ReplicaName(name)) for name in "abc"])
    choosing = TargetedRouter.choose_replicas(cast(TargetedRouter, router), replicas, cast("PendingRequest", request))
    chosen = asyncio.run(choosing)
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


@pytest.mark.anyio
async def test_a_watch_tells_of_changes_once() -> None:
    watched, heard = ReplicaWatch(), list[frozenset[str]]()
    watched.subscribe(heard.append)
    for ids in ["a", "a", "ab", "b"]:
        await asyncio.to_thread(watched.announce, frozenset(ids))
        await asyncio.sleep(0)
    assert heard == [frozenset(), frozenset("a"), frozenset("ab"), frozenset("b")]
