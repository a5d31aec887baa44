import json

import pytest

from cluster.swarm.assignment import assignment, instance_seed
from cluster.swarm.spec import INSTANCES_MAX, parse_swarm, parse_swarm_json
from cluster.swarm.swarm import Agent, Swarm
from replicas.errors import InvalidRequest

AGENT: dict[str, object] = {"role": "r", "prompt": "{text}"}


def refused(**body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_swarm({"agents": [AGENT], "over": {"text": ["a"]}, **body})
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"max_token": 3}, "max_token", "did you mean 'max_tokens'"),
        ({"agents": [{"role": "r", "promt": "x", "prompt": "{text}"}]}, "agents.0.promt", "did you mean 'prompt'"),
        ({"agents": [{"role": "r", "promt": "{text}"}]}, "agents.0.promt", "did you mean 'prompt'"),
        ({"agents": []}, "agents", "at least 1"),
        ({"agents": [{"prompt": "x"}]}, "agents.0.role", "required"),
        ({"agents": [{"role": "r", "prompt": "{txt} {text}"}]}, "agents.0.prompt", "did you mean {text}"),
        ({"agents": [{"role": "r", "prompt": "{x} {text}"}]}, "agents.0.prompt", "write {{x}} for the letters {x}"),
        ({"agents": [AGENT, {**AGENT, "system": "{y}"}]}, "agents.1.system", "{y} has no values"),
        ({"over": {"text": ["a"], "who": ["b", "c"]}}, "over", "equally long: text has 1, who has 2"),
        ({"over": {"text": ["a"], "who": ["b"]}}, "over.who", "no prompt uses over.who"),
        ({"over": {"text": []}}, "over", "no items"),
        ({"over": {}}, "over", "no items"),
        ({"over": {"text": [1]}}, "over.text.0", "write it in quotes"),
        ({"temperature": 3.0}, "temperature", "less than or equal to 2"),
        ({"temperature": float("nan")}, "temperature", ""),
        ({"deadline_s": 0}, "deadline_s", "greater than 0"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"over": {"text": ["a"] * (INSTANCES_MAX + 1)}}, "over", "split it"),
        (
            {"over": {"text": ["a" * 999_999]}, "agents": [{"role": "r", "prompt": "{text}{text}"}]},
            "agents.0.prompt",
            "",
        ),
    ],
)
def test_what_can_never_work_is_refused_by_name(body: dict[str, object], param: str, words: str) -> None:
    error = refused(**body)
    assert error.param == param
    assert words in str(error)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"agents": [' * 500])
def test_a_body_that_is_no_swarm_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_swarm_json(body)


def test_without_over_there_is_one_item() -> None:
    spec = parse_swarm_json(json.dumps({"agents": [{"role": "r", "prompt": "Hi {{you}}"}]}).encode())
    assert (spec.items, spec.instances) == (1, 1)
    assert assignment(spec, 0).messages[0].content == "Hi {you}"


def test_python_and_json_make_the_same_specification() -> None:
    swarm = Swarm(agents=[Agent(role="r", prompt="{text}", max_tokens=9)], over={"text": ["a"]}, seed=1, temperature=1)
    body = {"agents": [{**AGENT, "max_tokens": 9}], "over": {"text": ["a"]}, "seed": 1, "temperature": 1}
    assert swarm.spec() == parse_swarm_json(json.dumps(body).encode())


def test_a_text_in_place_of_a_list_is_refused_not_taken_letter_by_letter() -> None:
    with pytest.raises(InvalidRequest, match=r"over\.text: must be a list"):
        Swarm(agents=[Agent(role="r", prompt="{text}")], over={"text": "abc"}).spec()


def test_half_a_surrogate_pair_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="surrogate pair"):
        Swarm(agents=[Agent(role="r", prompt="{text}")], over={"text": ["\ud800"]}).spec()


def test_instances_go_item_by_item_and_agents_override_the_swarm() -> None:
    critic = {"role": "critic", "prompt": "2 {text}", "system": "about {text}", "model": "m2", "max_tokens": 5}
    spec = parse_swarm({"agents": [AGENT, critic], "over": {"text": ["a", "b"]}, "model": "m1", "stop": ["."]})
    made = [assignment(spec, index) for index in range(4)]
    assert [one.messages[-1].content for one in made] == ["a", "2 a", "b", "2 b"]
    assert made[3].messages[0].content == "about b"
    assert [(one.model, one.sampling.max_tokens) for one in made[:2]] == [("m1", 256), ("m2", 5)]
    assert made[0].sampling.stop == (".",)


def test_every_instance_has_its_own_seed_and_it_never_changes() -> None:
    seeds = [instance_seed(7, index) for index in range(3)]
    assert seeds == [215689894, 1776908988, 231060907]
