"""The export is one that ONNX Runtime GenAI takes as it is: its tokenizer, chat template and greedy tokens agree."""

import json
from pathlib import Path

import onnxruntime_genai as og
import pytest
from tokenizers import Tokenizer

from replicas.gguf.metadata import Value
from tests.models import IM_END, Tiny, bundled_export, sentencepiece, tiny_export
from tests.replicas.session import Session

TEXTS = ("the user and the system", "12 + 345 = 357", "naïve café 😀\n\n  x", "<|im_start|>user\nhi<|im_end|>\n")


@pytest.fixture(scope="module", params=[Tiny(), Tiny(kind="Q4_0", is_tied=True), None], ids=["Q8_0", "Q4_0", "bundled"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled_export() if request.param is None else tiny_export(tmp_path_factory.mktemp("m") / "m", request.param)


def test_genai_encodes_and_decodes_as_the_tokenizer_file_does(directory: Path) -> None:
    ours, theirs = Tokenizer.from_file(str(directory / "tokenizer.json")), og.Tokenizer(og.Model(str(directory)))
    for text in TEXTS:
        assert theirs.encode(text).tolist() == ours.encode(text).ids
        assert theirs.decode(theirs.encode(text)) == ours.decode(ours.encode(text).ids)


@pytest.mark.parametrize(
    "metadata",
    [sentencepiece(), {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": True}],
    ids=["SentencePiece", "Llama 3"],
)
def test_genai_encodes_vocabularies_with_a_bos_token_alike(tmp_path: Path, metadata: dict[str, Value]) -> None:
    directory = tiny_export(tmp_path / "m", Tiny(metadata=metadata))
    ours, theirs = Tokenizer.from_file(str(directory / "tokenizer.json")), og.Tokenizer(og.Model(str(directory)))
    theirs.update_options(add_special_tokens="true")  # off by default, for chat templates write the BOS token
    for text in ("abc ab", "a€ b\n", "the user 12345's IT'S  x\n\n y", "é 😀"):
        assert theirs.encode(text).tolist() == ours.encode(text).ids


def test_genai_generates_the_tokens_of_a_plain_loop(directory: Path) -> None:
    model = og.Model(str(directory))
    ids = og.Tokenizer(model).encode(TEXTS[0]).tolist()
    ends = json.loads((directory / "genai_config.json").read_text())["model"]["eos_token_id"]
    expected = Session(directory).greedy(ids, 24)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + 24)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    got = generator.get_sequence(0).tolist()[len(ids) :]
    assert got == expected[: len(got)]
    assert len(got) == 24 or expected[len(got) - 1] in ends or expected[len(got)] in ends


def test_genai_renders_the_chat_template(directory: Path) -> None:
    tokenizer = og.Tokenizer(og.Model(str(directory)))
    messages = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}])
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True) == expected


def test_the_config_names_what_ends_an_answer_and_the_context(directory: Path) -> None:
    model = json.loads((directory / "genai_config.json").read_text())["model"]
    assert model["type"] == "llama"
    assert model["eos_token_id"] == [IM_END, 0]
    assert model["context_length"] in (512, 8192)
