"""The slot engine: many requests on one model, a row of KV cache each."""

from replicas.slot.config import SlotConfig
from replicas.slot.engine import SlotEngine, SlotStream

__all__ = ["SlotConfig", "SlotEngine", "SlotStream"]
