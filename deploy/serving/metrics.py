"""What a policy server counts, as Prometheus reads it: names begin with ``vla_``, times are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of one server, in a registry of its own: several servers in a process do not mix."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("vla_requests", "Messages of clients.", registry=registry)
        self.errors = Counter("vla_errors", "Messages answered with an error.", ["kind"], registry=registry)
        self.dropped = Counter("vla_dropped", "Connections that the server ended.", ["reason"], registry=registry)
        self.starts = Counter("vla_policy_restarts", "Starts of the policy after the first.", registry=registry)
        self.clients = Gauge("vla_clients", "Clients that have a place.", registry=registry)
        self.queue = Gauge("vla_queue", "Requests that wait for the policy.", registry=registry)
        self.ready = Gauge("vla_ready", "1 while the policy answers.", registry=registry)
        self.batch = Histogram("vla_batch_size", "Requests of a batch.", buckets=_SIZES, registry=registry)
        self.inference = Histogram(
            "vla_inference_seconds", "Time of the policy for a batch.", buckets=_SECONDS, registry=registry
        )
        self.request = Histogram(
            "vla_request_seconds", "From a message to its answer.", buckets=_SECONDS, registry=registry
        )

    def inferred(self, size: int, seconds: float) -> None:
        """One batch of ``size`` requests."""
        self.batch.observe(size)
        self.inference.observe(seconds)

    def text(self) -> bytes:
        """What is answered to ``GET /metrics``."""
        return generate_latest(self._registry)
