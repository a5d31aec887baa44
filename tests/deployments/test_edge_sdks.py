"""The vendors' SDKs by base URL alone, over a socket."""

import anthropic
import openai
import pytest
from anthropic.types import TextBlock

TEXT = "Grüße 🐟, and a longer tail of text"


def test_the_anthropic_sdk_gets_a_message(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="echo", max_tokens=100, messages=[{"role": "user", "content": TEXT}])
    [block] = message.content
    assert isinstance(block, TextBlock)
    assert (block.text, message.stop_reason, message.model) == (TEXT, "end_turn", "echo")
    assert message.usage.output_tokens == len(TEXT.encode()) + 1


def test_the_anthropic_sdk_reads_a_stream(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-local-echo", max_tokens=5, messages=[{"role": "user", "content": "hello world"}]
    ) as stream:
        assert "".join(stream.text_stream) == "hello"
        assert stream.get_final_message().stop_reason == "max_tokens"


def test_the_anthropic_sdk_counts_tokens_and_lists_models(claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="tiny", messages=[{"role": "user", "content": "abc"}])
    assert counted.input_tokens == 6
    assert "claude-local-tiny" in [model.id for model in claude.models.list()]


def test_the_anthropic_sdk_raises_its_own_errors(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="ghost"):
        claude.messages.create(model="ghost", max_tokens=1, messages=[{"role": "user", "content": "a"}])
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        claude.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": "a" * 500}])


def test_the_openai_sdk_gets_a_completion(gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(model="echo", messages=[{"role": "user", "content": TEXT}])
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (TEXT, "stop")


def test_the_openai_sdk_reads_a_stream_with_its_usage(gpt: openai.OpenAI) -> None:
    parts = list(
        gpt.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "one STOP two"}],
            stream=True,
            stop=["STOP"],
            stream_options={"include_usage": True},
        )
    )
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == "one "
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == len("one STOP")


def test_vllms_sampling_fields_reach_the_engine(gpt: openai.OpenAI) -> None:
    done = gpt.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "ab"}],
        max_tokens=7,
        extra_body={"ignore_eos": True, "min_tokens": 7, "top_k": 3, "repetition_penalty": 1.2},
    )
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("abababa", "length")


def test_the_openai_sdk_raises_its_own_errors(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="ghost"):
        gpt.chat.completions.create(model="ghost", messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.BadRequestError) as caught:
        gpt.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a" * 500}])
    assert caught.value.code == "context_length_exceeded"
