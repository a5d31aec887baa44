"""Names that callers make up (agents, jobs), as they may be stored: of bounded length, and text to any database."""

LIMIT = 200


def label(text: str) -> str:
    """`text` without what PostgreSQL refuses (NUL, halves of characters), cut to LIMIT characters."""
    if len(text) <= LIMIT and text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:LIMIT]
