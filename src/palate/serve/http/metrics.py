"""What Prometheus is told: requests, answers, events, sizes; each service has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self.slates = Counter("palate_slates", "Slates answered", ("policy", "cold"), registry=self.registry)
        self.offered = Counter("palate_items_offered", "Items in slates", ("source",), registry=self.registry)
        self.lost_slates = Counter("palate_slates_not_logged", "Slates that could not be logged", registry=self.registry)
        self.items = Gauge("palate_catalogue_items", "Items that may be shown", registry=self.registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count and time a request."""
        known = method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH") else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)
