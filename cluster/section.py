"""What every part of the settings tree is: frozen, and an error for a key that nobody knows."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the tree. Errors never quote what was written: it may be a key in the wrong place."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
