"""The only module that reads the environment, but for secrets: those are read where they are used, from the variable
that the settings name."""

import os
from pathlib import Path


def shoal_home() -> Path:
    """Where models, job journals and instance records live: `SHOAL_HOME`, by default ~/.cache/shoal."""
    return Path(os.environ.get("SHOAL_HOME") or Path.home() / ".cache" / "shoal").expanduser()


def credentials() -> dict[str, str]:
    """The headers that show the API key of this user: `SHOAL_API_KEY`. Empty without one."""
    key = os.environ.get("SHOAL_API_KEY")
    return {"x-api-key": key} if key else {}


def serve_environment(port: int, internal_port: int) -> dict[str, str]:
    """What Ray Serve must find in the environment of every process of an instance that answers on `port`.

    Direct ingress: the ingress replica itself listens on `port`; Serve's own proxy, which it starts all the same,
    is moved to `internal_port`. Throughput mode runs our code on the replica's main loop (no second thread, no second
    hop between them). A freed port must be had again at once when the ingress is restarted: no quarantine. Ray would
    run its workers as background work (nice 15), which ours are not: somebody waits for them.
    """
    return {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # a thousand lines would be lost with their process
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def apply(variables: dict[str, str]) -> None:
    """Set `variables` for this process and all it starts. Ray reads them at import: call before importing ray."""
    os.environ.update(variables)
