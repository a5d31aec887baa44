"""How a grammar is read, and how much it may cost: a grammar is a stranger's program.

Found by trying hostile ones (tests/replicas/test_grammar_hostile.py): what llguidance does not bound by itself is
bounded before it sees it (source.py, schema.py), because deep recursion in it ends the process.
"""

from llguidance import LLParserLimits

TEXT_CHARS = {"json_schema": 256 * 1024, "lark": 256 * 1024, "regex": 32 * 1024}
"""Of a grammar, by its kind."""

GBNF_CHARS = 32 * 1024
"""Of a grammar that has to be put into Lark first."""

RULES = 1000
"""Definitions of a Lark grammar, and references in a JSON schema. Each may be one level of recursion."""

MULTIPLE = 10_000
"""The largest `multipleOf`, in units of its last decimal: its automaton has as many states."""

JOINED_PATTERNS = 8
"""Patterns in a schema that joins schemas: llguidance may have to find out whether all of them can hold at once, which
takes milliseconds for eight and ten seconds for fourteen."""

STACK_BYTES = 256 << 20
"""Of the thread that compiles. Address space: memory is taken as it is touched."""

KEPT = 32
"""Compiled grammars, the latest used. One takes about 1 MB, the largest that the limits allow about 50 MB."""


ASCII = "dw"
r"""In an expression \d and \w are ASCII, as in a JSON schema: what they match, Python's and ECMA's match too."""


def parser_limits() -> LLParserLimits:
    """llguidance's own bounds. With them a mask took at most 25 ms; with its defaults an ambiguous grammar took 860."""
    return LLParserLimits(
        max_items_in_row=2000,
        initial_lexer_fuel=400_000,
        step_lexer_fuel=100_000,
        step_max_items=5_000,
        max_lexer_states=50_000,
        max_grammar_size=500_000,
        precompute_large_lexemes=True,
        verbose_errors=False,
    )
