"""What the loop needs of the memory that rows live in, whatever that is: KV arrays, or the echo engine's texts."""

from typing import Protocol

from replicas.slot.request.saved import Saved
from replicas.slot.request.sequence import Sequence


class RowMemory(Protocol):
    """Rows, one of them more than there are slots: the last one is for exchanging two others."""

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` positions of a row over another."""
        ...

    def save(self, row: int, tokens: int) -> Saved | None:
        """A copy of what a row holds; None if there is no memory to spare: the row is computed again then."""
        ...

    def restore(self, row: int, saved: Saved) -> None:
        """Put what was saved into a row."""
        ...


class Prefixes(Protocol):
    """Beginnings of prompts that are kept for the next ones."""

    def load(self, row: int, sequence: Sequence) -> int:
        """Put the longest known beginning of `sequence` into its row; how many tokens that were."""
        ...

    def keep(self, row: int, sequence: Sequence) -> None:
        """Remember what the row of `sequence` holds, as far as another request may use it."""
        ...

    def forget(self, sequence: Sequence) -> None:
        """Drop what was remembered of `sequence`: its row held nonsense."""
        ...


class NoPrefixes:
    """Keeps nothing."""

    def load(self, row: int, sequence: Sequence) -> int:
        return 0

    def keep(self, row: int, sequence: Sequence) -> None:
        pass

    def forget(self, sequence: Sequence) -> None:
        pass
