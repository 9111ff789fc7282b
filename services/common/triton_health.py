"""Whether Triton can be reached, has its models, and infers with them; by probes, and by a canary of its models."""

import asyncio
import time
from collections.abc import Callable, Sequence

import grpc
from tritonclient.grpc import service_pb2

from services.common.canary import Canary
from services.common.task_end import cancel_and_wait
from services.common.triton_client import TritonChannel


class TritonHealth:
    """Probes Triton and each model, and tells listeners. Down at once when told of a broken stream."""

    def __init__(
        self, channel: TritonChannel, model_names: Callable[[], Sequence[str]], canary: Canary | None = None
    ) -> None:
        """`canary` tells which of the models infer; None trusts Triton's word that they are ready."""
        self._channel = channel
        self._model_names = model_names
        self._canary = canary
        if canary is not None:
            canary.on_answer = self._tell
        self._ready_models: frozenset[str] = frozenset()
        self._once_ready_models: set[str] = set()
        self._server_ready = False
        self._is_silent = False
        self._listeners: list[Callable[[bool], None]] = []
        self._stall_listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether Triton is ready with every model that it once had; one exported since then does not count."""
        names = set(self._model_names())
        wanted = names & self._once_ready_models
        return self._server_ready and (bool(wanted) or not names) and all(map(self.model_serving, wanted))

    @property
    def server_ready(self) -> bool:
        """Whether Triton said at the last probe that it is ready, whatever its models do."""
        return self._server_ready

    def model_ready(self, name: str) -> bool:
        """Whether `name` may be asked: Triton has loaded it, and it is not known to be silent."""
        silent = self._canary is not None and self._canary.is_silent(name)
        return self._server_ready and name in self._ready_models and not silent

    def model_serving(self, name: str) -> bool:
        """Whether Triton has loaded `name`, and it has been seen to answer."""
        answers = self._canary is None or self._canary.answers(name)
        return self._server_ready and name in self._ready_models and answers

    def models_serving(self) -> dict[str, bool]:
        """`model_serving` of each model."""
        return {name: self.model_serving(name) for name in self._model_names()}

    @property
    def is_silent(self) -> bool:
        """Whether a probe has waited for its answer longer than it should: Triton is frozen, or very busy."""
        return self._is_silent

    def on_probe(self, listener: Callable[[bool], None]) -> None:
        """Calls `listener(up)` after each probe and when the stream breaks."""
        self._listeners.append(listener)

    def on_stall(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when Triton has not answered a probe for the stall timeout."""
        self._stall_listeners.append(listener)

    def mark_down(self) -> None:
        """Notes that Triton is gone, without waiting for the next probe."""
        self._server_ready = False
        if self._canary is not None:
            self._canary.check(())
        self._tell()

    def start(self, interval_ms: int, timeout_ms: int, stall_ms: int) -> None:
        """Probes each `interval_ms`; one unanswered for `timeout_ms` means down, for `stall_ms` stalled."""
        self._task = asyncio.create_task(self._run(interval_ms / 1000, timeout_ms / 1000, stall_ms / 1000))

    async def close(self) -> None:
        """Stops to probe."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        if self._canary is not None:
            await self._canary.close()

    def _tell(self) -> None:
        up = self.up
        for listener in self._listeners:
            listener(up)

    async def _run(self, interval_s: float, timeout_s: float, stall_s: float) -> None:
        while True:
            await self._probe_within(timeout_s, stall_s)
            self._is_silent = False
            if self._canary is not None:
                self._canary.check(self._ready_models if self._server_ready else ())
            self._tell()
            await asyncio.sleep(interval_s)

    async def _probe_within(self, timeout_s: float, stall_s: float) -> None:
        """One probe. While it waits, Triton's answers to requests count as well: one that gives any is only busy."""
        begun_s = time.monotonic()
        has_stalled = False
        probe = asyncio.ensure_future(self._probe())
        try:
            while not probe.done():
                silent_s = time.monotonic() - max(begun_s, self._channel.answers.latest_s)
                if silent_s >= timeout_s and not self._is_silent:
                    self.mark_down()
                    self._is_silent = True
                if silent_s >= stall_s and not has_stalled:
                    has_stalled = True
                    for listener in self._stall_listeners:
                        listener()
                next_s = stall_s if self._is_silent else timeout_s
                # Not wait_for: it would cancel the call when Triton is only slow.
                await asyncio.wait((probe,), timeout=None if has_stalled else max(0.001, next_s - silent_s))
        except asyncio.CancelledError:
            # Closed. The end of the channel, which is next, would cancel the call all the same, and nobody hear of it.
            await cancel_and_wait(probe)
            raise

    async def _probe(self) -> None:
        try:
            server = await self._channel.stub.ServerReady(service_pb2.ServerReadyRequest())
            names = list(self._model_names())
            answers = await asyncio.gather(*(self._model_is_ready(name) for name in names))
        except grpc.aio.AioRpcError:
            self._server_ready = False
            return
        self._ready_models = frozenset(name for name, ready in zip(names, answers, strict=True) if ready)
        self._once_ready_models |= self._ready_models
        self._server_ready = bool(server.ready)

    async def _model_is_ready(self, name: str) -> bool:
        try:
            return bool((await self._channel.stub.ModelReady(service_pb2.ModelReadyRequest(name=name))).ready)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise
            return False
