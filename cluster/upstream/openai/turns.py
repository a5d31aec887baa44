"""The messages of a chat completion, checked as a conversation: roles, parts, and tool messages after their calls."""

from cluster.upstream.asked import Json
from cluster.upstream.checking import a_text, an_object, objects, wrong

MEDIA_TOKENS = 1500
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MEDIA = ("image_url", "input_audio", "file", "video_url")


class Turns:
    """Reads `messages`. Raises Problem."""

    def __init__(self, messages: object) -> None:
        self.texts: list[str] = []
        self.question = ""
        self.media_tokens = 0
        self.is_after_tool = False
        self._open_ids: list[str] = []
        turns = objects(messages, "messages")
        if not turns:
            wrong("messages", "empty array. Expected an array with minimum length 1.")
        for place, turn in turns:
            self._turn(place, turn)
        self._check_answered("messages")

    def _turn(self, place: str, turn: Json) -> None:
        role = turn.get("role")
        if role not in _ROLES:
            wrong(f"{place}.role", f"Invalid value: '{role}'. Supported values are: {', '.join(_ROLES)}.")
        calls = objects(turn.get("tool_calls") or [], f"{place}.tool_calls") if role == "assistant" else []
        if role != "tool":
            self._check_answered(place)
        texts = self._content(place, turn, role == "assistant")
        if role == "tool":
            self._result(place, turn)
        if role == "user":
            self.question = texts[-1] if texts else self.question
        self.is_after_tool = role == "tool"
        self.texts.extend([*texts, *(self._call(spot, call) for spot, call in calls)])

    def _content(self, place: str, turn: Json, is_assistant: bool) -> list[str]:
        content = turn.get("content")
        if content is None:
            if not is_assistant or not (turn.get("tool_calls") or turn.get("refusal")):
                wrong(f"{place}.content", "Invalid value for 'content': expected a string, got null.")
            return []
        if isinstance(content, str):
            return [content]
        return [text for spot, part in objects(content, f"{place}.content") for text in self._part(spot, part)]

    def _part(self, place: str, part: Json) -> list[str]:
        kind = part.get("type")
        if kind in _MEDIA:
            self.media_tokens += MEDIA_TOKENS
            return []
        if kind not in ("text", "refusal"):
            wrong(f"{place}.type", f"Invalid value: '{kind}'. Supported values are: 'text', {', '.join(_MEDIA)}.")
        return [a_text(part.get(str(kind)), f"{place}.{kind}")]

    def _call(self, place: str, call: Json) -> str:
        function = an_object(call.get("function"), f"{place}.function")
        self._open_ids.append(a_text(call.get("id"), f"{place}.id"))
        name = a_text(function.get("name"), f"{place}.function.name")
        return f"{name} {a_text(function.get('arguments'), f'{place}.function.arguments')}"

    def _result(self, place: str, turn: Json) -> None:
        found = a_text(turn.get("tool_call_id"), f"{place}.tool_call_id")
        if found not in self._open_ids:
            wrong(place, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.")
        self._open_ids.remove(found)

    def _check_answered(self, place: str) -> None:
        if self._open_ids:
            words = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            wrong(place, f"{words} 'tool_call_id'. These had none: {', '.join(self._open_ids)}")
