"""A report as people read it: one block per replica, a line per thing that an engine can tell."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.status.rates import Rates, RatesByReplica
from cluster.status.report import ReplicaState, Report
from replicas.engine import EngineStats

MB = 1e6
BATCH_EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 1024)  # 1024 is the most slots that the settings take


def view(reports: Sequence[Report], rates: RatesByReplica, *, with_processes: bool) -> RenderableType:
    """Every instance. A replica without rates is shown with its totals alone."""
    parts: list[RenderableType] = []
    for report in reports:
        parts.append(_head(report))
        for engine in report.engines:
            parts.append(Text(f"{engine.model}  {what(engine.stats)}", style="bold cyan"))
            parts.append(_facts(engine, rates.get(engine.key)))
        if with_processes:
            parts.append(_processes(report))
    return Group(*parts)


def what(stats: EngineStats) -> str:
    """What the engine is, in a line."""
    words = [f"{stats.engine} engine", f"on {stats.provider}", f"{stats.context_tokens:,} tokens of context"]
    if stats.threads:
        words.append(f"{stats.threads} threads")
    words.append(stats.determinism)
    return ", ".join([*words, *([] if stats.is_healthy else ["NOT HEALTHY"])])


def facts(stats: EngineStats, rates: Rates | None) -> Iterator[tuple[str, str]]:
    """Name and words of everything that is worth a line; what never happened has none."""
    yield "slots", f"{stats.slots_used} of {stats.slots} used, {stats.queued} waiting"
    yield "tokens", _tokens(stats, rates)
    if stats.batch_sizes:
        yield "batches", _batches(stats, rates)
    if stats.prefill_s_total or stats.decode_s_total:
        yield "time", _time(stats, rates)
    yield "KV", f"{stats.kv_bytes / MB:,.0f} MB, {stats.kv_used_ratio:.0%} used"
    if stats.cache_limit_bytes:
        yield "cache", _cache(stats, rates)
    yield from _seldom(stats, rates)


def _seldom(stats: EngineStats, rates: Rates | None) -> Iterator[tuple[str, str]]:
    if stats.preemptions_total or stats.restarts_total:
        yield "given way", _breaks(stats)
    if stats.draft_tokens_total:
        accepted = rates.accepted_ratio if rates else stats.accepted_tokens_total / stats.draft_tokens_total
        yield "guessed", f"{stats.draft_tokens_total:,} tokens ahead, {_percent(accepted)} right"
    if stats.forced_tokens_total:
        yield "dictated", f"{stats.forced_tokens_total:,} tokens by grammars"
    if stats.adapters:
        yield "adapters", ", ".join(stats.adapters)
    for provider, why in stats.fallbacks:
        yield "not used", f"{provider}: {why}"


def _tokens(stats: EngineStats, rates: Rates | None) -> str:
    prompt = stats.prompt_tokens_total + stats.cached_tokens_total
    words = f"{prompt:,} read, {stats.generated_tokens_total:,} written"
    if rates is None:
        return words
    return f"{rates.prompt_tokens_s:,.0f}/s read, {rates.generated_tokens_s:,.0f}/s written ({words})"


def _batches(stats: EngineStats, rates: Rates | None) -> str:
    steps = "  ".join(
        f"{low + 1}-{high}: {count:,}" if high > low + 1 else f"{high}: {count:,}"
        for low, high in pairwise(BATCH_EDGES)
        if (count := sum(steps for rows, steps in stats.batch_sizes if low < rows <= high))
    )
    mean = rates.rows_per_step if rates else None
    return f"steps by rows  {steps}" if mean is None else f"{mean:.1f} rows a step now; steps by rows  {steps}"


def _time(stats: EngineStats, rates: Rates | None) -> str:
    if rates is None:
        return f"{stats.prefill_s_total:,.1f} s on prompts, {stats.decode_s_total:,.1f} s on answers"
    return f"{_percent(rates.prefill_ratio)} on prompts, {_percent(rates.decode_ratio)} on answers"


def _cache(stats: EngineStats, rates: Rates | None) -> str:
    words = f"{stats.cache_bytes / MB:,.0f} of {stats.cache_limit_bytes / MB:,.0f} MB"
    prompt = stats.prompt_tokens_total + stats.cached_tokens_total
    hits = rates.cached_ratio if rates else stats.cached_tokens_total / prompt if prompt else None
    words += f", {_percent(hits)} of prompt tokens reused ({stats.cached_tokens_total:,} in all)"
    return words + (f", {stats.recomputed_tokens_total:,} made anew" if stats.recomputed_tokens_total else "")


def _breaks(stats: EngineStats) -> str:
    words = f"{stats.preemptions_total:,} times, {stats.restarts_total:,} restarts"
    return f"{words}, {stats.replayed_tokens_total:,} tokens decoded again"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def _head(report: Report) -> RenderableType:
    total_mb = sum(int(str(process["unique_bytes"])) for process in report.processes) / MB
    text = Text.assemble((report.instance.url, "bold"), f"  process {report.instance.pid}, {total_mb:,.0f} MB in all")
    return text if report.service is not None else text.append("  not answering", style="yellow")


def _facts(engine: ReplicaState, rates: Rates | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(style="dim", min_width=10)
    table.add_column()
    for name, words in facts(engine.stats, rates):
        table.add_row(name, Text(words))
    return table


def _processes(report: Report) -> Table:
    listing = Table("pid", "process", "own MB", "resident MB", box=None)
    for process in report.processes:
        own, resident = (f"{int(str(process[key])) / MB:.0f}" for key in ("unique_bytes", "resident_bytes"))
        listing.add_row(str(process["pid"]), Text(str(process["name"])), own, resident)
    return listing
