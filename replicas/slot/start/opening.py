"""From an export on disk to a model that runs: how large, on which provider, with how many threads."""

from dataclasses import dataclass

import onnxruntime as ort

from replicas.export import Export
from replicas.host import Host
from replicas.slot.config import SlotConfig
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.adapters import Adapters
from replicas.slot.model.forward import Forward
from replicas.slot.place import Provider
from replicas.slot.start.fitting import Fit, Question, fitted
from replicas.slot.start.providers import available, candidates, first_working, open_session
from replicas.slot.start.sizing import SPARE_ROWS, Sizes, Wanted
from replicas.slot.start.trial import try_step


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that has run a step."""

    forward: Forward
    slab: KvSlab
    sizes: Sizes
    threads: int
    provider: Provider
    fallbacks: tuple[tuple[str, str], ...]


def open_model(export: Export, config: SlotConfig, host: Host) -> Opened:
    """Open `export` on the first provider that works. Raises EngineFailed, SettingsError."""
    wanted = Wanted(config.slots, config.max_len, config.cache_bytes)

    def attempt(provider: Provider) -> tuple[Forward, KvSlab, Fit]:
        def opened(threads: int) -> ort.InferenceSession:
            return open_session(export, provider, threads, is_spinning=config.is_spinning)

        question = Question(
            export, provider, wanted, config.threads, config.calibrations, config.memory_share, config.is_spinning
        )
        fit = fitted(question, opened, host)
        sizes, threads = fit.sizes, fit.threads
        spins, max_len = config.is_spinning, sizes.max_len
        session = open_session(export, provider, threads, is_spinning=spins, max_len=max_len)
        adapters = Adapters(
            lambda: open_session(export, provider, threads, is_spinning=spins, with_lora=True, max_len=max_len),
            provider.device,
        )
        slab = KvSlab(export, sizes.slots + SPARE_ROWS, sizes.max_len, provider)
        forward = Forward(session, export, slab, sizes.slots, sizes.max_len, adapters)
        try_step(forward)
        return forward, slab, fit

    working = first_working(candidates(config.provider, available()), attempt)
    forward, slab, fit = working.made
    return Opened(forward, slab, fit.sizes, fit.threads, working.provider, working.fallbacks)
