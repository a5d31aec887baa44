"""Where commands print: results on stdout, progress and errors on stderr."""

import json
import sys

from rich.console import Console

out = Console(soft_wrap=True, emoji=False)  # what a model says is printed as it is
err = Console(stderr=True, soft_wrap=True, emoji=False)


def print_json(tree: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def print_json_line(tree: object) -> None:
    """One JSON document on a line of its own, at once."""
    sys.stdout.write(json.dumps(tree, ensure_ascii=False) + "\n")
    sys.stdout.flush()
