"""From a call to a generation of one pool: the prompt in the model's layout, the adapter, the grammar, the seed.

Tools go to the adapter that was tuned for them, if the model has one and the caller names no other; the layout and the
parser are then the adapter's. An engine that follows grammars is held to the tools' schemas: where calls are required
for the whole answer, else from the moment that one begins.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from deployments.plan import PoolPlan
from replicas.adapters import TOOLS, StoredAdapter, adapters_of
from replicas.chat import Tokenizer, is_continuation
from replicas.engine import Generation, Grammar, Message, Sampling
from replicas.errors import ContextOverflow, InvalidRequest
from replicas.grammar.faults import placed
from replicas.grammar.limits import TEXT_CHARS
from replicas.tools.lark import blamed
from replicas.tools.layout import ToolLayout, adapter_layout
from replicas.tools.parser import CallParser
from replicas.tools.reader import CallReader
from replicas.tools.tool import Tool
from router.call import Call

SEED_BITS = 63

Said: TypeAlias = str | tuple[tuple[Message, ...], tuple[Tool, ...], ToolLayout]
"""What a prompt is made of: a bare text, or a conversation, its tools, and how the model is told of them."""


class Prompter:
    """Makes the generations of one pool. An adapter that says nothing of a layout gets the model's own."""

    def __init__(self, pool: PoolPlan, tokenizer: Tokenizer) -> None:
        self.pool = pool
        self.tokenizer = tokenizer
        self._tool_adapter = pool.tool_adapter
        self._layouts = self._layouts_of(adapters_of(pool.path))
        self._last: tuple[Said, tuple[int, ...]] | None = None

    def use(self, loaded: Sequence[StoredAdapter]) -> None:
        """The adapters that are loaded from now on; the first that was tuned for tools gets the requests with tools."""
        self._layouts = self._layouts_of(loaded)
        self._tool_adapter = next((one.name for one in loaded if one.purpose == TOOLS), None)

    def prompt(self, call: Call) -> tuple[int, ...]:
        """The prompt as token ids, however long it is. The last one is kept: the choices of an answer share theirs."""
        if call.raw is not None:
            return self._encoded(call.raw) if isinstance(call.raw, str) else call.raw
        return self._encoded((call.messages, _tools(call), self._layout(self._adapter(call))))

    def _encoded(self, said: Said) -> tuple[int, ...]:
        last = self._last
        if last is not None and last[0] == said:
            return last[1]
        tokenizer = self.tokenizer
        prompt = tokenizer.encode_prompt(said) if isinstance(said, str) else tokenizer.encode_chat(*said)
        self._last = said, prompt
        return prompt

    def generation(self, call: Call, deadline_s: float) -> Generation:
        """What the engine is asked. Raises Unsupported, InvalidRequest, ContextOverflow for a prompt that leaves no
        room.

        A seed is drawn for a call that has none: it may have to run twice, and must say the same both times.
        """
        if call.unsupported is not None:
            raise call.unsupported
        prompt = self.prompt(call)
        if len(prompt) >= self.pool.context_tokens:
            raise ContextOverflow(len(prompt), self.pool.context_tokens - 1)
        return Generation(
            id=call.id,
            prompt=prompt,
            sampling=_sampling(call),
            deadline_s=min(call.deadline_s, deadline_s),
            priority=call.priority,
            session_id=call.session_id,
            grammar=self._grammar(call),
            adapter=self._adapter(call),
            top_logprobs=call.top_logprobs,
            is_continued=call.raw is not None or is_continuation(call.messages),
        )

    def parser(self, call: Call, generation: Generation) -> CallParser | None:
        """What reads the calls in the answer to `generation`; None if it can have none."""
        if not _tools(call):
            return None
        is_certain = generation.grammar is not None and self._is_following
        is_only_calls = call.tool_choice.mode in ("required", "named")
        layout = self._layout(generation.adapter)
        return layout.parser(_tools(call), is_certain=is_certain, is_only_calls=is_only_calls)

    def reader(self, call: Call, generation: Generation) -> CallReader | None:
        """The same with the stop strings of `call`, which are for what is no call."""
        parser = self.parser(call, generation)
        return None if parser is None else CallReader(parser, call.sampling, len(generation.prompt))

    def blamed(self, call: Call, generation: Generation, refusal: InvalidRequest) -> InvalidRequest:
        """`refusal` of `generation`, in words about the field of `call` that is at fault."""
        if _tools(call):
            refusal = blamed(generation.grammar, refusal, call.tools)
        return refusal if call.grammar is None else placed(call.grammar, refusal)

    @property
    def _is_following(self) -> bool:
        return self.pool.engine.kind in ("slot", "paged")

    def _adapter(self, call: Call) -> str | None:
        return call.adapter or (self._tool_adapter if _tools(call) else None)

    def _layouts_of(self, adapters: Sequence[StoredAdapter]) -> dict[str, ToolLayout | None]:
        return {one.name: adapter_layout(one.format or "", self.tokenizer.tags) for one in adapters}

    def _layout(self, adapter: str | None) -> ToolLayout:
        return self._layouts.get(adapter or "") or self.tokenizer.tool_layout

    def _grammar(self, call: Call) -> Grammar | None:
        if not _tools(call) or not self._is_following:
            return call.grammar
        layout = self._layout(self._adapter(call))
        try:
            grammar = layout.grammar(call.tools, call.tool_choice, call.grammar)
        except InvalidRequest as refusal:
            raise (refusal if call.grammar is None else placed(call.grammar, refusal)) from refusal
        is_free = call.tool_choice.mode == "auto" and call.grammar is None
        return None if is_free and len(grammar.text) > TEXT_CHARS["lark"] else grammar


def _tools(call: Call) -> tuple[Tool, ...]:
    return () if call.tool_choice.mode == "none" else call.tools


def _sampling(call: Call) -> Sampling:
    """With a seed; without the stop strings where the answer may call tools, which would cut the calls too."""
    seed = secrets.randbits(SEED_BITS) if call.sampling.seed is None else call.sampling.seed
    return replace(call.sampling, seed=seed, stop=() if _tools(call) else call.sampling.stop)
