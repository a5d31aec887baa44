"""Who is one and the same to an experiment: what keeps a variant, and what counts once, however much it asks.

Variants are drawn for it (router/experiments/assignment.py), so what is said of one unit is not independent.
"""

from router.answer_id import first_id


def unit_of(session: str | None, key_id: str, id_: str) -> str:
    """The session, else the key, else the request alone that an answer `id_` is to. No session or key is empty."""
    if session:
        return f"session {session}"
    return f"key {key_id}" if key_id else f"request {first_id(id_)}"
