"""What is private is found in plain text, in disguise and in nested JSON; what is not is let through, byte for byte."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.cloud.release import CloudKind, Draft, release
from replicas.engine import Message, ToolCall
from replicas.errors import Withheld
from router.call import Call
from router.origin import origin_of
from router.privacy.guard import EXAMINED_CHARS, Guard, Marking
from router.translate.draft import Target, drafted
from router.translate.source import Source
from tests.router.asked import call

GUARD = Guard()
PUBLIC = Marking("call-1")

PRIVATE_TEXTS = [
    ("keys", "use AKIAIOSFODNN7EXAMPLE for it"),
    ("keys", "token ghp_0123456789abcdefghijABCDEFGHIJ012345"),
    ("keys", "ANTHROPIC_API_KEY=sk-ant-api03-abcdefghijklmnopqrstuvwx"),
    ("keys", "sk-shoal-7-0123456789abcdef0123456789abcdef"),
    ("keys", "-----BEGIN RSA PRIVATE KEY-----"),
    ("keys", "postgres://shop:tr0ub4dor@db.internal/orders"),
    ("keys", "Cookie: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig"),
    ("keys", "my password is hunter2hunter"),
    ("email", "write to Jane.Doe+x@mail.acme.co.uk, please"),
    ("email", "\uff4aane@acme.com"),
    ("email", "jane\u200b@acme.com"),
    ("cards", "card 4111 1111 1111 1111, thanks"),
    ("cards", "3782-822463-10005"),
    ("cards", "4111.1111.1111.1111"),
    ("email", "open mailto:jane%40acme.com in the browser"),
    ("email", "write to jane&#64;acme.com"),
    ("cards", "\uff14111111111111111"),
    ("ids", "IBAN DE89 3704 0044 0532 0130 00"),
    ("ids", "SSN 536-90-4399"),
    ("ids", "CPF 529.982.247-25"),
    ("ids", "codice RCCMNL83S18D969H"),
    ("ids", "DNI 12345678Z"),
]

HARMLESS_TEXTS = [
    "What is the capital of France?",
    "order 4111 1111 1111 1112 of 2026-11-21",
    "the password: field must have eight characters or more",
    "noreply@anthropic.com and git@github.com and you@example.com",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8, build 1763712345678",
    "100 % of a &amp; b, versions 4111.1111.1111 and 1.4111.1111.1111.1111",
    "pi is 3.14159265358979323846, and 1,234,567,890,123 is a number",
    "call me @ noon",
    "https://example.org:8080/a/b?c=d",
    "def f(key: str) -> None: ...",
]


def draft(tree: object, **changes: object) -> Draft:
    return replace(Draft("call-1", "anthropic", json.dumps(tree).encode()), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "text"), PRIVATE_TEXTS)
def test_private_data_is_found_in_a_prompt_and_in_what_would_leave(kind: str, text: str) -> None:
    assert kind in GUARD.mark(call(f"Hello.\n{text}")).reasons
    with pytest.raises(Withheld, match=kind):
        GUARD.clear(draft({"messages": [{"content": [{"text": text}]}]}), PUBLIC)


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_what_only_looks_like_it_is_let_through(text: str) -> None:
    assert GUARD.mark(call(text)) == PUBLIC
    sent = draft({"text": text})
    assert release(sent, GUARD.clear(sent, PUBLIC)).draft == sent


@given(st.text(max_size=40), st.sampled_from(PRIVATE_TEXTS), st.text(max_size=40))
def test_it_is_found_whatever_stands_on_the_lines_round_it(before: str, private: tuple[str, str], after: str) -> None:
    assert private[0] in GUARD.mark(call(f"{before}\n{private[1]}\n{after}")).reasons


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text('ab {}\\"'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    ),
    st.data(),
)
def test_no_place_in_a_body_hides_it(tree: object, data: st.DataObject) -> None:
    secret: object = data.draw(st.sampled_from(["jane@acme.com", {"jane@acme.com": 1}, 4111111111111111]))
    for _ in range(data.draw(st.integers(0, 3))):
        wrap = data.draw(st.sampled_from(["list", "member", "string"]))
        secret = {"list": [tree, secret], "member": {"a": tree, "b": secret}, "string": json.dumps(secret)}[wrap]
    with pytest.raises(Withheld):
        GUARD.clear(draft({"x": tree, "y": secret}), PUBLIC)


@pytest.mark.parametrize("field", [{"user": "jane@acme.com"}, {"metadata": {"a": "4111111111111111"}}])
def test_the_first_look_sees_every_field_that_the_second_one_does(field: dict[str, object]) -> None:
    source = Source.of("openai", json.dumps({"messages": [], **field}).encode(), {})
    assert GUARD.mark(replace(call("hello"), source=source)).is_private
    beta = Source.of("anthropic", b"{}", {"anthropic-beta": "jane@acme.com"})
    assert GUARD.mark(replace(call("hello"), source=beta)).is_private
    assert not GUARD.mark(call("hello")).is_private


def test_arguments_of_calls_results_and_headers_are_read_too() -> None:
    called = Message("assistant", "", (ToolCall("1", "mail", '{"to": "jane@acme.com"}'),))
    assert GUARD.mark(replace(call(), messages=(called,))).reasons == ("email",)
    with pytest.raises(Withheld, match="email"):
        GUARD.clear(draft({}, headers=(("x-user", "jane@acme.com"),)), PUBLIC)


def test_escapes_inside_a_string_of_json_do_not_hide_it() -> None:
    with pytest.raises(Withheld, match="email"):
        GUARD.clear(Draft("call-1", "openai", rb'{"arguments": "{\"to\": \"jane\\u0040acme.com\"}"}'), PUBLIC)


@pytest.mark.parametrize("value", ["1", "true", "yes", "private", "", "flase", " "])
def test_a_mark_that_is_not_clearly_a_no_is_a_yes(value: str) -> None:
    assert GUARD.mark(call(origin=origin_of({"x-shoal-private": value}))).reasons == ("header",)


@pytest.mark.parametrize("headers", [{}, {"x-shoal-private": "0"}, {"x-shoal-private": " False"}])
def test_no_mark_or_a_clear_no_is_not_private(headers: dict[str, str]) -> None:
    assert not GUARD.mark(call(origin=origin_of(headers))).is_private


@pytest.mark.parametrize("marking", [Marking("call-1", ("header",)), Marking("call-1").by_rule(), Marking("other")])
def test_what_is_marked_private_or_was_examined_as_another_is_not_cleared(marking: Marking) -> None:
    with pytest.raises(Withheld):
        GUARD.clear(draft({"text": "nothing private at all"}), marking)


@pytest.mark.parametrize(
    "changes",
    [{"body": b'{"text": "b"}'}, {"headers": (("a", "b"),)}, {"kind": "openai"}, {"id": "call-2"}],
)
def test_a_draft_that_changed_after_it_was_cleared_stays(changes: dict[str, object]) -> None:
    cleared = draft({"text": "a"})
    clearance = GUARD.clear(cleared, PUBLIC)
    changed = replace(cleared, **changes)  # type: ignore[arg-type]
    with pytest.raises(Withheld, match="changed"):
        release(changed, clearance)
    with pytest.raises(Withheld, match="changed"):
        replace(release(cleared, clearance), draft=changed)


def test_header_parts_cannot_trade_characters_under_one_digest() -> None:
    assert draft({}, headers=(("ab", "c"),)).digest != draft({}, headers=(("a", "bc"),)).digest


def test_a_body_that_is_no_json_stays() -> None:
    with pytest.raises(Withheld, match="not JSON"):
        GUARD.clear(Draft("call-1", "openai", b"jane at acme"), PUBLIC)


def test_more_than_can_be_examined_is_private() -> None:
    assert GUARD.mark(call("a" * (EXAMINED_CHARS + 1))).reasons == ("length",)


def test_a_picture_is_not_read_but_text_that_says_it_is_one_is() -> None:
    assert GUARD.clear(draft({"type": "base64", "data": "Ab3/" * 500_000}), PUBLIC)
    with pytest.raises(Withheld):
        GUARD.clear(draft({"type": "base64", "data": "4111111111111111"}), PUBLIC)
    with pytest.raises(Withheld):
        GUARD.clear(draft({"url": "data:image/png;base64,AAAA jane@acme.com"}), PUBLIC)


def test_detectors_can_be_left_out_and_addresses_allowed() -> None:
    assert not Guard(("keys",)).mark(call("jane@acme.com")).is_private
    assert not Guard(harmless=("*@acme.com",)).mark(call("Jane@Acme.com")).is_private


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["sk-", "eyJ", "://a:", "a@a.", "xoxb-1-", "a", "1-1", "aws", "AB12 ", "glpat-", "//:_"]
)
def test_hostile_texts_are_examined_in_linear_time(piece: str) -> None:
    """A quadratic pattern takes hours for these."""
    text = piece * (EXAMINED_CHARS // 4 // len(piece))
    assert GUARD.findings([text]) == GUARD.findings([piece * 100])


@pytest.mark.parametrize("pieces", [("write to joe@ac", "me.com"), ("card 4111 1111 ", "1111 1111", " thanks")])
def test_blocks_of_one_message_are_read_as_one_text(pieces: tuple[str, ...]) -> None:
    tree = {"messages": [{"role": "user", "content": [{"type": "text", "text": piece} for piece in pieces]}]}
    with pytest.raises(Withheld, match="private"):
        GUARD.clear(draft(tree), PUBLIC)


def test_a_body_that_says_it_is_private_is_so_at_both_looks() -> None:
    tree = {"private": True, "messages": []}
    assert GUARD.mark(came(tree)).reasons == ("body",)
    with pytest.raises(Withheld, match=r"private \(body\)"):
        GUARD.clear(draft(tree), PUBLIC)
    public = {**tree, "private": False}
    assert not GUARD.mark(came(public)).is_private
    assert GUARD.clear(draft(public), PUBLIC)


def came(tree: object, dialect: CloudKind = "openai") -> Call:
    return replace(call("hello"), source=Source.of(dialect, json.dumps(tree).encode(), {}))


WORDS = st.sampled_from(
    ["jane@acme.com", "nothing", "4111 1111 1111 1111", "\uff4aane@acme.com", '{"a": "b\\u0040c.de"}']
)
FIELDS = st.dictionaries(
    st.sampled_from(["user", "system", "stop", "private", "x"]),
    st.recursive(WORDS | st.booleans(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner)),
)


@given(FIELDS, st.dictionaries(st.just("user_id"), WORDS), WORDS, st.sampled_from(["anthropic", "openai"]))
def test_what_is_public_at_the_first_look_is_so_at_the_second(
    members: dict[str, object], metadata: dict[str, object], said: str, dialect: CloudKind
) -> None:
    tree = {**members, "metadata": metadata, "messages": [{"role": "user", "content": said}]}
    first = GUARD.mark(came(tree, dialect))
    if first.is_private:
        with pytest.raises(Withheld, match=re.escape(f"private ({', '.join(first.reasons)})")):
            GUARD.clear(draft(tree, kind=dialect), PUBLIC)
    else:
        assert GUARD.clear(draft(tree, kind=dialect), PUBLIC)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
@pytest.mark.parametrize("dialect", ["anthropic", "openai"])
@pytest.mark.parametrize("word", ["jane@acme.com", "nothing"])
def test_translated_too(word: str, dialect: CloudKind, kind: CloudKind) -> None:
    tree = {"max_tokens": 5, "messages": [{"role": "user", "content": f"hello {word}"}]}
    asked = came(tree, dialect)
    assert asked.source is not None
    made = drafted(asked.source, Target(kind, "far"), asked.id, 60.0)
    assert GUARD.mark(asked).is_private == (word != "nothing")
    if word == "nothing":
        assert GUARD.clear(made, PUBLIC)
    else:
        with pytest.raises(Withheld, match="email"):
            GUARD.clear(made, PUBLIC)
