"""How a model is told of tools and how it calls them: the one place where that is chosen.

A model's chat template says which family it belongs to; an adapter that was tuned for tools names its layout itself.
What knows no tools gets them in the system turn, in the layout of the bundled adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicas.engine import Grammar, Message
from replicas.tools.lark import calls_grammar
from replicas.tools.parser import CallParser
from replicas.tools.prompt import LayOut, Prompt, in_system_turn, native, one_call_a_turn, phi
from replicas.tools.syntax import HERMES, LLAMA, PHI, CallSyntax
from replicas.tools.tool import Tool, ToolChoice

CHATML = "chatml"
"""The layout that the bundled tool adapter was trained on."""


@dataclass(frozen=True, slots=True)
class ToolLayout:
    """One model's layout. `tags` are the control tokens of its vocabulary, with their ids."""

    lay_out: LayOut
    syntax: CallSyntax
    tags: Mapping[str, int]

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
        """What the chat template is given."""
        return self.lay_out(messages, tools)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, said: Grammar | None = None) -> Grammar:
        """What an answer must match that calls `tools` by `choice`, or else says what `said` allows."""
        return calls_grammar(self.syntax, self.tags, tools, choice, said)

    def parser(self, tools: Sequence[Tool], *, is_certain: bool, is_only_calls: bool = False) -> CallParser:
        """For one answer; `is_certain` if `grammar` has shaped it, `is_only_calls` if by a choice that wants calls."""
        names = [tool.name for tool in tools]
        return CallParser(self.syntax, names, is_certain=is_certain, is_only_calls=is_only_calls)


def layout_of(template: str, tags: Mapping[str, int]) -> ToolLayout:
    """The layout of a model with this chat template."""
    if "tools" not in template or "<function=" in template:  # calls as XML, which no parser here reads
        return ToolLayout(in_system_turn("user"), HERMES, tags)
    if "<|tool|>" in template:
        return ToolLayout(phi, PHI, tags)
    if "<tool_call>" in template:
        return ToolLayout(native, HERMES, tags)
    if '"parameters": ' in template:
        return ToolLayout(one_call_a_turn, LLAMA, tags)
    return ToolLayout(in_system_turn("user"), HERMES, tags)


def adapter_layout(name: str, tags: Mapping[str, int]) -> ToolLayout | None:
    """The layout that an adapter calls `name`; None for one that nobody here knows."""
    return ToolLayout(in_system_turn("tool"), HERMES, tags) if name == CHATML else None
