"""grpc.health.v1 with a status for each service and each of its models, and any number of watchers.

The servicer of grpcio-health-checking 1.81 drops the condition that all watchers of a name share as soon as one of them
leaves; the others then never hear of a change. Hence this one.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OVERALL = ""
# Always SERVING: answered by the event loop, so it says that the process lives, whatever else is down.
LIVENESS = "liveness"
MAX_WATCHERS = 1000


def model_health_name(service_name: str, model: str) -> str:
    """The name under which a service tells of one of its models."""
    return f"{service_name}/{model}"


class HealthService(health_pb2_grpc.HealthServicer):
    """Health of this process. All names but LIVENESS start NOT_SERVING; after `shut_down` they stay so."""

    def __init__(self, service_names: Iterable[str]) -> None:
        self._status: dict[str, Any] = dict.fromkeys((OVERALL, *service_names), NOT_SERVING)
        self._wakers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._service_names = tuple(self._status)
        self._status[LIVENESS] = SERVING
        self._shut_down = False
        self._watches_ended = False

    def set_serving(self, serving: bool) -> None:
        """Sets the status of the whole and of the services; not of LIVENESS, nor of models."""
        if not self._shut_down:
            self._set(dict.fromkeys(self._service_names, SERVING if serving else NOT_SERVING))

    def set_models(self, service_name: str, serving: Mapping[str, bool]) -> None:
        """Sets the status of each model of a service; one that it had and has no more is NOT_SERVING."""
        if self._shut_down:
            return
        prefix = model_health_name(service_name, "")
        statuses: dict[str, Any] = {name: NOT_SERVING for name in self._status if name.startswith(prefix)}
        statuses |= {prefix + model: SERVING if serves else NOT_SERVING for model, serves in serving.items()}
        self._set(statuses)

    def shut_down(self) -> None:
        """Sets all names but LIVENESS to NOT_SERVING, for good."""
        self._shut_down = True
        self._set({name: NOT_SERVING for name in self._status if name != LIVENESS})

    def end_watches(self) -> None:
        """Ends all watches, after what they had still to tell."""
        self._watches_ended = True
        for wakers in self._wakers.values():
            for waker in wakers:
                waker.set()

    def _set(self, statuses: Mapping[str, Any]) -> None:
        for name, status in statuses.items():
            if self._status.get(name) != status:
                self._status[name] = status
                for waker in self._wakers.get(name, ()):
                    waker.set()

    async def Check(  # noqa: N802 - named by the protocol
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._status:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._status[request.service])

    async def Watch(  # noqa: N802 - named by the protocol
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        if sum(map(len, self._wakers.values())) >= MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        waker = asyncio.Event()
        wakers = self._wakers[request.service]
        wakers.add(waker)
        try:
            last: Any = None
            while True:
                waker.clear()
                status = self._status.get(request.service, SERVICE_UNKNOWN)
                if status != last:
                    last = status
                    yield health_pb2.HealthCheckResponse(status=status)
                    continue
                if self._watches_ended:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
                await waker.wait()
        finally:
            wakers.discard(waker)
            if not wakers:
                self._wakers.pop(request.service, None)
