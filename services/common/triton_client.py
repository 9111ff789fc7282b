"""The way to one Triton: a channel, unary calls, and one long-lived stream that carries all generations.

No call towards Triton is ever cancelled: Triton 2.51 dies under cancellations of streams. Requests are ended with stop
messages on the same stream, and a unary call whose client has left is left to finish.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from services.common.call import current_call
from services.common.canary import AnswerTimes
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import (
    DELTA_COUNT,
    DELTA_GROUP,
    DELTA_KEY,
    FINISH_REASON,
    NUM_SEQUENCES,
    RESUMED_TOKENS,
    SEQUENCE_INDEX,
    Array,
    InferReply,
    ParameterValue,
)
from services.common.status import error_from_triton
from services.common.stream_request import MAX_BUFFERED_BYTES, RequestLimits, StreamRequest
from services.common.task_end import cancel_and_wait
from services.common.triton_messages import infer_request, read_deltas, read_reply
from services.common.triton_tls import TritonTls, open_triton_channel

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # how long an attempt may take, not a wait
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    # Of a connection that died silently nobody else would tell. Triton counts pings as strikes only when it has sent
    # nothing since the last one, and it answers our probes all the time.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # of pings for other reasons, in whose place none is sent for keepalive
    ("grpc.http2.max_pings_without_data", 0),
)
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0
CLOSE_GRACE_S = 1.0
STOP_PARAMETER = "stop"
_MAX_DELTA_KEY = (1 << 31) - 1

_log = logging.getLogger(__name__)


def unavailable() -> NaiadError:
    """ENGINE_UNAVAILABLE, as every caller words it."""
    return NaiadError(Reason.ENGINE_UNAVAILABLE, "the engine cannot be reached")


class TritonChannel:
    """The process's only channel to this Triton, and unary inference on it."""

    def __init__(self, address: str, retry_after_ms: int, tls: TritonTls | None = None) -> None:
        self.retry_after_ms = retry_after_ms
        self.answers = AnswerTimes()
        self._channel = open_triton_channel(address, _CHANNEL_OPTIONS, tls)
        self.stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._unary: set[Any] = set()  # calls in flight; one that nobody held any more would be cancelled
        self._waiters: set[asyncio.Future[None]] = set()  # their callers

    @property
    def waiting_calls(self) -> int:
        """Number of callers that wait for an answer."""
        return len(self._waiters)

    async def infer(self, request: Any) -> InferReply:
        """One ModelInfer. Raises NaiadError. A caller that is cancelled leaves the call itself running."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_end(call: Any) -> None:
            self._unary.discard(call)
            if not waiter.done():
                waiter.set_result(None)

        call = self.stub.ModelInfer(request)
        self._unary.add(call)
        self._waiters.add(waiter)
        call.add_done_callback(on_end)
        try:
            await waiter  # not for the call, which would be cancelled with us
            response = await call
        except grpc.aio.AioRpcError as error:
            raise error_from_triton(error.code(), error.details() or "", self.retry_after_ms) from error
        finally:
            self._waiters.discard(waiter)
        self.answers.note(request.model_name)
        return read_reply(response)

    def abandon(self, error: NaiadError) -> None:
        """Ends the wait of all callers with `error`; the calls themselves go on, and nobody hears of them."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)

    async def close(self) -> None:
        """Lets unary calls end for a short while, then closes."""
        if self._unary:
            ends = [asyncio.ensure_future(call.code()) for call in self._unary]
            await asyncio.wait(ends, timeout=CLOSE_GRACE_S)
        await self._channel.close()


