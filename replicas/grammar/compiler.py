"""Grammars -> constraints over a model's vocabulary.

The vocabulary is laid out at first use, not before: most replicas never see a grammar. Compiled grammars are kept, the
latest used. One thread compiles, with a stack for deep grammars, so strangers' grammars take one core at most; it also
follows each new grammar to its first choice, so that what cannot work is refused before it is on the engine's thread.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

from replicas.engine import Grammar
from replicas.grammar.constraint import Compiled, Constraint
from replicas.grammar.faults import located
from replicas.grammar.limits import KEPT, STACK_BYTES, parser_limits
from replicas.grammar.source import source
from replicas.grammar.vocabulary import open_vocabulary


class GrammarCompiler:
    """Compiles for the tokenizer in `directory`, whose model has `vocab` logits and ends its turn by `end_ids`.

    Every method may be called from any thread.
    """

    def __init__(self, directory: Path, vocab: int, end_ids: Collection[int]) -> None:
        self._directory = directory
        self._vocab = vocab
        self._end_ids = frozenset(end_ids)
        self._vocabulary: LLTokenizer | None = None  # the compiling thread's
        self._lock = threading.Lock()  # guards the next two
        self._kept: OrderedDict[Grammar, Compiled] = OrderedDict()
        self._compiling: ThreadPoolExecutor | None = None
        self._masking = ThreadPoolExecutor(1, "shoal-grammar-mask")

    def compile(self, grammar: Grammar) -> Constraint:
        """A constraint at the beginning of `grammar`. Raises InvalidRequest that says where it is wrong.

        Takes up to a second for a new grammar: not for the engine's thread.
        """
        return self._begun(self._known(grammar) or self._thread().submit(self._compiled, grammar).result())

    def close(self) -> None:
        """End the threads; constraints under way cannot begin masks any more. Idempotent."""
        self._masking.shutdown(cancel_futures=True)
        with self._lock:
            compiling = self._compiling
        if compiling is not None:
            compiling.shutdown(cancel_futures=True)

    def _known(self, grammar: Grammar) -> Compiled | None:
        with self._lock:
            compiled = self._kept.get(grammar)
            if compiled is None or compiled.is_spoilt:
                return None
            self._kept.move_to_end(grammar)
            return compiled

    def _thread(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._compiling is None:
                self._compiling = ThreadPoolExecutor(1, "shoal-grammar-compile")
                usual = threading.stack_size(STACK_BYTES)
                self._compiling.submit(int).result()  # starts the thread
                threading.stack_size(usual)
            return self._compiling

    def _compiled(self, grammar: Grammar) -> Compiled:
        known = self._known(grammar)  # since a call that was in the queue before this one
        if known is not None:
            return known
        if self._vocabulary is None:
            self._vocabulary = open_vocabulary(self._directory, self._vocab, self._end_ids)
        matcher = LLMatcher(self._vocabulary, source(grammar), log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise located(grammar, matcher.get_error())
        compiled = Compiled(matcher, grammar.kind)
        trial = self._begun(compiled)
        for token in trial.forced():
            trial.accept(token)
        trial.mask()
        with self._lock:
            self._kept[grammar] = compiled
            self._kept.move_to_end(grammar)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return compiled

    def _begun(self, compiled: Compiled) -> Constraint:
        return Constraint(compiled, (self._vocab + 31) // 32, self._end_ids, self._masking)
