"""The tools of a Messages body. Tools that Anthropic's servers run have a type of their own: those are left out, as if
the caller had not offered them, because nobody here could run them."""

from replicas.tools.tool import Tool, ToolChoice
from router.body import Wire
from router.shapes import MessageChoice, MessageTools
from router.tools import an_object, distinct, listed, named_choice, tool, wrong


class ToolFields(Wire):
    """The members of a body that speak of tools."""

    tools: MessageTools = None
    tool_choice: MessageChoice = None

    def offered(self) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools and how they may be used. Raises InvalidRequest."""
        items = listed(self.tools, "tools")
        own = [(path, item) for path, item in items if item.get("type") in (None, "custom")]
        tools = distinct([(path, tool(item, "input_schema", path)) for path, item in own])
        choice = self._choice([name for _, item in items if isinstance(name := item.get("name"), str)])
        if choice.mode == "required" and not items:
            raise wrong("tool_choice.type", "'auto' or 'none' when there are no tools")
        has_it = choice.mode != "named" or any(one.name == choice.name for one in tools)
        return tools, choice if tools and has_it else ToolChoice(is_parallel=choice.is_parallel)

    def _choice(self, known: list[str]) -> ToolChoice:
        if self.tool_choice is None:
            return ToolChoice()
        fields = an_object(self.tool_choice, "tool_choice")
        is_parallel = fields.get("disable_parallel_tool_use") is not True
        match fields.get("type"):
            case "auto":
                return ToolChoice(is_parallel=is_parallel)
            case "none":
                return ToolChoice("none")
            case "any":
                return ToolChoice("required", is_parallel=is_parallel)
            case "tool":
                return named_choice(fields.get("name"), known, "tool_choice.name", is_parallel=is_parallel)
            case _:
                raise wrong("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
