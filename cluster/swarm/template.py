"""Prompts with placeholders: `{text}` stands for an item's value, `{{text}}` for the letters {text}.

Braces round anything but one identifier are ordinary text, so JSON and code in a prompt need no escaping (which is why
this is not str.format). As there, `{{{text}}}` is a value in braces. Values are put in once and never looked into.
"""

import re
from collections.abc import Mapping

_MARK = re.compile(r"\{\{\{([A-Za-z_]\w*)\}\}\}|\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


def placeholders(template: str) -> frozenset[str]:
    """The names that `template` wants values for."""
    return frozenset(match[1] or match[3] for match in _MARK.finditer(template) if not match[2])


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with its placeholders replaced. Every one of `placeholders(template)` must be in `values`."""

    def replaced(match: re.Match[str]) -> str:
        if match[2]:
            return "{" + match[2] + "}"
        return "{" + values[match[1]] + "}" if match[1] else values[match[3]]

    return _MARK.sub(replaced, template)


def filled_length(template: str, lengths: Mapping[str, int]) -> int:
    """At most how long `fill` gets, from the lengths of the values alone: a template may repeat a large one."""
    used = (match[1] or match[3] for match in _MARK.finditer(template) if not match[2])
    return len(template) + sum(lengths[name] for name in used)
