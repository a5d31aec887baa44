"""The prefix cache: what was read of prompts, kept for the next ones.

Under strict determinism only KV that prefilling wrote is kept: it has the same bits however a prompt was cut, so a hit
changes no byte of an answer. KV that decoding wrote differs in the last bits from what prefilling the same tokens
gives; a conversation's next turn, whose prompt holds the last answer, computes that part again (counted as recomputed).
Relaxed determinism keeps it all.
"""

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

from replicas.engine import Determinism
from replicas.slot.kv.blocks import BLOCK, BlockPool
from replicas.slot.kv.index import Index, extend, root
from replicas.slot.request.lane import Lane
from replicas.slot.request.sequence import Sequence

_GHOSTS = 65536
"""Digests of decoded blocks that are remembered, to tell what strict determinism costs: 16 bytes each."""
_SESSIONS = 4096

AdapterDigest = Callable[[str | None], str]
"""Tells two adapters of the same name apart."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation as far as its KV is known: its lane, and the tokens."""

    lane: Lane
    tokens: tuple[int, ...]


class PrefixCache:
    """Beginnings of texts in `pool`. Used by the loop's thread alone; the counters may be read by anyone."""

    def __init__(self, pool: BlockPool, determinism: Determinism, digest_of: AdapterDigest = lambda _: "") -> None:
        self._pool = pool
        self._is_strict = determinism == "strict"
        self._digest_of = digest_of
        self._index = Index(pool.capacity)
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
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
        # At least two tokens stay to be prefilled: the last one's logits are needed, and a chunk is never one token.
        chain = self._chain(sequence, max(0, sequence.base - 2) // BLOCK)
        blocks = self._index.find(chain)
        self._pool.load(blocks, row)
        self._index.touch(chain[: len(blocks)])
        sequence.kept = len(blocks)
        for digest in chain[len(blocks) :]:
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
        return self._sessions.get(session_id)

    def read(self, session: Session) -> list[bytes]:
        """The content of the blocks that are known of the beginning of a session."""
        chain: list[bytes] = []
        extend(chain, self._root(session.lane), session.tokens, len(session.tokens) // BLOCK)
        return [self._pool.read(block) for block in self._index.find(chain)]

    def write(self, session_id: str, session: Session, contents: Many[bytes]) -> None:
        """Take over what `read` gave, here or elsewhere, as much of its beginning as there is room for."""
        contents = contents[: self._pool.capacity]
        chain: list[bytes] = []
        extend(chain, self._root(session.lane), session.tokens, len(contents))
        for digest, content in zip(chain, contents, strict=True):
            if digest not in self._index:
                self._pool.write(self._index.place(digest), content)
        self._index.touch(chain)
        self._remember(session_id, session)

    def _store(self, row: int, chain: list[bytes], first: int) -> None:
        """Copy blocks `first ...` of `row` to where they are not yet."""
        new = [place for place in range(first, len(chain)) if chain[place] not in self._index]
        if new and new[-1] - new[0] + 1 == len(new) <= self._pool.capacity:
            self._pool.store([self._index.place(chain[place]) for place in new], row, new[0])
            return
        for place in new[: self._pool.capacity]:
            self._pool.store([self._index.place(chain[place])], row, place)

    def _note_session(self, sequence: Sequence) -> None:
        session_id = sequence.request.session_id
        if session_id is not None:
            self._remember(session_id, Session(sequence.lane, tuple(sequence.tokens[: sequence.length])))

    def _remember(self, session_id: str, session: Session) -> None:
        self._sessions[session_id] = session
        self._sessions.move_to_end(session_id)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def _chain(self, sequence: Sequence, blocks: int) -> list[bytes]:
        extend(sequence.chain, self._root(sequence.lane), sequence.tokens, blocks)
        return sequence.chain[:blocks]

    def _root(self, lane: Lane) -> bytes:
        return root(lane, self._digest_of(lane.adapter))
