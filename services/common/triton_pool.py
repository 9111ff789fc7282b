"""All Tritons behind a service: who is there, who serves, and who gets the next request."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from services.common.infer_reply import Array
from services.common.metrics import TritonMetrics
from services.common.settings import TritonSettings
from services.common.triton_addresses import TritonAddresses, look_up, parse_addresses
from services.common.triton_choice import Affinity, choose_by_prefix, least_loaded
from services.common.triton_member import MakeCanary, MemberOptions, StreamBuffers, TritonMember
from services.common.triton_tls import TritonTls

_TICKS = 4  # looks at each Triton within the time that a probe may take

_log = logging.getLogger(__name__)


class TritonPool:
    """The Tritons that `NAIAD_TRITON_ADDRESS` names.

    One that breaks off, does not answer a probe in time, or answers no request for too long gets no new requests, and
    what waits for it fails with ENGINE_UNAVAILABLE, to be done by another. It is used again once it answers.
    """

    def __init__(
        self,
        settings: TritonSettings,
        model_names: Callable[[], Sequence[str]],
        metrics: TritonMetrics,
        buffers: StreamBuffers | None = None,
        make_canary: MakeCanary | None = None,
    ) -> None:
        """Members get a stream for generation if `buffers` are given. Raises SettingsError."""
        self._settings = settings
        self._metrics = metrics
        self._addresses: TritonAddresses = parse_addresses(settings.triton_address)
        self._affinity = Affinity(settings.triton_affinity_tokens, settings.triton_affinity_slack_tokens)
        self._options = MemberOptions(
            model_names,
            settings.retry_after_ms,
            settings.triton_readmission_ms / 1000,
            buffers,
            make_canary,
            TritonTls.of(settings),
        )
        self._members = [TritonMember(endpoint, self._options) for endpoint in self._addresses.endpoints]
        self._leaving: list[TritonMember] = []  # no longer named, but still at work
        self._turns = 0
        self._listeners: list[Callable[[bool], None]] = []
        self._stall_listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()  # a new one after each change
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def members(self) -> Sequence[TritonMember]:
        """The Tritons that are named now."""
        return self._members

    @property
    def may_be_several(self) -> bool:
        """Whether another Triton may take over from one that is lost."""
        return self._addresses.may_be_several

    @property
    def up(self) -> bool:
        """Whether at least one Triton serves all models that it should."""
        return any(member.is_serving for member in self._members)

    @property
    def reachable(self) -> bool:
        """Whether a Triton said at its last probe that it is ready, whatever its models do."""
        return any(member.health.server_ready for member in self._members)

    def model_ready(self, name: str) -> bool:
        """Whether a Triton can serve `name` now."""
        return any(member.health.model_ready(name) for member in self._members)

    def models_serving(self) -> dict[str, bool]:
        """Whether at least one Triton serves each model that it should have."""
        serving: dict[str, bool] = {}
        for member in self._members:
            for name, serves in member.models_serving().items():
                serving[name] = serves or serving.get(name, False)
        return serving

    def on_stall(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when a Triton has not answered a probe for the stall timeout and there is no other."""
        self._stall_listeners.append(listener)

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Calls `listener(up)` after each probe, and when a Triton is lost."""
        self._listeners.append(listener)

    def choose(
        self, model: str, prompt_ids: Array | None = None, lost: TritonMember | None = None
    ) -> TritonMember | None:
        """The Triton that shall get the next request for `model`, but not `lost`; None when there is none.

        With `prompt_ids` one that has had such a prompt is preferred.
        """
        serving = [member for member in self._members if member is not lost and member.can_serve(model)]
        if len(serving) > 1:
            now_s = time.monotonic()
            serving = [member for member in serving if member.readmitted_at_s <= now_s] or serving
        if not serving:
            return None
        chosen = serving[0]
        if len(serving) > 1:
            if prompt_ids is not None and self._affinity.prefix_tokens > 0:
                prefix = model.encode() + prompt_ids[: self._affinity.prefix_tokens].tobytes()
                chosen = choose_by_prefix(serving, prefix, self._affinity)
            else:
                chosen = least_loaded(serving)
        self._turns += 1
        chosen.last_turn = self._turns
        return chosen

    async def choose_other(
        self, model: str, lost: TritonMember, prompt_ids: Array | None = None
    ) -> TritonMember | None:
        """The Triton that shall take over a request of `lost`: another, or else the first that comes back.

        None when there is none within the failover wait, and at once when there is no other.
        """
        if not self.may_be_several:
            return None
        chosen = self.choose(model, prompt_ids, lost)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.triton_failover_wait_ms / 1000):
                while chosen is None:
                    await self._changed.wait()
                    chosen = self.choose(model, prompt_ids)
        if chosen is not None:
            self._metrics.failovers.inc()
        return chosen

    def note_lost(self, member: TritonMember) -> None:
        """Notes that a call to `member` has failed: it is down until a probe says otherwise, unless it was given up."""
        if member.readmitted_at_s <= time.monotonic():
            member.health.mark_down()

    async def start(self) -> None:
        """Connects to all Tritons, and keeps an eye on them."""
        for member in self._members:
            self._start_member(member)
        if self._addresses.names:
            await self._look_up_names()
            self._tasks.append(asyncio.create_task(self._keep_looking_up()))
        self._tasks.append(asyncio.create_task(self._watch()))

    async def close(self) -> None:
        """Ends all connections; requests still in flight fail."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.close() for member in (*self._members, *self._leaving)))

    def _start_member(self, member: TritonMember) -> None:
        settings = self._settings
        self._metrics.add_endpoint(member.endpoint, lambda: member.tokens_in_flight, lambda: member.requests_in_flight)
        member.health.on_probe(lambda up: self._on_probe(member, up))
        member.health.on_stall(lambda: self._on_stall(member))
        if member.stream is not None:
            member.stream.start()
        member.health.start(
            settings.triton_probe_interval_ms, settings.triton_probe_timeout_ms, settings.triton_stall_timeout_ms
        )

    def _on_probe(self, member: TritonMember, up: bool) -> None:
        if member.stream is not None:
            # Not `up`, which waits for an answer of the canary, and that for the stream.
            if member.health.server_ready:
                member.stream.retry_now()
            else:
                member.stream.release()
        serving = member.is_serving
        if member.was_serving and not serving:
            self._note_failure(member, "it is gone or does not answer")
        member.was_serving = serving
        if member in self._members:
            self._metrics.endpoint_up.labels(member.endpoint).set(up)
        self._tell()

    def _on_stall(self, member: TritonMember) -> None:
        member.abandon()
        if not self._serves_beside(member):
            for listener in self._stall_listeners:
                listener()

    def _serves_beside(self, member: TritonMember) -> bool:
        return any(other.is_serving for other in self._members if other is not member)

    def _note_failure(self, member: TritonMember, reason: str, least_pause_s: float = 0.0) -> None:
        member.note_failure(time.monotonic(), least_pause_s)
        if member in self._members:
            self._metrics.ejections.labels(member.endpoint).inc()
        fields = {"endpoint": member.endpoint, "reason": reason, "requests": member.requests_in_flight}
        _log.warning("Triton is given up", extra={"fields": fields})

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        up = self.up
        self._metrics.triton_up.set(up)
        for listener in self._listeners:
            listener(up)

    async def _watch(self) -> None:
        """Gives up who is frozen or answers no request, and parts with those that leave."""
        settings = self._settings
        tick_s = min(settings.triton_probe_interval_ms, settings.triton_probe_timeout_ms / _TICKS) / 1000
        while True:
            await asyncio.sleep(tick_s)
            for member in (*self._members, *self._leaving):
                self._look_after(member, time.monotonic())
            for member in [member for member in self._leaving if member.requests_in_flight == 0]:
                await member.close()
                self._leaving.remove(member)

    def _look_after(self, member: TritonMember, now_s: float) -> None:
        silent_s = member.silent_for_s(now_s)
        # Whose probe is late but whose requests are answered is busy, not frozen.
        is_frozen = member.health.is_silent and silent_s > self._settings.triton_probe_timeout_ms / 1000 / 2
        silence_limit_s = self._settings.triton_silence_timeout_ms / 1000
        is_stuck = silent_s > silence_limit_s
        if (is_frozen or is_stuck) and self._serves_beside(member):
            if not is_frozen:  # of a frozen one the probe has told
                self._note_failure(member, "it answers no request", least_pause_s=silence_limit_s)
            member.abandon()

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(self._settings.triton_resolve_interval_ms / 1000)
            await self._look_up_names()

    async def _look_up_names(self) -> None:
        """Takes in Tritons that are new, and lets those go that are no longer named, once they have nothing to do."""
        found = await asyncio.gather(*map(look_up, self._addresses.names))
        known = {member.endpoint for member in self._members}
        if any(endpoints is None for endpoints in found):
            named = known.union(*(endpoints for endpoints in found if endpoints is not None))
        else:
            named = set(self._addresses.endpoints).union(*(endpoints or () for endpoints in found))
        for endpoint in sorted(named - known):
            member = TritonMember(endpoint, self._options)
            self._members.append(member)
            self._start_member(member)
        for member in [member for member in self._members if member.endpoint not in named]:
            self._members.remove(member)
            self._leaving.append(member)
            self._metrics.remove_endpoint(member.endpoint)
        if named != known:
            _log.info("Tritons changed", extra={"fields": {"endpoints": sorted(named)}})
            self._tell()
