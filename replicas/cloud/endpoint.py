"""Where a cloud is, and how long it may be silent. Its key is read from the environment by name, and kept nowhere."""

from collections.abc import Mapping
from dataclasses import dataclass

from replicas.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service. `name` is the pool's; `base_url` is what its SDK takes: Anthropic's is without `/v1`, OpenAI's has it.

    `key_env` names the environment variable with the key; None: it wants none. A stream of which nothing comes for
    `quiet_s` is given up (Anthropic and OpenRouter send something every few seconds), a connection after `connect_s`.
    """

    name: str
    base_url: str
    key_env: str | None = None
    quiet_s: float = 120.0
    connect_s: float = 10.0

    def key(self, environment: Mapping[str, str]) -> str:
        """The key. Raises Unavailable if the variable is not set."""
        if self.key_env is None:
            return ""
        key = environment.get(self.key_env, "").strip()
        if not key:
            raise Unavailable(f"the cloud {self.name}", f"set {self.key_env} to its key")
        return key
