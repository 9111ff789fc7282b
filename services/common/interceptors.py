"""The one server interceptor: who calls, admission, request id, trace, metrics, errors to statuses, a log line a call.

Messages come in as bytes, so that a call that is refused is never read.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from services.common.access import Access
from services.common.admission import Ticket, set_current_ticket
from services.common.bounds_check import check_bounds
from services.common.call import Call, current_call, request_id_or_new, set_current_call
from services.common.door import Door
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.lifecycle import HandlerTasks
from services.common.metrics import ServiceMetrics
from services.common.observability import Observability
from services.common.status import STATUS_CODES, message_and_trailers
from services.common.tenants import TenantUse
from services.common.trace import TRACEPARENT_KEY, TRACESTATE_KEY, continue_trace

REQUEST_ID_KEY = "x-request-id"
_UNMEASURED_PREFIXES = ("/grpc.",)  # health and reflection
_REFLECTION_PREFIX = "/grpc.reflection."
_log = logging.getLogger("naiad.rpc")

_Context = grpc.aio.ServicerContext[Any, Any]
_Who = Callable[[_Context], TenantUse | None]  # may raise NaiadError
_Run = Callable[[], Awaitable[Any]]
_Read = Callable[[bytes], Any] | None


@dataclass(frozen=True)
class CallPath:
    """What each call passes. `door` admits calls; without one all come in."""

    metrics: ServiceMetrics
    access: Access
    observability: Observability
    door: Door | None = None
    open_reflection: bool = False


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every call of naiad's services. Health passes untouched; reflection too, once the caller may call."""

    def __init__(self, path: CallPath) -> None:
        self._metrics = path.metrics
        self._access = path.access
        self._door = path.door
        self._observability = path.observability
        self._refusals = RefusalLog()
        self._open_prefixes = ("/grpc.health.", _REFLECTION_PREFIX) if path.open_reflection else ("/grpc.health.",)
        # Of methods that everyone may call: the same for each call.
        self._open_handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.handlers = HandlerTasks()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(self._open_prefixes):
            return handler
        if not self._access.enabled and not method.startswith(_UNMEASURED_PREFIXES):
            wrapped = self._open_handlers.get(method)
            if wrapped is None:
                wrapped = self._open_handlers[method] = self._wrapped(method, handler, _nobody)
            return wrapped
        try:
            tenant = self._access.identify(method, handler_call_details.invocation_metadata or ())
            if not method.startswith(_UNMEASURED_PREFIXES):
                return self._wrapped(method, handler, self._who(method, tenant))
            if self._access.enabled and tenant is None:
                raise NaiadError(Reason.UNAUTHENTICATED, "reflection needs a bearer token")
        except NaiadError as error:
            return self._refusal(method, error)
        return handler

    def _wrapped(
        self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]", who: _Who
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        read = handler.request_deserializer
        if handler.unary_unary is not None:
            wrapped = self._wrap_single(method, handler.unary_unary, read, who)
            return grpc.unary_unary_rpc_method_handler(wrapped, None, handler.response_serializer)
        if handler.unary_stream is not None:
            wrapped = self._wrap_single(method, handler.unary_stream, read, who)
            return grpc.unary_stream_rpc_method_handler(wrapped, None, handler.response_serializer)
        if handler.stream_stream is not None:
            wrapped = self._wrap_bidi(method, handler.stream_stream, read, who)
            return grpc.stream_stream_rpc_method_handler(wrapped, None, handler.response_serializer)
        return handler

    def _who(self, method: str, tenant: TenantUse | None) -> _Who:
        """Who calls: `tenant`, or whoever the certificate of the connection belongs to."""
        if tenant is not None:
            return lambda _: tenant
        return lambda context: self._access.identify_peer(method, context.auth_context())

    def _refusal(self, method: str, error: NaiadError) -> "grpc.RpcMethodHandler[Any, Any]":
        """Answers in place of any kind of method, and reads nothing of what the caller sends."""

        async def serve(_requests: AsyncIterator[Any], context: _Context) -> None:
            await self._observe(method, context, _failing(error), None)

        return grpc.stream_stream_rpc_method_handler(serve)

    def _wrap_single(self, method: str, inner: Callable[..., Any], read: _Read, who: _Who) -> Callable[..., Any]:
        """For calls with one request. The `inner` of a stream writes its responses by itself."""

        async def serve(data: bytes, context: _Context) -> Any:
            async def run() -> Any:
                return await inner(self._noted(_message(read, data)), context)

            return await self._admit(method, data, context, run, who)

        return serve

    def _wrap_bidi(self, method: str, inner: Callable[..., Any], read: _Read, who: _Who) -> Callable[..., Any]:
        """`inner` writes its responses by itself; bytes that are no message raise where it reads them."""

        async def serve(requests: AsyncIterator[bytes], context: _Context) -> None:
            async def messages() -> AsyncIterator[Any]:
                async for data in requests:
                    yield _message(read, data)

            async def run() -> None:
                await inner(messages(), context)

            await self._admit(method, b"", context, run, who)

        return serve

    async def _admit(self, method: str, data: bytes, context: _Context, run: _Run, who: _Who) -> Any:
        """Before all else, so that a refused call costs as little as can be."""
        try:
            tenant = who(context)
        except NaiadError as error:
            return await self._observe(method, context, _failing(error), None)
        held = Held()
        try:
            held.take(self._door, method, data, tenant)
        except NaiadError as error:
            held.release()
            return await self._refuse(method, context, error, tenant)

        async def run_and_release() -> Any:
            try:
                return await run()
            finally:
                held.release()  # before the client hears of the end: it may call again at once

        try:
            return await self._observe(method, context, run_and_release, tenant)
        finally:
            held.release()  # of a call that was refused before it ran

    async def _refuse(self, method: str, context: _Context, error: NaiadError, tenant: TenantUse | None) -> None:
        """Counts a refused call; many of them make one log line."""
        code = STATUS_CODES[error.reason].name
        self._metrics.of_method(method).count(code)
        self._metrics.requests_rejected.labels(error.reason.value).inc()
        if tenant is not None:
            tenant.count_end(code)
        self._refusals.note(method)
        await _abort(context, error, self._arrived(method, context))

    async def _observe(self, method: str, context: _Context, run: _Run, tenant: TenantUse | None) -> Any:
        call = self._arrived(method, context)
        call.tenant = tenant
        set_current_call(call)
        self.handlers.enter()
        error: NaiadError | None = None
        in_flight = self._metrics.of_method(method).in_flight
        in_flight.inc()
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
            error = NaiadError(Reason.INTERNAL, type(raised).__qualname__)
            ids = {"request_id": call.request_id, "trace_id": call.trace.trace_id}
            _log.exception("unexpected error", extra={"fields": ids})
        finally:
            in_flight.dec()
            # Once the answer is on its way: the client does not wait for our books.
            asyncio.get_running_loop().call_soon(self._finish, call, time.monotonic() - call.arrived_s, error)
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

    def _finish(self, call: Call, duration_s: float, error: NaiadError | None) -> None:
        code = STATUS_CODES[error.reason].name if error else "OK"
        self._metrics.of_method(call.method).finish(code, duration_s)
        fields: dict[str, Any] = {
            "request_id": call.request_id,
            "trace_id": call.trace.trace_id,
            "method": call.method,
            "code": code,
            "duration_ms": round(duration_s * 1000, 3),
            **call.engine_runs.log_fields(),
            **call.log_fields,
        }
        if call.tenant is not None:
            fields["tenant"] = call.tenant.tenant.name
            call.tenant.count_end(code)
        level = logging.INFO
        if error is not None:
            self._metrics.requests_rejected.labels(error.reason.value).inc()
            fields["reason"] = error.reason.value
            if error.reason is Reason.INTERNAL:
                level, fields["error"] = logging.ERROR, error.message
        _log.log(level, "call", extra={"fields": fields})
        self._observability.finish(call, code, error.reason.value if error else None)


