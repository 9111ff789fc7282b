"""Waits until Triton has its models, and a service its health."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.common.triton_tls import TritonTls, open_triton_channel
from services.supervisor.reporter import Reporter

POLL_INTERVAL_S = 0.1
CALL_TIMEOUT_S = 2.0
# A channel that waits a second before its second try would make every start a second longer.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)
LOADING = re.compile(r"\bloading: ([^:\"]+):\d+")
LOADED = re.compile(r"\bsuccessfully loaded '([^']+)'")


async def wait_until_serving(address: str) -> None:
    """Returns once the whole server at `address` reports SERVING."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        # Any: the published types of this stub leave its methods out.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                response = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=CALL_TIMEOUT_S)
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                # Not listening yet; the supervisor sees when the process ends, and bounds the wait.
                pass
            await asyncio.sleep(POLL_INTERVAL_S)


@dataclass
class LoadProgress:
    """Prints which model Triton loads, as its log tells. For people only: readiness is asked for over gRPC."""

    log_path: Path
    reporter: Reporter

    async def follow(self) -> None:
        """Runs until cancelled; starts with what is written to the log from now on."""
        start_s = time.monotonic()
        with self.log_path.open("r", encoding="utf-8", errors="replace") as log:
            log.seek(0, 2)
            while True:
                for line in log:
                    self._report(line, time.monotonic() - start_s)
                await asyncio.sleep(POLL_INTERVAL_S)

    def _report(self, line: str, elapsed_s: float) -> None:
        if match := LOADING.search(line):
            self.reporter.progress(f"loading model {match.group(1)}")
        elif match := LOADED.search(line):
            self.reporter.progress(f"model {match.group(1)} is loaded ({elapsed_s:.1f} s)")


async def wait_until_models_ready(
    address: str, models: Sequence[str], progress: LoadProgress, tls: TritonTls | None = None
) -> None:
    """Returns once Triton at `address` reports every model ready; prints progress meanwhile."""
    following = asyncio.create_task(progress.follow())
    try:
        await _poll_models(address, models, tls)
    finally:
        following.cancel()


async def _poll_models(address: str, models: Sequence[str], tls: TritonTls | None) -> None:
    async with open_triton_channel(address, CHANNEL_OPTIONS, tls) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        waiting = set(models)
        while waiting:
            try:
                for model in sorted(waiting):
                    response = await stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=CALL_TIMEOUT_S)
                    if response.ready:
                        waiting.discard(model)
            except grpc.aio.AioRpcError:
                # Triton answers only when all models are loaded.
                pass
            if waiting:
                await asyncio.sleep(POLL_INTERVAL_S)
