"""`python -m replicas.slot.start.probe PROVIDER [MODEL]`: does a provider work here? One JSON line on stdout.

A process of its own, because a broken driver may crash or hang its process: who asks sets a deadline and reads what
came. Without a model one node is run; with the folder of an export, a prompt of two tokens and one decode step.
"""

import json
import logging
import sys
import time
from pathlib import Path

from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import Forward
from replicas.slot.place import PREFERENCE, Provider
from replicas.slot.start import devices
from replicas.slot.start.providers import open_session
from replicas.slot.start.trial import try_step

_logger = logging.getLogger(__name__)

_TOKENS = 16


def probed(provider: Provider, model: Path | None) -> dict[str, object]:
    """`seconds` it took and the device's `free_bytes`, or the `reason` why it does not work."""
    began_s = time.perf_counter()
    try:
        devices.require_device(provider)
        free_bytes = devices.free_bytes(provider)
        if model is not None:
            _step(provider, Export.load(model))
    except Exception as error:
        _logger.exception("%s does not work", provider.name)
        return {"reason": error.reason if isinstance(error, EngineFailed) else " ".join(str(error).split())}
    return {"seconds": round(time.perf_counter() - began_s, 3), "free_bytes": free_bytes}


def _step(provider: Provider, export: Export) -> None:
    session = open_session(export, provider, 1, is_spinning=False)
    forward = Forward(session, export, KvSlab(export, 1, _TOKENS, provider), 1, _TOKENS)
    try_step(forward)
    forward.close()


def main() -> int:
    name, *rest = sys.argv[1:]
    provider = next(provider for provider in PREFERENCE if provider.name == name)
    answer = probed(provider, Path(rest[0]) if rest else None)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "reason" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
