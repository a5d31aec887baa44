"""`shoal run` and `shoal chat`: talk to a running instance, through the Anthropic SDK, as any client would."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import typer
from anthropic import Anthropic, APIConnectionError, APIStatusError, DefaultHttpxClient
from anthropic.lib.streaming import MessageStream
from anthropic.types import MessageParam

from cluster.console import err, out, print_json
from cluster.environment import credentials
from cluster.options import DEFAULT_PORT, JsonOption, starting
from replicas.errors import ShoalError, Unavailable

TIMEOUT_S = 600.0

PortOption = Annotated[int, typer.Option("--port", help="Port of the instance.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Which model answers.")]
SystemOption = Annotated[str | None, typer.Option("--system", help="System prompt.")]
MaxTokensOption = Annotated[int, typer.Option("--max-tokens", min=1)]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0.0, max=2.0)]


class Refused(ShoalError):
    """The service answered with an error of its own; its words are for the user."""


@dataclass
class Conversation:
    """Turns so far, and whom they are sent to."""

    port: int
    model: str | None
    system: str | None
    max_tokens: int
    temperature: float
    turns: list[MessageParam] = field(default_factory=list)

    @contextmanager
    def answer(self) -> Iterator[MessageStream[None]]:
        """The answer to the turns, as a stream. Raises Unavailable, Refused."""
        url = f"http://127.0.0.1:{self.port}"
        extra: dict[str, object] = {"temperature": self.temperature}  # left the SDK's signature in 2.x
        if self.system is not None:
            extra["system"] = self.system
        key = credentials().get("x-api-key", "local")
        http = DefaultHttpxClient(mounts={"http://": None})  # the service is on this machine: no proxy
        try:
            with (
                Anthropic(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_S, http_client=http) as client,
                client.messages.stream(
                    model=self.model or "", max_tokens=self.max_tokens, messages=self.turns, extra_body=extra
                ) as stream,
            ):
                yield stream
        except APIConnectionError as error:
            raise Unavailable(f"a service at {url}", starting(self.port)) from error
        except APIStatusError as error:
            raise Refused(_words(error)) from error


def run(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    port: PortOption = DEFAULT_PORT,
    model: ModelOption = None,
    max_tokens: MaxTokensOption = 256,
    temperature: TemperatureOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Ask one question; the answer streams to stdout."""
    talk = Conversation(port, model, None, max_tokens, temperature, [{"role": "user", "content": prompt}])
    with talk.answer() as stream:
        for text in stream.text_stream:
            if not as_json:
                out.print(text, end="", markup=False, highlight=False)
        message = stream.get_final_message()
    if as_json:
        print_json(message.model_dump(mode="json"))
    else:
        out.print()


def chat(
    port: PortOption = DEFAULT_PORT,
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 0.0,
) -> None:
    """Talk; an empty line, Ctrl-D or Ctrl-C at the prompt ends it, Ctrl-C during an answer only stops the answer."""
    talk = Conversation(port, model, system, max_tokens, temperature)
    while said := _ask():
        talk.turns.append({"role": "user", "content": said})
        answer = ""
        try:
            with talk.answer() as stream:
                for text in stream.text_stream:
                    answer += text
                    out.print(text, end="", markup=False, highlight=False)
        except KeyboardInterrupt:
            err.print(" (stopped)", end="")
        out.print()
        talk.turns.append({"role": "assistant", "content": answer or "(stopped)"})


def _words(error: APIStatusError) -> str:
    """The service's own message."""
    body = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    return str(inner["message"]) if isinstance(inner, dict) and "message" in inner else error.message


def _ask() -> str:
    try:
        return out.input("[bold cyan]you>[/] ").strip()
    except (EOFError, KeyboardInterrupt):
        out.print()
        return ""
