"""The same as calls.py for asyncio: deadline, request id and credentials of each call, and CallError."""

from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc

from services.client.calls import CallDefaults
from services.client.errors import error_of_call
from services.client.options import Metadata, call_metadata


class AioCall:
    """A call in flight: grpc.aio's own, but for the exceptions."""

    def __init__(self, inner: Any, request_id: str) -> None:
        self._inner = inner
        self.request_id = request_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._inner.__await__())
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.request_id) from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for response in self._inner:
                yield response
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.request_id) from error

    async def read(self) -> Any:
        """The next response, or grpc.aio.EOF. Raises CallError."""
        try:
            return await self._inner.read()
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.request_id) from error

    async def write(self, request: Any) -> None:
        """Sends a request. Raises CallError."""
        try:
            await self._inner.write(request)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.request_id) from error


class _AioMethod:
    def __init__(self, inner: Any, timeout_s: float | None, fixed: Metadata) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._fixed = fixed

    def __call__(self, *request: Any, **arguments: Any) -> AioCall:
        metadata, request_id = call_metadata(arguments.pop("metadata", None), self._fixed)
        arguments.setdefault("timeout", self._timeout_s)
        return AioCall(self._inner(*request, metadata=metadata, **arguments), request_id)


class AioCheckedChannel:
    """Wraps a grpc.aio channel, for generated stubs."""

    def __init__(self, channel: grpc.aio.Channel, defaults: CallDefaults) -> None:
        self._channel = channel
        self._defaults = defaults

    def unary_unary(self, method: str, *parts: Any, **named: Any) -> _AioMethod:
        """A method with one request and one response."""
        inner = self._channel.unary_unary(method, *parts, **named)
        return _AioMethod(inner, self._defaults.timeout_s, self._defaults.metadata)

    def unary_stream(self, method: str, *parts: Any, **named: Any) -> _AioMethod:
        """A method with a stream of responses."""
        return self._streaming(self._channel.unary_stream(method, *parts, **named))

    def stream_unary(self, method: str, *parts: Any, **named: Any) -> _AioMethod:
        """A method with a stream of requests."""
        return self._streaming(self._channel.stream_unary(method, *parts, **named))

    def stream_stream(self, method: str, *parts: Any, **named: Any) -> _AioMethod:
        """A method with streams both ways."""
        return self._streaming(self._channel.stream_stream(method, *parts, **named))

    def _streaming(self, inner: Any) -> _AioMethod:
        return _AioMethod(inner, self._defaults.stream_timeout_s, self._defaults.metadata)

    async def close(self) -> None:
        """Ends all calls."""
        await self._channel.close()


def open_aio_channel(
    target: str, credentials: grpc.ChannelCredentials | None, arguments: tuple[tuple[str, Any], ...]
) -> grpc.aio.Channel:
    """A channel with TLS, or without when there are no credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=arguments)
    return grpc.aio.secure_channel(target, credentials, options=arguments)
