from hypothesis import given
from hypothesis import strategies as st

from cluster.swarm.template import fill, filled_length, placeholders


def test_a_placeholder_takes_its_value() -> None:
    assert fill("Sum up {text} for {who}.", {"text": "a", "who": "b"}) == "Sum up a for b."


def test_doubled_braces_are_the_letters_themselves() -> None:
    assert fill("{{text}} is {text}", {"text": "x"}) == "{text} is x"
    assert placeholders("{{text}}") == frozenset()


def test_tripled_braces_are_the_value_in_braces() -> None:
    assert fill("{{{text}}}", {"text": "x"}) == "{x}"
    assert placeholders("{{{text}}}") == {"text"}


def test_json_in_a_prompt_needs_no_escaping() -> None:
    template = 'Answer as {"a": {"b": [1, {}]}} about {text}'
    assert fill(template, {"text": "x"}) == 'Answer as {"a": {"b": [1, {}]}} about x'


def test_a_value_is_not_looked_into() -> None:
    assert fill("{a}{b}", {"a": "{b}", "b": "{{c}}"}) == "{b}{{c}}"


@given(st.text('{}ab "', max_size=40), st.text(max_size=5), st.text(max_size=5))
def test_the_length_is_known_before_filling(template: str, a: str, b: str) -> None:
    names = placeholders(template)
    values = {name: a if name < "b" else b for name in names}
    longest = filled_length(template, {name: len(value) for name, value in values.items()})
    assert len(fill(template, values)) <= longest
