"""What a plan asks of this machine, where all replicas will be on it: told before anything starts."""

from collections.abc import Sequence

from deployments.plan import AppPlan, PoolPlan
from replicas.errors import SettingsError
from replicas.slot.place import PREFERENCE

_INSTALL = {
    "cuda": "pip uninstall onnxruntime onnxruntime-genai; pip install 'shoal[gpu]'",
    "dml": "pip uninstall onnxruntime; pip install onnxruntime-directml",
    "webgpu": "pip uninstall onnxruntime; pip install onnxruntime-webgpu",
    "cpu": "pip install --force-reinstall 'shoal[cpu]'",
}


def require_possible(plan: AppPlan, available: Sequence[str], cores: int) -> None:
    """Raises SettingsError for a pool that cannot run here. `available`: the providers here by onnxruntime's names;
    `cores` are those that this process may use."""
    for pool in plan.pools:
        threads = pool.engine.threads
        if pool.engine.kind != "echo" and threads is not None and threads > cores:
            words = f"engine.threads {threads} is more than this machine has cores: at most {cores}"
            raise SettingsError(f"{pool.model}: {words}")
        if pool.engine.kind == "slot" and pool.engine.provider is not None:
            _require_provider(pool, pool.engine.provider, available)


def _require_provider(pool: PoolPlan, wanted: str, available: Sequence[str]) -> None:
    have = [provider.name for provider in PREFERENCE if provider.ort_name in available]
    if wanted not in have:
        raise SettingsError(
            f"{pool.model}: engine.provider {wanted!r} is not in this onnxruntime, which has: {', '.join(have)}; "
            f"choose one of these, leave it out, or install another build: {_INSTALL[wanted]}"
        )
