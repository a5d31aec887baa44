"""Affinity: every caller ranks alike, a change of replicas moves few keys, nobody gets much more than the mean."""

from collections import Counter
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from deployments.affinity import LOAD_FACTOR, SLACK, bounded, ranked, session_key

REPLICAS = st.sets(st.text("abcdef0123456789", min_size=4, max_size=4), min_size=2, max_size=8)
KEYS = st.lists(st.text(max_size=8).map(session_key), min_size=1, max_size=20)


@given(REPLICAS, KEYS)
def test_a_replica_that_leaves_moves_only_its_own(replicas: set[str], keys: list[str]) -> None:
    gone = sorted(replicas)[0]
    for key in keys:
        before = ranked(key, replicas)
        assert ranked(key, replicas - {gone}) == [replica for replica in before if replica != gone]


@given(REPLICAS, st.text(), st.data())
def test_a_rank_does_not_depend_on_the_order_in_which_replicas_are_listed(
    replicas: set[str], key: str, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(sorted(replicas)))
    assert ranked(key, shuffled) == ranked(key, sorted(replicas))


@given(REPLICAS, st.lists(st.text("xyz", max_size=2), max_size=200))
def test_no_replica_gets_much_more_than_the_mean_however_keys_fall(replicas: set[str], keys: list[str]) -> None:
    loads: Counter[str] = Counter()
    for key in keys:
        loads[bounded(ranked(key, replicas), loads)[0]] += 1
    assert max(loads.values(), default=0) <= ceil(LOAD_FACTOR * (len(keys) + 1) / len(replicas)) + SLACK


@given(REPLICAS, st.text(), st.lists(st.integers(0, 100), min_size=8, max_size=8))
def test_every_replica_keeps_a_place_and_a_busy_one_comes_late(replicas: set[str], key: str, busy: list[int]) -> None:
    loads = dict(zip(sorted(replicas), busy, strict=False))
    order = bounded(ranked(key, replicas), loads)
    assert sorted(order) == sorted(replicas)
    assert loads[order[0]] <= LOAD_FACTOR * (sum(loads.values()) + 1) / len(loads) + SLACK + 1
