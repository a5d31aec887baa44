"""Typed access to a GGUF file's key-value entries.

A getter either returns a value of the kind its name says or raises ModelImportError with the key in the words, so no
`KeyError` and no value of a surprising type gets past this file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeAlias

from replicas.errors import ModelImportError

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[str] | list[int] | list[float]


class Metadata:
    """The entries of one file. A getter without a default raises ModelImportError when the key is missing."""

    def __init__(self, path: Path, entries: Mapping[str, Value]) -> None:
        self.entries = entries
        self._path = path

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        return value if isinstance(value, str) else self._refuse(key, "text")

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        return (
            value if isinstance(value, int) and not isinstance(value, bool) else self._refuse(key, "one whole number")
        )

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        return float(value) if isinstance(value, int | float) else self._refuse(key, "one number")

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        return value if isinstance(value, bool) else self._refuse(key, "true or false")

    def texts(self, key: str) -> list[str]:
        return [item if isinstance(item, str) else self._refuse(key, "a list of text") for item in self._list(key)]

    def numbers(self, key: str) -> list[float]:
        items = self._list(key)
        return [float(item) if not isinstance(item, str) else self._refuse(key, "a list of numbers") for item in items]

    def integers(self, key: str) -> list[int]:
        items = self._list(key)
        return [item if isinstance(item, int) else self._refuse(key, "a list of whole numbers") for item in items]

    def _list(self, key: str) -> list[str] | list[int] | list[float]:
        value = self._get(key, None)
        return value if isinstance(value, list) else self._refuse(key, "a list")

    def _get(self, key: str, default: Scalar | None) -> Value:
        value = self.entries.get(key, default)
        if value is None:
            raise ModelImportError(
                str(self._path), f"its metadata lacks {key!r}; convert the model again with a current llama.cpp"
            )
        return value

    def _refuse(self, key: str, wanted: str) -> NoReturn:
        raise ModelImportError(str(self._path), f"its metadata {key!r} is not {wanted}")
