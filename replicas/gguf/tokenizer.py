"""The vocabulary of a GGUF file as a Hugging Face tokenizer.json.

Two kinds: `gpt2`, byte-level BPE with the file's own merges, where the name in `tokenizer.ggml.pre` stands for the rule
that cuts text into words; and `llama`, SentencePiece BPE, whose merges follow from the scores of its pieces and whose
unknown characters become byte tokens. A cut by the wrong rule gives a model that answers worse for no visible reason,
so an unknown rule is an error.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from replicas.errors import ModelImportError
from replicas.gguf.header import Header

CONTROL, USER_DEFINED, BYTE = 3, 4, 6  # of tokenizer.ggml.token_type
SPACE = "▁"
LLAMA_3_WORD = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_3_NAMES = ("llama-bpe", "llama3", "llama-v3")
WORD_RULES = ("smollm", "gpt-2", "default", *LLAMA_3_NAMES)


def read_tokenizer(header: Header) -> Tokenizer:
    """Build the tokenizer. Raises ModelImportError for a kind or a word rule that is not known."""
    kind = header.metadata.text("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(header)
    elif kind == "llama":
        tokenizer = _sentencepiece(header)
    else:
        raise ModelImportError(str(header.path), f"its tokenizer is {kind!r}; 'gpt2' and 'llama' can be imported")
    _add_tokens(header, tokenizer)
    if adds_bos(header):
        bos = token_id(header, "bos")
        text = header.metadata.texts("tokenizer.ggml.tokens")[bos]
        start = processors.TemplateProcessing(
            single=[text, "$A"], pair=[text, "$A", "$B:1"], special_tokens=[(text, bos)]
        )
        tokenizer.post_processor = start
    return tokenizer


def adds_bos(header: Header) -> bool:
    """Whether plain text begins with the BOS token; where the file does not say, as llama.cpp has it."""
    data = header.metadata
    is_llama = data.text("tokenizer.ggml.model") == "llama"
    return data.flag("tokenizer.ggml.add_bos_token", is_llama or data.text("tokenizer.ggml.pre", "") in LLAMA_3_NAMES)


def token_id(header: Header, name: str, default: int | None = None) -> int:
    """The token that the file names as its `name` (bos, eos, unknown, padding, ...)."""
    key, tokens = f"tokenizer.ggml.{name}_token_id", len(header.metadata.texts("tokenizer.ggml.tokens"))
    token = header.metadata.integer(key, default)
    if not 0 <= token < tokens:
        raise ModelImportError(str(header.path), f"its metadata {key!r} is {token}, but it has {tokens} tokens")
    return token


def token_types(header: Header) -> list[int]:
    """The type of every token; all normal when the file does not say."""
    tokens = len(header.metadata.texts("tokenizer.ggml.tokens"))
    if "tokenizer.ggml.token_type" not in header.metadata:
        return [1] * tokens
    types = header.metadata.integers("tokenizer.ggml.token_type")
    if len(types) != tokens:
        raise ModelImportError(str(header.path), f"it has {tokens} tokens but {len(types)} token types: it is damaged")
    return types


def _vocabulary(header: Header) -> dict[str, int]:
    tokens = header.metadata.texts("tokenizer.ggml.tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ModelImportError(
            str(header.path), "two of its tokens have the same text, which tokenizer.json cannot say"
        )
    return vocabulary


def _add_tokens(header: Header, tokenizer: Tokenizer) -> None:
    """Mark the tokens that text is cut at before anything else; the special ones are left out of decoded text."""
    tokens = header.metadata.texts("tokenizer.ggml.tokens")
    for token, kind in zip(tokens, token_types(header), strict=True):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])


def _byte_level(header: Header) -> Tokenizer:
    rule = header.metadata.text("tokenizer.ggml.pre", "default")
    if rule not in WORD_RULES:
        known = ", ".join(WORD_RULES)
        raise ModelImportError(str(header.path), f"its word rule (tokenizer.ggml.pre) is {rule!r}; known are {known}")
    vocabulary = _vocabulary(header)
    merges = [_merge(header, line, vocabulary) for line in header.metadata.texts("tokenizer.ggml.merges")]
    # Llama 3's tokenizer takes a word that is in the vocabulary whole, without merging up to it.
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rule in LLAMA_3_NAMES))
    tokenizer.pre_tokenizer = _words(rule)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merge(header: Header, line: str, vocabulary: dict[str, int]) -> tuple[str, str]:
    left, _, right = line.partition(" ")
    if left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
        raise ModelImportError(
            str(header.path), f"its merge {line!r} is not of tokens in its vocabulary: it is damaged"
        )
    return left, right


def _words(rule: str) -> pre_tokenizers.PreTokenizer:
    if rule in LLAMA_3_NAMES:
        split = pre_tokenizers.Split(Regex(LLAMA_3_WORD), "isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if rule == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return words


def _sentencepiece(header: Header) -> Tokenizer:
    data = header.metadata
    vocabulary = _vocabulary(header)
    scores = data.numbers("tokenizer.ggml.scores")
    if len(scores) != len(vocabulary):
        raise ModelImportError(
            str(header.path), f"it has {len(vocabulary)} tokens but {len(scores)} scores: it is damaged"
        )
    unknown = data.texts("tokenizer.ggml.tokens")[token_id(header, "unknown", 0)]
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            score_merges(vocabulary, scores, token_types(header)),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    has_prefix = data.flag("tokenizer.ggml.add_space_prefix", True)
    prefix = [normalizers.Prepend(SPACE)] if has_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if has_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def score_merges(vocabulary: dict[str, int], scores: list[float], types: list[int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best score first: what SentencePiece merges, in its order."""
    merges = []
    for piece, index in vocabulary.items():
        if types[index] in (CONTROL, USER_DEFINED, BYTE):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-scores[index], vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]
