"""`shoal keys`: make, list and revoke API keys, in the store that the settings name. No instance has to run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from cluster.console import err, out, print_json
from cluster.environment import shoal_home
from cluster.options import ConfigOption, JsonOption, taking
from cluster.planning import store_address
from cluster.settings import load_settings
from replicas.errors import SettingsError
from router.keys.key import USUAL, Key, Limits, Scope, StoredKey, created, new_id
from router.store import Store, open_store

keys_app = typer.Typer(no_args_is_help=True, help="API keys: who may ask, and how much.")

MOST = 2**31
LIMITS = tuple(field.name for field in fields(Limits))
LIMIT_HELP = f"May be repeated; NAME is one of {', '.join(LIMITS)}."


@dataclass(frozen=True, slots=True)
class _Used:
    requests: int = 0
    tokens: int = 0
    last_day: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key is for, and what it may do."""

    name: Annotated[str, typer.Argument(help="What the key is for; shown by `list`.")]
    scope: Annotated[list[Scope] | None, typer.Option(help="May be repeated; default all but admin.")] = None
    limit: Annotated[list[str] | None, typer.Option(metavar="NAME=N", help=LIMIT_HELP)] = None
    weight: Annotated[float, typer.Option(min=0.01, max=100, help="Its share where keys wait for each other.")] = 1.0
    private: Annotated[bool, typer.Option("--private", help="What is asked with it never leaves for a cloud.")] = False

    def key(self) -> Key:
        """The key, made now. Raises SettingsError for a limit that there is not."""
        scopes = frozenset(self.scope) if self.scope else USUAL
        limits = limits_of(self.limit or [])
        return Key(new_id(), self.name, time.time(), scopes, limits, self.weight, is_private=self.private)


@keys_app.command("create")
@taking(Wanted)
def create(wanted: Wanted, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make a key and show its secret, once: it is not kept. From then on the service wants a key from everybody."""
    key = wanted.key()
    text, digest = created(key.id)
    with opened(config) as store:
        store.keys.add(StoredKey(key, digest))
    if as_json:
        print_json({**told(key, _Used()), "key": text})
        return
    out.print(text, highlight=False)
    err.print(f"key {key.id} for {key.name}: its secret is shown this once", highlight=False, markup=False)


@keys_app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the keys, what they allow, and what was used with them."""
    with opened(config) as store:
        keys = [stored.key for stored in store.keys.all()]
        totals = {id_: _Used(*found) for id_, found in store.usage.totals().items()}
    rows = [told(key, totals.get(key.id, _Used())) for key in keys]
    if as_json:
        print_json(rows)
    elif not rows:
        err.print('no keys: whoever reaches the service may use it; `shoal keys create "NAME"` makes one')
    else:
        out.print(table(rows))


@keys_app.command("revoke")
def revoke(id_: Annotated[str, typer.Argument(metavar="ID")], config: ConfigOption = None) -> None:
    """Make a key useless; running instances know within seconds."""
    with opened(config) as store:
        store.keys.revoke(id_, time.time())
    out.print(f"key {id_} is revoked", highlight=False)


def limits_of(written: Sequence[str]) -> Limits:
    """The limits that `NAME=N` ask for. Raises SettingsError."""
    found: dict[str, int] = {}
    for text in written:
        name, _, number = text.partition("=")
        if name not in LIMITS or not number.isdecimal() or not 0 < int(number) < MOST:
            raise SettingsError(f"--limit {text}: write NAME=N, N at least 1, and NAME one of {', '.join(LIMITS)}")
        found[name] = int(number)
    return Limits(**found)


@contextmanager
def opened(config: Path | None) -> Iterator[Store]:
    """The store of the settings, for the length of a block. Raises SettingsError, Unavailable."""
    store = open_store(store_address(load_settings(config), shoal_home()))
    try:
        yield store
    finally:
        store.close()


def told(key: Key, used: _Used) -> dict[str, object]:
    """All that may be shown of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "limits": asdict(key.limits),
        "weight": key.weight,
        "private": key.is_private,
        "created_at": _iso(key.created_at),
        "revoked_at": None if key.revoked_at is None else _iso(key.revoked_at),
        "used": asdict(used),
    }


def table(rows: list[dict[str, object]]) -> Table:
    """The keys, a line each."""
    narrow = [Column(name, no_wrap=True) for name in ("id", "state", "last used", "requests", "tokens")]
    shown = Table(*narrow, "name", "scopes", "limits", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        limits, used, scopes = row["limits"], row["used"], row["scopes"]
        assert isinstance(limits, dict)
        assert isinstance(used, dict)
        assert isinstance(scopes, list)
        words = [f"{limit:,} {name.replace('_per_', '/')}" for name, limit in limits.items() if limit is not None]
        words += ["private"] if row["private"] else []
        state = "active" if row["revoked_at"] is None else "revoked"
        counts = (used["last_day"] or "-", f"{used['requests']:,}", f"{used['tokens']:,}")
        shown.add_row(str(row["id"]), state, *counts, Text(str(row["name"])), " ".join(scopes), ", ".join(words) or "-")
    return shown


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
