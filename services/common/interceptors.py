"""The one server interceptor: request id, metrics, errors to statuses, and a log line for each call."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.common.bounds_check import check_bounds
from services.common.call import Call, request_id_or_new, set_current_call
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.metrics import ServiceMetrics
from services.common.status import STATUS_CODES, status_message, trailers

REQUEST_ID_KEY = "x-request-id"
_UNMEASURED_PREFIXES = ("/grpc.",)  # health and reflection
_log = logging.getLogger("naiad.rpc")

_Context = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call of naiad's services; health and reflection pass untouched."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

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
                return await inner(_readable(request), context)

            return await self._observe(method, context, run)

        return serve

    def _wrap_stream(self, method: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """`inner` writes its responses by itself."""

        async def serve(request: Any, context: _Context) -> None:
            async def run() -> None:
                await inner(_readable(request), context)

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
        call = Call(method=method, request_id=_request_id(context), deadline_s=_deadline_s(context))
        set_current_call(call)
        error: NaiadError | None = None
        with self._metrics.rpc_in_flight.labels(method).track_inprogress():
            try:
                await context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))
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
        return await _abort(context, error, call.request_id)

    def _finish(self, call: Call, error: NaiadError | None) -> None:
        code = STATUS_CODES[error.reason].name if error else "OK"
        duration_s = time.monotonic() - call.arrived_s
        self._metrics.rpc_requests.labels(call.method, code).inc()
        self._metrics.rpc_duration.labels(call.method).observe(duration_s)
        fields: dict[str, Any] = {
            "request_id": call.request_id,
            "method": call.method,
            "code": code,
            "duration_ms": round(duration_s * 1000, 3),
            **call.log_fields,
        }
        level = logging.INFO
        if error is not None:
            self._metrics.requests_rejected.labels(error.reason.value).inc()
            fields["reason"] = error.reason.value
            if error.reason is Reason.INTERNAL:
                level, fields["error"] = logging.ERROR, error.message
        _log.log(level, "call", extra={"fields": fields})


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
    check_bounds(request)
    return request


def _deadline_s(context: _Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s


def _request_id(context: _Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return request_id_or_new(value)
    return request_id_or_new(None)


def _cancellation(context: _Context) -> NaiadError:
    # gRPC cancels the handler both when the client leaves and when its deadline passes.
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        return NaiadError(Reason.DEADLINE_EXCEEDED, "the deadline has passed")
    return NaiadError(Reason.CLIENT_CANCELLED, "the client ended the call")


async def _abort(context: _Context, error: NaiadError, request_id: str) -> Any:
    status = status_message(error, request_id)
    await context.abort(STATUS_CODES[error.reason], status.message, trailers(error, request_id))
