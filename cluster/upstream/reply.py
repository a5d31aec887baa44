"""What the model says to a request: words of the script, or an echo, bounded as the request asks, and what it costs.

Without words of the script it calls the tool that must be called, or the one whose name the question has; makes an
example of the schema; else repeats the question. Accuracy is drawn by question: asked again, it errs again.
"""

import json
from dataclasses import dataclass

from cluster.upstream.asked import Asked, Json, Tool
from cluster.upstream.chance import drawn
from cluster.upstream.example import example
from cluster.upstream.script import AnswerEntry, Call, ModelCard, Price, Stop, Words
from cluster.upstream.tokens import count, pieces, prompt_tokens


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a tool. `arguments` is its input as JSON."""

    name: str
    input: Json

    @property
    def arguments(self) -> str:
        return json.dumps(self.input, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input` has all of the prompt, cached parts too; `output` all that was written, thinking too."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    thinking: int = 0

    def cost_usd(self, price: Price) -> float:
        fresh = self.input - self.cache_read - self.cache_write
        cached = self.cache_read * price.cache_read + self.cache_write * price.cache_write
        return (fresh * price.input + cached + self.output * price.output) / 1_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is put into a protocol."""

    text: str
    thinking: str
    calls: tuple[Called, ...]
    stop: Stop
    stop_sequence: str | None
    usage: Usage


def reply_to(asked: Asked, entry: AnswerEntry | None, card: ModelCard, seed: int) -> Reply:
    """The answer to `asked`; the same for the same arguments."""
    words = _words(asked, entry, card, seed)
    calls = tuple(_called(call, asked) for call in words.calls)
    text = words.text if words.text is not None else ("" if calls else asked.question)
    thinking = (words.thinking or f"The question is: {asked.question}") if asked.is_thinking else ""
    text, sequence = _until_stop(text, asked.stops)
    stop: Stop = words.stop or ("stop_sequence" if sequence else "tool_use" if calls else "end_turn")
    thinking, text, calls, is_cut = _within(asked.max_tokens, thinking, text, () if sequence else calls)
    if is_cut:
        stop, sequence = "max_tokens", None
    thought = count(thinking)
    written = thought + count(text) + sum(count(call.arguments) for call in calls)
    cache = entry.cache if entry else None
    prompt = prompt_tokens(asked, card)
    read = min(cache.read_tokens, prompt) if cache else 0
    write = min(cache.write_tokens, prompt - read) if cache else 0
    return Reply(text, thinking, calls, stop, sequence, Usage(prompt, max(1, written), read, write, thought))


def _words(asked: Asked, entry: AnswerEntry | None, card: ModelCard, seed: int) -> Words:
    if entry is not None:
        if entry.wrong is not None and drawn(seed, card.id, asked.question) >= card.accuracy:
            return entry.wrong
        return entry
    if asked.forced is not None:
        return Words(calls=(Call(name=asked.forced.name),))
    if asked.schema is not None:
        return Words(text=json.dumps(example(asked.schema, asked.question), ensure_ascii=False))
    named = [] if asked.is_after_tool else [tool for tool in asked.tools if tool.name in asked.question]
    return Words(calls=tuple(Call(name=tool.name) for tool in named))


def _called(call: Call, asked: Asked) -> Called:
    if call.input is not None:
        return Called(call.name, call.input)
    tool = next((tool for tool in asked.tools if tool.name == call.name), Tool(call.name, {"type": "object"}))
    made = example(tool.schema, asked.question)
    return Called(call.name, made if isinstance(made, dict) else {})


def _until_stop(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """`text` up to the first stop string in it, and that string."""
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _within(
    limit: int | None, thinking: str, text: str, calls: tuple[Called, ...]
) -> tuple[str, str, tuple[Called, ...], bool]:
    """What fits into `limit` tokens, and whether something did not. A call that does not fit is left out."""
    if limit is None:
        return thinking, text, calls, False
    thoughts = pieces(thinking)[:limit]
    words = pieces(text)[: limit - len(thoughts)]
    left = limit - len(thoughts) - len(words)
    kept = []
    for call in calls:
        left -= count(call.arguments)
        if left < 0:
            break
        kept.append(call)
    shorter = "".join(thoughts), "".join(words), tuple(kept)
    return *shorter, shorter != (thinking, text, calls)
