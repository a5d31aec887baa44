"""What an answer must match, as masks over the vocabulary.

`GrammarCompiler` makes a `Constraint` of a request's grammar (compiler.py), which says before each token what may come
(constraint.py); `keep_allowed` takes the rest out of the logits (mask.py). JSON schemas are put in the shape that
llguidance can follow, and what it cannot is named by its place (schema.py, faults.py). llguidance does the parsing.
"""

from replicas.grammar.compiler import GrammarCompiler
from replicas.grammar.constraint import Constraint
from replicas.grammar.mask import Mask, keep_allowed

__all__ = ["Constraint", "GrammarCompiler", "Mask", "keep_allowed"]
