"""Answers over a socket: streams, their heads and pings, errors in the middle, full pools, clients that leave."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from deployments.plan import AppPlan, HttpPlan
from replicas.engine import Finish
from replicas.errors import EngineFailed
from tests.deployments.asking import CHAT, MESSAGES, body, raw_client
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import ECHO, PLAN, TINY, Served, serving

BOTH = pytest.mark.parametrize("path", [MESSAGES, CHAT])
WAIT_S = 20


class Hand:
    """An edge whose `echo` pool has one replica, moved by hand."""

    def __init__(self, served: Served, engine: HandEngine) -> None:
        self.served = served
        self.engine = engine


@pytest.fixture
def hand() -> Iterator[Hand]:
    engine = HandEngine()
    with serving(replace(PLAN, http=HttpPlan(ping_interval_s=0.05)), echo=[engine]) as served:
        yield Hand(served, engine)


def ask_in_thread(
    served: Served, path: str, text: str = "hello", **changes: object
) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(served.url + path, json=body(text, **changes), timeout=WAIT_S))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


@BOTH
def test_a_stream_begins_when_it_is_admitted_and_pings_while_it_is_quiet(hand: Hand, path: str) -> None:
    with raw_client(hand.served.address) as client:
        client.post(path, body(stream=True))
        head = client.read_until(b"ping")
        assert b"text/event-stream" in head
        assert b"assistant" in head
        stream = hand.engine.next()
        stream.say("at last")
        client.read_until(b"at last")
        stream.end()
        client.read_until(b"0\r\n\r\n")


@BOTH
def test_an_error_in_the_middle_is_the_dialects_error_event(hand: Hand, path: str) -> None:
    with raw_client(hand.served.address) as client:
        client.post(path, body(stream=True))
        stream = hand.engine.next()
        stream.say("half")
        client.read_until(b"half")
        stream.end(Finish.ERROR, EngineFailed("/models/secret.onnx broke"))
        text = client.read_until(b"0\r\n\r\n")
    assert (b"event: error" in text) is (path == MESSAGES)
    assert b'"error"' in text
    assert b"secret" not in text
    assert b"message_stop" not in text


@BOTH
def test_an_error_before_the_first_token_of_a_whole_answer_has_its_status(hand: Hand, path: str) -> None:
    thread, answers = ask_in_thread(hand.served, path)
    hand.engine.next().end(Finish.ERROR, EngineFailed("/models/secret.onnx broke"))
    thread.join(WAIT_S)
    assert answers[0].status_code == 500
    assert "secret" not in answers[0].text


@BOTH
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_cancels_its_generation(hand: Hand, path: str, stream: bool) -> None:
    with raw_client(hand.served.address) as client:
        client.post(path, body(stream=stream))
        under_way = hand.engine.next()
        under_way.say("some")
        if stream:
            client.read_until(b"some")
    assert under_way.cancelled.wait(WAIT_S)
    assert hand.engine.stats().slots_used == 0


def test_a_client_that_leaves_before_it_is_admitted_is_counted_as_gone(hand: Hand) -> None:
    with raw_client(hand.served.address) as client:
        client.post(CHAT, body())
        under_way = hand.engine.next()
    assert under_way.cancelled.wait(WAIT_S)
    line = 'shoal_http_requests_total{method="POST",route="/v1/chat/completions",status="499"} 1.0'
    give_up_s = time.monotonic() + WAIT_S
    with httpx.Client(base_url=hand.served.url) as http:
        while line not in (page := http.get("/metrics").text):
            assert time.monotonic() < give_up_s, page


def test_a_connection_is_used_again_after_a_stream(hand: Hand) -> None:
    with raw_client(hand.served.address) as client:
        for _ in range(2):
            client.received = b""
            client.post(CHAT, body(stream=True))
            hand.engine.next().end()
            client.read_until(b"[DONE]\n\n\r\n0\r\n\r\n")


@BOTH
@pytest.mark.parametrize("stream", [True, False])
def test_past_the_pools_bound_a_request_is_refused_and_told_when_to_come_back(path: str, stream: bool) -> None:
    engine = HandEngine()
    with serving(AppPlan((TINY,), "tiny"), tiny=[engine]) as served, raw_client(served.address) as first:
        first.post(MESSAGES, body(model="tiny", stream=True))
        holder = engine.next()
        answer = httpx.post(served.url + path, json=body(model="tiny", stream=stream))
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["retry-after-ms"]) >= 1000
        holder.end()
        first.read_until(b"message_stop")
        thread, answers = ask_in_thread(served, path, model="tiny")
        engine.next().end()
        thread.join(WAIT_S)
        assert answers[0].status_code == 200


@BOTH
def test_a_generation_cut_short_by_a_replica_that_shuts_down_is_no_success(hand: Hand, path: str) -> None:
    thread, answers = ask_in_thread(hand.served, path)
    hand.engine.next().end(Finish.CANCELLED)
    thread.join(WAIT_S)
    assert answers[0].status_code == 500


def test_many_streams_at_once_each_get_their_own_text() -> None:
    with serving(AppPlan((replace(ECHO, max_replicas=10),), "echo")) as served:
        asked = [ask_in_thread(served, CHAT, text=f"this is text {n}") for n in range(24)]
        for thread, _ in asked:
            thread.join(WAIT_S)
        texts = [answers[0].json()["choices"][0]["message"]["content"] for _, answers in asked]
    assert texts == [f"this is text {n}" for n in range(24)]
