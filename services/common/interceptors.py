"""The one server interceptor: request id, trace, metrics, errors to statuses, and a log line for each call."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.common.call import Call, current_call, request_id_or_new, set_current_call
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.metrics import ServiceMetrics
from services.common.observability import Observability
from services.common.status import STATUS_CODES, status_message, trailers
from services.common.trace import TRACEPARENT_KEY, TRACESTATE_KEY, continue_trace

REQUEST_ID_KEY = "x-request-id"
_UNMEASURED_PREFIXES = ("/grpc.",)  # health and reflection
_log = logging.getLogger("naiad.rpc")

_Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call of naiad's services; health and reflection pass untouched."""

    def __init__(self, metrics: ServiceMetrics, observability: Observability) -> None:
        self._metrics = metrics
        self._observability = observability

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_UNMEASURED_PREFIXES):
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap_unary(method, handler.unary_unary),
                _tolerant(handler.request_deserializer),
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(method, handler.unary_stream),
                _tolerant(handler.request_deserializer),
                handler.response_serializer,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap_bidi(method, handler.stream_stream),
                _tolerant(handler.request_deserializer),
                handler.response_serializer,
            )
        return handler

    def _wrap_unary(self, method: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def serve(request: Any, context: _Context) -> Any:
            async def run() -> Any:
                return await inner(self._noted(_readable(request)), context)

            return await self._observe(method, context, run)

        return serve

    def _wrap_stream(self, method: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """`inner` writes its responses by itself."""

        async def serve(request: Any, context: _Context) -> None:
            async def run() -> None:
                await inner(self._noted(_readable(request)), context)

            await self._observe(method, context, run)

        return serve

    def _wrap_bidi(self, method: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """`inner` writes its responses by itself; bytes that are no message raise where it reads them."""

        async def serve(requests: AsyncIterator[Any], context: _Context) -> None:
            async def readable() -> AsyncIterator[Any]:
                async for request in requests:
                    yield _readable(request)

            async def run() -> None:
                await inner(readable(), context)

            await self._observe(method, context, run)

        return serve

    async def _observe(self, method: str, context: _Context, run: Callable[[], Awaitable[Any]]) -> Any:
        call = self._arrived(method, context)
        set_current_call(call)
        error: NaiadError | None = None
        with self._metrics.rpc_in_flight.labels(method).track_inprogress():
            try:
                # With the trailers: metadata sent ahead would end the client's right to a retry, and cost a write.
                context.set_trailing_metadata(_identity(call))
                return await run()
            except NaiadError as raised:
                error = raised
            except asyncio.CancelledError:
                error = _cancellation(context)
                raise
            except Exception as raised:
                error = NaiadError(Reason.INTERNAL, repr(raised))
                _log.exception("unexpected error", extra={"fields": {"request_id": call.request_id}})
            finally:
                self._finish(call, error)
        return await _abort(context, error, call)

    def _arrived(self, method: str, context: _Context) -> Call:
        given = dict(context.invocation_metadata() or ())
        request_id, traceparent = given.get(REQUEST_ID_KEY), given.get(TRACEPARENT_KEY)
        trace = continue_trace(
            traceparent if isinstance(traceparent, str) else None,
            str(given.get(TRACESTATE_KEY, "")),
            self._observability.sample_ratio,
        )
        known_id = request_id_or_new(request_id if isinstance(request_id, str) else None)
        return Call(method=method, request_id=known_id, deadline_s=_deadline_s(context), trace=trace)

    def _noted(self, request: Any) -> Any:
        self._observability.note_request(current_call(), request)
        return request

    def _finish(self, call: Call, error: NaiadError | None) -> None:
        code = STATUS_CODES[error.reason].name if error else "OK"
        duration_s = time.monotonic() - call.arrived_s
        self._metrics.rpc_requests.labels(call.method, code).inc()
        self._metrics.rpc_duration.labels(call.method).observe(duration_s)
        fields: dict[str, Any] = {
            "request_id": call.request_id,
            "trace_id": call.trace.trace_id,
            "method": call.method,
            "code": code,
            "duration_ms": round(duration_s * 1000, 3),
            **call.engine_runs.log_fields(),
            **call.log_fields,
        }
        level = logging.INFO
        if error is not None:
            self._metrics.requests_rejected.labels(error.reason.value).inc()
            fields["reason"] = error.reason.value
            if error.reason is Reason.INTERNAL:
                level, fields["error"] = logging.ERROR, error.message
        _log.log(level, "call", extra={"fields": fields})
        self._observability.finish(call, code, error.reason.value if error else None)


class _Undecodable:
    """Stands for bytes that are no message, so that their refusal takes the way of every other."""


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data) if deserialize else data
        except DecodeError:
            return _Undecodable()

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, _Undecodable):
        raise invalid_field("request", "the bytes are not a message of this method's type")
    return request


def _deadline_s(context: _Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s


def _identity(call: Call) -> tuple[tuple[str, str], ...]:
    """Trailing metadata by which the caller finds the call again."""
    trace = call.trace
    known = ((REQUEST_ID_KEY, call.request_id), (TRACEPARENT_KEY, trace.traceparent()))
    return (*known, (TRACESTATE_KEY, trace.tracestate)) if trace.tracestate else known


def _cancellation(context: _Context) -> NaiadError:
    # gRPC cancels the handler both when the client leaves and when its deadline passes.
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        return NaiadError(Reason.DEADLINE_EXCEEDED, "the deadline has passed")
    return NaiadError(Reason.CLIENT_CANCELLED, "the client ended the call")


async def _abort(context: _Context, error: NaiadError, call: Call) -> Any:
    message = status_message(error, call.request_id).message
    metadata = (*_identity(call), *trailers(error, call.request_id, call.trace.trace_id))
    await context.abort(STATUS_CODES[error.reason], message, metadata)
