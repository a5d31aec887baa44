"""The report in Markdown: each document with its summary and figures, the totals, and what they do not say."""

from datetime import datetime

from cluster.demo.board import Agent
from cluster.demo.documents import Passage
from cluster.demo.tally import Tally
from router.prices import price_list


def report(tally: Tally, agents: list[Agent], passages: list[Passage], made_at: datetime) -> str:
    """The whole file."""
    parts = [_head(tally, made_at), _totals(tally), _clouds(tally), _batches(tally), _table(agents), "## Summaries\n"]
    parts += [_summary(agent, passage) for agent, passage in zip(agents, passages, strict=True)]
    return "\n".join(parts)


def totals(tally: Tally) -> list[tuple[str, str]]:
    """The totals as pairs of words, for the report and the terminal alike."""
    who = tally.answering
    done = f"{tally.agents - tally.failed} of {tally.agents}" if tally.failed else str(tally.agents)
    return [
        ("agents", done),
        ("answered by", f"{who.model} on the {who.engine} engine ({who.provider}, {who.slots} slots)"),
        ("tokens", f"{tally.usage.prompt:,} read, {tally.usage.generated:,} written"),
        ("time", f"{tally.time_s:.1f} s from submit to the last token"),
        ("speed", f"{tally.tokens_s:.0f} tokens/s written, all agents together"),
        ("batches", f"{tally.batch_mean:.1f} agents per decode step on average, {tally.batch_max} at most"),
        *((f"on {price.id}", f"${usd:.4f} ({price.vendor})") for price, usd in tally.costs_usd()),
        ("here", "$0 for tokens"),
    ]


def _head(tally: Tally, made_at: datetime) -> str:
    return (
        f"# Shoal demo: {tally.agents} agents, one local model\n\n"
        f"Made on {made_at:%Y-%m-%d %H:%M} UTC by `shoal demo`. Each agent read one passage and said what it is about; "
        f"`{tally.answering.model}` on this machine answered all of them.\n\n"
        "> The default model has 135 million parameters. Its summaries are fluent, often repeat themselves and are "
        "sometimes wrong: they show that the cluster works, not what a larger model would write.\n"
    )


def _totals(tally: Tally) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in totals(tally))
    return f"## Totals\n\n| | |\n|---|---|\n{rows}\n"


def _clouds(tally: Tally) -> str:
    sources = "\n".join(
        f"- `{price.id}`: ${price.input_usd:g} in, ${price.output_usd:g} out per million tokens. Source: {price.source}"
        for price, _ in tally.costs_usd()
    )
    return (
        f"## What the same tokens would cost in a cloud\n\nList prices as of {price_list().as_of}. The counts are this "
        "model's tokens; a cloud's tokenizer counts the same text somewhat differently, and its model would write "
        f"better. Power and hardware here are not counted.\n\n{sources}\n"
    )


def _batches(tally: Tally) -> str:
    rows = "\n".join(f"| {rows} | {count} |" for rows, count in tally.batches.items())
    return (
        "## Batches\n\nA decode step runs the model once and gives every agent in it one token. "
        "Other requests that the same instance answered meanwhile are counted too.\n\n"
        f"| agents in the step | steps |\n|---:|---:|\n{rows}\n"
    )


def _table(agents: list[Agent]) -> str:
    rows = "\n".join(
        f"| {number} | {_cell(agent.name)} | {agent.usage.prompt} | {agent.usage.generated} | {agent.time_s:.1f} | "
        f"{agent.tokens_s:.1f} |"
        for number, agent in enumerate(agents, 1)
    )
    return (
        "## Agents\n\nTime counts from the call to its last token, waiting for a slot included.\n\n"
        f"| agent | read | tokens in | tokens out | s | tokens/s |\n|---:|---|---:|---:|---:|---:|\n{rows}\n"
    )


def _summary(agent: Agent, passage: Passage) -> str:
    shown, chars = len(passage.text), passage.chars
    read = f"all {chars:,} characters" if shown >= chars - 1 else f"the first {shown:,} of {chars:,} characters"
    said = agent.text.strip() or "(nothing)"
    if agent.error is not None:
        said = f"failed: {agent.error}"
    quoted = "\n".join(f"> {line}" for line in said.splitlines())
    cut = " The summary was cut at its token limit." if agent.finish == "length" else ""
    return f"### {_cell(passage.name)}\n\nRead {read} of plain text.{cut}\n\n{quoted}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
