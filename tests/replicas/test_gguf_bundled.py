"""The bundled model's export against the golden file: log-probabilities of the GGUF file's own weights in numpy floats.

See reference.py for how that file was made. The likeliest 32 tokens of each of 47 positions hold nearly all the
probability, so the divergence over them is that of the whole distribution.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from replicas.gguf.blocks import Floats
from tests.models import bundled_export
from tests.replicas.reference import log_softmax
from tests.replicas.session import Session

GOLDEN = json.loads((Path(__file__).parent / "smollm2_reference.json").read_text())


@pytest.fixture(scope="module")
def logits() -> Floats:
    return Session(bundled_export()).run(GOLDEN["ids"])


def test_the_text_encodes_to_the_same_tokens() -> None:
    assert Tokenizer.from_file(str(bundled_export() / "tokenizer.json")).encode(GOLDEN["text"]).ids == GOLDEN["ids"]


def test_the_distributions_are_those_of_the_file(logits: Floats) -> None:
    expected = np.array(GOLDEN["logprobs"])
    got = np.take_along_axis(log_softmax(logits), np.array(GOLDEN["top"]), -1)
    divergence = (np.exp(expected) * (expected - got)).sum(-1)
    # Measured 0.0025 and 0.027; between the file and its 4 bits with integer zero points it is about 0.2.
    assert divergence.mean() < 0.01
    assert divergence.max() < 0.1


def test_the_likeliest_token_is_nearly_always_the_same(logits: Floats) -> None:
    agreement = (logits.argmax(-1) == np.array(GOLDEN["top"])[:, 0]).mean()
    assert agreement >= 0.9  # measured 44 of 47: the three are near ties


def test_it_knows_the_capital_of_france() -> None:
    directory = bundled_export()
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert (
        tokenizer.decode(Session(directory).greedy(tokenizer.encode(prompt).ids, 7))
        == "The capital of France is Paris."
    )
