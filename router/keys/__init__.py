"""Who may ask, and how much: API keys, what they allow and the limits they carry. The store keeps them."""

from router.keys.key import Key, Limits, Scope, StoredKey

__all__ = ["Key", "Limits", "Scope", "StoredKey"]
