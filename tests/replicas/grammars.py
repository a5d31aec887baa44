"""What the grammar tests share: a compiler for the tiny model's vocabulary, and walks within the masks."""

import json
from functools import cache
from random import Random

import numpy as np
from tokenizers import Tokenizer

from replicas.detokenizer import spelled
from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from replicas.grammar import Constraint, GrammarCompiler, Mask
from tests.models import ENDOFTEXT, IM_END
from tests.replicas.engines import tiny

END_IDS = (ENDOFTEXT, IM_END)


@cache
def compiler() -> GrammarCompiler:
    return GrammarCompiler(tiny().directory, tiny().vocab, END_IDS)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(tiny().directory / "tokenizer.json"))


def schema(value: object) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


def refused(grammar: Grammar) -> InvalidRequest:
    """How `grammar` is refused; the test fails if it is not."""
    try:
        compiler().compile(grammar)
    except InvalidRequest as error:
        return error
    raise AssertionError(f"{grammar.text[:80]} was compiled")


def allowed(mask: Mask) -> list[int]:
    """The tokens of a mask."""
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def ids_of(text: str) -> list[int]:
    ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
    return ids


def text_of(ids: list[int]) -> str:
    return b"".join(spelled(tokenizer().id_to_token(id_) or "", "byte_level") for id_ in ids).decode()


def follows(grammar: Grammar, text: str) -> bool:
    """Whether `text` as a whole is an answer within `grammar`."""
    constraint = compiler().compile(grammar)
    for token in ids_of(text):
        if token not in allowed(constraint.mask()):
            return False
        constraint.accept(token)
    return IM_END in allowed(constraint.mask())


def walked(constraint: Constraint, seed: int, most: int = 600) -> list[int] | None:
    """Random tokens within the masks to the end of an answer; None if it has not ended after `most`."""
    random, tokens = Random(seed), list[int]()
    while len(tokens) < most:
        if constraint.is_over:
            return tokens
        constraint.begin()
        token = random.choice(allowed(constraint.mask()))
        if token in END_IDS:
            return tokens
        constraint.accept(token)
        tokens.append(token)
    return None
