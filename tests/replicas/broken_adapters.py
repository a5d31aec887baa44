"""Adapters that a model cannot use: each function writes one into a folder and returns words of the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.models import Tiny
from tests.replicas.peft import random_pairs, write_peft

Harm: TypeAlias = Callable[[Path], str]


def torn_config(folder: Path) -> str:
    """An adapter_config.json that ends after its first character."""
    (write_peft(folder, random_pairs()) / "adapter_config.json").write_text("{")
    return "adapter_config.json"


def torn_weights(folder: Path) -> str:
    """A file of weights that was cut off."""
    file = write_peft(folder, random_pairs()) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    return "adapter_model.safetensors"


def wrong_about(folder: Path) -> str:
    """An adapter.json of another shape."""
    (write_peft(folder, random_pairs()) / "adapter.json").write_text('{"purpose": 5}')
    return "adapter.json: purpose"


def other_model(folder: Path) -> str:
    """Weights for a wider model."""
    write_peft(folder, random_pairs(Tiny(hidden=128, heads=8)))
    return "another model"


HARMS = (torn_config, torn_weights, wrong_about, other_model)
