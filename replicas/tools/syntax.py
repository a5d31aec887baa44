"""How a family of models writes its calls: what stands around a call and what its members are called.

Grammar and parser are made from the same syntax, so what the one lets through the other understands.

    Hermes, Qwen, the bundled adapter   <tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>
    Phi-4-mini                          <|tool_call|>[{"name": ..., "arguments": {...}}]<|/tool_call|>
    Llama 3.1 and later                 {"name": ..., "parameters": {...}}
"""

from dataclasses import dataclass

from replicas.tools.tool import JsonObject, written


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """`opener` begins a call or a list of calls; "" where the whole answer is one. `also_opens` are what some models of
    the family write instead. `gap` stands on both sides of the JSON."""

    opener: str
    closer: str = ""
    also_opens: tuple[str, ...] = ()
    gap: str = ""
    is_list: bool = False
    arguments_key: str = "arguments"

    def head(self, name: str) -> str:
        """What a call of `name` begins with, up to its arguments."""
        return f'{{"name": {written(name)}, "{self.arguments_key}": '

    def call(self, name: str, arguments: JsonObject) -> str:
        """A whole call without what stands around it."""
        return f"{self.head(name)}{written(arguments)}}}"

    def block(self, calls: list[str]) -> str:
        """Calls as an answer holds them."""
        if self.is_list:
            return f"{self.opener}{self.gap}[{', '.join(calls)}]{self.gap}{self.closer}"
        return "\n".join(f"{self.opener}{self.gap}{call}{self.gap}{self.closer}" for call in calls)


HERMES = CallSyntax("<tool_call>", "</tool_call>", gap="\n")
PHI = CallSyntax("<|tool_call|>", "<|/tool_call|>", also_opens=("functools",), is_list=True)
LLAMA = CallSyntax("", also_opens=("<|python_tag|>",), arguments_key="parameters")

TOOL_TAGS = frozenset({*(tag for s in (HERMES, PHI, LLAMA) for tag in (s.opener, s.closer, *s.also_opens) if tag)})
"""Part of the text of an answer even where a vocabulary marks them special: the parser must see them."""
