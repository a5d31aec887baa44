"""Shoal as a side: a real `shoal up` with a cloud, a key with a budget, its ledger, and privacy as it is by default.

Its one local model is the echo engine, which is not asked; its processes count all the same, as do Ray's.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.gateway.load import Target
from bench.gateway.side import BUDGET_USD, CHAT, SHOAL, TOKEN_USD, Side
from bench.gateway.upstream import AT_ONCE, PACED
from cluster.demo.service import temporary_service
from cluster.environment import shoal_home
from cluster.planning import store_address
from cluster.settings import Settings, validated
from router.keys import Key, StoredKey
from router.keys.key import created, new_id
from router.store import open_store

CLOUD = "upstream"
MILLION = 1_000_000


@contextmanager
def shoal(upstream_port: int) -> Iterator[Side]:
    """A running instance in front of the upstream."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        settings = settings_for(upstream_port, Path(folder))
        store = open_store(store_address(settings, shoal_home()))
        try:
            key = Key(new_id(), "bench", time.time())
            text, digest = created(key.id)
            store.keys.add(StoredKey(key, digest))
            with temporary_service(shoal_home(), settings) as service:
                models = (f"{CLOUD}/{AT_ONCE}", f"{CLOUD}/{PACED}")
                yield Side(
                    SHOAL,
                    Target(service.port, CHAT, models, text),
                    service.pid,
                    lambda: sum(entry.answers for entry in store.ledger.since("") if entry.key_id == key.id),
                )
        finally:
            store.close()


def settings_for(upstream_port: int, folder: Path) -> Settings:
    """A cloud with prices and a budget for each key, the store in `folder`."""
    price = TOKEN_USD * MILLION
    tree = {
        "models": [{"name": "echo", "engine": {"kind": "echo"}}],
        "clouds": [
            {
                "name": CLOUD,
                "kind": "openai",
                "base_url": f"http://127.0.0.1:{upstream_port}/v1",
                "models": [{"name": AT_ONCE}, {"name": PACED}],
            }
        ],
        "budgets": [{"name": "bench", "usd": BUDGET_USD, "each": "key"}],
        "costs": {
            "prices": [{"name": name, "input": price, "output": price} for name in (AT_ONCE, PACED)],
        },
        "store": {"url": f"sqlite:///{folder / 'store.sqlite'}"},
    }
    return validated(tree, "bench.gateway")
