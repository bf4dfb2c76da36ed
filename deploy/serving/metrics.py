"""What a policy server counts, as Prometheus reads it: names begin with ``vla_``, times are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vla.deploy.engines.engine import Acted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of one server, in a registry of its own: several servers in a process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        name = ["policy"]
        self.requests = Counter("vla_requests", "Messages of clients.", name, registry=registry)
        self.errors = Counter("vla_errors", "Messages answered with an error.", [*name, "kind"], registry=registry)
        self.superseded = Counter("vla_superseded", "Messages that a newer one came before.", name, registry=registry)
        self.dropped = Counter("vla_dropped", "Connections that the server ended.", ["reason"], registry=registry)
        self.starts = Counter("vla_policy_restarts", "Starts of a policy that was gone.", name, registry=registry)
        self.version = Gauge("vla_policy_version", "Which version answers; the first is 1.", name, registry=registry)
        self.clients = Gauge("vla_clients", "Clients that have a place.", name, registry=registry)
        self.queue = Gauge("vla_queue", "Requests that wait for the policy.", name, registry=registry)
        self.ready = Gauge("vla_ready", "1 while the policy answers.", name, registry=registry)
        self.batch = Histogram("vla_batch_size", "Requests of a batch.", name, buckets=_SIZES, registry=registry)
        self.inference = Histogram(
            "vla_inference_seconds", "Time of the policy for a batch.", name, buckets=_SECONDS, registry=registry
        )
        self.request = Histogram(
            "vla_request_seconds", "From a message to its answer.", name, buckets=_SECONDS, registry=registry
        )

    def of(self, policy: str) -> "PolicyMetrics":
        """Those of one policy."""
        return PolicyMetrics(self, policy)

    def text(self) -> bytes:
        """What is answered to ``GET /metrics``."""
        return generate_latest(self.registry)


class PolicyMetrics:
    """The counts of one policy of a server."""

    def __init__(self, metrics: Metrics, policy: str) -> None:
        self.requests, self.superseded = metrics.requests.labels(policy), metrics.superseded.labels(policy)
        self.starts, self.version = metrics.starts.labels(policy), metrics.version.labels(policy)
        self.clients, self.queue = metrics.clients.labels(policy), metrics.queue.labels(policy)
        self.ready, self.request = metrics.ready.labels(policy), metrics.request.labels(policy)
        self._batch, self._inference = metrics.batch.labels(policy), metrics.inference.labels(policy)
        self._errors, self._policy = metrics.errors, policy

    def failed(self, kind: str) -> None:
        """A message was answered with an error."""
        self._errors.labels(self._policy, kind).inc()

    def acted(self, acted: Acted) -> None:
        """One batch."""
        if not acted.error:
            self._batch.observe(acted.size)
            self._inference.observe(acted.seconds)
