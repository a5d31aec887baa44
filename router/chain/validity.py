"""Whether what was to have a form has it: an answer that must be JSON of a schema, and the calls of tools."""

from dataclasses import dataclass
from functools import cached_property

from pydantic_core import from_json

from replicas.engine import Grammar, ToolCall
from replicas.tools.tool import Tool, ToolChoice, object_of
from router.chain.gate import Held, Prefix
from router.chain.schema import breaks

MUST_CALL = frozenset({"required", "named"})


@dataclass(frozen=True)
class Form:
    """An answer that must follow the JSON schema of `grammar` does; calls in its place have forms of their own.

    It waits for the whole answer: nobody can use half a JSON text. Other kinds of grammar are not looked at.
    """

    grammar: Grammar
    name: str = "schema"

    @cached_property
    def _schema(self) -> object:
        return object_of(self.grammar.text) if self.grammar.kind == "json_schema" else None

    def waits(self, held: Held) -> bool:
        """For its end."""
        return self._schema is not None

    def fault(self, prefix: Prefix) -> str:
        """No JSON, or JSON of another form."""
        if self._schema is None or prefix.calls or not prefix.is_whole:
            return ""
        try:
            value: object = from_json(prefix.text, allow_inf_nan=False)
        except ValueError:
            return "it is not valid JSON"
        return "its JSON does not follow the schema" if breaks(value, self._schema) else ""


@dataclass(frozen=True)
class Calls:
    """Calls are of tools that were offered, with arguments that their schemas allow, and there is one where there must
    be one. It waits for calls to be whole: nobody can make half of one."""

    tools: tuple[Tool, ...]
    choice: ToolChoice
    name: str = "tools"

    @cached_property
    def _schemas(self) -> dict[str, object]:
        return {tool.name: object_of(tool.schema) for tool in self.tools}

    def waits(self, held: Held) -> bool:
        """For the end of calls, once there are some or must be."""
        return held.has_call or self.choice.mode in MUST_CALL

    def fault(self, prefix: Prefix) -> str:
        """A call that cannot be made, or none."""
        if prefix.is_whole and not prefix.calls and self.choice.mode in MUST_CALL:
            return "it calls no tool"
        if self.choice.mode == "named" and any(call.name != self.choice.name for call in prefix.calls):
            return "it calls another tool than the one that was named"
        done = prefix.calls if prefix.is_whole else prefix.calls[:-1]
        return next((why for call in done if (why := self._fault(call))), "")

    def _fault(self, call: ToolCall) -> str:
        if call.name not in self._schemas:
            return "it calls a tool that does not exist"
        arguments = object_of(call.arguments or "{}")
        if arguments is None:
            return "the arguments of a call are no JSON object"
        schema = self._schemas[call.name]
        return "the arguments of a call do not follow its schema" if breaks(arguments, schema) else ""
