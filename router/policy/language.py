"""Which language a text is in, and whether it is about code: by its letters and commonest words, in microseconds.

Deterministic and without a model. Short texts, and languages that are not here, are `und` (undetermined). Only the
beginning of a text is read.
"""

import re

READ_CHARS = 4000
LETTERS_SHARE = 0.3
"""Of its letters so many of one script make a text one of its language; even Japanese prose is half Chinese signs."""

SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
"""Scripts by the language that most of what is written in them is in; Japanese before Chinese, whose signs it has."""

COMMON = {
    "en": "the and of to is in that for it with you this are on what how from have not was be",
    "de": "der die das und ist nicht ein eine ich zu mit den von wie auf für was im sie dem",
    "fr": "le la les des et est une un pas que qui dans pour sur avec du je vous au quelle ce",
    "es": "el la los las de y es una un que en por para con no del se cómo está cuál su",
    "it": "il lo gli che di e è una un per non con del della sono come qual dei nel si",
    "pt": "o os as de e é uma um que não em por para com do da como qual está no na",
    "nl": "de het een en is van niet ik dat op te voor met zijn wat hoe in er aan",
    "pl": "i w nie na się że to jest z do jak co czy o po dla od za są",
    "sv": "och det att en ett är inte på som för med jag av hur vad den till i har",
}
LANGUAGES = {
    word: tuple(code for code, words in COMMON.items() if word in words.split())
    for word in " ".join(COMMON.values()).split()
}
"""Those that a word is common in."""

WORD = re.compile(r"[^\W\d_]+")
FENCE = re.compile(r"^\s{0,3}(?:```|~~~)", re.MULTILINE)
CODE_LINE = re.compile(
    r"^\s*(?:"
    r"(?:def|class|import|from|return|func|fn|let|const|var|public|private|static|struct|package|use|async|await)\b"
    r".*[:;({=\w]$|#include\b|#!/|</?\w+[^>]*>$|[{}\])]+[;,]?$|(?:SELECT|INSERT|UPDATE|CREATE|DELETE)\s|\$ \w"
    r"|(?:if|for|while|else|elif|try|except|switch|catch)\b.*[:{]$|[\w.\[\]]+\s*(?:=|\+=|:=|->|=>)\s*\S|.*[;{]$"
    r"|[\w.]+\([^)]*\)$)"
)
CODE_LINES_SHARE = 0.3
ASKS_FOR_CODE = re.compile(
    r"(?i)\b(?:write|fix|debug|refactor|implement|review|explain|optimi[sz]e|port|complete)\b.{0,60}"
    r"\b(?:code|function|method|script|program|class|unit tests?|regex|regular expression|query|bug|stack ?trace"
    r"|traceback|python|javascript|typescript|rust|java|golang|sql|c\+\+|bash)\b"
)


def language_of(text: str) -> str:
    """The code (ISO 639-1) of the language that `text` begins in; `und` if that is not plain."""
    head = text[:READ_CHARS]
    letters = 0 if head.isascii() else sum(map(str.isalpha, head))
    for code, script in SCRIPTS if letters else ():
        if len(script.findall(head)) >= LETTERS_SHARE * letters:
            return code
    counts = dict.fromkeys(COMMON, 0)
    for word in WORD.findall(head.lower()):
        for code in LANGUAGES.get(word, ()):
            counts[code] += 1
    best, second = sorted(counts, key=lambda code: -counts[code])[:2]
    return best if counts[best] >= 2 and counts[best] > counts[second] else "und"


def is_code(text: str) -> bool:
    """`text` holds source code, or asks for some."""
    head = text[:READ_CHARS]
    lines = [line for line in head.splitlines() if line.strip()]
    code_lines = sum(CODE_LINE.match(line) is not None for line in lines)
    is_mostly = code_lines >= 2 and code_lines >= CODE_LINES_SHARE * len(lines)
    return is_mostly or FENCE.search(head) is not None or ASKS_FOR_CODE.search(head) is not None
