"""What Prometheus asks for at `/metrics`."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # when a count began tells nothing here
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.registry = registry
        self.requests = Counter("agfas_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "agfas_request_seconds", "Seconds from a request's headers to its answer.", ["path"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.batch = Histogram(
            "agfas_batch_files", "Files that a worker was given at once.", buckets=_BATCHES, registry=registry
        )
        self.waiting = Gauge("agfas_waiting_files", "Files in the queue.", registry=registry)
        self.workers = Gauge("agfas_workers_ready", "Workers with a loaded model.", registry=registry)
        self.restarts = Counter("agfas_worker_restarts", "Workers that ended and were replaced.", registry=registry)
        self.verdicts = Counter("agfas_verdicts", "Files by verdict.", ["verdict"], registry=registry)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
