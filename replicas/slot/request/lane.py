"""Which rows may share a call of the model: those of one lane."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lane:
    """A LoRA adapter, None for the bare model, and a regime of LongRoPE.

    A graph with LongRoPE takes the long rotary factors for a whole call or the short ones for a whole call, by the
    width of its mask. All that a row holds must be of one regime: a row that grows beyond the switch
    (`Export.rope_switch_tokens`) is prefilled again as one that `is_long`.
    """

    adapter: str | None = None
    is_long: bool = False


BARE = Lane()
"""The model as it is: every row of a model that has neither adapters nor LongRoPE."""