class TritonStream:
    """One long-lived ModelStreamInfer, shared by all generations of this process and told apart by request id."""

    def __init__(self, channel: TritonChannel, max_buffered: int, max_buffered_bytes: int = MAX_BUFFERED_BYTES) -> None:
        """Most replies of a sequence, and most bytes of a request's replies, that wait for their reader."""
        self._channel = channel
        self._max_buffered = max_buffered
        self._max_buffered_bytes = max_buffered_bytes
        self._id_prefix = uuid.uuid4().hex[:12]  # ids must be unique over all processes that share Triton
        self._next_number = 0
        self._group = ""  # a new one for each stream: a response may be sent with any of the group's requests
        self._live: dict[str, StreamRequest] = {}
        self._live_by_key: dict[int, StreamRequest] = {}
        self._outbox: asyncio.Queue[Any] | None = None  # None while there is no stream
        self._task: asyncio.Task[None] | None = None
        self._retry_now = asyncio.Event()
        self._closing = False
        self._is_used = False  # this stream has carried a request
        self._is_held = False  # Triton is not ready: no stream is opened until it is
        self.responses_seen = 0
        self._break_listeners: list[Callable[[], None]] = []

    def start(self) -> None:
        """Opens the stream, and again whenever it breaks."""
        self._task = asyncio.create_task(self._run())

    def on_break(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever the stream breaks."""
        self._break_listeners.append(listener)

    def retry_now(self) -> None:
        """Ends the wait before the next attempt to open the stream; to be called when Triton says that it is ready."""
        self._is_held = False
        self._retry_now.set()

    def release(self) -> None:
        """Ends the stream unless requests live on it, until `retry_now`. A Triton that is to end waits for streams.

        Only one that has carried a request: Triton 2.51 never ends another one, and it may be of a Triton that has just
        begun.
        """
        self._is_held = True
        if self._outbox is not None and self._is_used and not self._live:
            self._outbox.put_nowait(None)
            self._outbox = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent; a stream that has just been opened may still turn out to be broken."""
        return self._outbox is not None

    def submit(
        self, model: str, inputs: Mapping[str, Array], parameters: Mapping[str, ParameterValue]
    ) -> StreamRequest:
        """Sends one generation. Raises ENGINE_UNAVAILABLE at once when there is no stream."""
        if self._outbox is None:
            raise unavailable()
        self._is_used = True
        self._next_number += 1
        limits = RequestLimits(
            int(parameters.get(NUM_SEQUENCES, 1)),
            self._max_buffered,
            self._max_buffered_bytes,
            int(parameters.get(RESUMED_TOKENS, 0)),
        )
        key = self._next_number & _MAX_DELTA_KEY
        request = StreamRequest(self, model, f"{self._id_prefix}-{self._next_number}", key, limits)
        grouped = {**parameters, DELTA_GROUP: self._group, DELTA_KEY: key}
        self._outbox.put_nowait(infer_request(model, request.request_id, inputs, grouped))
        self._live[request.request_id] = self._live_by_key[key] = request
        current_call().log_fields["engine_request_id"] = request.request_id
        return request

    def is_live(self, request: StreamRequest) -> bool:
        """Whether the engine may still work on `request`."""
        return request.request_id in self._live

    def send_stop(self, request: StreamRequest, sequence_index: int | None = None) -> None:
        """Sends the stop message of `request`, or of one of its sequences."""
        parameters: dict[str, ParameterValue] = {STOP_PARAMETER: True}
        if sequence_index is not None:
            parameters[SEQUENCE_INDEX] = sequence_index
        if self._outbox is not None:
            self._outbox.put_nowait(infer_request(request.model, request.request_id, {}, parameters))

    def forget(self, request: StreamRequest) -> None:
        """Drops whatever still comes for `request`."""
        if self._live.pop(request.request_id, None) is not None:
            self._live_by_key.pop(request.key, None)

    def fail_all(self, error: NaiadError) -> None:
        """Ends all requests in flight with `error`, and tells the engine in case it still listens."""
        live = list(self._live.values())
        for request in live:
            request.close()
            request.fail(error)

    @property
    def live_requests(self) -> int:
        """Number of requests in flight."""
        return len(self._live)

    async def close(self) -> None:
        """Ends the stream from our side; requests still in flight fail."""
        self._closing = True
        self._retry_now.set()
        self.fail_all(NaiadError(Reason.SHUTTING_DOWN, "the service is shutting down"))
        if self._outbox is not None:
            self._outbox.put_nowait(None)
        if self._task is not None:
            done, _ = await asyncio.wait((self._task,), timeout=CLOSE_GRACE_S)
            if not done:
                # Triton does not answer, so there is nothing left in it to protect.
                await cancel_and_wait(self._task)

    async def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._closing:
            answered = await self._run_once()
            if self._closing:
                return
            backoff_s = FIRST_BACKOFF_S if answered else min(backoff_s * 2, MAX_BACKOFF_S)
            self._retry_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._is_held else backoff_s):
                    await self._retry_now.wait()

    async def _run_once(self) -> bool:
        """One stream from opening to break; whether Triton answered on it."""
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        call = self._channel.stub.ModelStreamInfer()
        self._group = uuid.uuid4().hex
        self._outbox = outbox
        self._is_used = False
        writer = asyncio.create_task(_write_all(call, outbox))
        answered = False
        reason = "Triton ended the stream"
        try:
            async for response in call:
                answered = True
                self.responses_seen += 1
                self._dispatch(response)
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        finally:
            self._outbox = None
            outbox.put_nowait(None)
            await writer
        if not self._closing:
            if answered or self._live:
                _log.warning("stream to Triton broke", extra={"fields": {"reason": reason, "failed": len(self._live)}})
            self.fail_all(unavailable())
            for listener in self._break_listeners:
                listener()
        return answered

    def _dispatch(self, response: Any) -> None:
        if DELTA_COUNT in response.infer_response.parameters:
            self._dispatch_deltas(response.infer_response)
            return
        request = self._live.get(response.infer_response.id)
        if request is None:
            if response.error_message and not response.infer_response.id:
                _log.error("error without request id", extra={"fields": {"error": response.error_message}})
                self.fail_all(error_from_triton(grpc.StatusCode.UNKNOWN, response.error_message, 0))
            return
        if response.error_message:
            self.forget(request)
            code = grpc.StatusCode.UNKNOWN
            request.fail(error_from_triton(code, response.error_message, self._channel.retry_after_ms))
            return
        try:
            reply = read_reply(response.infer_response)
        except ValueError as error:
            request.close()
            request.fail(NaiadError(Reason.INTERNAL, f"unreadable response of Triton: {error}"))
            return
        finish_reason = reply.parameters.get(FINISH_REASON)
        if reply.final and finish_reason is None and request.stopped and not reply.outputs:
            return  # the answer to a stop message of ours; the request's own last reply is still to come
        if finish_reason == "error":
            if reply.final:
                self.forget(request)
            request.fail(self._reported_error(reply))
        else:
            self._channel.answers.note(request.model)
            request.deliver(reply)

    def _dispatch_deltas(self, response: Any) -> None:
        """New tokens of many requests; the one whose id the response has may be none of them."""
        request = None
        try:
            for key, reply in read_deltas(response):
                request = self._live_by_key.get(key)
                if request is not None:
                    request.deliver(reply)
        except ValueError as error:
            self.fail_all(NaiadError(Reason.INTERNAL, f"unreadable response of Triton: {error}"))
        if request is not None:  # all of one response are of one model
            self._channel.answers.note(request.model)

    def _reported_error(self, reply: InferReply) -> NaiadError:
        name, message = str(reply.parameters.get("error_code", "")), str(reply.parameters.get("error_message", ""))
        return error_from_triton(grpc.StatusCode.UNKNOWN, f"[{name}] {message}", self._channel.retry_after_ms)


async def _write_all(call: Any, outbox: asyncio.Queue[Any]) -> None:
    """Writes what comes into the outbox until a None."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader reports the break
        while (request := await outbox.get()) is not None:
            await call.write(request)
        await call.done_writing()
