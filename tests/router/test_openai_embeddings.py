"""The embeddings dialect: what may be embedded, and vectors that the SDK reads back."""

import base64
import json
import math
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from replicas.errors import InvalidRequest
from router.openai.embeddings import MOST_INPUTS, EmbeddingsCall, Input, embeddings_body, parse_embeddings, shortened

NUMBERS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8)


def parsed(**body: object) -> EmbeddingsCall:
    return parse_embeddings(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("given_input", "inputs"),
    [
        ("a text", ("a text",)),
        (["one", "two"], ("one", "two")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["one", [2]], ("one", (2,))),
        ([-1], ((-1,),)),
    ],
)
def test_every_form_of_input_is_a_tuple_of_inputs(given_input: object, inputs: tuple[Input, ...]) -> None:
    assert parsed(input=given_input, model="m", user="ignored") == EmbeddingsCall("m", inputs)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [1, True]}, "input"),
        ({"input": [[1], [2.5]]}, "input[1]"),
        ({"input": ["a"] * (MOST_INPUTS + 1)}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_its_field(body: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**body)
    assert refused.value.param == param


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_json_is_read_or_refused(value: object) -> None:
    with suppress(InvalidRequest):
        inputs = parsed(input=value).inputs
        assert inputs
        assert all(inputs)


@given(st.lists(NUMBERS, min_size=1, max_size=3), st.integers(0, 99))
def test_the_sdk_reads_the_vectors_back_in_order(vectors: list[list[float]], tokens: int) -> None:
    answer = CreateEmbeddingResponse.model_validate_json(embeddings_body("m", vectors, tokens, "float"))
    assert [item.embedding for item in answer.data] == vectors
    assert [item.index for item in answer.data] == list(range(len(vectors)))
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("m", tokens, tokens)


@given(NUMBERS)
def test_base64_is_the_same_numbers_as_float32(vector: list[float]) -> None:
    [item] = json.loads(embeddings_body("m", [vector], 1, "base64"))["data"]
    assert list(struct.unpack(f"<{len(vector)}f", base64.b64decode(item["embedding"]))) == vector


@given(NUMBERS.filter(lambda numbers: abs(numbers[0]) > 1e-3), st.integers(1, 8))
def test_a_vector_is_cut_and_scaled_to_length_one(vector: list[float], dimensions: int) -> None:
    if dimensions > len(vector):
        with pytest.raises(InvalidRequest):
            shortened(vector, dimensions)
    elif dimensions == len(vector):
        assert shortened(vector, dimensions) == vector
    else:
        cut = shortened(vector, dimensions)
        assert math.hypot(*cut) == pytest.approx(1)
        assert cut[0] / vector[0] == pytest.approx(1 / math.hypot(*vector[:dimensions]))


def test_a_vector_of_zeros_stays_one() -> None:
    assert list(shortened([0.0, 0.0, 1.0], 2)) == [0.0, 0.0]
