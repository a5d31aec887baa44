"""What is looked for in a request, by name: for settings and plans, which every process loads. No detector is here."""

from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["keys", "email", "cards", "ids"]
KINDS: tuple[Kind, ...] = get_args(Kind)

HARMLESS_ADDRESSES = ("noreply@*", "no-reply@*", "git@*", "*@example.com", "*@example.org")
"""Of nobody: the first is in the tools that Claude Code describes."""
