"""The metrics of one ingress, and the page that joins them with those of every replica."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric

from deployments.replica_metrics import labelled, merged


class IngressMetrics:
    """What the HTTP edge counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "shoal_http_requests", "HTTP requests done", ["method", "route", "status"], registry=self.registry
        )
        self.waiting = Gauge("shoal_http_queued", "Requests whose turn is to come", registry=self.registry)
        self.lost = Counter("shoal_store_lost_records", "Records that could not be written", registry=self.registry)
        self.in_flight = Gauge("shoal_http_answers_in_flight", "Answers under way", registry=self.registry)

    def observe_request(self, method: str, route: str, status: int) -> None:
        """A request is done. `route` is a path template: a closed set."""
        known = method if method in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} else "other"
        self.requests.labels(known, route, str(status)).inc()


class _Families:
    """Families that were collected elsewhere, in the form that `generate_latest` reads."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families


def metrics_page(ingress: IngressMetrics, replicas: list[Metric]) -> bytes:
    """The Prometheus text page: this ingress, and every replica under its own labels."""
    own = [labelled(family, {}) for family in ingress.registry.collect()]
    return page_of(merged([*own, *replicas]))


def page_of(families: list[Metric]) -> bytes:
    """The Prometheus text page of `families`."""
    return generate_latest(_Families(families))
