"""LiteLLM's proxy as a side, in an environment of its own under SHOAL_HOME/bench, made at the first run.

With its master key, a budget for the provider, and a log of each answer (bench/gateway/litellm_log.py). Its virtual
keys live in a database behind Prisma, whose engine no package registry has: so it looks nothing up in a database here,
which spares it work that Shoal does.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from bench.gateway.load import Target
from bench.gateway.side import BUDGET_USD, CHAT, LITELLM, TOKEN_USD, Side
from bench.gateway.upstream import AT_ONCE, PACED
from cluster.instance import free_port

VERSION = "1.102.4"
REQUIREMENTS = Path(__file__).with_name("litellm.txt")
LOG_FILE = "BENCH_GATEWAY_LOG"
START_WAIT_S = 120.0
POLL_S = 0.2


class Missing(Exception):
    """LiteLLM cannot run here; the words say why."""


def installed(home: Path) -> Path:
    """The interpreter of an environment that has LiteLLM's proxy; made if it is not there. Raises Missing."""
    place = home / "bench" / f"litellm-{VERSION}"
    python, mark = place / "bin" / "python", place / "installed"
    if mark.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    print(f"installing LiteLLM {VERSION} into {place}", file=sys.stderr)
    venv.create(place, with_pip=True)
    wanted = ["-r", str(REQUIREMENTS)]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *wanted],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Missing(f"pip could not install it: {(done.stdout.strip().splitlines() or ['no words'])[-1]}")
    mark.touch()
    return python


@contextmanager
def litellm(upstream_port: int, home: Path) -> Iterator[Side]:
    """A running proxy in front of the upstream. Raises Missing."""
    python = installed(home)
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory(prefix="litellm-bench-") as folder:
        place = Path(folder)
        config, log = place / "config.yaml", place / "answers.jsonl"
        config.write_text(yaml.safe_dump(settings_for(upstream_port, key)), "utf-8")
        shutil.copy(Path(__file__).with_name("litellm_log.py"), place)
        command = [str(python.with_name("litellm")), "--config", str(config), "--port", str(port)]
        with (
            (place / "proxy.log").open("wb") as sink,
            subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--num_workers", "1"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment(log),
                cwd=place,
            ) as proxy,
        ):
            try:
                _wait_alive(proxy, port, place / "proxy.log")
                yield Side(LITELLM, Target(port, CHAT, (AT_ONCE, PACED), key), proxy.pid, lambda: _lines(log))
            finally:
                proxy.kill()


def environment(log: Path) -> dict[str, str]:
    """Its own advice for production, and nothing fetched at the start."""
    return {
        **os.environ,
        LOG_FILE: str(log),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_TELEMETRY": "False",
    }


def settings_for(upstream_port: int, key: str) -> dict[str, object]:
    """Its config.yaml."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                "api_key": "none",
                "input_cost_per_token": TOKEN_USD,
                "output_cost_per_token": TOKEN_USD,
            },
        }
        for name in (AT_ONCE, PACED)
    ]
    return {
        "model_list": models,
        "litellm_settings": {"callbacks": ["litellm_log.log"], "request_timeout": 600, "set_verbose": False},
        "router_settings": {"provider_budget_config": {"openai": {"budget_limit": BUDGET_USD, "time_period": "1d"}}},
        "general_settings": {"master_key": key},
    }


def _wait_alive(proxy: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    give_up_s = time.monotonic() + START_WAIT_S
    while time.monotonic() < give_up_s and proxy.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5.0, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(POLL_S)
    last = log.read_text("utf-8", errors="replace").strip().splitlines()[-8:]
    raise Missing("the proxy did not start:\n" + "\n".join(last))


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0
