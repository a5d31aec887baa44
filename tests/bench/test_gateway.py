"""The arithmetic of `bench.gateway`, and its upstream and callers over a real socket."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from bench.gateway import litellm_side
from bench.gateway.__main__ import idle
from bench.gateway.client import run
from bench.gateway.load import Found, Target, Work, asked_line, found_line, quantile, read_asked, read_found
from bench.gateway.measure import Figures, added, medians
from bench.gateway.processes import cores, cpu_s, family, kept_on, memory_mb
from bench.gateway.report import Result, table, tree
from bench.gateway.shoal_side import settings_for
from bench.gateway.side import DIRECT, LITELLM, SHOAL, Side, clients, upstream
from bench.gateway.upstream import AT_ONCE, PACE_S, PACED
from cluster.settings import Settings


@pytest.fixture(scope="module")
def direct() -> Iterator[Side]:
    with upstream() as side:
        yield side


def figures(whole: float, rate: float) -> Figures:
    return {"whole p50 ms": whole, "requests/s, 8 at once": rate}


def result(shoal: float, litellm: float) -> Result:
    rounds = {DIRECT: [figures(1.0, 900.0)] * 3, SHOAL: [figures(1.0 + shoal, 500.0)] * 3}
    return Result(rounds | {LITELLM: [figures(1.0 + litellm, 100.0)] * 3}, {SHOAL: "here"}, ["a note"])


def test_the_callers_see_every_request_answered_and_nothing_else(direct: Side) -> None:
    found = asyncio.run(run(direct.target, Work(at_once=4, requests=20)))
    assert (found.requests, found.token_ms) == (20, [])
    assert min(found.whole_ms) > 0


@pytest.mark.parametrize("is_paced", [False, True])
def test_of_a_stream_every_token_is_timed_by_the_clock_of_who_wrote_it(direct: Side, is_paced: bool) -> None:
    found = asyncio.run(run(direct.target, Work(2, 4, tokens=5, is_stream=True, is_paced=is_paced)))
    assert (found.requests, len(found.first_ms), len(found.token_ms)) == (4, 4, 20)
    assert min(found.token_ms) > 0
    if is_paced:
        assert min(found.whole_ms) >= 4 * PACE_S * 1000


def test_callers_in_a_process_of_their_own_find_the_same(direct: Side) -> None:
    with clients() as callers:
        assert callers.run(direct, Work(2, 6)).requests == 6


def test_an_error_ends_the_run(direct: Side) -> None:
    with pytest.raises(RuntimeError, match=r"an answer is an error.*404"):
        asyncio.run(run(Target(direct.target.port, "/v1/else", ("", "")), Work(1, 1)))


def test_the_upstream_speaks_the_protocol_as_its_vendors_client_reads_it(direct: Side) -> None:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{direct.target.port}/v1", api_key="none", max_retries=0)
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
    with client:
        whole = client.chat.completions.create(model=AT_ONCE, messages=messages, max_tokens=3)
        assert (whole.choices[0].message.content, whole.usage and whole.usage.completion_tokens) == ("word " * 3, 3)
        options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
        stream = client.chat.completions.create(
            model=PACED, messages=messages, max_tokens=3, stream=True, stream_options=options
        )
        events = list(stream)
    said = [event.choices[0].delta.content for event in events if event.choices]
    assert len([word for word in said if word and word.startswith("@")]) == 3
    assert events[-1].usage is not None
    assert events[-1].usage.completion_tokens == 3


def test_two_requests_at_once_on_one_connection_are_answered_in_turn(direct: Side) -> None:
    with httpx.Client() as client:
        url = f"http://127.0.0.1:{direct.target.port}/v1/chat/completions"
        answers = [client.post(url, json={"model": AT_ONCE, "max_tokens": n}).json() for n in (1, 2)]
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [1, 2]


def test_work_and_what_was_found_travel_as_lines() -> None:
    asked = (Target(1, "/x", ("a", "b"), "key"), Work(2, 3, is_paced=True))
    assert read_asked(asked_line(*asked)) == asked
    found = Found(2.0, [1.0, 2.0], [], [0.5] * 8)
    assert read_found(found_line(found)) == found
    assert (found.requests_s, found.tokens_s) == (1.0, 4.0)


def test_quantiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (50.0, 99.0, 7.0)


def test_what_is_added_is_compared_round_by_round() -> None:
    rounds = {
        DIRECT: [figures(1, 9), figures(5, 9), figures(2, 9)],
        SHOAL: [figures(3, 9), figures(6, 9), figures(9, 9)],
    }
    assert added(rounds, SHOAL) == {"whole p50 ms": 2}
    assert medians(rounds[SHOAL]) == {"whole p50 ms": 6, "requests/s, 8 at once": 9}


def test_aims_say_what_was_reached_and_what_was_missed() -> None:
    assert [aim.is_reached for aim in result(1.0, 4.0).aims()] == [True, True]
    assert [aim.is_reached for aim in result(3.0, 4.0).aims()] == [False, True]
    assert table(result(3.0, 4.0)).count("MISSED") == 1


def test_what_a_gateway_takes_while_nobody_asks_is_told() -> None:
    assert re.fullmatch(
        r"LiteLLM takes \d+\.\d% of the gateways' core while nobody asks it", idle("LiteLLM", os.getpid(), 0.1)
    )


def test_what_noise_hides_is_not_measurable_and_no_aim_is_reached_by_it() -> None:
    found = result(1.0, -0.1)
    assert [aim.what for aim in found.aims()] == ["requests/s, 8 at once, Shoal / LiteLLM"]
    assert "added whole p50 ms: not measurable" in table(found)
    assert [aim.is_reached for aim in result(-0.1, 1.0).aims()] == [True, True]


def test_without_litellm_there_are_figures_and_no_aims() -> None:
    alone = Result({DIRECT: [figures(1, 9)], SHOAL: [figures(2, 8)]}, {}, ["LiteLLM is missing: no network"])
    assert "LiteLLM is missing: no network" in table(alone)
    assert tree(alone)["aims"] == []


def test_the_json_holds_every_round() -> None:
    made = tree(result(1.0, 4.0))
    assert json.loads(json.dumps(made)) == made
    assert made["rounds"] == result(1.0, 4.0).rounds


def test_both_gateways_have_keys_budgets_and_a_log(tmp_path: Path) -> None:
    ours: Settings = settings_for(1, tmp_path)
    assert (ours.budgets[0].each, ours.routing.privacy.detectors) == ("key", Settings().routing.privacy.detectors)
    theirs = yaml.safe_load(yaml.safe_dump(litellm_side.settings_for(1, "sk-x")))
    assert theirs["general_settings"] == {"master_key": "sk-x"}
    assert theirs["litellm_settings"]["callbacks"] == ["litellm_log.log"]
    assert theirs["router_settings"]["provider_budget_config"]["openai"]["budget_limit"] == ours.budgets[0].usd
    prices = {price.input for price in ours.costs.prices} | {price.output for price in ours.costs.prices}
    assert prices == {1e6 * theirs["model_list"][0]["litellm_params"]["input_cost_per_token"]}


def test_litellm_is_pinned_with_all_that_it_needs() -> None:
    pinned = litellm_side.REQUIREMENTS.read_text("utf-8").splitlines()
    assert any(line.startswith("litellm") and line.endswith(f"=={litellm_side.VERSION}") for line in pinned)
    assert all("==" in line for line in pinned if line and not line.startswith("#"))


def test_what_a_family_of_processes_uses_is_that_of_all_its_members(direct: Side) -> None:
    me = os.getpid()
    before_s, before_mb, before = cpu_s(me), memory_mb(me), len(family(me))
    with upstream():
        assert len(family(me)) == before + 1
        assert memory_mb(me) > before_mb + 5
        assert cpu_s(me) > before_s


def test_what_is_started_on_a_core_stays_there_and_we_do_not() -> None:
    usable = os.sched_getaffinity(0)
    core = cores().gateways
    with kept_on(core):
        kept = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"], stdout=subprocess.PIPE, check=True
        )
    assert kept.stdout.decode().strip() == str({core})
    assert os.sched_getaffinity(0) == usable
