"""The privacy guard: says whether a request is private, and clears what may go to a cloud.

Private is what its sender marked, what a private tenant asks, what a rule marks, and what holds a key, an e-mail
address or the number of a card or a person. A request is examined twice: as it came, so that the rules can keep it
here, and as the bytes that would leave, right before. The second look is what counts: whatever way a request took,
without a `Clearance` no cloud client takes it, and only `Guard.clear` makes one. What is longer than can be examined
counts as private.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from replicas.cloud.release import Clearance, Draft
from replicas.errors import Withheld
from router.body import parsed_json
from router.call import Call
from router.privacy.clean import CleanTexts
from router.privacy.kinds import HARMLESS_ADDRESSES, KINDS, Kind
from router.privacy.texts import plain, texts_of_json, texts_of_parts

EXAMINED_CHARS = 1_000_000
"""A choice: about a second of work. More is private unexamined."""


@dataclass(frozen=True, slots=True)
class Marking:
    """Why the request `id` is private: `header`, `body`, `tenant`, `rule`, `length`, and kinds of findings; or it is
    not."""

    id: str
    reasons: tuple[str, ...] = ()

    @property
    def is_private(self) -> bool:
        """It must stay here."""
        return bool(self.reasons)

    def by_rule(self) -> "Marking":
        """The same request, marked by a rule too."""
        return self if "rule" in self.reasons else Marking(self.id, ("rule", *self.reasons))


@dataclass(frozen=True)
class Guard:
    """Examines with the detectors `kinds`; e-mail addresses that match `harmless` are let through.

    The detectors are loaded at the first look: 0.2 s that no command and no service without clouds should take.
    """

    kinds: Sequence[Kind] = KINDS
    harmless: Sequence[str] = HARMLESS_ADDRESSES
    _clean: CleanTexts = field(default_factory=CleanTexts, init=False, repr=False, compare=False)

    @cached_property
    def _detectors(self) -> dict[Kind, Callable[[str], bool]]:
        from router.privacy.keys import holds_key
        from router.privacy.numbers import holds_card, holds_email, holds_id

        known: dict[Kind, Callable[[str], bool]] = {
            "keys": holds_key,
            "email": lambda text: holds_email(text, self.harmless),
            "cards": holds_card,
            "ids": holds_id,
        }
        return {kind: known[kind] for kind in self.kinds}

    def mark(self, call: Call) -> Marking:
        """Whether `call` is private, and why."""
        if call.origin.marks:
            return Marking(call.id, call.origin.marks)
        if call.source is None:
            return Marking(call.id, self.findings(texts_of_parts(call)))
        return Marking(call.id, self._examined(parsed_json(call.source.body), call.source.headers))

    def findings(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The kinds of private data in `texts`, or `length` if they are too long to tell."""
        found: list[str] = []
        left_chars = EXAMINED_CHARS
        for text in texts:
            left_chars -= len(text)
            if left_chars < 0:
                return (*found, "length")
            if text not in self._clean:
                kinds = [kind for kind, holds in self._detectors.items() if holds(text)]
                found += [kind for kind in kinds if kind not in found]
                if not kinds:
                    self._clean.add(text)
        return tuple(found)

    def clear(self, draft: Draft, marking: Marking) -> Clearance:
        """The word that `draft` may leave. Raises Withheld for what is private, or marked as another request."""
        if marking.id != draft.id:
            raise Withheld("it was examined as another request")
        reasons = marking.reasons or self._reasons(draft)
        if reasons:
            raise Withheld(f"it is private ({', '.join(reasons)})")
        return Clearance(draft.id, draft.digest)

    def _reasons(self, draft: Draft) -> tuple[str, ...]:
        try:
            body = parsed_json(draft.body)
        except ValueError:
            raise Withheld("its body is not JSON") from None
        return self._examined(body, draft.headers)

    def _examined(self, body: object, headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """One look for what came and for what would leave: what is public in the first is so in the second. A body may
        say itself that it is private, in the word that swarms take."""
        if isinstance(body, dict) and body.get("private"):
            return ("body",)
        return self.findings((*texts_of_json(body), *map(plain, chain.from_iterable(headers))))
