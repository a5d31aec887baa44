"""Tool calls of a streamed chat completion, one after the other, however their fragments come.

The protocol lets fragments of several calls alternate; services also put all arguments in one, leave out the index,
give every call the same one, or repeat the name. Here a call is told to its end before the next begins, because that is
what every reader of `CallPiece`s may expect: fragments of a later call wait until the JSON of the one before is whole.
"""

from dataclasses import dataclass, field

from replicas.engine import CallPiece


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a call as it came. `index` None and `id` "" where the service gives none."""

    index: int | None
    id: str
    name: str
    arguments: str


class JsonEnd:
    """Finds where a JSON object ends that comes in pieces."""

    __slots__ = ("_depth", "_is_escaped", "_is_string", "is_whole")

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = self._is_escaped = False
        self.is_whole = False

    def within(self, text: str) -> str:
        """`text` as far as it is part of the object."""
        for at, char in enumerate(text):
            if self.is_whole:
                return text[:at]
            self._take(char)
        return text

    def _take(self, char: str) -> None:
        if self._is_string:
            self._is_string = self._is_escaped or char != '"'
            self._is_escaped = char == "\\" and not self._is_escaped
        elif char == '"':
            self._is_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self.is_whole = self._depth <= 0


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str
    name: str = ""
    held: str = ""
    end: JsonEnd = field(default_factory=JsonEnd)
    is_begun: bool = False
    has_arguments: bool = False


class CallOrder:
    """Orders the calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._told = 0  # calls that are over; the one after them is open
        self._last: _Call | None = None

    @property
    def is_open(self) -> bool:
        """A call has begun whose arguments are not whole yet."""
        return any(not call.end.is_whole for call in self._calls[self._told :])

    @property
    def has_nameless(self) -> bool:
        """There is a call that nobody has named."""
        return any(not call.name for call in self._calls)

    def take(self, fragment: Fragment) -> list[CallPiece]:
        """The pieces that can be told with `fragment` here."""
        call = self._last = self._found(fragment)
        call.name = call.name or fragment.name
        call.id = call.id or fragment.id
        if not call.end.is_whole:
            call.held += call.end.within(fragment.arguments)
        return self._tell(is_over=False)

    def end(self) -> list[CallPiece]:
        """All that is left; a call without arguments has an empty object of them."""
        return self._tell(is_over=True)

    def _found(self, fragment: Fragment) -> _Call:
        same = [call for call in self._calls if _is_same(call, fragment)]
        if same:
            return same[-1]
        if fragment.index is None and not fragment.id and not fragment.name and self._last is not None:
            return self._last
        self._calls.append(_Call(fragment.index, fragment.id))
        return self._calls[-1]

    def _tell(self, *, is_over: bool) -> list[CallPiece]:
        pieces: list[CallPiece] = []
        while self._told < len(self._calls):
            call = self._calls[self._told]
            is_last = self._told == len(self._calls) - 1
            if call.name:
                pieces += self._news(call, is_over=is_over)
            if not is_over and (is_last or not call.end.is_whole):
                break
            self._told += 1
        return pieces

    def _news(self, call: _Call, *, is_over: bool) -> list[CallPiece]:
        if is_over and not call.held and not call.has_arguments:
            call.held = "{}"
        if call.is_begun and not call.held:
            return []
        piece = CallPiece(self._told, None if call.is_begun else call.name, call.held)
        call.has_arguments = call.has_arguments or bool(call.held)
        call.is_begun, call.held = True, ""
        return [piece]


def _is_same(call: _Call, fragment: Fragment) -> bool:
    """Whether `fragment` is of `call`: by its id if both have one, else by the index, unless it begins another call."""
    if call.id and call.id == fragment.id:
        return True
    begins_another = bool(fragment.name) and (call.end.is_whole or bool(call.id and fragment.id))
    return fragment.index is not None and call.index == fragment.index and not begins_another