def _nobody(_context: _Context) -> None:
    """Who calls where everyone may."""


class Held:
    """What a call holds while it lasts: a place among its tenant's calls, and its ticket."""

    def __init__(self) -> None:
        self._tenant: TenantUse | None = None
        self._ticket: Ticket | None = None

    def take(self, door: Door | None, method: str, data: bytes, tenant: TenantUse | None) -> None:
        """Raises OVERLOADED when there is no room; what it has taken by then is to be released."""
        if tenant is not None:
            tenant.enter()
            self._tenant = tenant
        if door is not None:
            self._ticket = door.enter(method, data, tenant)
            if self._ticket is not None:
                set_current_ticket(self._ticket)

    def release(self) -> None:
        """Gives back what is held; nothing the second time."""
        if self._ticket is not None:
            self._ticket.release()
            self._ticket = None
        if self._tenant is not None:
            self._tenant.leave()
            self._tenant = None


def _message(read: _Read, data: bytes) -> Any:
    if read is None:
        return data
    try:
        request = read(data)
    except DecodeError:
        raise invalid_field("request", "the bytes are not a message of this method's type") from None
    check_bounds(request)
    return request


def _failing(error: NaiadError) -> _Run:
    async def run() -> NoReturn:
        raise error

    return run


class RefusalLog:
    """Writes how many calls were refused, once a second while there are any: a line for each costs too much."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, method: str) -> None:
        """Counts one."""
        if not self._counts:
            asyncio.get_running_loop().call_later(1.0, self._write)
        self._counts[method] += 1

    def _write(self) -> None:
        _log.warning("calls refused", extra={"fields": dict(self._counts)})
        self._counts.clear()


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
    message, trailers = message_and_trailers(error, call.request_id, call.trace.trace_id)
    await context.abort(STATUS_CODES[error.reason], message, (*_identity(call), *trailers))
