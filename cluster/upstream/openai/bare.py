"""Two more of OpenAI's: completions of bare text, and embeddings, whose vectors follow from the text alone."""

import hashlib
import math

from cluster.upstream.asked import Asked, Dialect, Json
from cluster.upstream.checking import a_list, a_text, wrong
from cluster.upstream.openai.chunks import FINISHES
from cluster.upstream.openai.reading import read
from cluster.upstream.openai.wire import OpenAIWire, usage_tree
from cluster.upstream.reply import Reply
from cluster.upstream.response import Frame
from cluster.upstream.tokens import count, pieces
from cluster.upstream.wire import Telling, compact

LENGTH = 8
"""Of a vector."""


class TextWire(OpenAIWire):
    """Completions: `prompt` is one text."""

    def read(self, body: Json) -> Asked:
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        messages = [{"role": "user", "content": a_text(prompt, "prompt")}]
        return read({**body, "messages": messages, "logprobs": None}, Dialect.TEXT)

    def write(self, asked: Asked, reply: Reply, telling: Telling) -> tuple[Frame, ...]:
        head: Json = {
            "id": f"cmpl-{telling.name}",
            "object": "text_completion",
            "created": telling.created_s,
            "model": asked.model,
        }
        usage = None if telling.usage is None else usage_tree(asked, telling.usage, telling.cost_usd)
        finish = FINISHES[reply.stop]
        if not asked.is_stream:
            tree = head | {"choices": [_choice(reply.text, finish)], "usage": usage}
            return (Frame(compact(tree).encode(), reply.usage.output),)
        frames = [_frame(head | {"choices": [_choice(piece, None)]}, 1) for piece in pieces(reply.text)]
        frames.append(_frame(head | {"choices": [_choice("", finish)]}, 0))
        if asked.is_usage_wanted and usage is not None:
            frames.append(_frame(head | {"choices": [], "usage": usage}, 0))
        return (*frames, Frame(b"data: [DONE]\n\n", is_turn=True))


class VectorWire(OpenAIWire):
    """Embeddings: `input` is a text or a list of texts."""

    def read(self, body: Json) -> Asked:
        value = body.get("input")
        texts = [value] if isinstance(value, str) else a_list(value, "input")
        said = [a_text(text, "input") for text in texts]
        if not all(said):
            wrong("input", "input cannot be an empty string")
        model = a_text(body.get("model"), "model")
        return Asked(Dialect.VECTORS, model, "\x00".join(said), "\n".join(said), max_tokens=0)

    def write(self, asked: Asked, reply: Reply, telling: Telling) -> tuple[Frame, ...]:
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(text)}
            for index, text in enumerate(asked.question.split("\x00"))
        ]
        used = count(asked.prompt)
        tree: Json = {"object": "list", "data": data, "model": asked.model}
        if telling.usage is not None:
            tree["usage"] = {"prompt_tokens": used, "total_tokens": used}
        return (Frame(compact(tree).encode()),)


def vector_of(text: str) -> list[float]:
    """A unit vector, the same for the same text."""
    numbers = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:LENGTH]]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def _choice(text: str, finish: str | None) -> Json:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


def _frame(tree: Json, tokens: int) -> Frame:
    return Frame(f"data: {compact(tree)}\n\n".encode(), tokens, is_turn=not tokens)
