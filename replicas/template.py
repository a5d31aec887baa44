"""A model's chat template, rendered as Hugging Face renders it: Jinja in an immutable sandbox.

`strftime_now` is left undefined on purpose: a prompt with today's date in it would not give the same bytes tomorrow,
and templates that ask whether it is defined carry a fixed date for that case.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from replicas.errors import InvalidRequest
from replicas.tools.prompt import Turn
from replicas.tools.tool import JsonObject


class _GenerationTag(Extension):
    """`{% generation %}` marks what training looks at; for a prompt it is only its body."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A compiled template. Raises jinja2's TemplateError if `source` is not one."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, loopcontrols],
            autoescape=False,  # the output is a prompt, not HTML
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        self.source = source
        self._template = environment.from_string(source)
        self._special = dict(special)

    def render(self, turns: Sequence[Turn], tools: Sequence[JsonObject] | None = None, *, is_answer_begun: bool) -> str:
        """The prompt for `turns` (role, content, and what more the template knows). Raises InvalidRequest if the
        template refuses them."""
        try:
            return self._template.render(
                messages=[dict(turn) for turn in turns],
                add_generation_prompt=not is_answer_begun,
                tools=tools,
                documents=None,
                **self._special,
            )
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}", "messages") from error
