"""All metrics of the services (docs/contracts.md, section 6), on a registry of their own, and their HTTP endpoint."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.admission import Admission
from services.common.cpu_core import starting_anywhere

_LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip


class MethodMetrics:
    """The series of one method, looked up once: a look-up takes longer than what is done with it."""

    def __init__(self, metrics: "ServiceMetrics", method: str) -> None:
        self.in_flight = metrics.rpc_in_flight.labels(method)
        self._duration = metrics.rpc_duration.labels(method)
        self._requests: dict[str, Counter] = {}
        self._label = partial(metrics.rpc_requests.labels, method)

    def count(self, code: str) -> None:
        """Counts a finished call."""
        counter = self._requests.get(code)
        if counter is None:
            counter = self._requests[code] = self._label(code)
        counter.inc()

    def finish(self, code: str, duration_s: float) -> None:
        """Counts a finished call that has taken so long."""
        self.count(code)
        self._duration.observe(duration_s)


class ServiceMetrics:
    """Metrics that every service has."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rpc_requests = Counter(
            "naiad_rpc_requests_total", "Finished calls.", ["method", "code"], registry=self.registry
        )
        self.rpc_duration = Histogram(
            "naiad_rpc_duration_seconds",
            "Time from the arrival of a call to its end.",
            ["method"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.rpc_in_flight = Gauge("naiad_rpc_in_flight", "Calls in flight.", ["method"], registry=self.registry)
        self.requests_rejected = Counter(
            "naiad_requests_rejected_total",
            "Calls that ended with an error, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.event_loop_tasks = Gauge(
            "naiad_event_loop_tasks", "Tasks of the event loop, those of calls among them.", registry=self.registry
        )
        self.tokenized_tokens = Counter(
            "naiad_tokenized_tokens_total", "Tokens that texts were split into.", ["model"], registry=self.registry
        )
        self._methods: dict[str, MethodMetrics] = {}

    def of_method(self, method: str) -> MethodMetrics:
        """The series of a method, which must be one that exists: they are kept."""
        found = self._methods.get(method)
        if found is None:
            found = self._methods[method] = MethodMetrics(self, method)
        return found


class TritonMetrics:
    """Metrics of the services that talk to Triton, of each of theirs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["endpoint"], registry=registry)

        self.triton_up = Gauge("naiad_triton_up", "1 when at least one Triton is ready, else 0.", registry=registry)
        self.endpoint_up = gauge("naiad_triton_endpoint_up", "1 when this Triton is ready, else 0.")
        self._tokens = gauge(
            "naiad_triton_tokens_in_flight", "Tokens (prompts, and asked-for new ones) of requests that a Triton has."
        )
        self._requests = gauge("naiad_triton_requests_in_flight", "Requests that a Triton has.")
        self.ejections = Counter(
            "naiad_triton_ejections_total",
            "Times that a Triton in service was given up.",
            ["endpoint"],
            registry=registry,
        )
        self.failovers = Counter(
            "naiad_failovers_total", "Times that a request went on at another Triton.", registry=registry
        )

    def add_endpoint(self, endpoint: str, tokens: Callable[[], float], requests: Callable[[], float]) -> None:
        """Shows a Triton, down at first."""
        self.endpoint_up.labels(endpoint).set(0)
        self._tokens.labels(endpoint).set_function(tokens)
        self._requests.labels(endpoint).set_function(requests)
        self.ejections.labels(endpoint)

    def remove_endpoint(self, endpoint: str) -> None:
        """Shows a Triton no longer."""
        for metric in (self.endpoint_up, self._tokens, self._requests, self.ejections):
            metric.remove(endpoint)


class FrontendMetrics:
    """Generation as the client sees it, measured from the arrival of the call."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ["model"], buckets=_LATENCY_BUCKETS_S, registry=registry)

        self.time_to_first_token = histogram(
            "naiad_frontend_time_to_first_token_seconds", "Time from the arrival of a call to its first new token."
        )
        self.inter_token_latency = histogram(
            "naiad_frontend_inter_token_latency_seconds", "Time between two new tokens of a completion."
        )
        self.request_latency = histogram(
            "naiad_frontend_request_latency_seconds",
            "Time from the arrival of a call to the end of its last completion.",
        )
        self.request_success = Counter(
            "naiad_frontend_request_success_total",
            "Finished completions.",
            ["model", "finished_reason"],
            registry=registry,
        )


class AdmissionMetrics(Collector):
    """What each model has in flight, and its limit now; read when they are asked for, so that calls pay nothing."""

    def __init__(self, registry: CollectorRegistry, admission: Admission) -> None:
        self._admission = admission
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The gauges of all models that had a call."""
        inflight = GaugeMetricFamily("naiad_admission_inflight_tokens", "Tokens of calls in flight.", labels=["model"])
        limit = GaugeMetricFamily("naiad_admission_limit_tokens", "Most of them, as it is now.", labels=["model"])
        for model, load in list(self._admission.models.items()):
            inflight.add_metric([model], load.tokens)
            if load.limit is not None:
                limit.add_metric([model], load.limit.tokens)
        yield inflight
        yield limit


@dataclass(frozen=True)
class MetricsEndpoint:
    """A running HTTP endpoint; `port` is the one that it listens on, `tls` what it speaks TLS with."""

    port: int
    close: Callable[[], None]
    tls: ssl.SSLContext | None = None


def serve_metrics(
    registry: CollectorRegistry, host: str, port: int, pair: tuple[Path, Path] | None = None
) -> MetricsEndpoint:
    """Serves `registry` on http://host:port/metrics from a thread; with a certificate and its key, on https.

    Raises OSError when the port is taken.
    """
    certificate, key = (str(path) for path in pair) if pair is not None else (None, None)
    with starting_anywhere():
        server, thread = start_http_server(port, addr=host, registry=registry, certfile=certificate, keyfile=key)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    tls = None
    if isinstance(server.socket, ssl.SSLSocket):
        tls = server.socket.context
        # Else one client that connects and says nothing would keep all others from being accepted.
        server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]
    return MetricsEndpoint(int(server.server_address[1]), close, tls)
