"""The work that both sides of `bench.stack` do: short, distinct prompts, answered to a fixed length."""

from replicas.engine import Message, Sampling

SUBJECTS = ("herring", "mackerel", "sardines", "anchovies", "tuna", "cod", "salmon", "eels")


def prompt(stream: int) -> tuple[Message, ...]:
    """The prompt of a stream, about twenty tokens, unlike any other's."""
    return (Message("user", f"Tell story number {stream} about {SUBJECTS[stream % len(SUBJECTS)]}."),)


def sampling(tokens: int) -> Sampling:
    """Greedy, exactly `tokens` long."""
    return Sampling(max_tokens=tokens, ignore_eos=True)
