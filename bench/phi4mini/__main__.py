"""Phi-4-mini's shape in INT4: `python -m bench.phi4mini [--switch-tokens N] [--prompt-tokens N]`.

Made with random weights at the first use (25 s, 2.4 GB); `MODEL=FOLDER` takes real ones. Prints what is resident with a
context of 4096 tokens full, decoding against what the memory can deliver, and the crossing of the LongRoPE switch,
which reads the whole prompt three times. `--switch-tokens 256` makes that cheap; together with `--prompt-tokens 4090`
nothing is crossed and the prompt is read once.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench.models.making import made
from bench.models.shapes import phi4_mini
from bench.phi4mini.memory import read_bytes_s
from bench.phi4mini.session import PAST_SWITCH, Found, session, size_of
from cluster.environment import shoal_home
from replicas.errors import ShoalError
from replicas.export import Export

RESULT = Path("bench/results/phi4mini.json")
RSS_AIM_BYTES = 4 << 30
GAP_TOKENS = 6


def table(export: Export, found: Found, bytes_s: float) -> str:
    """For people."""
    weights, gib = size_of(export.model_file), 1 << 30
    lines = [
        f"resident: {found.opened_bytes / gib:.2f} GiB opened, {found.full_bytes / gib:.2f} GiB with "
        f"{found.context_tokens} tokens, aim below {RSS_AIM_BYTES / gib:.0f}: "
        f"{'reached' if found.full_bytes < RSS_AIM_BYTES else 'MISSED'}",
        f"memory is read at {bytes_s / 1e9:.1f} GB/s; prefill {found.prefill_tokens_s:.1f} tokens/s",
    ]
    for name, rate, tokens in (
        ("short", found.short_decode_tokens_s, 0),
        ("full", found.long_decode_tokens_s, found.context_tokens),
    ):
        limit = bytes_s / (weights + tokens * export.kv_token_bytes)
        lines.append(
            f"decode, {name} context: {rate:.2f} tokens/s, {rate / limit:.0%} of the {limit:.2f} that memory allows"
        )
    if found.crossing is None:
        lines.append("the LongRoPE switch was not crossed")
    else:
        verdict = "the same tokens as when read under the long factors" if found.crossing.is_right else "WRONG tokens"
        lines.append(f"crossing {found.crossing.switch_tokens} tokens: {found.crossing.pause_s:.1f} s, then {verdict}")
    return "\n".join(lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.phi4mini", description="A 3.8 B INT4 model on this machine.")
    parser.add_argument("--switch-tokens", type=int, default=4096, help="of the random model's rotary cache")
    parser.add_argument("--prompt-tokens", type=int, help=f"of the long prompt, default {GAP_TOKENS} below the switch")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, default=RESULT, help=f"where the figures go, default {RESULT}")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    real = os.environ.get("MODEL")
    folder = Path(real) if real else made(shoal_home() / "bench", phi4_mini(chosen.switch_tokens))
    export = Export.load(folder)
    switch = export.rope_switch_tokens or export.context_tokens
    prompt_tokens = chosen.prompt_tokens or min(switch, 4096) - GAP_TOKENS
    print(f"{export.name}, {chosen.threads} threads, a prompt of {prompt_tokens} tokens, {PAST_SWITCH} past the switch")
    bytes_s = read_bytes_s(chosen.threads)
    found = session(export, chosen.threads, prompt_tokens)
    print(table(export, found, bytes_s))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    head = {"command": "python -m bench.phi4mini", "model": export.name, "threads": chosen.threads}
    figures = {"read_bytes_s": bytes_s, "weight_bytes": size_of(export.model_file), **asdict(found)}
    chosen.json.write_text(json.dumps({**head, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ShoalError as error:
        sys.exit(f"error: {error}")
