"""What Prometheus is told: requests, answers, events, sizes; each service has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from palate.serve.service import Service

#: Upper edges of the latency histogram, in seconds.
EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Meters:
    """The meters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter("palate_requests", "Requests by route and status", labels, registry=self.registry)
        self._seconds = Histogram(
            "palate_request_seconds", "Seconds a request took", ("route",), buckets=EDGES, registry=self.registry
        )
        self.events = Counter("palate_events", "Events kept", registry=self.registry)
        self.repeated = Counter("palate_events_repeated", "Events that were known already", registry=self.registry)
        self._slates = Counter("palate_slates", "Slates answered", ("policy", "cold"), registry=self.registry)
        self._offered = Counter("palate_items_offered", "Items in slates", ("source",), registry=self.registry)
        self.items = Gauge("palate_catalogue_items", "Items that may be shown", registry=self.registry)

    def watch(self, service: Service) -> None:
        """Tell also what a service counts itself."""
        self.registry.register(_Watched(service))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count and time a request."""
        known = method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH") else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def slate(self, policy: str, cold: bool, sources: Mapping[str, int]) -> None:
        """Count a slate, and its items by the source that ranked each highest."""
        self._slates.labels(policy, str(cold).lower()).inc()
        for source, items in sources.items():
            self._offered.labels(source).inc(items)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)


class _Watched(Collector):
    """What a service counts itself, read when it is asked for."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        """Return the figures as they are now."""
        service = self.service
        for kind, lost in service.lost.items():
            yield CounterMetricFamily(f"palate_{kind}_not_logged", f"{kind.title()} that could not be logged", lost)
        failures = service.succession.failures
        yield CounterMetricFamily("palate_model_loads_failed", "Activated models that could not be loaded", failures)
        behind = float(service.succession.behind)
        yield GaugeMetricFamily("palate_model_behind", "1 while another model answers than the store wants active", behind)
        words = "Answers by the control because a variant could not answer"
        replaced = CounterMetricFamily("palate_variant_replaced", words, labels=("experiment", "variant"))
        for names, answers in list(service.arms.replaced.items()):
            replaced.add_metric(names, answers)
        yield replaced
        words = "Answers without the policy that explores, because the request lacked a number that it reads"
        lacked = CounterMetricFamily("palate_policy_not_asked", words, labels=("model", "column"))
        for policy in service.shelf.policies():
            for column, answers in list(policy.lacked.items()):
                lacked.add_metric((policy.version, column), answers)
        yield lacked
        resting = float(len({rest.experiment for rest in service.arms.resting()}))
        yield GaugeMetricFamily("palate_experiments_resting", "Running experiments that rest: a variant can't answer", resting)
