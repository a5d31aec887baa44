"""The JSON files of a GenAI export: genai_config.json and tokenizer_config.json.

ONNX Runtime GenAI 0.18 reads both; so does the engine, for the end-of-turn tokens and the chat template. A GGUF names
one end token, which for a chat model may be only the end of a turn or only the end of text, so, as llama.cpp does,
every control token that is known to end an answer counts.
"""

from typing import TypeAlias

from replicas.gguf.header import Header
from replicas.gguf.llama import Llama
from replicas.gguf.tokenizer import CONTROL, adds_bos, token_id, token_types

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
)


def end_tokens(header: Header) -> list[int]:
    """Ids that end an answer, the file's own first."""
    data = header.metadata
    tokens, types = data.texts("tokenizer.ggml.tokens"), token_types(header)
    ids = [token_id(header, "eos")]
    ids += [token_id(header, name) for name in ("eot", "eom") if f"tokenizer.ggml.{name}_token_id" in data]
    ids += [index for index, token in enumerate(tokens) if types[index] == CONTROL and token in ENDS]
    return list(dict.fromkeys(ids))


def genai_config(header: Header, llama: Llama, filename: str) -> Json:
    """The content of genai_config.json."""
    ends: list[Json] = [*end_tokens(header)]
    bos = token_id(header, "bos", end_tokens(header)[0])
    return {
        "model": {
            "type": "llama",
            "context_length": llama.context_tokens,
            "vocab_size": llama.vocabulary,
            "bos_token_id": bos,
            "eos_token_id": ends,
            "pad_token_id": token_id(header, "padding", end_tokens(header)[0]),
            "decoder": _decoder(llama, filename),
        },
        "search": {
            "do_sample": False,
            "max_length": llama.context_tokens,
            "min_length": 0,
            "num_beams": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }


def _decoder(llama: Llama, filename: str) -> Json:
    return {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": filename,
        "head_size": llama.head_size,
        "hidden_size": llama.hidden,
        "num_attention_heads": llama.heads,
        "num_hidden_layers": llama.layers,
        "num_key_value_heads": llama.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }


def tokenizer_config(header: Header, llama: Llama) -> dict[str, Json]:
    """The content of tokenizer_config.json; `chat_template` only when the file has one."""
    data = header.metadata
    tokens = data.texts("tokenizer.ggml.tokens")
    is_sentencepiece = data.text("tokenizer.ggml.model") == "llama"
    config: dict[str, Json] = {
        "tokenizer_class": "LlamaTokenizer" if is_sentencepiece else "PreTrainedTokenizerFast",
        "add_bos_token": adds_bos(header),
        "eos_token": tokens[end_tokens(header)[0]],
        "model_max_length": llama.context_tokens,
        "clean_up_tokenization_spaces": False,
    }
    for key, name in (("bos_token", "bos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        if f"tokenizer.ggml.{name}_token_id" in data:
            config[key] = tokens[token_id(header, name)]
    if "tokenizer.chat_template" in data:
        config["chat_template"] = data.text("tokenizer.chat_template")
    return config
