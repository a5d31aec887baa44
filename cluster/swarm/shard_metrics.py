"""What the calls of swarms count, summed over all shards that have ended.

A shard is a process of its own for a while, with chains and breakers of its own: it hands its metrics over when it
ends, and one that dies takes them along. States (gauges) go with the process that had them.
"""

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client.metrics_core import Metric

Name: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Of a sample: its own, and its labels in order."""


class ShardMetrics:
    """Sums by family. Keeps as many samples as shards have kinds of, not as there are shards."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[Metric, dict[Name, float]]] = {}

    def add(self, families: Iterable[Metric]) -> None:
        """These are of a shard that has ended."""
        for family in families:
            if family.type == "gauge":
                continue
            empty = (Metric(family.name, family.documentation, family.type), dict[Name, float]())
            _, sums = self._families.setdefault(family.name, empty)
            for sample in family.samples:
                name = (sample.name, tuple(sorted(sample.labels.items())))
                sums[name] = sums.get(name, 0.0) + sample.value

    def families(self) -> list[Metric]:
        """The sums so far."""
        found = []
        for known, sums in self._families.values():
            family = Metric(known.name, known.documentation, known.type)
            for (name, labels), value in sums.items():
                family.add_sample(name, dict(labels), value)
            found.append(family)
        return found
