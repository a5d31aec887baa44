"""What beside conversations goes to clouds: counts, vectors, bare texts, several choices; and that they are listed."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from cluster.upstream.openai.bare import vector_of
from router.budget import Budget, Budgets
from router.budget.budget import Taken
from router.keys import Key, Scope, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from tests.deployments.asking import CHAT, MESSAGES
from tests.deployments.far import CLAUDE, GPT, KEY_ENV, Far, far, planned
from tests.deployments.served import serving

COUNT, EMBED, BARE = "/v1/messages/count_tokens", "/v1/embeddings", "/v1/completions"
TEXT = "Name the seven seas"
SECRET = "mail jane.doe@acme-harbour.com"
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}


@pytest.fixture(scope="module")
def edge() -> Iterator[Far]:
    with far() as found:
        yield found


@pytest.fixture
def gpt(edge: Far) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{edge.served.url}/v1", api_key="local", max_retries=0, timeout=30) as client:
        yield client


def post(edge: Far, path: str, **tree: object) -> httpx.Response:
    return httpx.post(edge.served.url + path, json=tree, timeout=30)


def counted(edge: Far, model: str, content: object = TEXT) -> httpx.Response:
    return post(edge, COUNT, model=model, messages=[{"role": "user", "content": content}])


def test_tokens_for_a_claude_are_counted_by_its_cloud_pictures_too() -> None:
    with far() as edge:
        plain, seen = counted(edge, CLAUDE), counted(edge, CLAUDE, [{"type": "text", "text": TEXT}, PNG])
        paths = [entry.target.partition("?")[0] for entry in edge.upstream.entries()]
    assert paths == [COUNT] * 2
    assert [answer.headers["x-shoal-count"] for answer in (plain, seen)] == ["exact"] * 2
    assert seen.json()["input_tokens"] - plain.json()["input_tokens"] == 1500


def test_tokens_for_other_clouds_and_private_ones_are_estimated_here() -> None:
    with far() as edge:
        answers = [counted(edge, GPT), counted(edge, CLAUDE, SECRET), counted(edge, "echo")]
        named = {"model": CLAUDE, "messages": [{"role": "user", "content": TEXT}], "metadata": {"user_id": SECRET}}
        answers.insert(0, post(edge, COUNT, **named))
        assert edge.upstream.entries() == []
    assert [answer.headers["x-shoal-count"] for answer in answers] == ["estimate"] * 3 + ["exact"]
    assert all(answer.json()["input_tokens"] > 4 for answer in answers)


def test_a_cloud_that_cannot_count_is_an_error_in_the_callers_words() -> None:
    with far(f"faults: [{{kind: status, status: 500, when: {{path: {COUNT}}}}}]") as edge:
        answer = counted(edge, CLAUDE)
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.headers["x-shoal-route"].startswith(f'rule="{CLAUDE}";by=model, to=("{CLAUDE}")')


def test_a_cloud_gives_vectors_in_order_and_they_are_paid_for(edge: Far, gpt: openai.OpenAI) -> None:
    edge.served.entries.clear()
    answer = gpt.embeddings.create(model=GPT, input=["one", "two"], encoding_format="float")
    assert [item.embedding for item in answer.data] == [vector_of("one"), vector_of("two")]
    assert (answer.model, answer.usage.prompt_tokens) == (GPT, 2)
    [entry] = edge.served.on_loop(lambda: list(edge.served.entries))
    assert (entry.model, entry.prompt, entry.baseline_nano) == (GPT, 2, 0)
    assert entry.cost_nano == 2000  # a dollar for a million tokens


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": GPT, "input": [[1, 2]]}, 400, "token ids stay with the local models"),
        ({"model": GPT, "input": SECRET}, 403, "may not leave"),
        ({"model": GPT, "input": "one", "user": SECRET}, 403, "it is private (email)"),
        ({"model": CLAUDE, "input": "one"}, 400, "gives no embeddings"),
    ],
)
def test_what_must_not_or_cannot_be_embedded_by_a_cloud_is_refused(
    asked: dict[str, object], status: int, words: str
) -> None:
    with far() as edge:
        answer = post(edge, EMBED, **asked)
        assert edge.upstream.entries() == []
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)


def test_a_request_for_vectors_that_is_marked_stays_here() -> None:
    id_ = new_id()
    secret, digest = created(id_)
    with far() as edge:
        asked = {"model": GPT, "input": "one"}
        marked = httpx.post(edge.served.url + EMBED, json=asked, headers={"x-shoal-private": "1"}, timeout=30)
        assert edge.upstream.entries() == []
    keyring = Keyring(lambda: [StoredKey(Key(id_, "test", 1.0, frozenset(Scope), is_private=True), digest)])
    with far(keyring=keyring) as edge:
        owned = httpx.post(edge.served.url + EMBED, json=asked, headers={"x-api-key": secret}, timeout=30)
        assert edge.upstream.entries() == []
    assert (marked.status_code, owned.status_code) == (403, 403)
    told = [answer.headers["x-shoal-route"].rpartition(", ")[2] for answer in (marked, owned)]
    assert told == ["private;header", "private;tenant"]


class Empty:
    """Has nothing to give."""

    def reserve(self, reservation: object) -> None:
        raise AssertionError("what is spent is not asked for")

    def taken(self, claims: list[object], now: float) -> list[Taken]:
        return [Taken(10**9) for _ in claims]


def test_vectors_of_a_cloud_are_refused_when_the_budget_is_spent() -> None:
    budgets = Budgets((Budget("all", 10),), Empty(), lambda _: None)  # type: ignore[arg-type]
    with far(budgets=budgets) as edge:
        answer = post(edge, EMBED, model=GPT, input="one")
        assert edge.upstream.entries() == []
    assert answer.status_code == 402
    assert f'to=(), lost=("{GPT}";why="the budget is spent"' in answer.headers["x-shoal-route"]


def test_a_bare_text_goes_on_at_a_cloud_streamed_and_whole(gpt: openai.OpenAI) -> None:
    whole = gpt.completions.create(model=GPT, prompt=TEXT, max_tokens=50, echo=True)
    assert (whole.choices[0].text, whole.model) == (TEXT + TEXT, GPT)
    parts = list(gpt.completions.create(model=GPT, prompt=TEXT, max_tokens=50, stream=True))
    assert "".join(part.choices[0].text for part in parts) == TEXT


@pytest.mark.parametrize(("model", "prompt"), [(GPT, [5, 6]), (CLAUDE, TEXT)])
def test_what_no_cloud_goes_on_from_is_a_400_that_says_so(model: str, prompt: object) -> None:
    with far() as edge:
        answer = post(edge, BARE, model=model, prompt=prompt)
        assert edge.upstream.entries() == []
    assert answer.status_code == 400
    assert "cloud" in answer.json()["error"]["message"]


@pytest.mark.parametrize("cloud", [CLAUDE, GPT])
def test_each_choice_is_a_request_of_its_own_at_a_cloud(cloud: str) -> None:
    with far() as edge:
        answer = edge.ask(CHAT, TEXT, "", model=cloud, n=3, seed=4)
        sent = [json.loads(entry.body) for entry in edge.upstream.entries()]
    assert [choice["message"]["content"] for choice in answer.json()["choices"]] == [TEXT] * 3
    assert answer.json()["usage"]["completion_tokens"] % 3 == 0
    assert len(sent) == 3
    assert all("n" not in body for body in sent)
    assert len({body.get("seed") for body in sent}) == (3 if cloud == GPT else 1)


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
def test_a_picture_goes_to_the_cloud_of_a_route_that_begins_here(edge: Far, path: str) -> None:
    picture = PNG if path == MESSAGES else {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": TEXT}, picture]}]
    answer = edge.ask(path, TEXT, f"echo>{CLAUDE}", messages=messages)
    assert (answer.status_code, answer.headers["x-shoal-model"]) == (200, CLAUDE)
    assert 'lost=("echo";why="unfit: Unsupported"' in answer.headers["x-shoal-route"]


def test_clouds_that_can_be_asked_are_listed_and_shown(edge: Far) -> None:
    models = httpx.get(f"{edge.served.url}/v1/models").json()["data"]
    far_away = {model["id"]: model for model in models if model["owned_by"] != "shoal"}
    assert set(far_away) == {CLAUDE, CLAUDE.partition("/")[2], GPT}
    assert (far_away[GPT]["owned_by"], "max_input_tokens" in far_away[GPT]) == ("oai", False)
    for name, listed in far_away.items():
        assert httpx.get(f"{edge.served.url}/v1/models/{name}").json() == listed


def test_clouds_without_their_key_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    with serving(planned("http://127.0.0.1:9")) as served:
        models = httpx.get(f"{served.url}/v1/models").json()["data"]
        assert httpx.get(f"{served.url}/v1/models/{GPT}").status_code == 404
    assert {model["owned_by"] for model in models} == {"shoal"}
