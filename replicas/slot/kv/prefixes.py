"""The prefix cache: what was read of prompts, kept for the next ones.

Under strict determinism only KV that prefilling wrote is kept: it has the same bits however a prompt was cut, so a hit
changes no byte of an answer. KV that decoding wrote differs in the last bits from what prefilling the same tokens
gives; a conversation's next turn, whose prompt holds the last answer, computes that part again (counted as recomputed).
Relaxed determinism keeps it all.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Many
from functools import partial

from replicas.engine import Determinism
from replicas.slot.kv.blocks import BLOCK, BlockPool
from replicas.slot.kv.index import Index, extend, root
from replicas.slot.kv.sessions import Session, Sessions
from replicas.slot.request.lane import Lane
from replicas.slot.request.sequence import Sequence

_GHOSTS = 65536
"""Digests of decoded blocks that are remembered, to tell what strict determinism costs: about 10 MB."""

AdapterDigest = Callable[[str | None], str]
"""Tells two adapters of the same name apart."""


class PrefixCache:
    """Beginnings of texts in `pool`. Used by the loop's thread alone; the counters may be read by anyone."""

    def __init__(self, pool: BlockPool, determinism: Determinism, digest_of: AdapterDigest = lambda _: "") -> None:
        self._pool = pool
        self._is_strict = determinism == "strict"
        self._digest_of = digest_of
        self._index = Index(pool.capacity)
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._sessions = Sessions()
        self.recomputed_tokens = 0

    @property
    def block_bytes(self) -> int:
        """Memory of one block."""
        return self._pool.size_bytes

    @property
    def blocks(self) -> int:
        """Blocks in use."""
        return len(self._index)

    def load(self, row: int, sequence: Sequence) -> int:
        if sequence.request.wants_embedding:
            return 0  # needs the hidden state of every token
        blocks = self._found(sequence)
        self._pool.load(blocks, row)
        self._index.touch(sequence.chain[: len(blocks)])
        sequence.kept = len(blocks)
        for digest in sequence.chain[len(blocks) :]:
            if digest not in self._ghosts:
                break
            self.recomputed_tokens += BLOCK
        return len(blocks) * BLOCK

    def keep(self, row: int, sequence: Sequence) -> None:
        written = sequence.length // BLOCK
        usable = min(sequence.length, sequence.base) // BLOCK if self._is_strict else written
        chain = self._chain(sequence, written if sequence.length > sequence.base else usable)
        if usable > sequence.kept:
            self._store(row, chain[:usable], sequence.kept)
            sequence.kept = usable
        for digest in chain[usable:]:
            self._ghosts[digest] = None
        while len(self._ghosts) > _GHOSTS:
            self._ghosts.popitem(last=False)
        if sequence.length >= sequence.base:
            self._index.touch(chain[:usable])
            self._note_session(sequence)

    def forget(self, sequence: Sequence) -> None:
        known = min(sequence.length, len(sequence.tokens))  # a row may be ahead of what was chosen
        self._index.drop(self._chain(sequence, known // BLOCK))

    def session(self, session_id: str) -> Session | None:
        """What is known of a session."""
        return self._sessions.find(session_id)

    def read(self, session: Session, first: int, count: int) -> list[bytes]:
        """The content of blocks `first ...` of a session, `count` at most, up to the first that is not known."""
        chain: list[bytes] = []
        extend(chain, self._root(session.lane, session.owner), session.tokens, len(session.tokens) // BLOCK)
        return [self._pool.read(block) for block in self._index.find(chain[first : first + count])]

    def write(self, session: Session, first: int, contents: Many[bytes]) -> int:
        """Take over blocks `first ...` of a session; how many of them there was room for."""
        contents = contents[: self._pool.capacity - first]
        chain: list[bytes] = []
        extend(chain, self._root(session.lane, session.owner), session.tokens, first + len(contents))
        self._index.touch(chain)  # what is there already must not make room for the rest
        for digest, content in zip(chain[first:], contents, strict=True):
            if digest not in self._index:
                [block] = self._index.take(1)
                self._written([digest], [block], partial(self._pool.write, block, content))
        self._index.touch(chain)
        return len(contents)

    def note(self, session_id: str, session: Session) -> None:
        """`session` is what is known of it now."""
        self._sessions.note(session_id, session)

    def _found(self, sequence: Sequence) -> list[int]:
        """The blocks of its longest known beginning: what everybody may find, or what was loaded for its session."""
        # At least two tokens stay to be prefilled: the last one's logits are needed, and a chunk is never one token.
        wanted = max(0, sequence.base - 2) // BLOCK
        session = self._sessions.find(sequence.request.session_id or "")
        blocks: list[int] = []
        for owner in dict.fromkeys(("", session.owner if session is not None else "")):
            chain: list[bytes] = []
            extend(chain, self._root(sequence.lane, owner), sequence.tokens, wanted)
            found = self._index.find(chain)
            if not owner or len(found) > len(blocks):
                blocks, sequence.chain, sequence.owner = found, chain, owner
        return blocks

    def _store(self, row: int, chain: list[bytes], first: int) -> None:
        """Copy blocks `first ...` of `row` to where they are not yet."""
        new = [place for place in range(first, len(chain)) if chain[place] not in self._index][: self._pool.capacity]
        is_gapless = bool(new) and new[-1] - new[0] + 1 == len(new)
        for places in [new] if is_gapless else [[place] for place in new]:
            blocks = self._index.take(len(places))
            digests = [chain[place] for place in places]
            self._written(digests, blocks, partial(self._pool.store, blocks, row, places[0]))

    def _written(self, digests: list[bytes], blocks: list[int], copy: Callable[[], None]) -> None:
        """Make `digests` known once `copy` has filled their blocks: a block that was not filled must not be found."""
        try:
            copy()
        except BaseException:
            self._index.give_back(blocks)
            raise
        for digest, block in zip(digests, blocks, strict=True):
            self._index.put(digest, block)

    def _note_session(self, sequence: Sequence) -> None:
        session_id = sequence.request.session_id
        if session_id is not None:
            tokens = array("i", sequence.tokens[: sequence.length])
            self._sessions.note(session_id, Session(sequence.lane, tokens, sequence.owner))

    def _chain(self, sequence: Sequence, blocks: int) -> list[bytes]:
        extend(sequence.chain, self._root(sequence.lane, sequence.owner), sequence.tokens, blocks)
        return sequence.chain[:blocks]

    def _root(self, lane: Lane, owner: str) -> bytes:
        return root(lane, self._digest_of(lane.adapter), owner)
