"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server, apart from those of another in the same process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "headstart_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "headstart_request_seconds",
            "From the headers of a request to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.items = Counter("headstart_items", "Items predicted for.", registry=self.registry)
        self.shed = Counter("headstart_shed", "Requests given up, by reason.", ["reason"], registry=self.registry)
        self.waiting = Gauge("headstart_waiting_items", "Items that wait for a lane.", registry=self.registry)
        self.batch = Histogram(
            "headstart_batch_items", "Items that a lane takes at a time.", buckets=ITEMS, registry=self.registry
        )

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
