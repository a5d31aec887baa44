"""Which response a request gets: by its path, then by the script. No sockets and no waiting in here.

`/_upstream/` is for the people who run the tests: what was received, and the script. What goes there is not recorded.
`/v1/messages` is Anthropic's protocol, `/v1/chat/completions` OpenAI's, below `/api` it is OpenRouter's; OpenAI's
completions and embeddings are here too.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace

from cluster.upstream import catalog, faults
from cluster.upstream.anthropic import reading
from cluster.upstream.anthropic.wire import AnthropicWire
from cluster.upstream.asked import Asked, Dialect, Problem
from cluster.upstream.casting import Casting, Scene
from cluster.upstream.chance import digits
from cluster.upstream.checking import document
from cluster.upstream.ledger import Entry, Ledger
from cluster.upstream.openai.bare import TextWire, VectorWire
from cluster.upstream.openai.wire import OpenAIWire
from cluster.upstream.reply import Reply, reply_to
from cluster.upstream.request import Request
from cluster.upstream.response import Bill, Headers, Response, whole
from cluster.upstream.script import Fault, ModelCard, Script, parsed_fault, parsed_script
from cluster.upstream.tokens import prompt_tokens
from cluster.upstream.wire import Telling, Wire
from replicas.errors import SettingsError

CONTROL = "/_upstream/"
FAULT_HEADER = "x-upstream-fault"
_INFERENCE = {
    "/v1/messages": Dialect.ANTHROPIC,
    "/v1/chat/completions": Dialect.OPENAI,
    "/api/v1/chat/completions": Dialect.OPENROUTER,
    "/v1/completions": Dialect.TEXT,
    "/v1/embeddings": Dialect.VECTORS,
}
_PROBES = ("/", "/api/hello")  # clients look here whether the service is up
_COUNT = "/v1/messages/count_tokens"
_WIRES: dict[Dialect, Wire] = {
    Dialect.ANTHROPIC: AnthropicWire(),
    Dialect.OPENAI: OpenAIWire(Dialect.OPENAI),
    Dialect.OPENROUTER: OpenAIWire(Dialect.OPENROUTER),
    Dialect.TEXT: TextWire(Dialect.TEXT),
    Dialect.VECTORS: VectorWire(Dialect.VECTORS),
}


class Service:
    """Answers with a script, which may be replaced while it runs."""

    def __init__(self, script: Script, ledger: Ledger) -> None:
        self._ledger = ledger
        self._answered = 0
        self.script = script

    @property
    def script(self) -> Script:
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        self._casting = Casting(script)

    def control(self, request: Request) -> Response:
        """Answer a request below `/_upstream/`."""
        routes: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/_upstream/requests"): self._received,
            ("DELETE", "/_upstream/requests"): self._forget,
            ("GET", "/_upstream/script"): lambda _: _json(200, self._script.model_dump(mode="json")),
            ("PUT", "/_upstream/script"): self._replace,
        }
        route = routes.get((request.method, request.path))
        return route(request) if route else _json(404, {"error": f"there are: {[' '.join(known) for known in routes]}"})

    def answer(self, request: Request, entry: Entry) -> Response:
        """Answer any other request, and note in `entry` what was true of it."""
        dialect = _dialect(request)
        self._answered += 1
        name = digits(self._script.seed, self._answered)
        headers: Headers = (("request-id" if dialect is Dialect.ANTHROPIC else "x-request-id", f"req_{name}"),)
        try:
            response = self._answer(request, dialect, name, entry)
        except Problem as problem:
            response = whole(problem.status, _WIRES[dialect].error(problem, False, name))
        return replace(response, headers=(*response.headers, *headers))

    def _answer(self, request: Request, dialect: Dialect, name: str, entry: Entry) -> Response:
        if request.path in _PROBES:
            return whole(200, b"")
        catalog.check_key(request, dialect, self._script)
        if request.method == "GET":
            return _json(200, catalog.models(request, dialect, self._script))
        if request.method != "POST" or request.path not in (*_INFERENCE, _COUNT):
            raise Problem(404, f"Not Found: {request.method} {request.path}")
        catalog.check_headers(request, dialect)
        body = document(request.body)
        is_count = request.path == _COUNT
        asked = reading.read(body, is_count=True) if is_count else _WIRES[dialect].read(body)
        entry.model = asked.model
        card = catalog.card(self._script, asked, dialect)
        fault = self._fault(request, asked)
        refusal = faults.refusal(fault, _WIRES[dialect], name) if fault else None
        if refusal is not None:
            return refusal
        if is_count:
            return _json(200, {"input_tokens": prompt_tokens(asked, card)})
        catalog.check_context(asked, card)
        reply = reply_to(asked, self._casting.answer(_scene(request, asked)), card, self._script.seed)
        entry.usage = replace(reply.usage, output=reply.usage.output * asked.choices)
        return _told(asked, reply, card, fault, name)

    def _fault(self, request: Request, asked: Asked) -> Fault | None:
        """The fault that the request asks for itself, else the script's."""
        wanted = request.headers.get(FAULT_HEADER)
        if wanted is None:
            return self._casting.fault(_scene(request, asked))
        try:
            return parsed_fault(wanted, FAULT_HEADER)
        except SettingsError as error:
            raise Problem(400, str(error)) from error

    def _received(self, request: Request) -> Response:
        return _json(200, self._ledger.tree(request.query("raw") != "false"))

    def _forget(self, _: Request) -> Response:
        self._ledger.forget()
        return _json(200, {})

    def _replace(self, request: Request) -> Response:
        try:
            self.script = parsed_script(request.body.decode("utf-8", "replace"), "script")
        except SettingsError as error:
            return _json(400, {"error": str(error)})
        return _json(200, {})


def _told(asked: Asked, reply: Reply, card: ModelCard, fault: Fault | None, name: str) -> Response:
    """`reply` in its protocol, with its times, its bill and its fault."""
    wire = _WIRES[asked.dialect]
    quirk = fault.kind if fault and faults.is_quirk(fault.kind) else None
    usage = replace(reply.usage, output=reply.usage.output * asked.choices)
    cost_usd = usage.cost_usd(card.price)
    telling = Telling(name, int(time.time()), faults.claimed(usage, quirk), cost_usd, quirk)
    frames = wire.write(asked, reply, telling)
    prompt_usd = replace(usage, output=0).cost_usd(card.price)
    response = Response(
        status=200,
        headers=(("content-type", "text/event-stream; charset=utf-8" if asked.is_stream else "application/json"),),
        frames=frames,
        length=None if asked.is_stream else len(frames[0].data),
        first_byte_s=card.ttft_s,
        token_s=1 / card.tokens_per_s if card.tokens_per_s else 0.0,
        bill=Bill(prompt_usd, card.price.output / 1_000_000, usage.output),
        fault=quirk,
    )
    return faults.broken(response, fault, wire, name) if fault and quirk is None else response


def _scene(request: Request, asked: Asked) -> Scene:
    return Scene(request.path, request.path in _INFERENCE, request.headers, asked)


def _dialect(request: Request) -> Dialect:
    """Whose words a request wants: by its path, and for paths that both have, by its headers."""
    if request.path in _INFERENCE:
        return _INFERENCE[request.path]
    if request.path.startswith("/api/"):
        return Dialect.OPENROUTER
    is_anthropic = request.path.startswith("/v1/messages") or "anthropic-version" in request.headers
    return Dialect.ANTHROPIC if is_anthropic else Dialect.OPENAI


def _json(status: int, tree: object) -> Response:
    return whole(status, json.dumps(tree).encode())
