"""A gRPC channel whose calls have a deadline, a request id and credentials, and raise CallError."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from services.client.errors import error_of_call
from services.client.options import Metadata, call_metadata

ResponseT = TypeVar("ResponseT")


class CallDefaults:
    """What a call has unless it brings its own."""

    def __init__(self, timeout_s: float | None, stream_timeout_s: float | None, metadata: Metadata) -> None:
        self.timeout_s = timeout_s
        self.stream_timeout_s = stream_timeout_s
        self.metadata = metadata


class Call(Generic[ResponseT]):
    """A call in flight: gRPC's own, but for the exceptions."""

    def __init__(self, inner: Any, request_id: str) -> None:
        self._inner = inner
        self.request_id = request_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __iter__(self) -> Iterator[ResponseT]:
        return self

    def __next__(self) -> ResponseT:
        try:
            response: ResponseT = next(self._inner)
            return response
        except grpc.RpcError as error:
            raise error_of_call(error, self.request_id) from error

    def result(self, timeout: float | None = None) -> Any:
        """The response of a unary call. Raises CallError."""
        try:
            return self._inner.result(timeout)
        except grpc.RpcError as error:
            raise error_of_call(error, self.request_id) from error


class _Method:
    """One method. Takes what gRPC's callables take."""

    def __init__(self, inner: Any, timeout_s: float | None, fixed: Metadata) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._fixed = fixed

    def _begin(self, begin: Callable[..., Any], request: Any, arguments: dict[str, Any]) -> tuple[Any, str]:
        metadata, request_id = call_metadata(arguments.pop("metadata", None), self._fixed)
        arguments.setdefault("timeout", self._timeout_s)
        try:
            return begin(request, metadata=metadata, **arguments), request_id
        except grpc.RpcError as error:
            raise error_of_call(error, request_id) from error


class _UnaryMethod(_Method):
    def __call__(self, request: Any, **arguments: Any) -> Any:
        return self._begin(self._inner, request, arguments)[0]

    def with_call(self, request: Any, **arguments: Any) -> tuple[Any, Any]:
        """The response, and the call for its metadata."""
        answered: tuple[Any, Any] = self._begin(self._inner.with_call, request, arguments)[0]
        return answered

    def future(self, request: Any, **arguments: Any) -> Call[Any]:
        """The call, whose `result` waits."""
        return Call(*self._begin(self._inner.future, request, arguments))


class _StreamMethod(_Method):
    def __call__(self, request: Any, **arguments: Any) -> Call[Any]:
        return Call(*self._begin(self._inner, request, arguments))


class CheckedChannel(grpc.Channel):
    """Wraps a channel, for generated stubs."""

    def __init__(self, channel: grpc.Channel, defaults: CallDefaults) -> None:
        self._channel = channel
        self._defaults = defaults

    def unary_unary(self, method: str, *parts: Any, **named: Any) -> Any:
        """A method with one request and one response."""
        inner = self._channel.unary_unary(method, *parts, **named)
        return _UnaryMethod(inner, self._defaults.timeout_s, self._defaults.metadata)

    def unary_stream(self, method: str, *parts: Any, **named: Any) -> Any:
        """A method with a stream of responses."""
        return self._streaming(self._channel.unary_stream(method, *parts, **named))

    def stream_unary(self, method: str, *parts: Any, **named: Any) -> Any:
        """A method with a stream of requests."""
        inner = self._channel.stream_unary(method, *parts, **named)
        return _UnaryMethod(inner, self._defaults.stream_timeout_s, self._defaults.metadata)

    def stream_stream(self, method: str, *parts: Any, **named: Any) -> Any:
        """A method with streams both ways."""
        return self._streaming(self._channel.stream_stream(method, *parts, **named))

    def _streaming(self, inner: Any) -> _StreamMethod:
        return _StreamMethod(inner, self._defaults.stream_timeout_s, self._defaults.metadata)

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """Calls `callback` with the state of the channel."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Ends a subscription."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """Ends all calls."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, arguments: Sequence[tuple[str, Any]]
) -> grpc.Channel:
    """A channel with TLS, or without when there are no credentials."""
    if credentials is None:
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, credentials, options=arguments)
