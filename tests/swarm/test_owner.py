"""A job goes by the key that it came with: on its account, within its limits, as private as it is."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.swarm.conductor import Conductor
from cluster.swarm.http_api import SwarmApi
from cluster.swarm.job_view import JobStatus
from cluster.swarm.journal import JobRecord, Journal
from cluster.swarm.launcher import InProcessLauncher
from cluster.swarm.limits import Limits as Bounds
from cluster.swarm.owner import NOBODY, OWNER, Owner
from cluster.swarm.patience import Patience
from router.budget import Payer
from router.keys import Key, Limits
from router.keys import Scope as KeyScope
from tests.swarm.answerers import Puppet, swarm_of

KEY = Key("k1", "crawler", 5.0, frozenset({KeyScope.SWARM}), Limits(60, 9000, 4), 2.5, is_private=True)
NUMBERS = st.none() | st.integers(1, 500)


def limited(**limits: int) -> Owner:
    return Owner(replace(KEY, limits=Limits(**limits)))


def asked_of(folder: Path, owner: Owner, values: list[str], bounds: Bounds | None = None, **more: object) -> Puppet:
    """What was asked by a job of `owner`, which succeeds; `more` are fields of the swarm."""

    async def run() -> Puppet:
        puppet = Puppet()
        conductor = Conductor(Journal(folder / "j"), InProcessLauncher(puppet.connect), bounds)
        await conductor.start()
        try:
            await conductor.submit("job-1", swarm_of(values).model_copy(update=more), owner)
            view = await conductor.job("job-1", wait_s=20)
        finally:
            await conductor.close()
        assert (view.status, [output.error for output in view.outputs]) == (JobStatus.SUCCEEDED, [None] * len(values))
        return puppet

    return asyncio.run(run())


def test_the_calls_of_a_job_are_those_of_its_key(tmp_path: Path) -> None:
    [call] = asked_of(tmp_path, Owner(KEY), ["x"]).calls
    assert call.origin.payer == Payer("k1", "crawler", "job-1")
    assert (call.origin.is_tenant_private, call.origin.is_private) == (True, False)


@pytest.mark.parametrize(("owner", "private"), [(Owner(is_private=True), False), (NOBODY, True)])
def test_a_job_is_private_by_its_senders_mark_or_by_its_own(tmp_path: Path, owner: Owner, *, private: bool) -> None:
    [call] = asked_of(tmp_path, owner, ["x"], private=private).calls
    assert (call.origin.marks, call.origin.payer) == (("header",), Payer(job="job-1"))


def test_no_more_calls_are_under_way_than_the_key_allows(tmp_path: Path) -> None:
    for concurrency in (1, 3):
        puppet = asked_of(tmp_path / str(concurrency), limited(concurrency=concurrency), [f"{n}" for n in range(12)])
        assert 1 <= puppet.most_in_flight <= concurrency


def test_past_the_keys_rate_calls_wait_and_are_made_later(tmp_path: Path) -> None:
    quick = Bounds(shards_per_job=1, calls_per_shard=2, patience=Patience(first_s=0.01, most_s=0.01))
    puppet = asked_of(tmp_path, limited(requests_per_minute=600), [f"{n}" for n in range(4)], quick)
    assert len(puppet.calls) == 4
    spent = asked_of(tmp_path / "2", limited(tokens_per_minute=6000), ["a" * 6005, "b"], quick)
    assert sorted(map(len, spent.prompts())) == [1, 6005]


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(1, 16))
def test_the_parts_of_limits_are_no_more_than_the_whole(
    requests: int | None, tokens: int | None, concurrency: int | None, most: int
) -> None:
    owner = Owner(replace(KEY, limits=Limits(requests, tokens, concurrency)))
    shards = owner.shards(most)
    part = owner.part(shards).key
    assert part is not None
    assert 1 <= shards <= most
    wholes = (requests, tokens, concurrency)
    parts = (part.limits.requests_per_minute, part.limits.tokens_per_minute, part.limits.concurrency)
    for whole, each in zip(wholes, parts, strict=True):
        assert (whole is None) == (each is None)
        assert whole is None or each is None or 1 <= each * shards <= whole


@given(st.none() | st.builds(Limits, NUMBERS, NUMBERS, NUMBERS), st.booleans())
def test_an_owner_is_read_back_as_it_was_written(limits: Limits | None, is_private: bool) -> None:
    owner = Owner(None if limits is None else replace(KEY, limits=limits), is_private)
    assert OWNER.validate_json(OWNER.dump_json(owner)) == owner


def test_the_journal_keeps_whose_a_job_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.accept(JobRecord("a", None, ("r",), 1, 1.0, owner=Owner(KEY, is_private=True)), "{}")
    assert [record.owner for record in journal.resume()] == [Owner(KEY, is_private=True)]
    journal.close()


def test_a_journal_of_the_time_before_owners_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.accept(JobRecord("old", None, ("r",), 1, 1.0), "{}")
    journal.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'j'}")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN owner"))
        connection.execute(text("UPDATE meta SET value = '1'"))
    engine.dispose()
    for _ in range(2):
        again = Journal(tmp_path / "j")
        found = again.job("old")
        again.close()
        assert found is not None
        assert found.owner == NOBODY


def test_a_job_submitted_over_http_is_its_keys_and_no_other_keys_under_the_same_name(tmp_path: Path) -> None:
    other = replace(KEY, id="k2", is_private=False)
    journal = Journal(tmp_path / "j")

    async def run() -> list[str]:
        conductor = Conductor(journal, InProcessLauncher(Puppet().connect))
        routes = SwarmApi(conductor, 10_000, 1.0).routes()
        ids = [
            await submitted(with_key(Starlette(routes=routes), key), headers)
            for key, headers in ((KEY, {}), (other, {"x-shoal-private": "1"}), (other, {}), (None, {}))
        ]
        owners = [record.owner for id_ in ids if (record := journal.job(id_)) is not None]
        assert owners == [Owner(KEY), Owner(other, is_private=True), Owner(other, is_private=True), NOBODY]
        await conductor.close()
        return ids

    first, second, again, nobodys = asyncio.run(run())
    assert second == again
    assert len({first, second, nobodys}) == 3


def with_key(app: ASGIApp, key: Key | None) -> ASGIApp:
    """`app` behind a door that has let `key` in."""

    async def entered(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["key"] = key
        await app(scope, receive, send)

    return entered


async def submitted(app: ASGIApp, headers: dict[str, str]) -> str:
    """The id of a job that is sent with the same idempotency key each time."""
    body = swarm_of(["x"]).model_dump_json()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shoal") as client:
        answer = await client.post("/v1/swarms", content=body, headers={**headers, "idempotency-key": "once"})
    found = json.loads(answer.text)["id"]
    assert isinstance(found, str)
    return found
