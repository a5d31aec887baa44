"""What LiteLLM's proxy writes down of each answer, as Shoal's ledger does of its own: who, which model, how many
tokens, what it cost. LiteLLM imports this in its own environment; a line of JSON an answer, to the file of LOG_FILE.
"""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from litellm.integrations.custom_logger import CustomLogger

LOG_FILE = "BENCH_GATEWAY_LOG"


class AnswerLog(CustomLogger):  # type: ignore[misc]  # LiteLLM is not installed where this is checked
    """Keeps the file open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("a", buffering=1)

    async def async_log_success_event(
        self, kwargs: Mapping[str, object], response_obj: object, start_time: datetime, end_time: datetime
    ) -> None:
        """An answer has ended."""
        told = kwargs.get("standard_logging_object")
        found = told if isinstance(told, Mapping) else {}
        names = ("model", "prompt_tokens", "completion_tokens", "response_cost", "response_time")
        key = found.get("metadata")
        line = {name: found.get(name) for name in names}
        line["key"] = key.get("user_api_key_hash") if isinstance(key, Mapping) else None
        self._file.write(json.dumps(line) + "\n")


log = AnswerLog(Path(os.environ[LOG_FILE]))
