"""One Triton of a pool: its connection, its health, what it has to do, and how it has behaved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.canary import Canary
from services.common.triton_client import TritonChannel, TritonStream, unavailable
from services.common.triton_health import TritonHealth
from services.common.triton_tls import TritonTls

FAILURES_REMEMBERED_S = 60.0
MAX_READMISSION_FACTOR = 30


@dataclass(frozen=True)
class StreamBuffers:
    """What may wait for a slow reader: replies of each sequence, and bytes of each request."""

    max_responses: int
    max_bytes: int


# Makes the canary of one Triton.
MakeCanary = Callable[["TritonMember"], Canary]


@dataclass(frozen=True)
class MemberOptions:
    """What all members of a pool have in common. Without `buffers` they get no stream, without `make_canary` none."""

    model_names: Callable[[], Sequence[str]]
    retry_after_ms: int
    readmission_s: float
    buffers: StreamBuffers | None
    make_canary: MakeCanary | None = None
    tls: TritonTls | None = None


class Lease:
    """A request's share of the load of its Triton, until it is released."""

    def __init__(self, member: "TritonMember", tokens: int) -> None:
        self._member: TritonMember | None = member
        self._tokens = tokens
        member.tokens_in_flight += tokens
        member.requests_in_flight += 1

    def release(self) -> None:
        """Gives the share back, once."""
        if self._member is not None:
            self._member.tokens_in_flight -= self._tokens
            self._member.requests_in_flight -= 1
            self._member = None


class TritonMember:
    """Connection to one Triton. Made, started and closed by its pool."""

    def __init__(self, endpoint: str, options: MemberOptions) -> None:
        self.endpoint = endpoint
        self.channel = TritonChannel(endpoint, options.retry_after_ms, options.tls)
        self.stream: TritonStream | None = None
        if options.buffers is not None:
            self.stream = TritonStream(self.channel, options.buffers.max_responses, options.buffers.max_bytes)
        self._model_names = options.model_names
        canary = None if options.make_canary is None else options.make_canary(self)
        self.health = TritonHealth(self.channel, options.model_names, canary)
        if self.stream is not None:
            self.stream.on_break(self.health.mark_down)
        self.tokens_in_flight = 0
        self.requests_in_flight = 0
        self.last_turn = 0  # when it was chosen last, in choices of its pool
        self.was_serving = False
        self.readmitted_at_s = float("-inf")
        self._readmission_s = options.readmission_s
        self._failures = 0
        self._failed_at_s = float("-inf")
        self._answers_seen = 0
        self._answered_at_s = float("-inf")
        self._unary_answers = 0

    @property
    def opened_stream(self) -> TritonStream:
        """The stream of a member that has one. Raises AssertionError."""
        if self.stream is None:
            raise AssertionError("only a pool for generation has streams")
        return self.stream

    @property
    def is_serving(self) -> bool:
        """Whether it has all models that it should have, and takes requests."""
        return self.health.up and self._can_be_sent_to

    def can_serve(self, model: str) -> bool:
        """Whether it takes requests for `model`. Of a model that is not probed it is not known that it does not."""
        is_ready = self.health.model_ready(model) if model in self._model_names() else self.health.server_ready
        return is_ready and self._can_be_sent_to

    def models_serving(self) -> dict[str, bool]:
        """Whether it serves each model that it should have."""
        return {name: ok and self._can_be_sent_to for name, ok in self.health.models_serving().items()}

    @property
    def _can_be_sent_to(self) -> bool:
        return self.stream is None or self.stream.is_open

    def note_failure(self, now_s: float, least_pause_s: float = 0.0) -> None:
        """Lets one that fails again and again wait, longer each time, before it is used again."""
        if now_s - self._failed_at_s > FAILURES_REMEMBERED_S:
            self._failures = 0
        pause_s = 0.0
        if self._failures > 0:
            pause_s = self._readmission_s * min(2 ** (self._failures - 1), MAX_READMISSION_FACTOR)
        self._failures += 1
        self._failed_at_s = now_s
        self.readmitted_at_s = now_s + max(pause_s, least_pause_s)

    def note_unary_answer(self) -> None:
        """Notes that it has answered a call."""
        self._unary_answers += 1

    def silent_for_s(self, now_s: float) -> float:
        """How long, at most, it has had requests without answering any; to be asked again and again."""
        answers = self._unary_answers + (0 if self.stream is None else self.stream.responses_seen)
        if self.requests_in_flight == 0 or answers != self._answers_seen or self._answered_at_s < 0:
            self._answers_seen, self._answered_at_s = answers, now_s
        return now_s - self._answered_at_s

    def abandon(self) -> None:
        """Ends all that waits for it with ENGINE_UNAVAILABLE; the engine is told, in case it still listens."""
        self._answered_at_s = float("-inf")  # what it is given next has the full time
        self.channel.abandon(unavailable())
        if self.stream is not None:
            self.stream.fail_all(unavailable())

    async def close(self) -> None:
        """Ends the connection in order."""
        await self.health.close()
        if self.stream is not None:
            await self.stream.close()
        await self.channel.close()
