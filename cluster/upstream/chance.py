"""Draws that a seed decides: the same names give the same number, in every process."""

import hashlib


def drawn(*names: object) -> float:
    """A number in [0, 1) that depends on `names` only."""
    digest = hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


def digits(*names: object) -> str:
    """24 hexadecimal digits that depend on `names` only."""
    return hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=12).hexdigest()
