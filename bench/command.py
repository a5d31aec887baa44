"""What the commands of this folder have in common: `--json`, where their figures go, and how they end."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.demo.service import Ended
from replicas.errors import ShoalError


def command(name: str, description: str, result: Path) -> argparse.ArgumentParser:
    """The arguments of `python -m NAME`, whose figures go to `result` unless `--json` says where."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--json", type=Path, default=result, help=f"where the figures go, default {result}")
    return parser


def keep(figures: Mapping[str, object], path: Path) -> None:
    """Write them, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")


def ending(main: Callable[[], None]) -> None:
    """Run `main` as the process: what was to stop it, or what it cannot do, is told by the exit status."""
    try:
        main()
    except Ended as ended:
        sys.exit(ended.exit_status)
    except ShoalError as error:
        sys.exit(f"error: {error}")
