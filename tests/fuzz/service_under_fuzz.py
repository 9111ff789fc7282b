"""The services in this process, called without a socket: the real interceptor, servicers and logic; Triton is faked."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from services.classification import app as classification
from services.common.front_door import open_front_door
from services.common.interceptors import CallInterceptor
from services.common.observability import Observability
from services.common.server import ServiceApp
from services.common.settings import ClassificationSettings, GenerationSettings, TokenizationSettings
from services.generation import app as generation
from services.tokenization import app as tokenization
from tests.support.fake_triton import FakeTriton, Plan, SeenRequest
from tests.support.small_models import CHAT_TEMPLATE, bert_tokenizer, byte_level_tokenizer, write_model
from tests.unit.services.classification.reading.models import answer, write_repository

# What a request may be refused with. INTERNAL is a finding, and so is any other exception.
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
CALL_LIMIT_S = 20.0
_MOST_TOKENS = 8


class FindingError(AssertionError):
    """A request that was answered in a way that no request may be."""


class _AbortedError(Exception):
    """How a handler ends; not an error of ours."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class _Context:
    """A call without a client: it has no deadline, and reads all that is written."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, Any]:
        return {}

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    async def write(self, message: Message) -> None:
        message.SerializeToString()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: object = ()) -> None:
        raise _AbortedError(code, details)


class _Handlers:
    """Stands for a server: keeps what a servicer registers."""

    def __init__(self) -> None:
        self.by_method: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Registered twice by generated code; the other way is simpler to read."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.by_method.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


@dataclass(frozen=True)
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class ServiceUnderFuzz:
    """One service and a loop to run it. `close` ends both."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._resources = AsyncExitStack()
        self._fake = FakeTriton()
        self._fake.plan, self._fake.infer = _honest_plan, answer
        self._handlers: dict[str, Any] = {}
        self._run(self._start(name))

    def call(self, method: str, requests: Sequence[Message]) -> grpc.StatusCode:
        """How the call ended: OK or a refusal. Raises FindingError otherwise. Unary calls take the first request."""
        code = self._run(self._call(method, requests))
        self._fake.requests.clear()
        self._fake.stopped_ids.clear()
        self._fake.stopped_sequences.clear()
        return code

    def close(self) -> None:
        """Ends the service."""
        self._run(self._resources.aclose())
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)

    async def _start(self, name: str) -> None:
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        await self._fake.start()
        self._resources.push_async_callback(self._fake.die)
        service = _BUILDERS[name](folder, self._fake.address)
        registered = _Handlers()
        service.add_servicer(registered)  # type: ignore[arg-type]  # stands for a server
        settings = TokenizationSettings()  # what they say of access is that there is none
        interceptor = open_front_door(settings, service.metrics, service.door, Observability()).interceptor
        for method, handler in registered.by_method.items():
            self._handlers[method] = await _intercepted(interceptor, method, handler)
        await service.start(self._resources)
        watch = service.health.Watch(health_pb2.HealthCheckRequest(), _Context())  # type: ignore[arg-type]
        async with asyncio.timeout(30):  # until the service has seen the faked Triton
            while (await anext(watch)).status != health_pb2.HealthCheckResponse.SERVING:
                pass
        await watch.aclose()  # type: ignore[attr-defined]  # a generator

    async def _call(self, method: str, requests: Sequence[Message]) -> grpc.StatusCode:
        handler = self._handlers[method]
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                if handler.unary_unary is not None:
                    (await handler.unary_unary(requests[0].SerializeToString(), _Context())).SerializeToString()
                elif handler.unary_stream is not None:
                    await handler.unary_stream(requests[0].SerializeToString(), _Context())
                else:
                    await handler.stream_stream(_each(requests), _Context())
        except _AbortedError as aborted:
            if aborted.code not in REFUSALS or not str(aborted):
                raise FindingError(f"{method}: {aborted.code} {aborted}") from aborted
            return aborted.code
        except TimeoutError as error:
            raise FindingError(f"{method}: no answer in {CALL_LIMIT_S} s") from error
        return grpc.StatusCode.OK


async def _each(requests: Sequence[Message]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request.SerializeToString()


async def _intercepted(interceptor: CallInterceptor, method: str, handler: Any) -> Any:
    async def continuation(_: object) -> Any:
        return handler

    return await interceptor.intercept_service(continuation, _Details(method))  # type: ignore[arg-type]


def _honest_plan(seen: SeenRequest) -> Plan:
    """What an engine would do that keeps the contract: no more tokens than asked for, and all scores asked for."""
    tokens = [5 + index for index in range(min(int(seen.parameters.get("request_output_len", 0)), _MOST_TOKENS))]
    prompt = seen.inputs.get("input_ids", [])
    scored = [-1.0] * (len(prompt) - 1) if seen.parameters.get("return_context_log_probs") else None
    return Plan(tokens=tokens, context_log_probs=scored)


# The event loop stands still between calls, which is not Triton's silence; least of all on a busy machine.
_PATIENCE: dict[str, Any] = {
    "triton_probe_interval_ms": 1000,
    "triton_probe_timeout_ms": 60_000,
    "triton_stall_timeout_ms": 600_000,
    "canary_interval_ms": 0,
}


def _tokenization(folder: Path, triton_address: str) -> ServiceApp:
    write_model(folder, "chat", "generate", byte_level_tokenizer(), chat_template=CHAT_TEMPLATE)
    write_model(folder, "embed", "embed", bert_tokenizer())
    return tokenization.build(TokenizationSettings(model_repository=folder))


def _generation(folder: Path, triton_address: str) -> ServiceApp:
    write_model(folder, "chat", "generate", byte_level_tokenizer(), chat_template=CHAT_TEMPLATE)
    write_model(folder, "embed", "embed", bert_tokenizer())
    return generation.build(GenerationSettings(model_repository=folder, triton_address=triton_address, **_PATIENCE))


def _classification(folder: Path, triton_address: str) -> ServiceApp:
    repository = write_repository(folder)
    return classification.build(
        ClassificationSettings(model_repository=repository, triton_address=triton_address, **_PATIENCE)
    )


_BUILDERS: dict[str, Callable[[Path, str], ServiceApp]] = {
    "TokenizationService": _tokenization,
    "GenerationService": _generation,
    "ClassificationService": _classification,
}
